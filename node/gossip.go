package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/gossip/members"
	"github.com/bizra/bizra/gossip/patterns"
	"github.com/bizra/bizra/pci"
)

const (
	// announceFor is how long a message of attestation is announced to those who come later.
	// Afterwards, and where gossip loses it, exchanges by stream bring it.
	announceFor = 30 * time.Second
	// evidenceFor is longer: whoever missed it votes on for a liar.
	evidenceFor = 10 * time.Minute
	patternFor  = 10 * time.Minute
	// memberHeartbeat is how often a member tends its meshes, most of what gossip costs it at rest.
	memberHeartbeat = 2 * time.Second
	// memberValidateQueue has room for a certificate of each region and as much again: a place takes memory while it is free.
	memberValidateQueue = 2 * federation.RegionsMax
	// sharedMax bounds the committed patterns that wait to be shared.
	sharedMax = 256
)

// hearsay is what the node hears and says by gossip.
type hearsay struct {
	router   *gossip.Router
	members  *members.Service
	patterns *patterns.Store

	mu       sync.Mutex
	elevated []int64 // entries of patterns that this node's region has committed and that are not shared yet
	sharing  bool    // a goroutine does
}

// startGossip puts up the node's part in the gossip of its federation.
func (n *Node) startGossip(context.Context) (err error) {
	doc := n.Document()
	cfg := gossip.Config{Federation: doc.Name, Regions: len(doc.Regions), LocalOnly: n.localOnly, Share: n.cfg.Ground.Share, Metrics: &n.registry, Logger: n.log}
	if !n.home.Votes() {
		// It hears of certificates, some a second, and of little else.
		cfg.ValidateWorkers, cfg.Heartbeat, cfg.ValidateQueue = 1, memberHeartbeat, memberValidateQueue
	}
	n.hears.router, err = gossip.New(n.host, n.access, cfg)
	if err != nil {
		return err
	}
	n.onClose(n.hears.router.Close)
	r := n.hears.router
	r.Handle(gossip.Checkpoints, n.attestHandler(attest.KindCheckpoint))
	r.Handle(gossip.Votes, n.attestHandler(attest.KindCosignature, attest.KindRefusal))
	r.Handle(gossip.Certificates, n.attestHandler(attest.KindCertificate))
	r.Handle(gossip.Evidence, n.attestHandler(attest.KindEvidence))
	n.hears.patterns, err = patterns.New(patterns.Config{Gossip: r, Judge: n.judgePattern, Metrics: &n.registry})
	if err != nil {
		return err
	}
	n.onClose(n.hears.patterns.Close)
	n.hears.members, err = members.New(members.Config{Federation: doc.Name, Host: n.host, Access: n.access, Gossip: r, Version: n.cfg.Version,
		Entries: func() uint64 { return uint64(n.feed.Size()) }, Leading: n.leads, Verify: n.cfg.Ground.Verify, Metrics: &n.registry, Logger: n.log}) //nolint:gosec // a size is never negative
	if err != nil {
		return err
	}
	n.onClose(n.hears.members.Close)
	r.Start()
	n.hears.members.Start()
	return nil
}

// CertificateCopies counts the copies of certificates that gossip has brought this node.
func (n *Node) CertificateCopies() gossip.Copies { return n.hears.router.Certificates() }

func (n *Node) leads() bool {
	r := n.region.Load()
	return r != nil && r.IsLeader()
}

func (n *Node) localOnly(s gossip.LocalStatus) {
	if s.Local {
		n.log.Warn("no other region is heard: this region goes on by itself; what it commits is attested once the others are back")
		return
	}
	n.log.Info("other regions are heard again")
}

// attestHandler judges messages of attestation of these kinds, and passes them on to whoever
// attests on this node. A message under another document, or of a newer program, is nobody's fault.
func (n *Node) attestHandler(kinds ...attest.Kind) gossip.Handler {
	judge := func(_ context.Context, t gossip.Topic, payload []byte) gossip.Judgement {
		st, err := n.cfg.Ground.OpenStatement(payload, n.access.Document())
		switch {
		case errors.Is(err, attest.ErrOtherDocument):
			return gossip.Judgement{Verdict: gossip.Ignore}
		case err != nil:
			return gossip.Judgement{Verdict: gossip.Reject, Why: err.Error()}
		case !slices.Contains(kinds, st.Kind), t.Kind == gossip.Votes && st.Origin != t.Region:
			return gossip.Judgement{Verdict: gossip.Reject, Why: "a message that belongs to another topic"}
		}
		return n.attested.judge(st)
	}
	return gossip.Handler{Judge: judge, Deliver: func(m gossip.Message) { n.heard(m.Payload) }}
}

// heard takes a message of attestation that was judged good.
func (n *Node) heard(payload []byte) {
	if d := n.attest.Load(); d != nil {
		d.Heard(payload)
		return
	}
	st, err := n.cfg.Ground.OpenStatement(payload, n.access.Document())
	if err != nil {
		return // the document has changed since it was judged
	}
	switch st.Kind {
	case attest.KindCertificate:
		n.learned(attest.Learned{Origin: st.Origin, Size: st.Checkpoint.Size, Note: st.Note})
	case attest.KindEvidence:
		n.attested.convict(st.Origin)
	}
}

// announce hands a message of attestation to gossip.
func (n *Node) announce(t attest.Topic, data []byte) error {
	kinds := map[string]gossip.Kind{attest.TopicCheckpoints: gossip.Checkpoints, attest.TopicVotes: gossip.Votes,
		attest.TopicCertificates: gossip.Certificates, attest.TopicEvidence: gossip.Evidence}
	n.cfg.Watch.Said(t)
	until := time.Now().Add(announceFor)
	if t.Name == attest.TopicEvidence {
		until = time.Now().Add(evidenceFor)
	}
	return n.hears.router.Announce(gossip.Topic{Kind: kinds[t.Name], Region: t.Region}, data, gossip.Announcement{Until: until})
}

// judgePattern says whether a pattern may be kept. Of its own region the node knows the agents;
// another region's it knows where it re-executes that region's ledger, and else takes the
// signature for what it is.
func (n *Node) judgePattern(_ context.Context, env *pci.Envelope, p *pattern.Pattern) gossip.Judgement {
	if _, ok := n.access.Document().Region(p.Region); !ok {
		return gossip.Judgement{Verdict: gossip.Ignore, Why: "the federation document has no such region"}
	}
	verdict := gossip.Judgement{Verdict: gossip.Accept, Origin: p.Region}
	look := func(v *fsm.View) error {
		a, err := v.Agent(env.Sender.AgentID)
		if err != nil || a.PublicKey != env.Sender.PublicKey || a.RevokedMillis != 0 {
			verdict = gossip.Judgement{Verdict: gossip.Ignore, Why: "the agent is not registered there, as far as this node knows"}
		}
		return nil
	}
	if p.Region == n.home.Identity.Region {
		if v, err := n.state.View(); err == nil {
			_ = errors.Join(look(v), v.Close()) // look has no error, and a view of memory loses nothing
		}
	} else if c := n.copies.Load(); c != nil {
		if copied := c.Of(p.Region); copied != nil {
			_ = copied.Read(look) // a copy that is not open says nothing about the agent
		}
	}
	return verdict
}

// sharePatterns tells every node of the patterns that this region has committed, while this
// node leads; each node keeps those that weigh most.
func (n *Node) sharePatterns() {
	for n.ctx.Err() == nil {
		index, ok := n.hears.nextElevated()
		if !ok {
			return
		}
		if err := n.sharePattern(index); err != nil {
			n.log.Warn("a pattern was not shared", "entry", index, "error", err)
		}
	}
}

// nextElevated gives the oldest that waits; where there is none, whoever asks must end.
func (h *hearsay) nextElevated() (index int64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sharing = len(h.elevated) > 0; !h.sharing {
		h.elevated = nil
		return 0, false
	}
	index, h.elevated = h.elevated[0], h.elevated[1:]
	return index, true
}

func (n *Node) sharePattern(index int64) error {
	v, err := n.state.View()
	if err != nil {
		return err
	}
	e, err := v.Entry(index)
	if err := errors.Join(err, v.Close()); err != nil {
		return err
	}
	if n.leads() {
		return n.hears.patterns.Share(e.Envelope, time.Now().Add(patternFor))
	}
	_, err = n.hears.patterns.Add(e.Envelope)
	return err
}

// noteElevatedEntry does on a member what noteElevated does on a voter.
func (n *Node) noteElevatedEntry(e *fsm.Entry) {
	if e.Envelope != nil && e.Envelope.Payload.Action == pattern.Action && e.Outcome.Code == pci.Success {
		n.elevatedAt(e.Index)
	}
}

func (n *Node) elevatedAt(index int64) {
	h := &n.hears
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.elevated) == sharedMax {
		return
	}
	h.elevated = append(h.elevated, index)
	if !h.sharing {
		h.sharing = true
		n.workers.Go(n.sharePatterns)
	}
}

// noteElevated remembers the patterns among what was applied; beyond what may wait they are
// not shared, and stand in the ledger all the same.
func (n *Node) noteElevated(res *fsm.Result) {
	for i := range res.Receipts {
		if r := &res.Receipts[i]; r.Action == pattern.Action && r.Accepted() && !r.Repeated {
			n.elevatedAt(r.Index)
		}
	}
}
