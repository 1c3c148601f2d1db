package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
)

func newStatusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show how a node and its region stand", Args: takes(),
		Example: "  bizra status\n  bizra status --node http://10.0.0.7:8420 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Status(cmd.Context())
			if err != nil {
				return explained(cmd, err)
			}
			return show(cmd, s, func(w io.Writer) error { return printStatus(w, s) })
		}}
	addNodeFlag(c)
	return c
}

func printStatus(out io.Writer, s *client.Status) error {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY: " + s.Reason
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "node\t%s, %s of region %s of %s, %s\n", s.Node, s.Role, s.Region, s.Federation, ready)
	fmt.Fprintf(w, "program\t%s, started %s\n", s.Program, s.Started)
	fmt.Fprintf(w, "peer id\t%s\n", s.PeerID)
	for _, a := range s.Addresses {
		fmt.Fprintf(w, "address\t%s\n", a)
	}
	fmt.Fprintf(w, "document\tversion %d, digest %s\n", s.Document.Version, s.Document.Digest)
	fmt.Fprintf(w, "policy hash\t%s\n", s.Document.PolicyHash)
	fmt.Fprintf(w, "raft\t%s, term %d, applied %d of %d\n", s.Raft.State, s.Raft.Term, s.Raft.AppliedIndex, s.Raft.LastIndex)
	fmt.Fprintf(w, "ledger\t%d entries, root %s\n", s.Ledger.Size, s.Ledger.Root)
	if seal := s.Ledger.Seal; seal != nil {
		fmt.Fprintf(w, "seal\tnumber %d of %d entries at %s, state %s\n", seal.Number, seal.Size, seal.Time, seal.State)
	}
	if b := s.Breakers; b != (client.BreakerCounts{}) {
		fmt.Fprintf(w, "breaker\t%d agents throttled, %d muted, %d on probation\n", b.Throttled, b.Muted, b.Probation)
	}
	if d := s.Disk; d != nil {
		low := ""
		if d.Low {
			low = fmt.Sprintf("; LOW: below %d MiB it takes no proofs when it leads", d.MinBytes>>20)
		}
		fmt.Fprintf(w, "disk\t%d MiB free%s\n", d.FreeBytes>>20, low)
	}
	for _, v := range s.Voters {
		leads := ""
		if v.Leader {
			leads = ", leads"
		}
		fmt.Fprintf(w, "%s %s\t%s%s\n", v.Suffrage, v.Name, v.NodeKey, leads)
	}
	for i := range s.Regions {
		fmt.Fprintf(w, "region %s\t%s\n", s.Regions[i].Region, regionText(&s.Regions[i]))
	}
	if s.Raft.Leader == "" {
		fmt.Fprintf(w, "leader\tnone known: reads with --stale go on, proofs wait for an election\n")
	}
	return w.Flush()
}

func regionText(r *client.RegionStatus) string {
	text := fmt.Sprintf("%d entries re-executed, %d behind", r.Size, r.LagEntries)
	if r.Seal != nil {
		text += fmt.Sprintf(", seal of %d", r.Seal.Size)
	}
	switch {
	case r.Blamed != "":
		return text + ", REFUSED: " + r.Blamed
	case r.EarlyUntil != "":
		return text + ", its clock is ahead of ours: waiting until " + r.EarlyUntil
	case !r.Following:
		return text + ", not followed: " + r.Reason
	default:
		return text
	}
}

func newPeersCommand() *cobra.Command {
	c := &cobra.Command{Use: "peers", Short: "List the nodes that a node knows", Args: takes(), Example: "  bizra peers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			peers, err := c.Peers(cmd.Context())
			if err != nil {
				return explained(cmd, err)
			}
			return show(cmd, client.Peers{Peers: append([]client.Peer{}, peers...)}, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "NAME\tREGION\tROLE\tCONNECTED\tPEER ID\tADDRESSES")
				for _, p := range peers {
					fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s\t%s\n", dash(p.Name), dash(p.Region), dash(p.Role), p.Connected, p.PeerID, dash(strings.Join(p.Addresses, " ")))
				}
				return w.Flush()
			})
		}}
	addNodeFlag(c)
	return c
}
