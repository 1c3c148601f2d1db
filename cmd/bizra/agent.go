package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

func newAgentCommand() *cobra.Command {
	return group("agent", "Register, revoke, list and look up the agents of a region", "",
		`  bizra agent register --operator-key operators/eu.key --id builder --owner acme --agent-key builder.key
  bizra agent list
  bizra agent show builder`,
		newAgentRegisterCommand(), newAgentRevokeCommand(), newAgentListCommand(), newAgentShowCommand())
}

func newAgentRegisterCommand() *cobra.Command {
	c := &cobra.Command{Use: "register --operator-key FILE --id ID --owner OWNER (--agent-key FILE | --public-key HEX)",
		Short: "Register an agent, so that its proofs are taken", Args: takes(),
		Example: `  bizra agent register --operator-key operators/eu.key --id builder --owner acme --agent-key builder.key
  bizra agent register --operator-key operators/eu.key --id builder --owner acme --public-key 9d61b19d…`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := need(cmd, "id", "name the agent: the agent_id that it signs with")
			if err != nil {
				return err
			}
			owner, err := need(cmd, "owner", "name who answers for the agent")
			if err != nil {
				return err
			}
			public, err := agentKey(cmd)
			if err != nil {
				return err
			}
			typ := cmd.Flags().Lookup("type").Value.String()
			if typ != pci.AgentPAT && typ != pci.AgentSAT {
				return usagef("--type %q: it must be PAT or SAT", typ)
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := operate(cmd.Context(), cmd, c, "agent.register",
				map[string]any{"agent_id": id, "agent_type": typ, "owner": owner, "public_key": public.String()})
			if err != nil {
				return err
			}
			return done(cmd, r, "agent %s is registered with key %v", id, public)
		}}
	addOperatorFlags(c)
	c.Flags().String("id", "", "agent_id")
	c.Flags().String("owner", "", "who answers for the agent; licences are held by owners")
	c.Flags().String("type", pci.AgentPAT, "PAT or SAT")
	c.Flags().String("agent-key", "", "the agent's key file; only its public key leaves this machine")
	c.Flags().String("public-key", "", "the agent's public key, as \"bizra keygen\" prints it")
	return c
}

// agentKey is the public key of the agent to register.
func agentKey(cmd *cobra.Command) (federation.Key, error) {
	file, text := cmd.Flags().Lookup("agent-key").Value.String(), cmd.Flags().Lookup("public-key").Value.String()
	if (file == "") == (text == "") {
		return federation.Key{}, usagef("give either --agent-key FILE or --public-key HEX")
	}
	if file != "" {
		key, err := loadKey(cmd, "agent-key", "")
		if err != nil {
			return federation.Key{}, err
		}
		return key.Public(), nil
	}
	public, err := federation.ParseKey(text)
	if err != nil {
		return public, usagef("--public-key: %w", err)
	}
	return public, nil
}

func newAgentRevokeCommand() *cobra.Command {
	c := &cobra.Command{Use: "revoke --operator-key FILE --id ID", Short: "Revoke an agent: nothing that it signs is taken any more", Args: takes(),
		Example: "  bizra agent revoke --operator-key operators/eu.key --id builder --reason 'key lost'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := need(cmd, "id", "name the agent")
			if err != nil {
				return err
			}
			data := map[string]any{"agent_id": id}
			if reason := cmd.Flags().Lookup("reason").Value.String(); reason != "" {
				data["reason"] = reason
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := operate(cmd.Context(), cmd, c, "agent.revoke", data)
			if err != nil {
				return err
			}
			return done(cmd, r, "agent %s is revoked", id)
		}}
	addOperatorFlags(c)
	c.Flags().String("id", "", "agent_id")
	c.Flags().String("reason", "", "why, for the record")
	return c
}

// addPageFlags are for lists; all pages are read unless --limit is given.
func addPageFlags(c *cobra.Command) {
	c.Flags().Int("limit", 0, fmt.Sprintf("print at most so many, 1 to %d (default: all)", client.PageItemsMax))
}

func limitFlag(cmd *cobra.Command) (int, error) {
	n, err := cmd.Flags().GetInt("limit")
	if err != nil {
		return 0, err
	}
	if n < 0 || n > client.PageItemsMax {
		return 0, usagef("--limit %d: it must be from 1 to %d", n, client.PageItemsMax)
	}
	return n, nil
}

// eachPage has read called for the page after --after, and without --limit for all
// pages behind it.
func eachPage(cmd *cobra.Command, read func(c *client.Client, after string, limit int) (next string, err error)) error {
	limit, err := limitFlag(cmd)
	if err != nil {
		return err
	}
	c, err := dial(cmd, readRetriesMax)
	if err != nil {
		return err
	}
	defer c.Close()
	next := cmd.Flags().Lookup("after").Value.String()
	for first := true; first || limit == 0 && next != ""; first = false {
		if next, err = read(c, next, limit); err != nil {
			return explained(cmd, err)
		}
	}
	return nil
}

func newAgentListCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the agents of a region", Args: takes(), Example: "  bizra agent list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := client.Agents{Agents: []client.Agent{}}
			err := eachPage(cmd, func(c *client.Client, after string, limit int) (next string, err error) {
				page, err := c.Agents(cmd.Context(), after, limit)
				if err != nil {
					return "", err
				}
				all = client.Agents{Agents: append(all.Agents, page.Agents...), Next: page.Next}
				return page.Next, nil
			})
			if err != nil {
				return err
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "AGENT\tTYPE\tOWNER\tREGISTERED\tREVOKED\tPUBLIC KEY")
				for _, a := range all.Agents {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.AgentID, a.AgentType, a.Owner, a.Registered, dash(a.Revoked), a.PublicKey)
				}
				return w.Flush()
			})
		}}
	addNodeFlag(c)
	addStaleFlag(c)
	addPageFlags(c)
	c.Flags().String("after", "", "begin after this agent_id")
	return c
}

func newAgentShowCommand() *cobra.Command {
	return readFlags(&cobra.Command{Use: "show AGENT", Short: "Show what the region knows of an agent", Args: takes("an agent_id"), Example: "  bizra agent show alice",
		Long: `show tells who an agent is, how its proofs came out, what it may claim, and whether the
region's breaker holds it back. All of it is as of the log time of the region's last entry.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			a, err := c.Agent(cmd.Context(), args[0])
			if errors.Is(err, client.ErrNotFound) {
				return fmt.Errorf("the region has no agent %q: `bizra agent list` shows those that it has", args[0])
			}
			if err != nil {
				return explained(cmd, err)
			}
			return show(cmd, a, func(w io.Writer) error { return printAgent(w, a) })
		}})
}

func printAgent(out io.Writer, a *client.AgentRecord) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "agent\t%s (%s) of %s\n", a.AgentID, a.AgentType, a.Owner)
	fmt.Fprintf(w, "public key\t%s\n", a.PublicKey)
	fmt.Fprintf(w, "registered\t%s, revoked %s\n", a.Registered, dash(a.Revoked))
	fmt.Fprintf(w, "entries\t%d accepted, %d refused\n", a.Accepted, a.Refused)
	fmt.Fprintf(w, "outcomes\t%d, of which %d were steps to failed\n", a.Outcomes, a.Failed)
	fmt.Fprintf(w, "measured SNR\t%.4f; may claim up to %.4f\n", a.MeasuredSNR, math.Floor(a.ClaimMax*1e4)/1e4) // more than that would be refused
	fmt.Fprintf(w, "NTU\tbelief %.4f, entropy %.4f, potential %.4f over the last %d outcomes\n", a.NTU.Belief, a.NTU.Entropy, a.NTU.Potential, a.Observed)
	fmt.Fprintf(w, "reputation\t%.4f\n", a.Reputation)
	breaker := a.Breaker
	if a.DecidedAt != "" {
		breaker += ", decided at " + a.DecidedAt
	}
	if a.Until != "" {
		breaker += ", until " + a.Until
	}
	fmt.Fprintf(w, "breaker\t%s\n", breaker)
	fmt.Fprintf(w, "as of\t%s\n", a.LogTime)
	return w.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
