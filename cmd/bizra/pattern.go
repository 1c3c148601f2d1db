package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/pci"
)

func newPatternsCommand() *cobra.Command {
	return group("patterns", "Elevate what an agent has come to believe, and show what is kept",
		`A pattern is something that a unit has come to believe, put into words by an agent and signed, so
that other regions can use it. Nodes share patterns and keep those with the greatest impact:
potential · ln(1 + observations). Belief, entropy and observations are the agent's claims.`,
		`  bizra patterns list
  bizra patterns show 7564d2…
  bizra patterns elevate --key agent.key --name retries-help --statement "A second attempt succeeds." --belief 0.9 --entropy 0.1 --observations 40`,
		newPatternsListCommand(), newPatternsShowCommand(), newPatternsElevateCommand())
}

func newPatternsListCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the patterns that a node keeps, the greatest impact first", Args: takes(),
		Example: "  bizra patterns list --region eu --limit 20",
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := limitFlag(cmd)
			if err != nil {
				return err
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			flag := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
			f := client.PatternFilter{Region: flag("region"), Agent: flag("agent"), Name: flag("name")}
			all, from := client.Patterns{Patterns: []client.Pattern{}}, int64(0)
			for {
				page, err := c.Patterns(cmd.Context(), f, from, limit)
				if err != nil {
					return explained(cmd, err)
				}
				all.Patterns, all.Next = append(all.Patterns, page.Patterns...), page.Next
				if limit != 0 || page.Next == nil {
					break
				}
				from = *page.Next
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "IMPACT\tNAME\tREGION\tAGENT\tBELIEF\tOBSERVATIONS\tDIGEST\tSTATEMENT")
				for i := range all.Patterns {
					p := &all.Patterns[i]
					fmt.Fprintf(w, "%.3f\t%s\t%s\t%s\t%.3f\t%d\t%s\t%s\n", p.Impact, oneLine(p.Name), p.Region, p.Agent, p.Belief, p.Observations, p.Digest, oneLine(p.Statement))
				}
				return w.Flush()
			})
		}}
	addNodeFlag(c)
	c.Flags().Int("limit", 0, "at most so many (default: all)")
	c.Flags().String("region", "", "only patterns of this region")
	c.Flags().String("agent", "", "only patterns of this agent")
	c.Flags().String("name", "", "only patterns of this name")
	return c
}

const statementShownMax = 60

// oneLine shows what a stranger wrote on one line of a table.
func oneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if r := []rune(s); len(r) > statementShownMax {
		s = string(r[:statementShownMax-1]) + "…"
	}
	return s
}

func newPatternsShowCommand() *cobra.Command {
	c := &cobra.Command{Use: "show DIGEST", Short: "Show a pattern", Args: takes("the digest of a pattern"), Example: "  bizra patterns show 7564d2… --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := c.Pattern(cmd.Context(), args[0])
			if errors.Is(err, client.ErrNotFound) {
				return fmt.Errorf("this node does not keep a pattern %s: `bizra patterns list` shows those that it keeps", args[0])
			}
			if err != nil {
				return explained(cmd, err)
			}
			env, err := pci.DecodeCanonical(p.Proof)
			if err == nil {
				err = env.Verify()
			}
			if err == nil && fmt.Sprintf("%x", env.Digest()) != args[0] {
				err = errors.New("its envelope has another digest")
			}
			if err != nil {
				return fmt.Errorf("what the node sent is not the pattern %s: %w", args[0], err)
			}
			return show(cmd, p, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s, by agent %s of region %s at %s\n%s\nimpact %.4f: belief %.4f, entropy %.4f, potential %.4f, %d observations\nsession %s\nsigned by key %x\n",
					oneLine(p.Name), p.Agent, p.Region, p.Elevated, strings.ToValidUTF8(p.Statement, "?"), p.Impact, p.Belief, p.Entropy, p.Potential, p.Observations, dash(p.Session), env.Sender.PublicKey)
				return err
			})
		}}
	addNodeFlag(c)
	return c
}

func newPatternsElevateCommand() *cobra.Command {
	c := &cobra.Command{Use: "elevate", Short: "Elevate a pattern: sign it and submit it", Args: takes(),
		Long: `elevate signs a proof with the action pattern.elevate and submits it. Once it is an entry of the
region's ledger, it is shared with every node. An agent's later pattern of a name replaces the earlier.
With --session belief and entropy are what the session's unit says, unless they are given.`,
		Example: `  bizra patterns elevate --key agent.key --name retries-help --statement "A second attempt succeeds where the first timed out." \
      --belief 0.9 --entropy 0.1 --observations 40
  bizra patterns elevate --key agent.key --name steady --statement "Builds of this kind pass." --session build-17`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signer, err := signerOf(cmd)
			if err != nil {
				return err
			}
			if signer.Key == nil {
				return usagef("--key is missing: the agent's key")
			}
			return elevate(cmd, signer)
		}}
	addNodeFlag(c)
	addSignerFlags(c)
	c.Flags().String("name", "", "name of the pattern, at most 128 bytes")
	c.Flags().String("statement", "", "what is believed, for people, at most 2048 bytes")
	c.Flags().String("session", "", "session in which it was observed")
	c.Flags().Float64("belief", 0, "from 0 to 1 (default: that of the session's unit)")
	c.Flags().Float64("entropy", 0, "from 0 to 1 (default: that of the session's unit)")
	c.Flags().Int64("observations", 0, "how many were made (default: the session's nodes)")
	addWaitFlags(c)
	return c
}

func elevate(cmd *cobra.Command, signer client.Signer) error {
	c, err := dial(cmd, submitRetriesMax)
	if err != nil {
		return err
	}
	defer c.Close()
	until, err := waitOf(cmd)
	if err != nil {
		return err
	}
	p, err := patternOf(cmd, c)
	if err != nil {
		return err
	}
	policy, err := c.Policy(cmd.Context())
	if err != nil {
		return explained(cmd, err)
	}
	p.Region = policy.Region
	data, err := pci.FromGo(p.Data())
	if err != nil {
		return err
	}
	if _, err := pattern.ReadData(data); err != nil {
		return &usageError{fmt.Errorf("this is no pattern: %w", err)}
	}
	env, err := client.Complete(&client.Payload{Action: pattern.Action, Data: data}, signer, client.Context{PolicyHash: policy.PolicyHash, Region: policy.Region})
	if err != nil {
		return err
	}
	r, err := c.Submit(cmd.Context(), env.Canonical())
	if err != nil {
		if _, ok := errors.AsType[*pci.Reject](err); ok {
			return fmt.Errorf("%s was %w: %w", pattern.Action, errRefused, err)
		}
		return explained(cmd, err)
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("%s was %w: %w", pattern.Action, errRefused, err)
	}
	r = until.await(cmd.Context(), c, r)
	err = show(cmd, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "elevated %s: entry %d of region %s, %s, digest %s\n", oneLine(p.Name), *orZero(r.Index), r.Region, r.Finality, r.Digest)
		return err
	})
	return errors.Join(err, until.failed)
}

// patternOf is the pattern that the command line says, but for its region.
func patternOf(cmd *cobra.Command, c *client.Client) (pattern.Pattern, error) {
	var p pattern.Pattern
	var err error
	if p.Name, err = need(cmd, "name", "what the pattern is called"); err != nil {
		return p, err
	}
	if p.Statement, err = need(cmd, "statement", "what is believed"); err != nil {
		return p, err
	}
	p.Session = cmd.Flags().Lookup("session").Value.String()
	if p.Session != "" {
		s, err := c.Session(cmd.Context(), p.Session)
		if err != nil {
			return p, notFound(cmd, p.Session, err)
		}
		p.Observations = s.Nodes
		if s.NTU != nil {
			p.Belief, p.Entropy = s.NTU.Belief, s.NTU.Entropy
		}
	}
	for name, into := range map[string]*float64{"belief": &p.Belief, "entropy": &p.Entropy} {
		if !cmd.Flags().Changed(name) {
			if p.Session == "" {
				return p, usagef("--%s is missing: what the unit says, from 0 to 1; --session takes it from a session", name)
			}
			continue
		}
		if *into, err = cmd.Flags().GetFloat64(name); err != nil {
			return p, err
		}
	}
	if cmd.Flags().Changed("observations") {
		if p.Observations, err = cmd.Flags().GetInt64("observations"); err != nil {
			return p, err
		}
	}
	p.Potential = pattern.Potential(p.Belief, p.Entropy)
	return p, nil
}
