package pebblestore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

// workload commits numbered batches. Batch n writes its number under "last", and under widthMax keys of its own values of a
// length that only n determines; it deletes the keys of batch n−1. So what a store holds must be exactly what some n leaves.
type workload struct {
	store     store.Store
	committed uint64
	synced    uint64 // every batch up to here was committed before a Sync that returned
}

const widthMax = 5

func width(n uint64) int { return 1 + int(n%widthMax) }

// value is large now and then, so that memtables fill and are flushed while the workload runs.
func value(n uint64, i int) []byte {
	v := make([]byte, 10+(n*7919+uint64(i)*104729)%30_000)
	binary.BigEndian.PutUint64(v, n)
	return v
}

func ownKey(n uint64, i int) []byte { return fmt.Appendf(nil, "batch %08d key %d", n, i) }

func (w *workload) commit() error {
	n := w.committed + 1
	writes := []store.Write{{Key: []byte("last"), Value: binary.BigEndian.AppendUint64(nil, n)}}
	for i := range width(n) {
		writes = append(writes, store.Write{Key: ownKey(n, i), Value: value(n, i)})
	}
	if n > 1 {
		for i := range width(n - 1) {
			writes = append(writes, store.Write{Key: ownKey(n-1, i), Delete: true})
		}
	}
	if err := w.store.Commit(writes); err != nil {
		return err
	}
	w.committed = n
	return nil
}

func (w *workload) sync() error {
	if err := w.store.Sync(); err != nil {
		return err
	}
	w.synced = w.committed
	return nil
}

// survived returns the number of the last batch in r, after checking that r holds what it left and nothing else.
func survived(r store.Reader) (last uint64, err error) {
	got, err := r.Get([]byte("last"))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return 0, err
	default:
		last = binary.BigEndian.Uint64(got)
	}
	it, err := r.Iter([]byte("batch "), []byte("batch!"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	i := 0
	for ok := it.First(); ok; ok = it.Next() {
		if last == 0 || i >= width(last) || string(it.Key()) != string(ownKey(last, i)) || string(it.Value()) != string(value(last, i)) {
			return 0, fmt.Errorf("after batch %d there is key %q with %d bytes", last, it.Key(), len(it.Value()))
		}
		i++
	}
	if want := width(last); last > 0 && i != want {
		return 0, fmt.Errorf("after batch %d there are %d keys, want %d", last, i, want)
	}
	return last, it.Err()
}

// afterCrash opens the store in dir of a file system that crashed and returns its last batch.
func afterCrash(fs vfs.FS, dir string) (last uint64, err error) {
	st, err := open(fs, dir)
	if err != nil {
		return 0, err
	}
	last, err = survived(st)
	return last, errors.Join(err, st.Close())
}

// TestCrashKeepsAPrefix runs the workload for many seeds and crashes the disk under it: with nothing, half or nine tenths of
// what was not synced on it.
func TestCrashKeepsAPrefix(t *testing.T) {
	const seeds, stepsMax = 60, 60
	lostSome, keptUnsynced, crashes := 0, 0, 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 0))
		fs := vfs.NewCrashableMem()
		st, err := open(fs, "/home/state")
		if err != nil {
			t.Fatal(err)
		}
		w := &workload{store: st}
		for range 1 + rng.IntN(stepsMax) {
			if rng.IntN(8) == 0 {
				err = w.sync()
			} else {
				err = w.commit()
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if rng.IntN(10) > 0 {
				continue
			}
			percent := []int{0, 50, 90}[rng.IntN(3)]
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			last, err := afterCrash(crashed, "/home/state")
			if err != nil {
				t.Fatalf("seed %d: after a crash with %d%% kept, %d committed, %d synced: %v", seed, percent, w.committed, w.synced, err)
			}
			if last < w.synced || last > w.committed {
				t.Fatalf("seed %d: after a crash with %d%% kept there are %d batches of %d committed, %d synced", seed, percent, last, w.committed, w.synced)
			}
			crashes++
			if last < w.committed {
				lostSome++
			}
			if last > w.synced {
				keptUnsynced++
			}
		}
		if err := st.Close(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if lostSome == 0 || keptUnsynced == 0 {
		t.Fatalf("of %d crashes %d lost a commit and %d kept one that was not synced: the test tested nothing", crashes, lostSome, keptUnsynced)
	}
	t.Logf("of %d crashes %d lost a commit, %d kept one that was not synced", crashes, lostSome, keptUnsynced)
}

// TestCrashAtEachOperation crashes before every single file operation of a run, from the making of the directory on, and
// demands that the store opens and holds what was synced by then.
func TestCrashAtEachOperation(t *testing.T) {
	const batches, syncEvery = 24, 6
	var taken []crash
	var synced, committed atomic.Uint64
	fs := vfs.NewCrashableMem()
	serial := make(chan struct{}, 1) // background operations of Pebble's come at any time
	wrapped := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		serial <- struct{}{}
		defer func() { <-serial }()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			atLeast := synced.Load() // before the clone: what is synced later need not be in it
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			taken = append(taken, crash{clone, fmt.Sprint(op.Kind, " ", op.Path), atLeast, committed.Load() + 1})
		}
		return nil
	}))
	st, err := open(wrapped, "/home/state")
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{store: st}
	for range batches {
		if err := w.commit(); err != nil {
			t.Fatal(err)
		}
		committed.Store(w.committed)
		if w.committed%syncEvery != 0 {
			continue
		}
		if err := w.sync(); err != nil {
			t.Fatal(err)
		}
		synced.Store(w.synced)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if len(taken) < 50 {
		t.Fatalf("only %d crashes", len(taken))
	}
	lost := 0
	for i, c := range taken {
		last, err := afterCrash(c.fs, "/home/state")
		if err != nil {
			t.Fatalf("crash %d of %d, before %s: %v", i, len(taken), c.before, err)
		}
		if last < c.atLeast || last > c.atMost {
			t.Fatalf("crash %d of %d, before %s: %d batches, want %d to %d", i, len(taken), c.before, last, c.atLeast, c.atMost)
		}
		if last+1 < c.atMost {
			lost++
		}
	}
	if lost == 0 {
		t.Fatalf("none of %d crashes lost a commit: the test tested nothing", len(taken))
	}
	t.Logf("%d of %d crashes lost a commit", lost, len(taken))
}

type crash struct {
	fs              vfs.FS
	before          string
	atLeast, atMost uint64
}

// TestCheckpointSurvivesCrash demands that a checkpoint is durable when Checkpoint returns, and with it all commits, though
// none was synced before.
func TestCheckpointSurvivesCrash(t *testing.T) {
	for _, batches := range []uint64{1, 3, 60} {
		fs := vfs.NewCrashableMem()
		st, err := open(fs, "/home/state")
		if err != nil {
			t.Fatal(err)
		}
		w := &workload{store: st}
		for w.committed < batches {
			if err := w.commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Checkpoint("/home/checkpoint"); err != nil {
			t.Fatal(err)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		for _, dir := range []string{"/home/checkpoint", "/home/state"} {
			if last, err := afterCrash(crashed, dir); err != nil || last != batches {
				t.Fatalf("%s after a crash holds %d batches, %v, want %d", dir, last, err, batches)
			}
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInterruptedCheckpoint demands that a directory in which a checkpoint was interrupted never opens as a store that lacks
// something.
func TestInterruptedCheckpoint(t *testing.T) {
	const batches = 40
	fs := vfs.NewCrashableMem()
	var clones []vfs.FS
	var armed atomic.Bool
	serial := make(chan struct{}, 1)
	st, err := open(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		serial <- struct{}{}
		defer func() { <-serial }()
		if armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(len(clones)), 1))}))
		}
		return nil
	})), "/home/state")
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{store: st}
	for w.committed < batches {
		if err := w.commit(); err != nil {
			t.Fatal(err)
		}
	}
	armed.Store(true)
	if err := st.Checkpoint("/home/checkpoint"); err != nil {
		t.Fatal(err)
	}
	armed.Store(false)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i, clone := range clones {
		names, err := clone.List("/home/checkpoint")
		if err != nil || !slices.ContainsFunc(names, func(n string) bool { return n != "BIZRA-STORE.tmp" }) {
			continue // nothing there yet
		}
		switch last, err := afterCrash(clone, "/home/checkpoint"); {
		case errors.Is(err, pebblestore.ErrFormat):
			refused++
		case err != nil || last != batches:
			t.Fatalf("crash %d of %d: the checkpoint holds %d batches, %v", i, len(clones), last, err)
		}
	}
	if refused == 0 {
		t.Fatalf("none of %d crashes left a checkpoint unfinished", len(clones))
	}
}
