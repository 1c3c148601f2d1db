package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
)

func newPeersCommand() *cobra.Command {
	c := &cobra.Command{Use: "peers", Short: "List the nodes that a node knows, and what it makes of them", Args: takes(),
		Long: `peers lists the nodes that a node is connected to, those that it knows how to reach, and those
that it hears of. STATE is what heartbeats say: alive, suspect, left or unknown. A SCORE below 0
means that something is held against the peer; the lines after it say what.`,
		Example: "  bizra peers\n  bizra peers --json",
		RunE:    shows((*client.Client).Peers, printPeers)}
	addNodeFlag(c)
	return c
}

func printPeers(out io.Writer, peers *client.Peers) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tREGION\tROLE\tSTATE\tCONNECTED\tSCORE\tLATENCY\tVERSION\tPEER ID\tADDRESSES")
	for i := range peers.Peers {
		p := &peers.Peers[i]
		latency := "-"
		if p.RTTMillis > 0 {
			latency = fmt.Sprintf("%.1f ms", p.RTTMillis)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\t%s\t%s\t%s\t%s\t%s\n", dash(p.Name), dash(p.Region), dash(p.Role), dash(p.State), p.Connected,
			scoreText(p), latency, dash(p.Version), p.PeerID, dash(strings.Join(p.Addresses, " ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range peers.Peers {
		for _, why := range peers.Peers[i].Why {
			fmt.Fprintf(out, "%s: %s\n", peerName(&peers.Peers[i]), why)
		}
	}
	for _, r := range peers.Regions {
		heard := ""
		if r.Seen != "" {
			heard = ", as of " + r.Seen
		}
		if _, err := fmt.Fprintf(out, "region %s: %d nodes alive, %d suspect, %d left%s\n", r.Region, r.Alive, r.Suspect, r.Left, heard); err != nil {
			return err
		}
	}
	return nil
}

func scoreText(p *client.Peer) string {
	text := fmt.Sprintf("%.1f", p.Score)
	switch {
	case p.Muted:
		text += " muted"
	case p.Probation:
		text += " probation"
	}
	return text
}

func peerName(p *client.Peer) string {
	if p.Name != "" {
		return p.Name
	}
	return p.PeerID
}
