package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
)

func newSessionCommand() *cobra.Command {
	return group("session", "Show where sessions stand and how they came there", "",
		"  bizra session list\n  bizra session show build-17\n  bizra session history build-17",
		newSessionShowCommand(), newSessionListCommand(), newSessionHistoryCommand())
}

func readFlags(c *cobra.Command) *cobra.Command {
	addNodeFlag(c)
	addStaleFlag(c)
	return c
}

// notFound says it in the words of the command.
func notFound(cmd *cobra.Command, id string, err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return fmt.Errorf("the region has no session %q: `bizra session list` shows those that it has", id)
	}
	return explained(cmd, err)
}

func newSessionShowCommand() *cobra.Command {
	return readFlags(&cobra.Command{Use: "show SESSION", Short: "Show where a session stands", Args: takes("a session"), Example: "  bizra session show build-17",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Session(cmd.Context(), args[0])
			if err != nil {
				return notFound(cmd, args[0], err)
			}
			return show(cmd, s, func(w io.Writer) error {
				fmt.Fprintf(w, "session %s in region %s, opened %s by %s\n", s.ID, s.Region, s.Opened, s.Opener)
				if len(s.Agents) > 0 {
					fmt.Fprintf(w, "also moved by %s\n", strings.Join(s.Agents, ", "))
				}
				for _, t := range s.Tips {
					fmt.Fprintf(w, "tip  %s  %s, clock %d\n", t.Head, t.State, t.Clock)
					if b := t.Budget; b != nil {
						fmt.Fprintf(w, "     budget %s (task %s): %d tokens and %d ms left\n", b.Tier, b.Task, b.Left.Tokens, b.Left.TimeMillis)
					}
				}
				if u := s.NTU; u != nil {
					fmt.Fprintf(w, "NTU  belief %.4f, entropy %.4f, potential %.4f; %d steps to failed\n", u.Belief, u.Entropy, u.Potential, s.Failed)
				}
				if len(s.Tips) == 0 {
					fmt.Fprintf(w, "over: the last node is %s, %s\n", s.Last.Head, s.Last.State)
				}
				_, err := fmt.Fprintf(w, "%d nodes; `bizra session history %s` lists them\n", s.Nodes, s.ID)
				return err
			})
		}})
}

func newSessionListCommand() *cobra.Command {
	c := readFlags(&cobra.Command{Use: "list", Short: "List the sessions of a region", Args: takes(), Example: "  bizra session list --limit 20",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := client.Sessions{Sessions: []client.Session{}}
			err := eachPage(cmd, func(c *client.Client, after string, limit int) (next string, err error) {
				page, err := c.Sessions(cmd.Context(), after, limit)
				if err != nil {
					return "", err
				}
				all = client.Sessions{Sessions: append(all.Sessions, page.Sessions...), Next: page.Next}
				return page.Next, nil
			})
			if err != nil {
				return err
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "SESSION\tSTATE\tTIPS\tNODES\tOPENED\tBY")
				for _, s := range all.Sessions {
					fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", s.ID, s.Last.State, len(s.Tips), s.Nodes, s.Opened, s.Opener)
				}
				return w.Flush()
			})
		}})
	addPageFlags(c)
	c.Flags().String("after", "", "begin after this session")
	return c
}

func newSessionHistoryCommand() *cobra.Command {
	c := readFlags(&cobra.Command{Use: "history SESSION", Short: "List the steps of a session, in the order in which they were made", Args: takes("a session"),
		Example: "  bizra session history build-17 --from 100 --limit 50",
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := limitFlag(cmd)
			if err != nil {
				return err
			}
			from, err := cmd.Flags().GetInt64("from")
			if err != nil {
				return err
			}
			if from < 0 {
				return usagef("--from %d: the first node has number 0", from)
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			all := client.History{Session: args[0], Nodes: []client.Node{}, Next: &from}
			for first := true; first || limit == 0 && all.Next != nil; first = false {
				page, err := c.History(cmd.Context(), args[0], *all.Next, limit)
				if err != nil {
					return notFound(cmd, args[0], err)
				}
				all.Nodes, all.Next = append(all.Nodes, page.Nodes...), page.Next
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "NO\tTIME\tTYPE\tSTATE\tENTRY\tHEAD\tREASON")
				for _, n := range all.Nodes {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", n.Number, n.Time, n.Type, n.State, n.Index, n.Head, dash(n.Reason))
				}
				return w.Flush()
			})
		}})
	addPageFlags(c)
	c.Flags().Int64("from", 0, "begin at this number")
	return c
}
