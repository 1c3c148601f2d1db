package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// peersEvery is how often the node looks who votes, for package p2p's rules; Raft's
// own RPCs are checked against the configuration itself.
const (
	peersEvery = 500 * time.Millisecond
	peersIdle  = 10 * time.Second
)

// startReplica starts what keeps the state: Raft on a voter, a follower on a member.
func (n *Node) startReplica() error {
	n.looking.Start(0, n.lookWho)
	if !n.home.Votes() {
		n.asking.Start(certificatesFirst, n.askForCertificates)
		return n.startMember()
	}
	r, err := n.newRegion()
	if err != nil {
		return err
	}
	n.workers.Go(func() { n.runVoter(r, r.Start) })
	return nil
}

// newRegion makes the voter's part in Raft; nothing runs yet.
func (n *Node) newRegion() (*region.Region, error) {
	document := n.Document()
	own, ok := document.Region(n.home.Identity.Region)
	if !ok {
		return nil, fmt.Errorf("the federation document has no region %q", n.home.Identity.Region)
	}
	cfg := n.cfg.Raft
	cfg.Home, cfg.Document, cfg.Logger = n.home.Dir, document.Canonical(), n.log
	cfg.Network = region.HostNetwork(n.host, n.access)
	for _, v := range own.Voters {
		id, err := p2p.PeerID(v.NodeKey)
		if err != nil {
			return nil, err
		}
		cfg.Founders = append(cfg.Founders, raft.ServerID(id.String()))
	}
	cfg.OpenState = func(dir string) (region.StateMachine, error) {
		o, err := n.state.open(dir, own.Name, n.log, n.Document())
		if err != nil {
			return nil, err
		}
		n.advanced(o.Size())
		if d := n.attest.Load(); d != nil {
			d.Restored() // a snapshot has come in
		}
		return o, nil
	}
	cfg.VerifyState = func(dir string) (uint64, error) { return n.state.verify(n.ctx, dir, n.Document(), own.Name, n.log) }
	cfg.PeerPhase, cfg.PeerClock, cfg.Wall = n.asker.FoundingOf, n.asker.Clock, n.cfg.Ground.Wall
	cfg.OnFailure, cfg.OnApplied, cfg.Vouched = n.fail, n.applied, n.vouched
	cfg.Hooks = n.hooks()
	return region.New(cfg)
}

// hooks are the metrics', and what a node does that begins to lead: it learns whom to hold back.
func (n *Node) hooks() region.Hooks {
	h := n.metrics.hooks()
	count := h.Leading
	h.Leading = func(leading bool) {
		count(leading)
		if c := n.copies.Load(); c != nil {
			c.Attend(leading || !n.mayStandBy())
		}
		if leading {
			n.refreshEdge()
		}
	}
	return h
}

// runVoter starts Raft and leaves it running; the node fails with it.
func (n *Node) runVoter(r *region.Region, start func(context.Context) error) {
	if !n.startRaft(r, start) {
		return
	}
	n.voterStarted(r)
}

// startRaft starts Raft unless the node is being closed: a region must not be closed
// while it starts, and none must be started after closeReplica.
func (n *Node) startRaft(r *region.Region, start func(context.Context) error) bool {
	n.starting.Lock()
	defer n.starting.Unlock()
	if n.region.Load() != nil {
		return false // by another who was told to
	}
	err := context.Cause(n.ctx)
	if err == nil {
		n.region.Store(r)
		err = start(n.ctx)
	}
	if err != nil && n.ctx.Err() == nil {
		n.fail(err)
	}
	return err == nil
}

// applied is told every result, on the goroutine that applies.
func (n *Node) applied(_ uint64, res *fsm.Result) {
	n.metrics.applied(res)
	n.feed.Advance(max(n.feed.Size(), res.Size))
	n.noteResult(res)
	n.cfg.Watch.Applied(res)
}

// member is a follower with the state that it feeds. The follower's goroutine brings entries
// and seals, and gossip's the certificates.
type member struct {
	Followed
	opened   *opened
	view     func() (*fsm.View, error)
	newest   func() ([]byte, bool) // the newest certificate of the region that was heard
	elevated func(*fsm.Entry)      // told of each entry

	applying sync.Mutex // held while the machine moves
	ended    bool       // under applying: the machine is closed, or about to be
}

// OfferDocument implements [follow.Replica].
func (m *member) OfferDocument(canonical []byte) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	return m.Followed.OfferDocument(canonical)
}

// View implements [follow.Replica].
func (m *member) View() (*fsm.View, error) { return m.view() }

// ApplySeal implements [follow.Replica]. The certificate may have been quicker than the seal.
func (m *member) ApplySeal(s *fsm.Seal) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	if err := m.Followed.ApplySeal(s); err != nil {
		return err
	}
	return m.certifyLocked()
}

// ApplyParsed implements [follow.Replica].
func (m *member) ApplyParsed(parsed []*fsm.Entry, entries [][]byte) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	err := m.Followed.ApplyParsed(parsed, entries)
	if err == nil {
		m.opened.tellDocument()
		for _, e := range parsed {
			m.elevated(e)
		}
	}
	return err
}

// certify records the newest certificate heard, if its seal is here.
func (m *member) certify() error {
	m.applying.Lock()
	defer m.applying.Unlock()
	return m.certifyLocked()
}

// end closes the machine. Gossip may have taken hold of it before, and bring a certificate afterwards.
func (m *member) end() error {
	m.applying.Lock()
	m.ended = true
	m.applying.Unlock()
	return m.opened.Close()
}

func (m *member) certifyLocked() error {
	signed, ok := m.newest()
	if !ok || m.ended {
		return nil
	}
	return m.Certify(signed)
}

// goBy takes up a document that has come in force. One that is older than the node's own
// is in force only until the replay of the ledger has come to that one.
func (n *Node) goBy(d *federation.Document) {
	own := n.Document()
	if d.Version <= own.Version {
		return
	}
	err := n.home.SaveDocument(d)
	if err == nil {
		err = n.access.SetDocument(d)
	}
	if err != nil {
		n.fail(fmt.Errorf("take up version %d of the federation document, which has come in force: %w", d.Version, err))
		return
	}
	n.log.Info("a new version of the federation document is in force", "version", d.Version, "digest", hex.EncodeToString(digestOf(d)),
		"policy_hash", d.Constitution.PolicyHash())
}

func digestOf(d *federation.Document) []byte {
	digest := d.Digest()
	return digest[:]
}

// startMember opens the member's copy of the state and follows.
func (n *Node) startMember() error {
	o, state, err := n.state.follow(n.home.path(folderFollow), n.home.Identity.Region, n.log, n.Document())
	if err != nil {
		return err
	}
	n.advanced(state.Size())
	m := &member{Followed: state, opened: o, view: n.state.View, newest: n.ownCertificate, elevated: n.noteElevatedEntry}
	f, err := follow.New(follow.Config{Host: n.host, Region: n.home.Identity.Region, Replica: m, Peers: n.keeper.Region,
		OnAdvance: n.advanced, OpenEntries: n.cfg.Ground.OpenEntries, Metrics: &n.registry, Logger: n.log})
	if err != nil {
		return errors.Join(err, o.Close())
	}
	n.follower.Store(f)
	ctx, cancel := context.WithCancel(n.ctx)
	done := make(chan struct{})
	n.workers.Go(func() {
		defer close(done)
		if err := f.Run(ctx); err != nil && ctx.Err() == nil {
			n.fail(err)
		}
	})
	stop := func() error {
		cancel()
		<-done
		return m.end()
	}
	n.mu.Lock()
	n.stopMember, n.member = stop, m
	n.mu.Unlock()
	return nil
}

// endMember stops following and closes the member's state, once.
func (n *Node) endMember() error {
	n.mu.Lock()
	stop := n.stopMember
	n.stopMember, n.member = nil, nil
	n.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop()
}

// raftPeers implements p2p.AccessConfig.Raft.
func (n *Node) raftPeers() (p2p.RaftPeers, bool) {
	if p := n.raft.Load(); p != nil {
		return *p, true
	}
	return p2p.RaftPeers{}, false
}

// lookWho keeps what raftPeers says up to date. On a member only the ledger moves it, so that
// it looks where that has grown, and every now and then in case it was made a voter.
func (n *Node) lookWho() time.Duration {
	if p, ok := n.lookPeers(); ok {
		n.raft.Store(&p)
	}
	if n.region.Load() == nil {
		return peersIdle
	}
	return peersEvery
}

// advanced says that the ledger here has so many entries now.
func (n *Node) advanced(size int64) {
	n.feed.Advance(size)
	n.looking.Within(peersEvery)
}

func (n *Node) lookPeers() (p2p.RaftPeers, bool) {
	var voters, others []peer.ID
	if r := n.region.Load(); r != nil {
		for _, s := range r.Configuration().Servers {
			id, err := peer.Decode(string(s.ID))
			if err != nil {
				continue // no node of ours has such an ID
			}
			if s.Suffrage == raft.Voter {
				voters = append(voters, id)
			} else {
				others = append(others, id)
			}
		}
	}
	// Those whom an operator's entry names may come to lead before this node's Raft has the
	// configuration that says so.
	for _, id := range n.wishedVoters() {
		if !slices.Contains(voters, id) {
			voters = append(voters, id)
		}
	}
	return p2p.NewRaftPeers(voters, others), len(voters) > 0
}

// wishedVoters are the peers that operator-signed entries name as voters, none before
// the first entry.
func (n *Node) wishedVoters() (ids []peer.ID) {
	desired, _ := n.desiredVoters()
	for _, v := range desired {
		if id, err := p2p.PeerID(v.NodeKey); err == nil { // checked when the entry was made
			ids = append(ids, id)
		}
	}
	return ids
}

// vouched implements region.Config.Vouched.
func (n *Node) vouched(id raft.ServerID) bool {
	p, err := peer.Decode(string(id))
	return err == nil && slices.Contains(n.wishedVoters(), p)
}
