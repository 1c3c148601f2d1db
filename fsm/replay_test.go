package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func quiet(string, int64, int64) {}

// workload drives a rig at random, with sessions that branch, merge, roll back, end,
// and proofs that every gate refuses.
type workload struct {
	r      *rig
	agents []*testfed.Signer
	heads  map[string][]string // tips that some step made, stale ones among them
	states map[string]string   // of heads
	codes  map[pci.Code]int
	bad    bool // a stretch in which most steps say nothing of themselves
}

func newWorkload(r *rig) *workload {
	w := &workload{r: r, heads: map[string][]string{}, states: map[string]string{}, codes: map[pci.Code]int{}}
	for _, id := range []string{"alice", "bob", "carol"} {
		w.agents = append(w.agents, r.registered(id))
	}
	return w
}

var states = []string{"active", "computing", "validated", "committed", "suspended", "resumed", "failed", "recovered", "terminated"}

// draw makes one proof; most of them are steps that stand a chance.
func (w *workload) draw(t *rapid.T) *pci.Envelope {
	a := rapid.SampledFrom(w.agents).Draw(t, "agent")
	a.NowMillis = w.r.now
	id := fmt.Sprintf("s%d", rapid.IntRange(0, 4).Draw(t, "session"))
	head := ""
	if hs := w.heads[id]; len(hs) > 0 {
		head = hs[max(0, len(hs)-rapid.IntRange(1, 3).Draw(t, "back"))]
	}
	change := func(*pci.Draft) {}
	switch rapid.IntRange(0, 19).Draw(t, "change") {
	case 0:
		change = func(d *pci.Draft) { d.IhsanScore = 0.5 }
	case 1:
		change = func(d *pci.Draft) { d.Nonce = [32]byte{1} }
	case 2:
		change = func(d *pci.Draft) { d.PolicyHash = "x" }
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return a.Sign("session.open", open(id, "zoe"), "", change)
	case 1:
		return a.Sign("session.branch", map[string]any{"session": id, "name": "b"}, head, change)
	case 2:
		other := head
		if hs := w.heads[id]; len(hs) > 0 {
			other = rapid.SampledFrom(hs).Draw(t, "other")
		}
		if other == head || head == "" {
			return a.Sign("session.open", open(id), "", change)
		}
		return a.Sign("session.merge", map[string]any{"session": id, "heads": []any{head, other}}, head, change)
	case 3:
		if head == "" {
			return a.Sign("session.open", open(id), "", change)
		}
		ancestor := rapid.SampledFrom(w.heads[id]).Draw(t, "ancestor")
		return a.Sign("session.rollback", map[string]any{"session": id, "ancestor": ancestor, "reason": "undo"}, head, change)
	case 4:
		return w.r.fed.Operator("a", w.r.now).Sign("region.voter", map[string]any{"region": "a", "op": "add", "name": "n",
			"node": fmt.Sprintf("%x", testfed.Key(id).Public())}, "", func(d *pci.Draft) { d.Nonce = testfed.Key(fmt.Sprint("v", w.r.index)).Seed() })
	default:
		return a.Sign("session.transition", w.transition(t, id, head), head, change)
	}
}

// transition draws a step: what it says of itself, what it observed, which task it is and what it used.
func (w *workload) transition(t *rapid.T, id, head string) map[string]any {
	next := states
	if from, known := session.ParseState(w.states[head]); known && len(from.Successors()) > 0 && rapid.IntRange(0, 3).Draw(t, "legal") > 0 {
		next = nil
		for _, s := range from.Successors() {
			next = append(next, s.String())
		}
	}
	d := to(id, rapid.SampledFrom(next).Draw(t, "to"), "observation", rapid.Float64Range(0, 1).Draw(t, "observation"))
	if w.bad || rapid.IntRange(0, 9).Draw(t, "bare") == 0 {
		delete(d, rapid.SampledFrom([]string{"intent", "operation_type", "input", "meta"}).Draw(t, "without"))
	}
	if rapid.Bool().Draw(t, "has task") {
		d["task"] = rapid.SampledFrom([]string{"echo", "lookup", "reason", "debug", "research"}).Draw(t, "task")
	}
	if rapid.IntRange(0, 3).Draw(t, "uses") == 0 {
		d["use"] = map[string]any{"tokens": rapid.IntRange(0, 4000).Draw(t, "tokens"), "time_ms": rapid.IntRange(0, 4000).Draw(t, "millis")}
	}
	return d
}

func (w *workload) step(t *rapid.T) {
	switch rapid.IntRange(0, 30).Draw(t, "wait") {
	case 0:
		w.r.now += int64(rapid.IntRange(1, 400_000).Draw(t, "ms"))
	case 1, 2, 3, 4:
		w.r.now += int64(rapid.IntRange(1, 5_000).Draw(t, "ms"))
	}
	if rapid.IntRange(0, 25).Draw(t, "seal") == 0 {
		w.r.sealed()
		return
	}
	if rapid.IntRange(0, 12).Draw(t, "turn") == 0 {
		w.bad = !w.bad
	}
	var envs []*pci.Envelope
	for range rapid.IntRange(1, 4).Draw(t, "batch") {
		envs = append(envs, w.draw(t))
	}
	for _, rec := range w.r.submit(envs...) {
		w.codes[rec.Code]++
		if rec.Head != "" {
			w.heads[rec.Session] = append(w.heads[rec.Session], rec.Head)
			w.states[rec.Head] = rec.State
		}
	}
}

// mend has every agent succeed for a while, so that breakers come all the way round.
func (w *workload) mend() {
	for _, a := range w.agents {
		w.r.now += 600_000
		a.NowMillis = w.r.now
		head := w.r.submit(a.Sign("session.open", open("mended-by-"+a.AgentID), ""))[0].Head
		for i := range 12 {
			w.r.now += 15_000
			a.NowMillis = w.r.now
			if rec := w.r.submit(a.Sign("session.transition", to("mended-by-"+a.AgentID, round[i%len(round)]), head))[0]; rec.Accepted() {
				head = rec.Head
			}
		}
	}
}

// TestStateIsAFunctionOfTheEntries drives the machine with Raft commands and then
// derives everything again from the ledger alone.
func TestStateIsAFunctionOfTheEntries(t *testing.T) {
	fed := testfed.New(1, 3, func(d *federation.Document) {
		d.Constitution.Thresholds.MeasuredAfter = 5
		d.Constitution.Breaker.After, d.Constitution.Breaker.MuteAfter, d.Constitution.Breaker.ThrottleBelow = 4, 2, 0.3
		d.Constitution.Breaker.MuteBelow, d.Constitution.Breaker.RestoreAbove = 0.3, 0.35
		d.Constitution.Breaker.MuteMillis, d.Constitution.Breaker.MuteMillisMax = 1_000, 2_000
	})
	total, decisions := map[pci.Code]int{}, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, fed)
		w := newWorkload(r)
		for range 60 {
			w.step(rt)
		}
		w.mend()
		for c, n := range w.codes {
			total[c] += n
		}
		r.countDecisions(decisions)
		ctx := context.Background()
		if err := fsm.Check(ctx, r.st, fsm.Config{Region: "a"}, quiet); err != nil {
			rt.Fatal(err)
		}
		again, err := fsm.Rederive(ctx, r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet)
		if err != nil {
			rt.Fatal(err)
		}
		root, err := r.m.StateRoot()
		if err != nil || root != again.State || again.Entries != r.size() {
			rt.Fatalf("state %x of %d entries, derived again %x of %d: %v", root, r.size(), again.State, again.Entries, err)
		}
		r.open() // a restart finds the same state
		if root2, err := r.m.StateRoot(); err != nil || root2 != root {
			rt.Fatalf("state %x after a restart, %x before: %v", root2, root, err)
		}
	})
	for _, c := range []pci.Code{pci.Success, pci.RejectNonceReplay, pci.RejectIhsanBelowMin, pci.RejectPolicyMismatch,
		pci.RejectStateMismatch, pci.RejectInvariantFailed, pci.RejectRoleViolation, pci.RejectFateViolation, pci.RejectBudgetExceeded,
		pci.RejectSNRBelowMin, pci.RejectRateLimited} {
		if total[c] == 0 {
			t.Errorf("the workload never met %v", c)
		}
	}
	for _, d := range []string{"throttled", "muted", "probation", "clear"} {
		if decisions[d] == 0 {
			t.Errorf("no agent was ever made %s", d)
		}
	}
}

// countDecisions counts the ledger's breaker decisions by what they led to.
func (r *rig) countDecisions(into map[string]int) {
	r.t.Helper()
	v := r.view()
	for i := range r.size() {
		if e, err := v.Entry(i); err != nil {
			r.t.Fatal(err)
		} else if e.Kind == fsm.EntryBreaker {
			into[e.Outcome.Breaker.To.String()]++
		}
	}
}

// TestEntriesDoNotDependOnBatches applies the same proofs one a command and all in
// one command, and gets the same ledger.
func TestEntriesDoNotDependOnBatches(t *testing.T) {
	fed := testfed.New(1, 3)
	one, all := newRig(t, fed), newRig(t, fed)
	var envs []*pci.Envelope
	a, b := one.registered("alice"), all.registered("alice")
	for i := range 50 {
		envs = append(envs, a.Sign("session.open", open(fmt.Sprintf("s%d", i%30)), ""))
		b.Sign("session.open", open("x"), "")
	}
	for _, e := range envs {
		one.submit(e)
	}
	all.submit(envs...)
	x, err1 := one.m.StateRoot()
	y, err2 := all.m.StateRoot()
	if x != y || err1 != nil || err2 != nil {
		t.Fatalf("states %x, %x: %v, %v", x, y, err1, err2)
	}
}

// TestCorruptionIsFound plants one damage at a time and asks both checks.
func TestCorruptionIsFound(t *testing.T) {
	ctx := context.Background()
	build := func(t *testing.T) *rig {
		r := newRig(t, testfed.New(1, 3, testfed.Market))
		a := r.registered("alice")
		h := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
		r.trades("alice", "acme", 4)
		r.now += hour
		a.NowMillis = r.now
		r.apply(fsm.EncodeSeal())
		r.want(pci.Success, a.Sign("session.transition", to("s", "active"), h))
		return r
	}
	for _, prefix := range []string{"Shead", "Sagent/", "Skey/", "Ssession/", "Sconduct/", "Svoters", "Swindow/", "N", "G", "X", "Y", "E", "D", "H", "T", "Z", "K",
		"Smarket/head", "Smarket/holder/", "Smarket/licence/"} {
		for _, del := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s deleted %v", prefix, del), func(t *testing.T) {
				r := build(t)
				it, err := r.st.Iter([]byte(prefix), nil)
				if err != nil || !it.First() || !strings.HasPrefix(string(it.Key()), prefix) {
					t.Fatalf("no key under %s: %v", prefix, err)
				}
				key, value := append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)
				_ = it.Close()
				value[len(value)-1] ^= 1
				if err := r.st.Commit([]store.Write{{Key: key, Value: value, Delete: del}}); err != nil {
					t.Fatal(err)
				}
				_, err = fsm.Rederive(ctx, r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet)
				if err2 := fsm.Check(ctx, r.st, fsm.Config{Region: "a"}, quiet); err == nil && err2 == nil {
					t.Errorf("neither check found the damage to %q", key)
				}
			})
		}
	}
}

func TestForgedEntriesAreRefused(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	r.want(pci.RejectIhsanBelowMin, a.Sign("session.open", open("s"), "", func(d *pci.Draft) { d.IhsanScore = 0.1 }))
	var entries [][]byte
	entries, err := r.view().Ledger().Entries(0, r.size(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	doc := func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }
	follow := func(entries ...[]byte) (*fsm.Machine, error) {
		m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: doc})
		if err != nil {
			t.Fatal(err)
		}
		err = m.ApplyEntries(entries)
		return m, err
	}
	if m, err := follow(entries...); err != nil || m.Size() != 3 {
		t.Fatalf("the honest ledger is refused: %v", err)
	}
	forge := func(was, is string) []byte {
		forged := strings.Replace(string(entries[2]), was, is, 1)
		if forged == string(entries[2]) {
			t.Fatalf("nothing to forge: %s", entries[2])
		}
		return []byte(forged)
	}
	for _, f := range [][]byte{
		forge(`"code":6,"fate":null,"head":"","ntu":null,"reason":"ihsan-below-min"`, `"code":0,"fate":null,"head":"","ntu":null,"reason":""`), // certify what a gate refuses
		forge(`"code":6`, `"code":7`),
		forge(`"time":1772452800000,"v":1`, `"time":1772452799999,"v":1`), // goes back
	} {
		m, err := follow(entries[0], entries[1], f)
		if !errors.Is(err, fsm.ErrDiverged) {
			t.Errorf("a forged entry got %v: %.200s", err, f)
		}
		if m.Size() != 0 {
			t.Errorf("a refused call left %d entries", m.Size())
		}
		if err := m.ApplyEntries(entries); err != nil {
			t.Errorf("after a refused call the honest ledger is refused: %v", err)
		}
	}
}

func TestUnknownVersionsStopTheReplica(t *testing.T) {
	for name, data := range map[string][]byte{
		"command version": append([]byte{2}, fsm.EncodeSeal()[1:]...),
		"empty":           {},
		"garbage":         {1, 0xff, 0x00},
		"kind":            {1, 0x84, 0x18, 0x63, 0x00, 0xf6, 0xf6},
	} {
		r := newRig(t, testfed.New(1, 3))
		size := r.size()
		_, err := r.m.Apply([]fsm.Command{{Index: 99, Term: 1, Data: data}})
		if !errors.Is(err, fsm.ErrStop) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := r.m.Apply([]fsm.Command{{Index: 100, Term: 1, Data: fsm.EncodeSeal()}}); !errors.Is(err, fsm.ErrStop) {
			t.Errorf("%s: the machine went on: %v", name, err)
		}
		r.open()
		if index, _ := r.m.AppliedIndex(); index != 1 || r.size() != size {
			t.Errorf("%s: the store moved to index %d", name, index)
		}
	}
}
