package fsm_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// law gives a federation of one region a constitution.
func law(yaml string) *testfed.Federation {
	return testfed.New(1, 3, func(d *federation.Document) { d.Constitution = testfed.Constitution(yaml) })
}

// walk opens a session and takes it through states.
func (r *rig) walk(a *testfed.Signer, id string, states ...string) fsm.Receipt {
	r.t.Helper()
	rec := r.want(pci.Success, a.Sign("session.open", open(id), ""))
	for _, s := range states {
		rec = r.want(pci.Success, a.Sign("session.transition", to(id, s), rec.Head))
	}
	return rec
}

func without(data map[string]any, names ...string) map[string]any {
	for _, n := range names {
		delete(data, n)
	}
	return data
}

func snr(score float64) func(*pci.Draft) { return func(d *pci.Draft) { d.SNRScore = score } }

// TestFateNamesWhatIsMissing submits what lacks a part, and expects the refusal to say so; mended as
// the refusal says, it passes.
func TestFateNamesWhatIsMissing(t *testing.T) {
	meta := func(m map[string]any) []any { return []any{"meta", m} }
	for name, c := range map[string]struct {
		data    map[string]any
		score   float64
		scores  fate.Scores
		weakest fate.Dimension
		says    []string
	}{
		"nothing said": {without(to("s", "active"), "operation", "operation_type", "intent", "input", "meta"), 0.95,
			fate.Scores{Fidelity: 0.7, Accountability: 0.8, Transparency: 0.7, Ethics: 0.95}, fate.Fidelity,
			[]string{"data.intent", "data.operation", "data.operation_type", "data.input", "data.meta.description"}},
		"no intent": {without(to("s", "active"), "intent"), 0.95, fate.Scores{Fidelity: 0.7, Accountability: 1, Transparency: 1, Ethics: 0.95}, fate.Fidelity, []string{"data.intent"}},
		"another intent": {to("s", "active", "intent", "advance money"), 0.95, fate.Scores{Fidelity: 0.85, Accountability: 1, Transparency: 1, Ethics: 0.95}, fate.Fidelity,
			[]string{"lacks words of data.intent: money"}},
		"no input":       {without(to("s", "active"), "input"), 0.95, fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 0.9, Ethics: 0.95}, fate.Transparency, []string{"data.input"}},
		"null for input": {to("s", "active", "input", nil), 0.95, fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 0.9, Ethics: 0.95}, fate.Transparency, []string{"data.input"}},
		"unknown type":   {to("s", "active", "operation_type", "unknown"), 0.95, fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 0.9, Ethics: 0.95}, fate.Transparency, []string{"operation_type"}},
		"low snr":        {to("s", "active"), 0.94, fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 1, Ethics: 0.94}, fate.Ethics, []string{"snr_score must be at least 0.95"}},
		"personal data": {to("s", "active", meta(map[string]any{"description": "d", "pii_detected": true})...), 1,
			fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 1, Ethics: 0.5}, fate.Ethics, []string{"pii_detected"}},
		"all flags": {to("s", "active", meta(map[string]any{"rationale": "r", "pii_detected": true, "toxicity_detected": true, "ethics_violation": true})...), 1,
			fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 1, Ethics: 0.015}, fate.Ethics, []string{"pii_detected", "toxicity_detected", "ethics_violation"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testfed.New(1, 3))
			a := r.registered("alice")
			head := r.walk(a, "s").Head
			rec := r.want(pci.RejectFateViolation, a.Sign("session.transition", c.data, head, snr(c.score)))
			f := rec.Fate
			if f == nil || f.Passed || f.Weakest != c.weakest || !near(f.Scores, c.scores) || f.Threshold != 0.95 {
				t.Fatalf("judged %+v, want %+v, weakest %v", f, c.scores, c.weakest)
			}
			if want := c.scores.Fidelity * c.scores.Accountability * c.scores.Transparency * c.scores.Ethics; math.Abs(f.Composite-want) > 1e-9 {
				t.Errorf("composite %v, want %v", f.Composite, want)
			}
			wantReason(t, rec, "fate-below-min")
			for _, says := range c.says {
				if !strings.Contains(rec.Message(), says) {
					t.Errorf("%q does not say %q", rec.Message(), says)
				}
			}
			if rec.NTU != nil || rec.Head != "" || rec.State != "" || rec.Budget != nil {
				t.Errorf("a refusal tells of what did not happen: %+v", rec)
			}
			r.want(pci.Success, a.Sign("session.transition", to("s", "active"), head)) // the session is as it was
		})
	}
}

func near(a, b fate.Scores) bool {
	for d := fate.Fidelity; d <= fate.Ethics; d++ {
		if math.Abs(a.Of(d)-b.Of(d)) > 1e-9 {
			return false
		}
	}
	return true
}

// TestCompositeOfTheConstitution passes by the geometric mean what the product refuses, and weighs.
func TestCompositeOfTheConstitution(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		code pci.Code
	}{
		"product":               {"version: 2", pci.RejectFateViolation},
		"lower threshold":       {"version: 2\nthresholds: {fate_min: 0.9}", pci.RejectFateViolation},
		"lower still":           {"version: 2\nthresholds: {fate_min: 0.85}", pci.Success},
		"geometric":             {"version: 2\nthresholds: {fate_min: 0.96}\ncomposite: {rule: geometric}", pci.Success}, // the fourth root of 0.855 is 0.9616
		"geometric, weighted":   {"version: 2\nthresholds: {fate_min: 0.96}\ncomposite: {rule: geometric, weights: {transparency: 3, fidelity: 1, accountability: 1, ethics: 1}}", pci.RejectFateViolation},
		"geometric, weightless": {"version: 2\nthresholds: {fate_min: 0.98}\ncomposite: {rule: geometric, weights: {transparency: 0, fidelity: 1, accountability: 1, ethics: 1}}", pci.Success},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, law(c.yaml))
			a := r.registered("alice")
			r.want(c.code, a.Sign("session.transition", without(to("s", "active"), "input"), r.walk(a, "s").Head))
		})
	}
}

// TestRulesAreAskedAboutEveryActionOfASession has a rule for each, that sees what it should.
func TestRulesAreAskedAboutEveryActionOfASession(t *testing.T) {
	r := newRig(t, law(`
version: 2
rules:
  - {name: no-open, dimension: accountability, deny: "action == 'session.open' && data.session.startsWith('x')", message: Not x.}
  - {name: no-branch, dimension: fidelity, deny: "action == 'session.branch' && session.state == 'active' && session.nodes == 2 && session.id == 's' && session.opener == 'alice'", message: No branch.}
  - {name: no-rollback, dimension: transparency, deny: "action == 'session.rollback' && agent.id == 'alice' && agent.type == 'PAT' && agent.owner == 'acme'", message: No way back.}
  - {name: no-merge, dimension: ethics, deny: "action == 'session.merge'", message: No merge.}
  - {name: broken, dimension: ethics, deny: "action == 'session.transition' && data.input.missing == 2", message: Broken.}
`))
	a := r.registered("alice")
	zero := func(d fate.Dimension, f *fate.Verdict) bool {
		return f.Scores.Of(d) == 0 && f.Composite == 0 && f.Weakest == d
	}
	head := r.walk(a, "s").Head
	// A rule that fails denies.
	rec := r.want(pci.RejectFateViolation, a.Sign("session.transition", to("s", "active"), head))
	if rec.Fate.Rule != "broken" || !zero(fate.Ethics, rec.Fate) {
		t.Errorf("a rule that fails: %+v", rec.Fate)
	}
	head = r.want(pci.Success, a.Sign("session.transition", to("s", "active", "input", map[string]any{"missing": 1}), head)).Head
	for _, c := range []struct {
		action    string
		data      map[string]any
		head      string
		rule      string
		dimension fate.Dimension
		says      string
	}{
		{"session.open", open("x1"), "", "no-open", fate.Accountability, "Not x."},
		{"session.branch", map[string]any{"session": "s", "name": "b"}, head, "no-branch", fate.Fidelity, "No branch."},
		{"session.rollback", map[string]any{"session": "s", "ancestor": head, "reason": "r"}, head, "no-rollback", fate.Transparency, "No way back."},
		{"session.merge", map[string]any{"session": "s", "heads": []any{head, r.walk(a, "t").Head}}, head, "", 0, ""}, // STATE comes before
	} {
		if c.rule == "" {
			r.want(pci.RejectStateMismatch, a.Sign(c.action, c.data, c.head))
			continue
		}
		rec := r.want(pci.RejectFateViolation, a.Sign(c.action, c.data, c.head))
		wantReason(t, rec, "fate-rule-denies")
		if rec.Fate.Rule != c.rule || !zero(c.dimension, rec.Fate) || !strings.Contains(rec.Message(), c.rule) || !strings.Contains(rec.Message(), c.says) {
			t.Errorf("%s: %+v: %s", c.action, rec.Fate, rec.Message())
		}
	}
	// Operators act under their own name: no rule of agents stands in their way.
	r.operator().do(pci.Success, "agent.revoke", map[string]any{"region": "a", "agent_id": "alice"})
}

// TestNTUOfASession holds the receipts against a unit of the test's own.
func TestNTUOfASession(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	own, err := ntu.New(ntu.Config{})
	if err != nil {
		t.Fatal(err)
	}
	head := r.walk(a, "s").Head
	for i, c := range []struct {
		state    string
		more     []any
		observed float64
		window   int // from here on
	}{
		{"active", []any{"observation", 0.4}, 0.4, 5},
		{"computing", []any{"task", "plan"}, 0.96, 9}, // a macro task's window
		{"validated", []any{"observation", 0.0}, 0, 9},
		{"committed", nil, 0.96, 9},
		{"active", []any{"observation", 1}, 1, 9},
	} {
		rec := r.want(pci.Success, a.Sign("session.transition", to("s", c.state, c.more...), head, snr(0.96)))
		want, err := own.Observe(c.observed)
		if err != nil {
			t.Fatal(err)
		}
		if rec.NTU == nil || *rec.NTU != want {
			t.Fatalf("step %d: the receipt says %+v, the test's unit %+v", i, rec.NTU, want)
		}
		if err := own.Resize(c.window); err != nil {
			t.Fatal(err)
		}
		head = rec.Head
	}
	v := r.view()
	layers, err := v.SessionLayers("s")
	if err != nil || *layers.NTU != own.State() {
		t.Fatalf("the state says %+v, the test's unit %+v (%v)", layers, own.State(), err)
	}
	steps, err := v.History("s", 0, 10)
	if err != nil || steps[0].Node.NTU != nil || steps[0].Node.Fate != nil || steps[5].Node.NTU == nil || steps[5].Node.Fate.Composite == 0 {
		t.Fatalf("nodes: %+v, %v", steps, err)
	}
	// A branch shows the unit nothing, and its node says so.
	if rec := r.want(pci.Success, a.Sign("session.branch", map[string]any{"session": "s", "name": "b"}, head)); rec.NTU != nil || rec.Fate != nil {
		t.Errorf("a branch was observed: %+v", rec)
	}
}

// TestBudgetIsAllocatedChargedAndInherited follows one budget through a session.
func TestBudgetIsAllocatedChargedAndInherited(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	use := func(tokens, millis int) []any {
		return []any{"use", map[string]any{"tokens": tokens, "time_ms": millis}}
	}
	rec := r.walk(a, "s")
	none := r.want(pci.RejectBudgetExceeded, a.Sign("session.transition", to("s", "active", use(1, 0)...), rec.Head))
	wantReason(t, none, "budget-none")
	rec = r.want(pci.Success, a.Sign("session.transition", to("s", "active", use(0, 0)...), rec.Head))
	if rec.Budget != nil {
		t.Fatalf("a budget before computing: %+v", rec.Budget)
	}
	text, err := budget.Measure(`"computing"`)
	if err != nil {
		t.Fatal(err)
	}
	want, err := budget.Allocate(budget.Request{Task: budget.Summarize, Text: text, KnowledgeGap: 0.9, HasKnowledgeGap: true, History: budget.History{Sum: 0.95, Count: 1}})
	if err != nil {
		t.Fatal(err)
	}
	more := append(use(100, 200), "task", "summarize", "meta", map[string]any{"description": "d", "knowledge_gap": 0.9})
	rec = r.want(pci.Success, a.Sign("session.transition", to("s", "computing", more...), rec.Head))
	left := want.Remaining()
	left.Tokens, left.TimeMillis = left.Tokens-100, left.TimeMillis-200
	if rec.Budget == nil || rec.Budget.Allocated == nil || *rec.Budget.Allocated != want || rec.Budget.Left != left || rec.Budget.Task != budget.Summarize {
		t.Fatalf("allocated %+v, want %+v with %+v left", rec.Budget, want, left)
	}
	over := r.want(pci.RejectBudgetExceeded, a.Sign("session.transition", to("s", "validated", use(int(left.Tokens)+1, 0)...), rec.Head))
	wantReason(t, over, "budget-exceeded")
	if o := over.Budget.Over; o == nil || *o != (fsm.Over{Part: "tokens", Asked: left.Tokens + 1, Left: left.Tokens}) || !strings.Contains(over.Message(), fmt.Sprint(left.Tokens)) {
		t.Fatalf("over by %+v: %s", o, over.Message())
	}
	// Two lines of work spend apart; merged, they have the least of each part.
	branch := r.want(pci.Success, a.Sign("session.branch", map[string]any{"session": "s", "name": "b"}, rec.Head))
	if branch.Budget.Left != left || branch.Budget.Allocated != nil {
		t.Fatalf("a branch has %+v, want what its parent has, %+v", branch.Budget, left)
	}
	one := r.want(pci.Success, a.Sign("session.transition", to("s", "validated", use(1000, 0)...), rec.Head))
	two := r.want(pci.Success, a.Sign("session.transition", to("s", "validated", use(0, 2000)...), branch.Head))
	merged := r.want(pci.Success, a.Sign("session.merge", map[string]any{"session": "s", "heads": []any{one.Head, two.Head}}, one.Head))
	left.Tokens, left.TimeMillis = left.Tokens-1000, left.TimeMillis-2000
	if merged.Budget.Left != left {
		t.Fatalf("merged %+v, want %+v", merged.Budget.Left, left)
	}
	back := r.want(pci.Success, a.Sign("session.rollback", map[string]any{"session": "s", "ancestor": rec.Head, "reason": "again"}, merged.Head))
	if back.State != "computing" || back.Budget.Left != left {
		t.Fatalf("rolled back to %s with %+v, want %+v", back.State, back.Budget, left)
	}
	failed := r.want(pci.Success, a.Sign("session.transition", to("s", "failed", use(int(left.Tokens), 0)...), back.Head))
	if failed.Budget.Left.Tokens != 0 {
		t.Fatalf("left %+v", failed.Budget.Left)
	}
	for _, s := range []string{"recovered", "active", "computing"} {
		failed = r.want(pci.Success, a.Sign("session.transition", to("s", s), failed.Head))
	}
	// The failure and the scores so far count in the next allocation, whose task is the default.
	if text, err = budget.Measure(`"computing"`); err != nil {
		t.Fatal(err)
	}
	again, err := budget.Allocate(budget.Request{Text: text, Attempts: 1, History: budget.History{Sum: 7 * 0.95, Count: 7}})
	if err != nil || failed.Budget.Allocated == nil || failed.Budget.Allocated.Task != budget.Transform || math.Abs(failed.Budget.Allocated.Complexity-again.Complexity) > 1e-12 {
		t.Fatalf("allocated %+v, want %+v (%v)", failed.Budget.Allocated, again, err)
	}
	layers, err := r.view().SessionLayers("s")
	head, _ := session.ParseHash(failed.Head)
	if err != nil || len(layers.Budgets) != 1 || layers.Budgets[head].Left != failed.Budget.Left || layers.Failed != 1 {
		t.Fatalf("the state has %+v, %v", layers, err)
	}
}

// TestVerdictsStandInTheLedger reads receipts of all kinds from their entries again.
func TestVerdictsStandInTheLedger(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	head := r.walk(a, "s").Head
	var receipts []fsm.Receipt
	for _, e := range []*pci.Envelope{
		a.Sign("session.transition", map[string]any{"session": "s", "to": "active"}, head),
		a.Sign("session.transition", to("s", "active", "intent", "advance "+strings.Repeat("é ", 100)), head),
		a.Sign("session.transition", to("s", "active", "use", map[string]any{"tokens": 1}), head),
		a.Sign("session.transition", to("s", "computing"), head), // FATE passed, INVARIANT did not
		a.Sign("session.transition", to("s", "active"), head),
	} {
		receipts = append(receipts, r.submit(e)[0])
	}
	if receipts[3].Code != pci.RejectInvariantFailed || receipts[3].Fate == nil || !receipts[3].Fate.Passed {
		t.Errorf("%+v", receipts[3])
	}
	v := r.view()
	for i, want := range receipts {
		got, err := v.Receipt(want.Digest)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("receipt %d was\n%+v and reads\n%+v (%v)", i, want, got, err)
		}
		if text, err := want.MarshalJSON(); err != nil || !strings.Contains(string(text), `"agent":{"outcomes":`) {
			t.Errorf("receipt %d is shown as %s, %v", i, text, err)
		}
	}
}

// TestStateVersionsThatAreNotKnown are refused by what they are.
func TestStateVersionsThatAreNotKnown(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	entries, err := r.view().Ledger().Entries(0, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for version, says := range map[string]string{"1": "never released", "3": "install the newer bizra"} {
		forged := strings.Replace(string(entries[0]), `"state_version":2`, `"state_version":`+version, 1)
		m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ApplyEntries([][]byte{[]byte(forged)}); !errors.Is(err, fsm.ErrStop) || !strings.Contains(err.Error(), says) {
			t.Errorf("state version %s: %v", version, err)
		}
	}
}

// TestEntryVersionsThatAreNotKnown are refused by what they are, and nothing of the call is kept.
func TestEntryVersionsThatAreNotKnown(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	r.registered("alice")
	entries, err := r.view().Ledger().Entries(0, 2, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(entries[1]), `"v":1`, `"v":2`, 1)
	if newer == string(entries[1]) {
		t.Fatalf("nothing to forge: %s", newer)
	}
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ApplyEntries([][]byte{entries[0], []byte(newer)}); err == nil || !strings.Contains(err.Error(), "entry version 2 is not known") || m.Size() != 0 {
		t.Errorf("%d entries, %v", m.Size(), err)
	}
}

// layerLog is an observer that writes down what it is told.
type layerLog struct{ seen []string }

func (l *layerLog) Enter(x fsm.Layer) { l.seen = append(l.seen, "+"+x.String()) }
func (l *layerLog) Leave(x fsm.Layer) { l.seen = append(l.seen, "-"+x.String()) }

func TestObserverIsToldOfEveryLayer(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Market))
	a := r.registered("alice")
	r.trades("alice", "acme", 8)
	head := r.walk(a, "s").Head
	var log layerLog
	m, err := fsm.Open(r.st, fsm.Config{Region: "a", Observer: &log})
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	r.want(pci.Success, a.Sign("session.transition", to("s", "active", "resource", map[string]any{"type": "gpu", "quantity": 8}), head))
	var want []string
	for _, l := range fsm.Layers() {
		want = append(want, "+"+l.String(), "-"+l.String())
	}
	if !slices.Equal(log.seen, want) {
		t.Errorf("told %v, want %v", log.seen, want)
	}
	log.seen = nil
	r.want(pci.RejectFateViolation, a.Sign("session.transition", without(to("s", "computing"), "intent"), r.tip("s")))
	if got := strings.Join(log.seen, " "); got != "+claims -claims +ntu -ntu +fate -fate +conduct -conduct +ledger -ledger" {
		t.Errorf("a refusal by FATE went through %s", got)
	}
}

// tip is the only tip of a session.
func (r *rig) tip(id string) string {
	r.t.Helper()
	s, err := r.view().Session(id)
	if err != nil || len(s.Tips) != 1 {
		r.t.Fatalf("session %s: %+v, %v", id, s, err)
	}
	return s.Tips[0].Hash.String()
}
