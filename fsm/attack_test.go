package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// countingStore counts reads, and fails those of one prefix.
type countingStore struct {
	store.Store
	gets int
	fail string
}

var errDisk = errors.New("the disk is gone")

func (c *countingStore) Get(key []byte) ([]byte, error) {
	c.gets++
	if c.fail != "" && strings.HasPrefix(string(key), c.fail) {
		return nil, errDisk
	}
	return c.Store.Get(key)
}

func newCountingRig(t *testing.T, fed *testfed.Federation) (*rig, *countingStore) {
	t.Helper()
	counting := &countingStore{Store: store.NewMemory()}
	r := &rig{t: t, fed: fed, st: counting, now: start}
	r.open()
	r.apply(fsm.EncodeGenesis(r.now, fed.Document.Canonical()))
	return r, counting
}

// After a crowd and a quiet time the first proof must not pay for the whole crowd's nonces.
func TestForgettingIsSpreadOverEntries(t *testing.T) {
	const crowd = 2000
	r, counting := newCountingRig(t, testfed.New(1, 3, testfed.Open))
	a := r.fed.Agent("x", r.now)
	opened := func(i int) *pci.Envelope { return a.Sign("session.open", open(fmt.Sprintf("s%d", i)), "") }
	for i := range crowd {
		if i%100 == 0 {
			r.now += 700 // so that seconds hold nonces of several batches
			a.NowMillis = r.now
		}
		r.submit(opened(i))
	}
	r.now += 3_600_000
	a.NowMillis = r.now
	check := func(after int) {
		t.Helper()
		r.sealed()
		if err := fsm.Check(t.Context(), r.st, fsm.Config{Region: "a"}, quiet); err != nil {
			t.Fatalf("after %d more proofs: %v", after, err)
		}
	}
	most, proofs := 0, 0
	for ; r.count([]byte{'Y'}) > proofs && proofs < crowd; proofs++ {
		before := counting.gets
		r.submit(opened(crowd + proofs))
		most = max(most, counting.gets-before)
		if proofs%40 == 0 {
			check(proofs)
		}
	}
	check(proofs)
	if most > 60 {
		t.Errorf("one proof made %d reads", most)
	}
	if n := r.count([]byte{'X'}); n != proofs || proofs > crowd/4 {
		t.Errorf("after %d proofs %d nonces are remembered", proofs, n)
	}
	if _, err := fsm.Rederive(t.Context(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet); err != nil {
		t.Error(err)
	}
}

// A read that fails is this replica's fault: to refuse the proof instead would be another
// outcome than the other replicas'.
func TestFailedReadsStopTheReplica(t *testing.T) {
	for _, prefix := range []string{"D", "Sagent/", "Skey/", "Sspent/", "Svoters", "X"} {
		r, counting := newCountingRig(t, testfed.New(1, 3, testfed.Open))
		r.submit(r.fed.Agent("y", r.now).Sign("session.open", open("before"), ""))
		r.open() // so that nothing is in memory
		counting.fail = prefix
		_, err := r.m.Apply([]fsm.Command{{Index: r.index + 1, Term: 1, Data: fsm.EncodeProofs(r.now, [][]byte{
			r.fed.Agent("x", r.now).Sign("session.open", open("s"), "").Canonical()})}})
		if !errors.Is(err, fsm.ErrStop) || !errors.Is(err, errDisk) {
			t.Errorf("with reads of %s failing: %v", prefix, err)
		}
	}
}

// Where the entries of a peer are undone, the document that they named is too: the next
// peer's first entry must be a genesis again.
func TestUndoneGenesisLeavesNothing(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	r.registered("alice")
	entries, err := r.view().Ledger().Entries(0, r.size(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Document: func([32]byte) ([]byte, bool) { return r.fed.Document.Canonical(), true }})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ApplyEntries([][]byte{entries[0], []byte("{}")}); err == nil || m.Size() != 0 {
		t.Fatalf("a bad entry was taken: %v", err)
	}
	first := strings.Replace(string(entries[1]), `"index":1`, `"index":0`, 1)
	if err := m.ApplyEntries([][]byte{[]byte(first)}); !errors.Is(err, fsm.ErrDiverged) || m.Size() != 0 {
		t.Errorf("a ledger without a genesis was begun: %v, %d entries", err, m.Size())
	}
	if err := m.ApplyEntries(entries); err != nil || m.Size() != 2 {
		t.Errorf("the true entries are refused: %v", err)
	}
}

func TestVotersKeysAreNobodyElses(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	op := r.operator()
	op.do(pci.Success, "region.voter", map[string]any{"region": "a", "op": "add", "node": hexKey("new-voter"), "name": "a-9"})
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.register", register("y", hexKey("new-voter"), "acme")), "key-taken")
	op.do(pci.Success, "region.voter", map[string]any{"region": "a", "op": "remove", "node": hexKey("new-voter")})
	wantReason(t, op.do(pci.RejectInvariantFailed, "agent.register", register("y", hexKey("new-voter"), "acme")), "key-taken")
}

// Damage that leaves the root of the commitment, or the window's records, as they are.
func TestDamageBelowTheRootsIsFound(t *testing.T) {
	for _, prefix := range []string{"T", "X"} {
		r := newRig(t, testfed.New(1, 3))
		a := r.registered("alice")
		for i := range 20 {
			r.want(pci.Success, a.Sign("session.open", open(fmt.Sprintf("s%d", i)), ""))
		}
		r.apply(fsm.EncodeSeal())
		it, err := r.st.Iter([]byte(prefix), []byte{prefix[0] + 1})
		if err != nil || !it.Last() {
			t.Fatalf("no key under %s: %v", prefix, err)
		}
		key, value := append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)
		_ = it.Close()
		value[len(value)-1] ^= 1
		if err := r.st.Commit([]store.Write{{Key: key, Value: value}}); err != nil {
			t.Fatal(err)
		}
		if prefix == "X" {
			err = fsm.Check(context.Background(), r.st, fsm.Config{Region: "a"}, quiet)
		} else {
			_, err = fsm.Rederive(context.Background(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet)
		}
		if err == nil {
			t.Errorf("damage to %q is not found", key)
		}
	}
}

// The largest and the deepest envelopes become entries that can be read again.
func TestExtremeEnvelopesBecomeEntries(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	head := r.want(pci.Success, a.Sign("session.open", open("s"), "")).Head
	deep := any(1)
	for range pci.DepthMax - 3 { // the envelope, its payload and the data are three
		deep = []any{deep}
	}
	step := func(input any) *pci.Envelope {
		return a.Sign("session.transition", to("s", "active", "reason", strings.Repeat("\x01", 1024), "input", input), head)
	}
	long := pci.EnvelopeBytesMax - len(step("").Canonical())
	for name, input := range map[string]any{"deepest": deep, "longest": strings.Repeat("x", long), "escaped": strings.Repeat("\u2028", long/6)} {
		env := step(input)
		if _, err := pci.DecodeCanonical(env.Canonical()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		first := r.submit(env)[0]
		again := r.submit(env)[0]
		if !first.HasEntry || !again.Repeated || again.Index != first.Index {
			t.Errorf("%s: %+v, again %+v", name, first, again)
		}
		if first.Code == pci.Success {
			head = first.Head
			r.want(pci.Success, a.Sign("session.rollback", map[string]any{"session": "s", "ancestor": r.m0(head), "reason": strings.Repeat("\u2028", 341)}, head))
		}
	}
	if _, err := fsm.Rederive(t.Context(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet); err != nil {
		t.Error(err)
	}
}

// m0 is the first parent of a node of session s.
func (r *rig) m0(head string) string {
	r.t.Helper()
	steps, err := r.view().History("s", 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range steps {
		if s.Hash.String() == head {
			return s.Node.Parents[0].String()
		}
	}
	r.t.Fatalf("no node %s", head)
	return ""
}

// A refused rollback is not limited in number beyond RATE_LIMITED, so what it costs every
// voter must not grow with the session.
func TestRollbackToNowhereIsCheap(t *testing.T) {
	r, counting := newCountingRig(t, testfed.New(1, 3, testfed.Lenient))
	a := r.registered("alice")
	rec := r.want(pci.Success, a.Sign("session.open", open("s"), ""))
	other := r.want(pci.Success, a.Sign("session.open", open("t"), ""))
	var path []string
	for range 2 * session.RollbackNodesMax / 3 {
		for _, state := range []string{"active", "suspended", "resumed"} {
			rec = r.want(pci.Success, a.Sign("session.transition", to("s", state), rec.Head))
			path = append(path, rec.Head)
		}
	}
	back := func(ancestor string) *pci.Envelope {
		return a.Sign("session.rollback", map[string]any{"session": "s", "ancestor": ancestor, "reason": "r"}, rec.Head)
	}
	for _, c := range []struct {
		name, ancestor string
		readsMax       int
	}{
		{"no node", fmt.Sprintf("%064x", 1), 30},
		{"of another session", other.Head, 30},
		{"the tip itself", rec.Head, 30},
		{"too far", path[0], session.RollbackNodesMax + 30},
	} {
		before := counting.gets
		if got := r.want(pci.RejectInvariantFailed, back(c.ancestor)); got.Reason != session.ReasonNoAncestor {
			t.Errorf("%s: %s", c.name, got.Reason)
		}
		if reads := counting.gets - before; reads > c.readsMax {
			t.Errorf("%s: %d reads, want at most %d", c.name, reads, c.readsMax)
		}
	}
	r.want(pci.Success, back(path[len(path)-session.RollbackNodesMax]))
}
