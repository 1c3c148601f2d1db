package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
)

// TestLedgerCrashAtEachWrite crashes a voter's disk before every file operation of a run of the real state machine, with nothing,
// half or all of what was not synced on it: torn tails of Pebble's log too. Each time the state that is found must be sound and at an
// index that was reached, not before what was synced; and the log replayed from there must lead to the same state.
func TestLedgerCrashAtEachWrite(t *testing.T) {
	const syncEvery = 9
	log := ledgerLog()
	want := applyAll(t, store.NewMemory(), log)
	rng := rand.New(rand.NewPCG(1, 0))

	var taken []ledgerCrash
	var synced, applied uint64
	fs := vfs.NewCrashableMem()
	serial := make(chan struct{}, 1) // background operations of Pebble's come at any time; it guards what is shared
	wrapped := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		serial <- struct{}{}
		defer func() { <-serial }()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for _, percent := range []int{0, 50, 100} {
				taken = append(taken, ledgerCrash{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}),
					fmt.Sprintf("%v %s with %d %% kept", op.Kind, op.Path, percent), synced, applied + 1})
			}
		}
		return nil
	}))
	note := func(what *uint64, index uint64) {
		serial <- struct{}{}
		*what = index
		<-serial
	}
	st, err := open(wrapped, "/home/state")
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range log {
		if _, err := m.Apply([]fsm.Command{c}); err != nil {
			t.Fatal(err)
		}
		note(&applied, c.Index)
		if i%syncEvery == 0 {
			if err := st.Sync(); err != nil {
				t.Fatal(err)
			}
			note(&synced, c.Index)
		}
	}
	if err := errors.Join(m.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
	lost, kept := 0, 0
	for _, c := range taken {
		index := c.check(t, log, want)
		if index+1 < c.atMost {
			lost++
		}
		if index > c.atLeast {
			kept++
		}
	}
	t.Logf("of %d crashes %d lost what was applied, %d kept what was not synced", len(taken), lost, kept)
	if len(taken) < 200 || lost == 0 || kept == 0 {
		t.Error("that was too little: the test does not test")
	}
}

type ledgerCrash struct {
	fs              vfs.FS
	before          string
	atLeast, atMost uint64 // Raft indexes
}

// check starts from what the crash left.
func (c *ledgerCrash) check(t *testing.T, log []fsm.Command, want [32]byte) (index uint64) {
	t.Helper()
	st, err := open(c.fs, "/home/state")
	if err != nil {
		t.Fatalf("crash before %s: %v", c.before, err)
	}
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		t.Fatalf("crash before %s: %v", c.before, err)
	}
	index, _ = m.AppliedIndex()
	if index < c.atLeast || index > c.atMost {
		t.Fatalf("crash before %s: the state is at %d, want %d to %d", c.before, index, c.atLeast, c.atMost)
	}
	if index > 0 {
		if err := fsm.Check(context.Background(), st, fsm.Config{Region: "a"}, func(string, int64, int64) {}); err != nil {
			t.Fatalf("crash before %s: at index %d: %v", c.before, index, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got := applyAll(t, st, log); got != want {
		t.Fatalf("crash before %s: replayed from %d the state is %x, want %x", c.before, index, got, want)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return index
}

// applyAll gives a machine the whole log, of which it skips what it holds, and returns the state commitment.
func applyAll(t *testing.T, st store.Store, log []fsm.Command) [32]byte {
	t.Helper()
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(log); err != nil {
		t.Fatal(err)
	}
	root, err := m.StateRoot()
	if err = errors.Join(err, m.Close()); err != nil {
		t.Fatal(err)
	}
	return root
}

// ledgerLog is a region's log: its founding, proofs in batches, seals.
func ledgerLog() (log []fsm.Command) {
	const start = int64(1_772_452_800_000) // 2026-03-02T12:00:00Z
	fed := testfed.New(1, 3, testfed.Open)
	agent := fed.Agent("x", start)
	add := func(data []byte) { log = append(log, fsm.Command{Index: uint64(len(log)) + 1, Term: 1, Data: data}) }
	add(fsm.EncodeGenesis(start, fed.Document.Canonical()))
	for i := range 40 {
		var proofs [][]byte
		for j := range 1 + i%4 {
			proofs = append(proofs, agent.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprintf("s-%d-%d", i, j)}, "").Canonical())
		}
		add(fsm.EncodeProofs(start+int64(i), proofs))
		if i%7 == 6 {
			add(fsm.EncodeSeal())
		}
	}
	return log
}
