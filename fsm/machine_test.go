package fsm_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

const start = int64(1_772_452_800_000) // 2026-03-02T12:00:00Z

// rig is a founded machine and a clock of its own.
type rig struct {
	t     *testing.T
	fed   *testfed.Federation
	st    store.Store
	m     *fsm.Machine
	index uint64
	now   int64
}

func newRig(t *testing.T, fed *testfed.Federation) *rig {
	t.Helper()
	r := &rig{t: t, fed: fed, st: store.NewMemory(), now: start}
	r.open()
	r.apply(fsm.EncodeGenesis(r.now, fed.Document.Canonical()))
	return r
}

func (r *rig) open() {
	r.t.Helper()
	m, err := fsm.Open(r.st, fsm.Config{Region: "a"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
	r.t.Cleanup(func() { _ = m.Close() })
}

func (r *rig) apply(data []byte) fsm.Result {
	r.t.Helper()
	r.index++
	res, err := r.m.Apply([]fsm.Command{{Index: r.index, Term: 1, Data: data}})
	if err != nil {
		r.t.Fatal(err)
	}
	return res[0]
}

// sealed makes a seal, and certifies it so that there is always room for the next.
func (r *rig) sealed() {
	r.t.Helper()
	if s := r.apply(fsm.EncodeSeal()).Seal; s != nil {
		r.apply(r.fed.Certify(s))
	}
}

func (r *rig) submit(envs ...*pci.Envelope) []fsm.Receipt {
	r.t.Helper()
	var canonical [][]byte
	for _, e := range envs {
		canonical = append(canonical, e.Canonical())
	}
	return r.apply(fsm.EncodeProofs(r.now, canonical)).Receipts
}

func (r *rig) want(code pci.Code, env *pci.Envelope) fsm.Receipt {
	r.t.Helper()
	rec := r.submit(env)[0]
	if rec.Code != code {
		r.t.Fatalf("%s: got %v (%s), want %v", env.Payload.Action, rec.Code, rec.Reason, code)
	}
	return rec
}

func (r *rig) view() *fsm.View {
	r.t.Helper()
	v, err := r.m.View()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = v.Close() })
	return v
}

func (r *rig) size() int64 { return r.m.Size() }

// registered gives an agent that the operator has registered.
func (r *rig) registered(id string) *testfed.Signer {
	r.t.Helper()
	a := r.fed.Agent(id, r.now)
	r.want(pci.Success, r.fed.Operator("a", r.now).Sign("agent.register", map[string]any{"region": "a", "agent_id": id,
		"agent_type": "PAT", "public_key": fmt.Sprintf("%x", a.Key.Public()), "owner": "acme"}, "", func(d *pci.Draft) {
		d.Nonce = testfed.Key("nonce-" + id).Seed()
	}))
	return a
}

func open(session string, more ...string) map[string]any {
	d := map[string]any{"region": "a", "session": session}
	if len(more) > 0 {
		var agents []any
		for _, m := range more {
			agents = append(agents, m)
		}
		d["agents"] = agents
	}
	return d
}

func to(session, state string, more ...any) map[string]any {
	return testfed.Transition(session, state, more...)
}

func TestSessionFromOpenToTerminated(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	rec := r.want(pci.Success, a.Sign("session.open", open("s1"), ""))
	for _, state := range []string{"active", "computing", "validated", "committed", "terminated"} {
		next := r.want(pci.Success, a.Sign("session.transition", to("s1", state), rec.Head))
		if next.State != state || next.Head == rec.Head || next.Index != rec.Index+1 {
			t.Fatalf("step to %s gave %+v after %+v", state, next, rec)
		}
		rec = next
	}
	r.want(pci.RejectStateMismatch, a.Sign("session.transition", to("s1", "active"), rec.Head))
	v := r.view()
	s, err := v.Session("s1")
	if err != nil || len(s.Tips) != 0 || s.Nodes != 6 {
		t.Fatalf("session after its end: %+v, %v", s, err)
	}
	steps, err := v.History("s1", 0, 100)
	if err != nil || len(steps) != 6 || steps[5].Hash.String() != rec.Head || steps[5].Node.Parents[0] != steps[4].Hash {
		t.Fatalf("history: %v, %v", steps, err)
	}
}

func TestGatesRefuseInOrder(t *testing.T) {
	fed := testfed.New(1, 3)
	r := newRig(t, fed)
	a := r.registered("alice")
	bad := func(d *pci.Draft) { d.IhsanScore, d.SNRScore, d.PolicyHash = 0.9, 0.5, "other" }
	snr := func(d *pci.Draft) { d.SNRScore, d.PolicyHash = 0.5, "other" }
	policy := func(d *pci.Draft) { d.PolicyHash = "other" }
	late := func(d *pci.Draft) { bad(d); d.Timestamp = d.Timestamp.Add(-121_000_000_000) }
	stranger := fed.Agent("mallory", r.now)
	operator := fed.Operator("a", r.now)
	for _, c := range []struct {
		name  string
		env   *pci.Envelope
		code  pci.Code
		entry bool
	}{
		{"unknown action", a.Sign("session.fly", open("x"), "", bad), pci.RejectSchema, false},
		{"missing member", a.Sign("session.open", map[string]any{"region": "a"}, "", bad), pci.RejectSchema, false},
		{"unknown member", a.Sign("session.open", map[string]any{"region": "a", "session": "x", "resource": 1}, "", bad), pci.RejectSchema, false},
		{"other region", a.Sign("session.open", map[string]any{"region": "b", "session": "x"}, "", bad), pci.RejectSchema, false},
		{"stranger", stranger.Sign("session.open", open("x"), "", late), pci.RejectRoleViolation, false},
		{"stale", a.Sign("session.open", open("x"), "", late), pci.RejectTimestampStale, false},
		{"ihsan", a.Sign("session.open", open("x"), "", bad), pci.RejectIhsanBelowMin, true},
		{"snr", a.Sign("session.open", open("x"), "", snr), pci.RejectSNRBelowMin, true},
		{"policy", a.Sign("session.open", open("x"), "", policy), pci.RejectPolicyMismatch, true},
		{"agent as operator", a.Sign("agent.revoke", map[string]any{"region": "a", "agent_id": "alice"}, ""), pci.RejectRoleViolation, true},
		{"operator as agent", operator.Sign("session.open", open("x"), ""), pci.RejectRoleViolation, true},
		{"no session", a.Sign("session.transition", to("x", "active"), ""), pci.RejectStateMismatch, true},
		{"ok", a.Sign("session.open", open("x"), ""), pci.Success, true},
		{"opened twice", a.Sign("session.open", open("x"), ""), pci.RejectStateMismatch, true},
	} {
		before := r.size()
		rec := r.want(c.code, c.env)
		if got := r.size() > before; got != c.entry || rec.HasEntry != c.entry {
			t.Errorf("%s: an entry was made: %v, want %v (receipt %+v)", c.name, got, c.entry, rec)
		}
		if c.entry && c.code != pci.Success && rec.Message() == "" {
			t.Errorf("%s: no message", c.name)
		}
	}
}

func TestRetryGetsItsFirstReceipt(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	opened, refused := a.Sign("session.open", open("s"), ""), a.Sign("session.open", open("s"), "")
	first, second := r.want(pci.Success, opened), r.want(pci.RejectStateMismatch, refused)
	size := r.size()
	r.now += 3_600_000 // long after its timestamp has gone stale
	for _, c := range []struct {
		env  *pci.Envelope
		want fsm.Receipt
	}{{opened, first}, {refused, second}} {
		got := r.submit(c.env, c.env)
		c.want.Repeated = true
		if !reflect.DeepEqual(got[0], c.want) || !reflect.DeepEqual(got[1], c.want) {
			t.Fatalf("retry got %+v, want %+v", got, c.want)
		}
	}
	if r.size() != size {
		t.Fatal("a retry made an entry")
	}
}

func TestNonceIsRememberedAndForgotten(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	nonce := func(d *pci.Draft) { d.Nonce = [32]byte{7} }
	r.want(pci.RejectIhsanBelowMin, a.Sign("session.open", open("s"), "", nonce, func(d *pci.Draft) { d.IhsanScore = 0 }))
	r.want(pci.RejectNonceReplay, a.Sign("session.open", open("s"), "", nonce))
	r.now += 299_999
	a.NowMillis = r.now
	r.want(pci.RejectNonceReplay, a.Sign("session.open", open("s"), "", nonce))
	r.now++
	r.want(pci.Success, a.Sign("session.open", open("s"), "", nonce))
	r.want(pci.RejectNonceReplay, a.Sign("session.open", open("s2"), "", nonce))
	// An hour later nothing of the window is left but the newest nonce.
	r.now += 3_600_000
	a.NowMillis = r.now
	r.want(pci.Success, a.Sign("session.open", open("s3"), ""))
	for _, prefix := range []byte{'X', 'Y'} {
		if n := r.count([]byte{prefix}); n != 1 {
			t.Errorf("%d keys under %c are left, want 1", n, prefix)
		}
	}
	if n := r.count([]byte("Swindow/")); n != 1 {
		t.Errorf("%d window records are left, want 1", n)
	}
}

func (r *rig) count(prefix []byte) (n int) {
	r.t.Helper()
	upper := append([]byte(nil), prefix...)
	upper[len(upper)-1]++
	it, err := r.st.Iter(prefix, upper)
	if err != nil {
		r.t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestRefusalsAreLimitedPerMinute(t *testing.T) {
	r := newRig(t, testfed.New(1, 3, testfed.Lenient))
	a, b := r.registered("alice"), r.registered("bob")
	low := func(d *pci.Draft) { d.IhsanScore = 0 }
	for i := range 60 {
		if rec := r.want(pci.RejectIhsanBelowMin, a.Sign("session.open", open("s"), "", low)); !rec.HasEntry {
			t.Fatalf("refusal %d made no entry", i)
		}
	}
	size := r.size()
	if rec := r.want(pci.RejectRateLimited, a.Sign("session.open", open("s"), "", low)); rec.HasEntry || r.size() != size {
		t.Fatal("a limited refusal made an entry")
	}
	r.want(pci.Success, a.Sign("session.open", open("s"), ""))             // what passes is not limited
	r.want(pci.RejectStateMismatch, a.Sign("session.open", open("s"), "")) // counted apart
	r.want(pci.RejectIhsanBelowMin, b.Sign("session.open", open("s"), "", low))
	r.now += 60_000
	a.NowMillis = r.now
	r.want(pci.RejectIhsanBelowMin, a.Sign("session.open", open("s"), "", low))
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	r.now += 5_000
	first := r.want(pci.Success, a.Sign("session.open", open("s"), ""))
	r.now -= 60_000
	second := r.want(pci.Success, a.Sign("session.transition", to("s", "active"), first.Head))
	if second.TimeMillis != first.TimeMillis {
		t.Fatalf("log time went from %d to %d", first.TimeMillis, second.TimeMillis)
	}
	r.now += 3_600_000
	r.want(pci.RejectTimestampStale, a.Sign("session.open", open("t"), "")) // makes no entry, so moves nothing
	if v := r.view(); v.LogTimeMillis() != first.TimeMillis {
		t.Fatal("a batch without an entry moved log time")
	}
}

func TestAnotherDocumentStopsTheMachine(t *testing.T) {
	fed, other := testfed.New(1, 3), testfed.New(1, 3, testfed.Open)
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Own: fed.Document})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Apply([]fsm.Command{{Index: 1, Term: 1, Data: fsm.EncodeGenesis(start, other.Document.Canonical())}})
	if !errors.Is(err, fsm.ErrStop) || m.Size() != 0 {
		t.Fatalf("founded on another document: %v", err)
	}
	r := newRig(t, other)
	if _, err := fsm.Open(r.st, fsm.Config{Region: "a", Own: fed.Document}); !errors.Is(err, fsm.ErrStop) {
		t.Fatalf("opened a state that goes by another document: %v", err)
	}
}
