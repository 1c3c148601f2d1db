package node

import (
	"testing"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// TestWhatGossipCountsAMessageAmong: nobody uses up an honest region's share of what is passed on by putting
// certificates of it together, or by evidence against itself.
func TestWhatGossipCountsAMessageAmong(t *testing.T) {
	r := testregion.New(t, testfed.New(4, 1), "a")
	r.Session("alice", "s1")
	first := r.Seal()
	r.Session("bob", "s2")
	second := r.Seal()
	of := func(s *fsm.Seal) *attest.Statement {
		return &attest.Statement{Kind: attest.KindCertificate, Region: "a", Origin: "a", Checkpoint: s.Checkpoint(), Note: r.Certify(s)}
	}
	a := newAttested()
	if j := a.judge(of(second)); j != (gossip.Judgement{Verdict: gossip.Accept, Origin: "a"}) {
		t.Errorf("the first certificate: %+v", j)
	}
	a.learn(attest.Learned{Origin: "a", Size: second.Size, Note: r.Certify(second)})
	if j := a.judge(of(second)); j.Verdict != gossip.Ignore {
		t.Errorf("another certificate of the same: %+v", j)
	}
	other := *second
	other.State[0]++
	contradicting := &attest.Statement{Kind: attest.KindCertificate, Region: "a", Origin: "a", Checkpoint: other.Checkpoint()}
	for name, st := range map[string]*attest.Statement{"older": of(first), "contradicting": contradicting} {
		if j := a.judge(st); j.Verdict != gossip.Accept || j.Of != olderCertificates {
			t.Errorf("%s: %+v", name, j)
		}
	}
	if j := a.judge(&attest.Statement{Kind: attest.KindEvidence, Origin: "b"}); j.Verdict != gossip.Accept || j.Origin != "" || j.Of != "b" {
		t.Errorf("evidence: %+v", j)
	}
}
