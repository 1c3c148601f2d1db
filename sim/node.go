package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
	"github.com/bizra/bizra/sim/memnet"
)

const foundingFile = node.FileFounding

// freeBytes is what every simulated disk has left.
const freeBytes = 1 << 40

// Node is a node of a [World] over its crashes and restarts.
type Node struct {
	Region string
	Index  int // among its region's nodes
	Votes  bool
	ID     peer.ID

	world *World
	key   *pci.PrivateKey
	dir   string
	disk  *disk

	host    *memnet.Host // while it is up
	mount   *mount
	running atomic.Pointer[node.Node]
	starts  int
	lies    atomic.Pointer[Liar]  // nil of an honest node
	rogue   atomic.Pointer[rogue] // nil of a node that has attacked nobody
	voices  voices
	trouble trouble        // with its machine
	faults  int            // that befall it now
	ended   sync.WaitGroup // programs of crashed nodes that still run down
}

// Name says which node it is.
func (n *Node) Name() string { return fmt.Sprintf("%s-%d", n.Region, n.Index+1) }

// honest says whether the node has neither lied nor attacked.
func (n *Node) honest() bool { return n.lies.Load() == nil && n.rogue.Load() == nil }

// Running is the node while it is up, else nil.
func (n *Node) Running() *node.Node { return n.running.Load() }

// Start starts a node that is down, with what its disk holds.
func (n *Node) Start(ctx context.Context) error {
	if n.Running() != nil {
		return fmt.Errorf("sim: start %s: it is up", n.Name())
	}
	n.ended.Wait()
	n.starts++
	n.mount = &mount{disk: n.disk}
	g := &ground{node: n, mount: n.mount}
	raft := n.world.cfg.Raft
	raft.SealInterval = n.world.cfg.SealEvery(n.world.numbers[n.Region])
	raft.OpenLog = func(dir string) (region.LogBacking, error) { // region syncs the folder
		return &raftLog{n.disk.log, g.mount, n}, errors.Join(g.mount.check(), os.MkdirAll(dir, 0o700))
	}
	raft.FreeBytes = func(string) (int64, error) { return n.trouble.free(), nil }
	up, err := node.Start(ctx, node.Config{Home: n.dir, Version: "sim", Raft: raft, Ground: g, Watch: n.world.watch(n), Log: n.world.cfg.Logger})
	if err != nil {
		return fmt.Errorf("sim: start %s: %w", n.Name(), err)
	}
	n.running.Store(up)
	return nil
}

// Stop closes a node that is up, as an operator does.
func (n *Node) Stop() error {
	n.ended.Wait()
	was := n.running.Swap(nil)
	if was == nil {
		return nil
	}
	err := was.Close(context.Background())
	n.host = nil
	if err != nil {
		return fmt.Errorf("sim: stop %s: %w", n.Name(), err)
	}
	return nil
}

// Crash ends a node that is up as a power cut does: nothing of it is said or written from now
// on, and what was not synced is lost.
func (n *Node) Crash() error {
	was := n.running.Swap(nil)
	if was == nil {
		return fmt.Errorf("sim: crash %s: it is down", n.Name())
	}
	n.mount.disk.mu.Lock()
	n.mount.dead.Store(true)
	n.mount.disk.mu.Unlock()
	err := n.host.Close()
	n.host = nil
	n.ended.Go(func() { _ = was.Close(context.Background()) }) // it fails, since its disk is gone
	return err
}

// ground is what a simulated node stands on.
type ground struct {
	node  *Node
	mount *mount
}

var _ node.Ground = (*ground)(nil)

// OpenHome implements [node.Ground].
func (g *ground) OpenHome(dir string) (*node.Home, error) {
	n, w := g.node, g.node.world
	h := &node.Home{Dir: dir, Identity: node.Identity{Version: 1, Name: n.Name(), Region: n.Region, Role: node.RoleMember}, NodeKey: n.key, Document: w.Fed.Document}
	if n.Votes {
		h.Identity.Role, h.LogKey, h.CosignKey = node.RoleVoter, w.Fed.LogKeys[n.Region], w.Fed.Cosign[n.Region]
		return h, nil
	}
	var err error
	h.Invitation, err = w.invite(n)
	return h, err
}

// NewHost implements [node.Ground].
func (g *ground) NewHost(cfg p2p.Config) (host.Host, error) {
	key, err := hostKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	h, err := g.node.world.net.NewHost(key)
	if err != nil {
		return nil, err
	}
	ping.NewPingService(h) // as libp2p's own hosts do
	g.node.host = h
	return &tongue{h, g.node}, nil
}

// OpenStore implements [node.Ground].
func (g *ground) OpenStore(dir string, _ pebblestore.Options) (store.Store, error) {
	return g.mount.open(dir)
}

// OpenCopy implements [node.Ground].
func (g *ground) OpenCopy(dir string, _ pebblestore.Options, cfg fsm.Config) (follow.CopyReplica, error) {
	if memo := g.node.world.memo; !memo.off {
		return memo.openCopy(g.mount, dir, cfg)
	}
	st, err := g.mount.open(dir)
	if err != nil {
		return nil, err
	}
	return follow.OpenCopy(st, cfg)
}

// OpenFollowed implements [node.Ground].
func (g *ground) OpenFollowed(dir string, _ pebblestore.Options, cfg fsm.Config) (node.Followed, error) {
	if memo := g.node.world.memo; !memo.off {
		return memo.openFollowed(g.mount, dir, cfg)
	}
	st, err := g.mount.open(dir)
	if err != nil {
		return nil, err
	}
	return node.OpenFollowed(st, cfg)
}

// OpenEntries implements [node.Ground].
func (g *ground) OpenEntries(entries [][]byte, verify bool) ([]*fsm.Entry, int, error) {
	return g.node.world.memo.parse(entries, verify)
}

// OpenStatement implements [node.Ground].
func (g *ground) OpenStatement(data []byte, doc *federation.Document) (*attest.Statement, error) {
	return g.node.world.memo.statement(data, doc)
}

// Directory implements [node.Ground].
func (g *ground) Directory(doc *federation.Document) (*p2p.Directory, error) {
	return g.node.world.memo.directory(doc)
}

// Credential implements [node.Ground].
func (g *ground) Credential(text []byte, doc *federation.Document) (*p2p.Credential, error) {
	return g.node.world.memo.credential(text, doc)
}

// Verify implements [node.Ground].
func (g *ground) Verify(public [32]byte, message, signature []byte) bool {
	return g.node.world.memo.verify(public, message, signature)
}

// Share implements [node.Ground].
func (g *ground) Share(id string, data []byte) []byte { return g.node.world.memo.share(id, data) }

// RemoveStore implements [node.Ground].
func (g *ground) RemoveStore(dir string) error { return g.mount.remove(dir) }

// Wall implements [node.Ground].
func (g *ground) Wall() time.Time { return time.Now().Add(g.node.trouble.wallOff()) }

// BookPath implements [node.Ground].
func (g *ground) BookPath(*node.Home) string { return "" }

func hostKey(key *pci.PrivateKey) (crypto.PrivKey, error) {
	seed := key.Seed()
	private, _, err := crypto.GenerateEd25519Key(bytes.NewReader(seed[:]))
	return private, err
}

// read lends the state of a node that is up and has one; else fn is not called.
func (n *Node) read(fn func(*fsm.View) error) error {
	up := n.Running()
	if up == nil {
		return nil
	}
	called := false
	err := up.Read(func(v *fsm.View) error {
		called = true
		return fn(v)
	})
	if !called {
		return nil // it is being replaced
	}
	return err
}

// Attestation is how attestation stands on a voter that is up.
func (n *Node) Attestation() attest.Status {
	up := n.Running()
	if up == nil {
		return attest.Status{}
	}
	st, _ := up.AttestStatus()
	return st
}

var errDown = errors.New("sim: the node is down")
