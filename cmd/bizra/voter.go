package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

const voterPollInterval = 500 * time.Millisecond

func newVoterCommand() *cobra.Command {
	return group("voter", "Change who votes in a region, and who leads it",
		`A voter whose disk was lost must not come back under its old key: replace it by a node with a new one.
The new node runs as a member first ("bizra federation invite", "bizra node --join"). Each change is an
action that an operator signs; it is done one at a time and this command waits until the region shows it.`,
		`  bizra voter add eu-4 --node-key 12D3KooW… --operator-key operators/eu.key
  bizra voter replace eu-2 --name eu-4 --node-key 12D3KooW… --operator-key operators/eu.key
  bizra voter transfer eu-3 --operator-key operators/eu.key`,
		newVoterAddCommand(), newVoterRemoveCommand(), newVoterReplaceCommand(), newVoterTransferCommand())
}

func voterFlags(c *cobra.Command) *cobra.Command {
	addOperatorFlags(c)
	c.Flags().Duration("timeout", 5*time.Minute, "how long to wait until the region shows the change; a new voter has to catch up first")
	return c
}

func newVoterFlags(c *cobra.Command) *cobra.Command {
	c.Flags().String("node-key", "", "the new voter's peer ID or public key; its own \"bizra status\" shows it")
	c.Flags().StringArray("address", nil, "multiaddr without /p2p where the new voter can be reached; may be repeated")
	return voterFlags(c)
}

func newVoterAddCommand() *cobra.Command {
	return newVoterFlags(&cobra.Command{Use: "add NAME --node-key KEY --operator-key FILE", Short: "Make a member a voter", Args: takes("a name for the voter"),
		Example: "  bizra voter add eu-4 --node-key 12D3KooW… --operator-key operators/eu.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			key, addresses, err := newVoter(cmd)
			if err != nil {
				return err
			}
			return changeVoters(cmd, func(*client.Status) (*voterChange, error) {
				return &voterChange{data: map[string]any{"op": "add", "node": key.String(), "name": args[0], "addresses": addresses},
					what: fmt.Sprintf("add %s as a voter", args[0]), shown: votes(key.String())}, nil
			})
		}})
}

func newVoterRemoveCommand() *cobra.Command {
	return voterFlags(&cobra.Command{Use: "remove VOTER --operator-key FILE", Short: "Take a node's vote away, for ever", Args: takes("a voter"),
		Example: "  bizra voter remove eu-2 --operator-key operators/eu.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeVoters(cmd, func(s *client.Status) (*voterChange, error) {
				key, err := voterKey(s, args[0])
				if err != nil {
					return nil, err
				}
				return &voterChange{data: map[string]any{"op": "remove", "node": key}, what: "remove voter " + args[0],
					shown: func(s *client.Status) bool { return !listed(s, key) }}, nil
			})
		}})
}

func newVoterReplaceCommand() *cobra.Command {
	c := newVoterFlags(&cobra.Command{Use: "replace OLD --name NEW --node-key KEY --operator-key FILE", Short: "Put a new node in the place of a voter", Args: takes("the voter to replace"),
		Example: "  bizra voter replace eu-2 --name eu-4 --node-key 12D3KooW… --operator-key operators/eu.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := need(cmd, "name", "name the new voter")
			if err != nil {
				return err
			}
			key, addresses, err := newVoter(cmd)
			if err != nil {
				return err
			}
			return changeVoters(cmd, func(s *client.Status) (*voterChange, error) {
				old, err := voterKey(s, args[0])
				if err != nil {
					return nil, err
				}
				return &voterChange{data: map[string]any{"op": "replace", "node": key.String(), "name": name, "addresses": addresses, "replaces": old},
					what:  fmt.Sprintf("replace voter %s by %s", args[0], name),
					shown: func(s *client.Status) bool { return votes(key.String())(s) && !listed(s, old) }}, nil
			})
		}})
	c.Flags().String("name", "", "name of the new voter")
	return c
}

func newVoterTransferCommand() *cobra.Command {
	return voterFlags(&cobra.Command{Use: "transfer VOTER --operator-key FILE", Short: "Hand the region's leadership to a voter", Args: takes("a voter"),
		Example: "  bizra voter transfer eu-3 --operator-key operators/eu.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeVoters(cmd, func(s *client.Status) (*voterChange, error) {
				key, err := voterKey(s, args[0])
				if err != nil {
					return nil, err
				}
				return &voterChange{data: map[string]any{"op": "transfer", "node": key}, what: "hand leadership to " + args[0],
					shown: func(s *client.Status) bool { return s.Raft.Leader == key }}, nil
			})
		}})
}

// newVoter reads the flags that describe a node that is to vote.
func newVoter(cmd *cobra.Command) (key federation.Key, addresses []string, err error) {
	text, err := need(cmd, "node-key", "give the new voter's peer ID, which its own `bizra status` shows")
	if err != nil {
		return key, nil, err
	}
	id, err := p2p.ParseNode(text)
	if err == nil {
		key, err = p2p.NodeKey(id)
	}
	if err != nil {
		return key, nil, usagef("--node-key: %w", err)
	}
	given, err := cmd.Flags().GetStringArray("address")
	if err != nil {
		return key, nil, err
	}
	if err := federation.CheckAddresses(given); err != nil {
		return key, nil, usagef("--address: %w", err)
	}
	return key, append([]string{}, given...), nil
}

// voterKey finds a voter by name, or takes its key or peer ID.
func voterKey(s *client.Status, text string) (string, error) {
	for _, v := range s.Voters {
		if v.Name == text || v.NodeKey == text || v.PeerID == text {
			return v.NodeKey, nil
		}
	}
	var names []string
	for _, v := range s.Voters {
		names = append(names, v.Name)
	}
	return "", fmt.Errorf("region %s has no voter %q: its voters are %v", s.Region, text, names)
}

// votes reports, of a status, whether the node votes: as a Raft non-voter it is still catching up.
func votes(key string) func(s *client.Status) bool {
	return func(s *client.Status) bool {
		return slices.ContainsFunc(s.Voters, func(v client.VoterStatus) bool { return v.NodeKey == key && v.Suffrage == "voter" })
	}
}

func listed(s *client.Status, key string) bool {
	return slices.ContainsFunc(s.Voters, func(v client.VoterStatus) bool { return v.NodeKey == key })
}

type voterChange struct {
	data  map[string]any
	what  string
	shown func(s *client.Status) bool
}

// changeVoters signs and submits a change and waits until the region's configuration
// shows it.
func changeVoters(cmd *cobra.Command, plan func(s *client.Status) (*voterChange, error)) error {
	limit, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return err
	}
	if limit <= 0 {
		return usagef("--timeout %v: it must be above 0", limit)
	}
	if _, err := loadKey(cmd, "operator-key", operatorKeyHelp); err != nil {
		return err
	}
	ctx, cancel := patiently(cmd, limit)
	defer cancel()
	c, err := dial(cmd, readRetriesMax)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return explained(cmd, err)
	}
	change, err := plan(s)
	if err != nil {
		return err
	}
	note(cmd, "1/2 signing and submitting: %s", change.what)
	r, err := operate(ctx, cmd, c, "region.voter", change.data)
	if err != nil {
		return err
	}
	note(cmd, "2/2 entry %d of region %s says so; waiting until the region's configuration shows it", *orZero(r.Index), r.Region)
	if err := await(ctx, c, change.shown); err != nil {
		return fmt.Errorf("%s: it stands in the ledger, but the region does not show it yet: %w; `bizra status` tells when it does", change.what, err)
	}
	return done(cmd, r, "done: %s", change.what)
}

// await asks for the status until it shows the change. A node that does not answer
// for a while, as one that leaves may not, is asked again.
func await(ctx context.Context, c *client.Client, shown func(s *client.Status) bool) error {
	tick := time.NewTicker(voterPollInterval)
	defer tick.Stop()
	for {
		if s, err := c.Status(ctx); err == nil && shown(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
