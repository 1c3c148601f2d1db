package main

import (
	"context"
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
		RunE:    shows((*client.Client).Status, printStatus)}
	addNodeFlag(c)
	return c
}

// shows runs a command that reads one thing of a node and prints it.
func shows[T any](read func(*client.Client, context.Context) (T, error), table func(io.Writer, T) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := dial(cmd, readRetriesMax)
		if err != nil {
			return err
		}
		defer c.Close()
		v, err := read(c, cmd.Context())
		if err != nil {
			return explained(cmd, err)
		}
		return show(cmd, v, func(w io.Writer) error { return table(w, v) })
	}
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
	printAttestation(w, s)
	if s.Raft.Leader == "" {
		fmt.Fprintf(w, "leader\tnone known: reads with --stale go on, proofs wait for an election\n")
	}
	return w.Flush()
}

// printAttestation says how far the ledger is certified, and how the other regions stand to it.
func printAttestation(w io.Writer, s *client.Status) {
	a := &s.Attestation
	certified := "nothing yet"
	if a.Certified > 0 {
		certified = fmt.Sprintf("%d entries, until %s", a.Certified, a.Time)
	}
	fmt.Fprintf(w, "certified\t%s; %d seals wait, each for the votes of %d other regions\n", certified, a.Waiting, a.Needed)
	if len(a.Missing) > 0 {
		fmt.Fprintf(w, "votes missing\t%s\n", strings.Join(a.Missing, ", "))
	}
	if a.Evidence {
		fmt.Fprintf(w, "EVIDENCE\tthis region is shown to have signed two things that cannot both be true: docs/operations.md says what to do\n")
	}
	if l := s.Local; l != nil && l.Local {
		fmt.Fprintf(w, "LOCAL ONLY\tno other region is heard since %s; what is committed is attested later\n", l.Since)
	}
	for i := range s.Regions {
		r := &s.Regions[i]
		fmt.Fprintf(w, "region %s\t%s\n", r.Region, regionText(r))
		if text := votesText(r); text != "" {
			fmt.Fprintf(w, "\t%s\n", text)
		}
	}
}

func regionText(r *client.RegionStatus) string {
	text := fmt.Sprintf("%d entries re-executed, %d behind, voted for %d, certified %d", r.Size, r.LagEntries, r.Voted, r.Certified)
	switch {
	case r.Evidence:
		return text + ", EVIDENCE: it signed two things that cannot both be true, and gets no votes"
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

// votesText says what is amiss between the regions.
func votesText(r *client.RegionStatus) string {
	var parts []string
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(r.Missing > 0, "%d of our seals lack its vote", r.Missing)
	add(r.Waiting > 0, "%d of its checkpoints wait for ours", r.Waiting)
	add(r.Refuses != "", "it refuses ours: %s", r.Refuses)
	add(r.Refusal != "", "we refuse its: %s", r.Refusal)
	add(r.Diverged != "", "its ledger cannot be re-executed: %s", r.Diverged)
	return strings.Join(parts, "; ")
}
