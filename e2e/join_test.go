package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// deadAddress is the multiaddr of a node that does not run.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // from then on nobody answers there
	key, err := pci.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := p2p.PeerID(federation.Key(key.Public()))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", l.Addr().(*net.TCPAddr).Port, id)
}

func TestJoinWhileTheFirstPeerIsDown(t *testing.T) {
	t.Parallel()
	r := proctest.New(t, proctest.Options{Binary: built.bizra})
	a, b, c := r.Voters[0], r.Voters[1], r.Voters[2]
	dead := deadAddress(t)
	a.Start()
	b.Start("--join", dead, "--join", a.Ready.Address)
	// The region is not founded before its third voter was there once: it says so, and serves nothing.
	proctest.Await(t, "wait until "+b.Name+" says what it waits for", func(ctx context.Context) error {
		s, err := b.Status(ctx)
		if err == nil && (s.Ready || !strings.Contains(s.Reason, "founding voters")) {
			err = fmt.Errorf("ready %v, %s", s.Ready, s.Reason)
		}
		return err
	})
	refusedBeforeFounding(t, a)
	c.Start("--join", dead, "--join", b.Ready.Address) // it learns of a from b
	for _, v := range r.Voters {
		v.AwaitReady()
	}
	var record workload.Record
	agent := r.Agent("agent", &record, c)
	mustAck(t, agent, workload.OpenStep(r.Name, "first"))

	// Later: a is down, and c has forgotten where the others are.
	a.Kill()
	c.Stop()
	if err := os.Remove(filepath.Join(c.Home, "peers.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(a.Ready.HTTP, "http://")); err == nil {
		t.Fatal("the first peer is not down")
	}
	c.Start("--join", a.Ready.Address, "--join", b.Ready.Address)
	c.AwaitReady()
	mustAck(t, agent, workload.OpenStep(r.Name, "second"))
	a.Start() // without --join: it remembers
	a.AwaitReady()
	mustAck(t, agent, workload.OpenStep(r.Name, "third"))
	checkVoters(t, r.Voters, record.Acked())
	peersOf(t, a, r)
}

func refusedBeforeFounding(t *testing.T, n *proctest.Node) {
	t.Helper()
	once := n.Client(func(c *client.Config) { c.RetriesMax = -1 })
	key, err := pci.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	early := &workload.Agent{Signer: client.Signer{Key: key}, Known: client.Context{Region: "a"}}
	env, err := early.Sign(workload.OpenStep("a", "early"))
	if err != nil {
		t.Fatal(err)
	}
	var p *client.Problem
	if _, err = once.Submit(t.Context(), env.Canonical()); !errors.As(err, &p) || p.Status != 503 {
		t.Errorf("a region that is not founded answers a proof with %v", err)
	}
	if _, err = once.Policy(t.Context()); !errors.As(err, &p) || p.Status != 503 {
		t.Errorf("a region that is not founded answers a read with %v", err)
	}
}

// peersOf checks that a node is connected to both other voters.
func peersOf(t *testing.T, n *proctest.Node, r *proctest.Region) {
	t.Helper()
	proctest.Await(t, "wait until "+n.Name+" knows its peers", func(ctx context.Context) error {
		peers, err := n.Stale().Peers(ctx)
		if err != nil {
			return err
		}
		for _, v := range r.Voters {
			connected := slices.ContainsFunc(peers.Peers, func(p client.Peer) bool { return p.Name == v.Name && p.Connected && p.Role == client.RoleVoter })
			if v != n && !connected {
				return fmt.Errorf("not connected to %s: %+v", v.Name, peers)
			}
		}
		return nil
	})
}
