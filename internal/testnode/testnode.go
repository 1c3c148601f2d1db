// Package testnode runs a real node of a federation of one region in this process, with
// Raft, store, ledger and HTTP interface, for tests and runnable examples of what speaks
// to one. A region alone attests its own ledger, so certificates and bundles are real too.
// It is imported by tests alone.
package testnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/pci"
)

const (
	readyWithin = time.Minute
	readyPoll   = 10 * time.Millisecond
)

// Node is a node that serves.
type Node struct {
	URL string // of its HTTP interface
	Fed *testfed.Federation

	dir  string
	http string
	node *node.Node
}

// Start founds a region of one voter and waits until it serves. Its constitution is the
// default one with open registration; change may alter the document.
func Start(ctx context.Context, change ...func(*federation.Document)) (*Node, error) {
	dir, err := os.MkdirTemp("", "testnode")
	if err != nil {
		return nil, err
	}
	n := &Node{dir: dir, http: "127.0.0.1:0", Fed: testfed.New(1, 1, append([]func(*federation.Document){testfed.DefaultRules, testfed.Open}, change...)...)}
	if err := n.found(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := n.Up(ctx); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

func (n *Node) found() error {
	home := filepath.Join(n.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	for name, key := range map[string]*pci.PrivateKey{node.FileNodeKey: n.Fed.Nodes["a"][0], node.FileLogKey: n.Fed.LogKeys["a"], node.FileCosignKey: n.Fed.Cosign["a"]} {
		if err := key.Save(filepath.Join(home, name)); err != nil {
			return err
		}
	}
	who, err := json.Marshal(node.Identity{Version: 1, Name: "a-1", Region: "a", Role: node.RoleVoter})
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{node.FileNode: who, node.FileDocument: n.Fed.Document.Canonical(), node.FileFounding: nil} {
		if err := os.WriteFile(filepath.Join(home, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Up starts the node, for the first time or after Down, at the same address.
func (n *Node) Up(ctx context.Context) error {
	cfg := node.Config{Home: filepath.Join(n.dir, "home"), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, HTTP: n.http, Version: "test"}
	cfg.Raft.HeartbeatTimeout, cfg.Raft.ElectionTimeout, cfg.Raft.LeaseTimeout = 100*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	cfg.API.OpenEntries = true
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	started, err := node.Start(ctx, cfg)
	if err != nil {
		return err
	}
	n.node, n.URL = started, started.HTTPAddress()
	n.http = n.URL[len("http://"):]
	c, err := client.New(client.Config{URLs: []string{n.URL}})
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		s, err := c.Status(ctx)
		if err == nil && s.Ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the node is not ready after %v: %+v: %w", readyWithin, s, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// Down stops the node; what it holds stays.
func (n *Node) Down() error {
	if n.node == nil {
		return nil
	}
	err := n.node.Close(context.Background())
	n.node = nil
	return err
}

// Stop stops the node and deletes what it held.
func (n *Node) Stop() error { return errors.Join(n.Down(), os.RemoveAll(n.dir)) }
