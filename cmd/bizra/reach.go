package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/p2p"
)

// nodeDefault is where a node's HTTP interface listens if nothing else is said.
const nodeDefault = "http://127.0.0.1:8420"

// How often a request is repeated while no node decides: reads soon tell a person
// that nothing is there, submissions sit out an election.
const (
	readRetriesMax   = 3
	submitRetriesMax = 12
)

func addNodeFlag(cmd *cobra.Command) {
	cmd.Flags().StringSlice("node", nil, "URL of a node, or several of one region, to be asked in turn (default: $BIZRA_NODE, else "+nodeDefault+")")
}

func addStaleFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("stale", false, "read what the node has, without asking the region's leader")
}

// targets are the nodes that the command line or the environment names.
func targets(cmd *cobra.Command) ([]string, error) {
	nodes, err := cmd.Flags().GetStringSlice("node")
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 && os.Getenv("BIZRA_NODE") != "" {
		nodes = strings.Split(os.Getenv("BIZRA_NODE"), ",")
	}
	if len(nodes) == 0 {
		nodes = []string{nodeDefault}
	}
	for _, n := range nodes {
		switch {
		case strings.HasPrefix(n, "http://"), strings.HasPrefix(n, "https://"):
		case strings.HasPrefix(n, "/"):
			if _, err := p2p.ParseAddress(n); err != nil {
				return nil, usagef("--node: %w", err)
			}
			if len(nodes) > 1 {
				return nil, usagef("--node: a multiaddr stands alone, not in a list")
			}
		default:
			return nil, usagef("--node %q: it must be a URL such as %s, or a multiaddr such as /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW…", n, nodeDefault)
		}
	}
	return nodes, nil
}

func isMultiaddr(nodes []string) bool { return strings.HasPrefix(nodes[0], "/") }

// dial makes a client of the nodes that the command line names.
func dial(cmd *cobra.Command, retriesMax int) (*client.Client, error) {
	nodes, err := targets(cmd)
	if err != nil {
		return nil, err
	}
	if isMultiaddr(nodes) {
		return nil, usagef("--node %s: this command speaks HTTP: give the node's URL, which `bizra node` prints when it is ready", nodes[0])
	}
	stale := false
	if f := cmd.Flags().Lookup("stale"); f != nil {
		stale = f.Value.String() == "true"
	}
	c, err := client.New(client.Config{URLs: nodes, RetriesMax: retriesMax, Stale: stale, UserAgent: "bizra/" + programVersion()})
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// explained adds to an error of the network what a person can do about it.
func explained(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	nodes, terr := targets(cmd)
	if op, ok := errors.AsType[*net.OpError](err); ok && terr == nil && op.Op == "dial" {
		return fmt.Errorf("no node answers at %s: is one running there? Start one with `bizra node` or `bizra dev`, or name another with --node or BIZRA_NODE (%w)",
			strings.Join(nodes, ", "), op)
	}
	return err
}

// patiently gives the context that bounds a command which waits for something.
func patiently(cmd *cobra.Command, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(cmd.Context(), limit, fmt.Errorf("it took longer than %v", limit))
}
