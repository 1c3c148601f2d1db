package fsm_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// worker is an agent with a session of its own that succeeds and fails as it is told.
type worker struct {
	*testfed.Signer
	r    *rig
	head string
	next int
}

func (r *rig) worker(id string) *worker {
	a := r.registered(id)
	return &worker{Signer: a, r: r, head: r.walk(a, "of-"+id).Head}
}

var round = []string{"active", "computing", "validated", "committed"}

func (w *worker) sign(change ...func(*pci.Draft)) *pci.Envelope {
	w.NowMillis = w.r.now
	return w.Sign("session.transition", to("of-"+w.AgentID, round[w.next%len(round)]), w.head, change...)
}

// good takes a step.
func (w *worker) good(change ...func(*pci.Draft)) fsm.Receipt {
	w.r.t.Helper()
	rec := w.r.submit(w.sign(change...))[0]
	if rec.Accepted() {
		w.head = rec.Head
		w.next++
	}
	return rec
}

// bad has FATE refuse.
func (w *worker) bad() fsm.Receipt {
	w.r.t.Helper()
	w.NowMillis = w.r.now
	return w.r.submit(w.Sign("session.transition", map[string]any{"session": "of-" + w.AgentID, "to": "active"}, w.head))[0]
}

// TestMeasuredSNR recomputes it beside the machine.
func TestMeasuredSNR(t *testing.T) {
	r := newRig(t, law("version: 2\nbreaker: {throttle_below: 0, mute_below: 0}"))
	w := r.worker("alice")
	measured := 1.0
	outcome := func(v float64) { measured = 0.95*measured + 0.05*v }
	check := func(rec fsm.Receipt, claimMax float64) {
		t.Helper()
		if a := rec.Agent; a == nil || math.Abs(a.Measured-measured) > 1e-12 || math.Abs(a.ClaimMax-claimMax) > 1e-12 {
			t.Fatalf("the agent stands at %+v, want measured %v, at most %v", rec.Agent, measured, claimMax)
		}
	}
	for range 15 {
		outcome(1)
		check(w.good(), 1)
	}
	for range 4 {
		outcome(0)
		check(w.bad(), 1)
	}
	// What tells nothing of the work does not count.
	for _, env := range []*pci.Envelope{
		w.Sign("session.transition", to("of-alice", "active"), strings.Repeat("a", 64)),                           // STATE
		w.Sign("agent.revoke", map[string]any{"region": "a", "agent_id": "bob"}, ""),                              // ROLE
		w.Sign("session.branch", map[string]any{"session": "of-alice", "name": "b", "reason": "why not"}, w.head), // no step of work
	} {
		check(r.submit(env)[0], 1)
	}
	outcome(0)
	limit := measured + 0.1
	check(w.bad(), limit) // the 20th
	// From here on a claim is held against the record.
	refused := r.want(pci.RejectSNRBelowMin, w.sign(snr(0.95)))
	check(refused, limit) // which does not count against it
	wantReason(t, refused, "snr-above-measured")
	if !strings.Contains(refused.Message(), fmt.Sprintf("%.4f", math.Floor(limit*1e4)/1e4)) {
		t.Errorf("the message does not say what may be claimed: %s", refused.Message())
	}
	r.want(pci.RejectSNRBelowMin, w.sign(snr(limit+1e-6)))
	if rec := w.good(snr(limit)); rec.Code != pci.RejectFateViolation {
		t.Fatalf("what may be claimed is refused otherwise: %+v", rec)
	}
	outcome(0)
	enough := refused.Agent.EnoughMillis
	if enough%60_000 != 0 || enough <= r.now {
		t.Fatalf("enough from %d, now %d", enough, r.now)
	}
	// The failure since has cost a little more: ask again, and be there just before and just in time.
	enough = r.want(pci.RejectSNRBelowMin, w.sign(snr(0.95))).Agent.EnoughMillis
	r.now = enough - 1
	r.want(pci.RejectSNRBelowMin, w.sign(snr(0.95)))
	r.now = enough
	if rec := w.good(snr(0.95)); !rec.Accepted() {
		t.Fatalf("at the time named the claim is refused: %+v %s", rec, rec.Message())
	}
	minutes := int((enough - start) / 60_000)
	for range minutes {
		measured = 1 - 0.95*(1-measured)
	}
	outcome(1)
	outcome(1)
	check(w.good(), min(1, measured+0.1))
}

// TestClaimAdviceCanBeFollowed takes an agent whose record supports no claim that could pass: the receipt must
// not lead it into failures that only lengthen the wait.
func TestClaimAdviceCanBeFollowed(t *testing.T) {
	const patient = "version: 2\nbreaker: {after: 1000}\n"
	for name, c := range map[string]struct {
		fails int64 // of 20 outcomes, the last ones
		lower bool  // the claim may be lowered
		rules string
	}{
		"below what FATE needs":            {5, false, patient},
		"below the least of the gate SNR":  {9, false, patient + "thresholds: {fate_min: 0.5}"},
		"above both":                       {4, true, patient + "thresholds: {fate_min: 0.5}"},
		"under the geometric mean of four": {4, true, patient + "composite: {rule: geometric}"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, law(c.rules))
			w := r.worker("alice")
			for w.good().Agent.Outcomes < 20-c.fails {
			}
			for w.bad().Agent.Outcomes < 20 {
			}
			refused := r.want(pci.RejectSNRBelowMin, w.sign(snr(1)))
			wantReason(t, refused, "snr-above-measured")
			advised := !strings.Contains(refused.Message(), "do not lower it")
			if advised != c.lower {
				t.Fatalf("may be lowered: %t, want %t: %s", advised, c.lower, refused.Message())
			}
			lowered := w.good(snr(math.Floor(refused.Agent.ClaimMax*1e4) / 1e4))
			if lowered.Accepted() != advised {
				t.Errorf("the message says %q, and a lower claim gives %v: %s", refused.Message(), lowered.Code, lowered.Message())
			}
			r.now = r.want(pci.RejectSNRBelowMin, w.sign(snr(1))).Agent.EnoughMillis
			if rec := w.good(snr(1)); !rec.Accepted() {
				t.Errorf("after the wait: %s", rec.Message())
			}
		})
	}
}

// TestBreakerThrottlesMutesAndTriesAgain takes one agent through every state of its breaker.
func TestBreakerThrottlesMutesAndTriesAgain(t *testing.T) {
	r := newRig(t, law("version: 2\nthresholds: {measured_snr_margin: 1}\nlimits: {refusals_per_minute: 1000}"))
	w, honest := r.worker("alice"), r.worker("bob")
	for range 30 {
		w.good()
	}
	until := func(want fsm.BreakerState, act func() fsm.Receipt) (rec fsm.Receipt, acts int) {
		t.Helper()
		for range 500 {
			rec = act()
			acts++
			if rec.Agent.Breaker == want {
				return rec, acts
			}
			if rec.Code == pci.RejectRateLimited {
				r.now = rec.Agent.UntilMillis
			}
		}
		t.Fatalf("never %v: %+v", want, rec.Agent)
		return rec, acts
	}
	rec, acts := until(fsm.Throttled, w.bad)
	if acts > 6 || acts < 4 {
		t.Errorf("throttled at the %dth failure in a row", acts)
	}
	// Throttled it has six entries a minute, and is told when the next one is.
	r.now = (r.now/60_000 + 1) * 60_000
	for i := range 6 {
		if rec = w.bad(); !rec.HasEntry {
			t.Fatalf("entry %d of the minute: %+v", i, rec)
		}
		if i == 0 && rec.Agent.Breaker != fsm.Throttled {
			t.Fatalf("%+v", rec.Agent)
		}
	}
	if rec = w.bad(); rec.Code != pci.RejectRateLimited || rec.HasEntry || rec.Agent.UntilMillis <= r.now || !strings.Contains(rec.Message(), "Try again from") {
		t.Fatalf("a seventh: %+v: %s", rec, rec.Message())
	}
	rec, _ = until(fsm.Muted, w.bad)
	mute := rec.Agent.UntilMillis
	if rec.Code != pci.RejectRateLimited || mute != r.now+300_000 {
		t.Fatalf("muted until %d, now %d: %+v", mute, r.now, rec)
	}
	size := r.size()
	r.now = mute - 1
	if rec = w.good(); rec.Code != pci.RejectRateLimited || r.size() != size {
		t.Fatalf("just before the end of the mute: %+v", rec)
	}
	if got := honest.good(); !got.Accepted() {
		t.Fatalf("another agent is held back too: %+v", got)
	}
	r.now = mute
	if rec = w.bad(); rec.Agent.Breaker != fsm.Probation || !rec.HasEntry {
		t.Fatalf("at the end of the mute: %+v", rec)
	}
	w.bad()
	if rec = w.bad(); rec.Agent.Breaker != fsm.Muted || rec.Agent.UntilMillis != r.now+600_000 {
		t.Fatalf("after two failures on probation: %+v, now %d", rec, r.now)
	}
	r.now = rec.Agent.UntilMillis
	if rec, acts = until(fsm.Clear, func() fsm.Receipt { return w.good() }); acts > 20 {
		t.Errorf("clear after %d good steps", acts)
	}
	r.checkBreakers("clear→throttled throttled→muted muted→probation probation→muted muted→probation probation→clear")
	if limited, err := r.view().Limited(10); err != nil || len(limited) != 0 {
		t.Errorf("limited are %v, %v", limited, err)
	}
}

// checkBreakers reads the decisions from the ledger, and has it re-executed.
func (r *rig) checkBreakers(want string) {
	r.t.Helper()
	var steps []string
	v := r.view()
	for i := range r.size() {
		e, err := v.Entry(i)
		if err != nil {
			r.t.Fatal(err)
		}
		if e.Kind == fsm.EntryBreaker {
			d := e.Outcome.Breaker
			steps = append(steps, fmt.Sprintf("%v→%v", d.From, d.To))
			if math.Abs(d.Reputation-d.Belief*d.Measured) > 1e-12 {
				r.t.Errorf("entry %d: reputation %v of belief %v and measured SNR %v", i, d.Reputation, d.Belief, d.Measured)
			}
		}
	}
	if got := strings.Join(steps, " "); got != want {
		r.t.Errorf("the ledger has %q, want %q", got, want)
	}
	if _, err := fsm.Rederive(r.t.Context(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet); err != nil {
		r.t.Error(err)
	}
	if err := fsm.Check(r.t.Context(), r.st, fsm.Config{Region: "a"}, quiet); err != nil {
		r.t.Error(err)
	}
}

// TestReputation recomputes it from a unit of the test's own.
func TestReputation(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Lenient))
	w := r.worker("alice")
	own, err := ntu.New(ntu.Config{Window: 12})
	if err != nil {
		t.Fatal(err)
	}
	measured := 1.0
	for i, v := range []float64{1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1} {
		act := w.bad
		if v == 1 {
			act = func() fsm.Receipt { return w.good() }
		}
		rec := act()
		state, err := own.Observe(v)
		if err != nil {
			t.Fatal(err)
		}
		measured = 0.95*measured + 0.05*v
		if want := state.Belief * measured; math.Abs(rec.Agent.Reputation-want) > 1e-12 || rec.Agent.Outcomes != int64(i+1) {
			t.Fatalf("outcome %d: %+v, want reputation %v", i, rec.Agent, want)
		}
	}
	c, err := r.view().Conduct("alice")
	if err != nil || c.NTU != own.State() || c.Observed != 12 || c.Refused != 4 || c.Accepted != 14 || c.Failed != 0 {
		t.Errorf("conduct %+v, %v", c, err)
	}
	if _, err := r.view().Conduct("nobody"); !errors.Is(err, fsm.ErrNotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

// TestNobodyIsLockedOut has an agent fail and wait at random, and then only succeed: it is clear again
// within a bounded number of steps and hours.
func TestNobodyIsLockedOut(t *testing.T) {
	muted := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t, testfed.New(1, 3))
		w := r.worker("alice")
		for range rapid.IntRange(1, 120).Draw(rt, "acts") {
			r.now += int64(rapid.SampledFrom([]int{0, 0, 1_000, 20_000, 61_000, 400_000}).Draw(rt, "wait"))
			if rapid.IntRange(0, 3).Draw(rt, "good") == 0 {
				w.good()
			} else if rec := w.bad(); rec.Agent != nil && rec.Agent.Breaker == fsm.Muted {
				muted++
			}
		}
		from := r.now
		for steps := 0; ; steps++ {
			rec := w.good()
			if rec.Accepted() && rec.Agent.Breaker == fsm.Clear && rec.Agent.Reputation > 0.7 {
				break
			}
			switch {
			case rec.Code == pci.RejectRateLimited && rec.Agent != nil:
				r.now = rec.Agent.UntilMillis
			case rec.Code == pci.RejectSNRBelowMin:
				r.now = rec.Agent.EnoughMillis
			default:
				r.now += 10_000
			}
			if hours := (r.now - from) / 3_600_000; steps > 60 || hours > 3 {
				rt.Fatalf("after %d steps and %d hours: %+v %s", steps, hours, rec, rec.Message())
			}
		}
	})
	if muted == 0 {
		t.Error("no agent was ever muted: the test did nothing")
	}
}

// TestForgedDecisionsAreRefused re-executes ledgers in which a decision is missing, early, or another.
func TestForgedDecisionsAreRefused(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	w := r.worker("alice")
	for range 14 {
		w.good()
	}
	for range 4 {
		w.bad()
	}
	rec := w.bad() // the decision, and the proof that it was taken before
	if rec.Agent == nil || rec.Agent.Breaker != fsm.Throttled {
		t.Fatalf("%+v", rec)
	}
	entries, err := r.view().Ledger().Entries(0, r.size(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	at := len(entries) - 1
	if rec.HasEntry {
		at--
	}
	decision := string(entries[at])
	if !strings.Contains(decision, `"kind":"breaker"`) {
		t.Fatalf("entry %d is %s", at, decision)
	}
	follow := func(last ...string) error {
		m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
		if err != nil {
			t.Fatal(err)
		}
		all := entries[:at:at]
		for _, e := range last {
			all = append(all, []byte(e))
		}
		return m.ApplyEntries(all)
	}
	forge := func(was, is string) string {
		forged := strings.Replace(decision, was, is, 1)
		if forged == decision {
			t.Fatalf("nothing to forge: %s", decision)
		}
		return forged
	}
	if err := follow(decision); err != nil {
		t.Fatalf("the honest decision is refused: %v", err)
	}
	early := entries[at-1]
	for name, last := range map[string][]string{
		"missing":       {string(w.entry(w.sign(), int64(at)))},
		"another agent": {forge(`"agent_id":"alice"`, `"agent_id":"bob"`)},
		"harsher":       {forge(`"to":"throttled"`, `"to":"muted"`)},
		"other numbers": {forge(`"bad":4`, `"bad":5`)},
		"twice":         {decision, strings.Replace(decision, fmt.Sprintf(`"index":%d`, at), fmt.Sprintf(`"index":%d`, at+1), 1)},
	} {
		if err := follow(last...); !errors.Is(err, fsm.ErrDiverged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that comes a failure too soon.
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ApplyEntries(append(entries[:at-1:at-1], []byte(forge(fmt.Sprintf(`"index":%d`, at), fmt.Sprintf(`"index":%d`, at-1))))); !errors.Is(err, fsm.ErrDiverged) {
		t.Errorf("too soon, before %s: %v", early, err)
	}
}

// entry is what an accepted proof's entry may look like to who forges one.
func (w *worker) entry(env *pci.Envelope, index int64) []byte {
	e := fsm.Entry{Kind: fsm.EntryProof, Region: "a", Index: index, TimeMillis: w.r.now, Envelope: env,
		Outcome: fsm.Outcome{Session: "of-" + w.AgentID, State: "active", Head: strings.Repeat("0", 64)}}
	return e.AppendCanonical(nil)
}
