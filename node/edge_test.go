package node

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func TestEdgeHoldsBackLimitedAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fed := testfed.New(1, 1)
		now := time.Now().UnixMilli()
		a, b := fed.Agent("alice", now), fed.Agent("bob", now)
		thief := fed.Agent("alice", now) // who signs in alice's name must not use up what is left to her
		thief.Key = testfed.Key("thief")
		limited := []fsm.Limited{{Agent: fsm.Agent{ID: "alice", PublicKey: a.Key.Public()}, Breaker: fsm.Muted}}
		var e edge
		passes := func(s *testfed.Signer, n int) (passed int) {
			t.Helper()
			var batch []*pci.Envelope
			for range n {
				batch = append(batch, s.Sign("session.open", map[string]any{"region": "a", "session": "s"}, ""))
			}
			receipts := make([]fsm.Receipt, n)
			open, places := e.admit("a", batch, receipts)
			for i, p := range places {
				if open[i] != batch[p] || receipts[p].Code != 0 || receipts[p].AgentID != "" {
					t.Errorf("proof %d is at place %d: %+v", i, p, receipts[p])
				}
				receipts[p].Code = pci.Success
			}
			for i, r := range receipts {
				if r.Code != pci.Success && (r.Code != pci.RejectRateLimited || r.HasEntry || r.Digest != batch[i].Digest() || !strings.Contains(r.Message(), "alice")) {
					t.Errorf("held back with %+v", r)
				}
			}
			return len(open)
		}
		if n := passes(a, 2*heldBurst); n != 2*heldBurst {
			t.Errorf("before any is limited %d pass", n)
		}
		e.set(limited)
		for _, c := range []struct {
			name string
			s    *testfed.Signer
			want int
		}{{"another agent", b, 2 * heldBurst}, {"another key", thief, 2 * heldBurst}, {"the agent", a, heldBurst}, {"the agent again", a, 0}} {
			if n := passes(c.s, 2*heldBurst); n != c.want {
				t.Errorf("%s: %d pass, want %d", c.name, n, c.want)
			}
		}
		<-time.After(3 * time.Second)
		e.set(limited) // which must not fill the bucket
		if n := passes(a, heldBurst); n != 3*heldPerSecond {
			t.Errorf("after 3 s %d pass", n)
		}
		e.set(nil)
		if n := passes(a, 2*heldBurst); n != 2*heldBurst {
			t.Errorf("once clear %d pass", n)
		}
	})
}

// A node in whole: what a failing agent runs into is shown everywhere, and the flood stays at the edge.
func TestLimitedAgentIsShownAndHeldBack(t *testing.T) {
	dir, fed := newHome(t)
	n, err := Start(t.Context(), Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(t.Context()) }) // once more where the test came that far
	awaitReady(t, n)
	now := time.Now().UnixMilli()
	submit := func(envs ...*pci.Envelope) (receipts []fsm.Receipt) {
		t.Helper()
		raw := make([][]byte, len(envs))
		for i, e := range envs {
			raw[i] = e.Canonical()
		}
		outcomes, err := n.Submit(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			receipts = append(receipts, o.Receipt)
		}
		return receipts
	}
	a := fed.Agent("alice", now)
	opened := submit(fed.Operator("a", now).Register("a", a), a.Sign("session.open", map[string]any{"region": "a", "session": "s"}, ""))
	if !opened[1].Accepted() {
		t.Fatalf("%+v", opened[1])
	}
	var first fsm.Receipt // a refusal on record
	var refused *pci.Envelope
	counts := map[string]int{}
	for range 60 { // each a batch of its own, so that the edge hears of the breaker between them
		step := a.Sign("session.transition", map[string]any{"session": "s", "to": "active"}, opened[1].Head)
		r := submit(step)[0]
		switch {
		case r.Code == pci.RejectFateViolation:
			counts["refused"]++
			first, refused = r, step
		case r.Code == pci.RejectRateLimited && r.Agent != nil:
			counts["limited"]++
		case r.Code == pci.RejectRateLimited:
			counts["edge"]++
		default:
			t.Fatalf("%+v", r)
		}
	}
	if counts["refused"] < 12 || counts["limited"] < heldBurst/2 || counts["edge"] < 10 {
		t.Errorf("of 60 proofs %v", counts)
	}
	// What is on record is answered again, however often.
	for range 2 * heldBurst {
		if again := submit(refused)[0]; !again.Repeated || again.Index != first.Index || again.Code != first.Code {
			t.Fatalf("sent again: %+v, was %+v", again, first)
		}
	}
	s, err := n.Status()
	if err != nil || s.Breakers.Throttled+s.Breakers.Muted != 1 {
		t.Errorf("status %+v, %v", s.Breakers, err)
	}
	v, err := n.state.View()
	if err != nil {
		t.Fatal(err)
	}
	shown, err := newAPIView(v, "a")
	if err != nil {
		t.Fatal(err)
	}
	record, err := shown.Agent("alice")
	if err != nil || record.Refused != int64(counts["refused"]) || record.Accepted != 1 || record.Breaker == "clear" || record.DecidedAt == "" || record.MeasuredSNR > 0.6 {
		t.Errorf("agent %+v, %v", record, err)
	}
	want := map[string]bool{"bizra_fsm_agents_limited": true, "bizra_fsm_layer_seconds": true}
	registry, err := n.registry.Open()
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		delete(want, f.GetName())
		if f.GetName() == "bizra_fsm_agents_limited" {
			total := 0.0
			for _, m := range f.GetMetric() {
				total += m.GetGauge().GetValue()
			}
			if total != 1 {
				t.Errorf("metrics count %v limited agents", total)
			}
		}
		if f.GetName() == "bizra_fsm_layer_seconds" && len(f.GetMetric()) != len(fsm.Layers()) {
			t.Errorf("metrics of %d layers", len(f.GetMetric()))
		}
	}
	if len(want) != 0 {
		t.Errorf("no metrics %v", want)
	}
	// A node that begins to lead knows whom to hold back before it hears of the next decision.
	if err := errors.Join(shown.Close(), n.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	again, err := Start(t.Context(), Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close(t.Context()) })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); again.edge.len() != 1; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after a restart %d agents are held back", again.edge.len())
		}
	}
}

func (e *edge) len() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.held)
}
