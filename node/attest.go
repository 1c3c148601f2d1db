package node

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/attest/drive"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/gossip"
)

// startAttest begins to attest the other regions and to have this one attested; also where
// there is no other, since a region's seals wait for their certificates.
func (n *Node) startAttest(r *region.Region) error {
	own := n.home.Identity.Region
	d, err := drive.New(drive.Config{
		Attest: attest.Config{Region: own, Document: n.access.Document(), Views: views{n}, Signer: attest.NewKeys(own, n.home.LogKey, n.home.CosignKey),
			Open: n.cfg.Ground.OpenStatement},
		Host: n.host, Access: n.access, Leading: r.IsLeader,
		Propose: func(ctx context.Context, command []byte) error {
			_, err := r.Attest(ctx, command)
			return err
		},
		Publish: n.announce, OnLearned: n.learned, OnAlarm: n.alarmed, OnFailure: n.attestFailed, Wall: n.cfg.Ground.Wall, Metrics: &n.registry, Logger: n.log})
	if err != nil {
		return err
	}
	n.attest.Store(d)
	if s := n.seals.Load(); s != nil {
		if number, ok := s.Agreed(); ok {
			d.Agreed(number)
		}
	}
	return nil
}

// attestFailed stops a node whose storage or keys failed under attestation; that the node is
// being closed is no failure.
func (n *Node) attestFailed(err error) {
	if n.ctx.Err() == nil {
		n.fail(err)
	}
}

// alarmed keeps an alarm to be shown.
func (n *Node) alarmed(a attest.Alarm) {
	n.alarms.raise(a)
	n.cfg.Watch.Alarm(a)
}

func (n *Node) closeAttest() error {
	if d := n.attest.Load(); d != nil {
		return d.Close()
	}
	return nil
}

// agreed passes on that a majority of the voters made the same of a seal.
func (n *Node) agreed(number int64) {
	if d := n.attest.Load(); d != nil {
		d.Agreed(number)
	}
}

// opened is told that the copy of a region's ledger can be read.
func (n *Node) opened(origin string) { n.executed(origin, nil) }

// executed is told that the copy of a region's ledger has one more seal.
func (n *Node) executed(origin string, _ *fsm.Seal) {
	if d := n.attest.Load(); d != nil {
		d.Executed(origin)
	}
}

// refused is told that a region serves what re-execution refuses.
func (n *Node) refused(r *follow.Refused) {
	if d := n.attest.Load(); d != nil && r.Most() {
		d.Diverged(r.Origin, refusalOf(r.Code), r.Detail)
	}
}

// refusalOf gives what a region says, signed, of what its copy found.
func refusalOf(code string) string {
	switch code {
	case follow.RefusedTime:
		return certificate.RefusedTime
	case follow.RefusedSignature, follow.RefusedForm:
		return certificate.RefusedEntry
	default:
		return certificate.RefusedDiverged
	}
}

// views lends what attestation reads.
type views struct{ n *Node }

// Own implements [attest.Views].
func (s views) Own(fn func(*fsm.View) error) error {
	for {
		v, err := s.n.state.View()
		if err == nil {
			return errors.Join(fn(v), v.Close())
		}
		if !errors.Is(err, errNoState) {
			return err
		}
		select { // until the snapshot that came in is in place
		case <-time.After(readPause):
		case <-s.n.ctx.Done():
			return context.Cause(s.n.ctx)
		}
	}
}

// Copy implements [attest.Views].
func (s views) Copy(origin string, fn func(*fsm.View) error) error {
	c := s.n.copies.Load()
	if c == nil {
		return nil
	}
	copied := c.Of(origin)
	if copied == nil {
		return nil
	}
	if err := copied.Read(fn); err != nil && !errors.Is(err, follow.ErrNoCopy) {
		s.n.log.Error("the copy of another region's ledger cannot be read", "region", origin, "error", err)
		copied.Suspect(err)
	}
	return nil
}

// learned takes a verified certificate: the newest of each region is kept for whoever asks.
func (n *Node) learned(l attest.Learned) {
	n.cfg.Watch.Learned(l)
	if !n.attested.learn(l) || l.Origin != n.home.Identity.Region {
		return
	}
	n.mu.Lock()
	m := n.member
	n.mu.Unlock()
	if m != nil {
		if err := m.certify(); err != nil && n.ctx.Err() == nil {
			n.fail(err)
		}
	}
	n.feed.Stir() // those who wait for finality look again
}

// attested is what this node has heard of the regions' standing. It lives in memory: a region's
// own certificates stand in its state, and the others' come again.
type attested struct {
	mu        sync.Mutex
	newest    map[string]attest.Learned // by region
	convicted map[string]bool
}

func newAttested() *attested {
	return &attested{newest: map[string]attest.Learned{}, convicted: map[string]bool{}}
}

// learn keeps a certificate and says whether it covers more than the one before.
func (a *attested) learn(l attest.Learned) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, ok := a.newest[l.Origin]; ok && was.Size >= l.Size {
		return false
	}
	a.newest[l.Origin] = l
	return true
}

// ownCertificate is the newest certificate of the own region that was heard.
func (n *Node) ownCertificate() ([]byte, bool) {
	n.attested.mu.Lock()
	defer n.attested.mu.Unlock()
	l, ok := n.attested.newest[n.home.Identity.Region]
	return l.Note, ok
}

// size is how many entries of a region the newest certificate covers that was heard.
func (a *attested) size(region string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.newest[region].Size
}

// of is what the newest certificate heard of a region says, nil if none was.
func (a *attested) of(region string) *checkpoint.Checkpoint {
	a.mu.Lock()
	l, ok := a.newest[region]
	a.mu.Unlock()
	if !ok {
		return nil
	}
	body, err := fsm.CertificateBody(l.Note)
	if err != nil {
		return nil // it was verified when it was heard
	}
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		return nil
	}
	return c
}

func (a *attested) convict(origin string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.convicted[origin] = true
}

// olderCertificates is what gossip counts those among that cover no more than one that is known:
// whoever has a cosign key can put others together, of any region.
const olderCertificates = "older certificates"

// judge accepts a statement that holds, unless it is a certificate of what is known to be certified.
func (a *attested) judge(st *attest.Statement) gossip.Judgement {
	j := gossip.Judgement{Verdict: gossip.Accept, Origin: st.Region}
	switch st.Kind {
	case attest.KindEvidence:
		j.Of = st.Origin
	case attest.KindCertificate:
		a.mu.Lock()
		known, ok := a.newest[st.Origin]
		a.mu.Unlock()
		switch {
		case !ok || known.Size < st.Checkpoint.Size:
		case bytes.HasPrefix(known.Note, append(st.Checkpoint.Body(), '\n')):
			j.Verdict = gossip.Ignore
		default:
			j.Of = olderCertificates
		}
	}
	return j
}
