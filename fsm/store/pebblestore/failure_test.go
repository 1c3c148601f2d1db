package pebblestore_test

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

var errDisk = errors.New("the disk is gone")

// TestFailures breaks the disk under a store in each way and demands that the store says so once, takes nothing more, and
// can be opened again from a sound disk with all that was synced.
func TestFailures(t *testing.T) {
	written := func(suffix string) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool {
			return strings.Contains(op.Path, suffix) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite
		}
	}
	for _, test := range []struct {
		name   string
		breaks func(errorfs.Op) bool
	}{
		{"log cannot be written", func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSyncData)
		}},
		{"log cannot be synced", func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
		}},
		{"log cannot be made", func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
		}},
		{"table cannot be written", written(".sst")},
		{"large values cannot be written", written(".blob")},
		{"manifest cannot be written", written("MANIFEST")},
		{"nothing can be written", written("")},
	} {
		t.Run(test.name, func(t *testing.T) { testFailure(t, test.breaks) })
	}
}

func testFailure(t *testing.T, breaks func(errorfs.Op) bool) {
	mem := vfs.NewCrashableMem()
	var broken, told atomic.Int64
	var says atomic.Pointer[error]
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() > 0 && breaks(op) {
			return errDisk
		}
		return nil
	}))
	st, err := pebblestore.Open("/home/state", pebblestore.Options{FS: fs, Logger: quiet(), OnFatal: func(err error) {
		told.Add(1)
		says.Store(&err)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{store: st}
	for range 10 {
		if err := w.commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.sync(); err != nil {
		t.Fatal(err)
	}
	broken.Store(1)
	for deadline := time.Now().Add(30 * time.Second); st.Err() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the store does not notice that its disk is gone")
		}
		if w.commit() == nil && w.committed%40 == 0 {
			_ = w.sync() // the loop asks the store, not the call, whether it has failed
		}
	}
	for _, call := range []func() error{
		w.commit, w.sync,
		func() error { _, err := st.Get([]byte("last")); return err },
		func() error { _, err := st.Iter(nil, nil); return err },
		func() error { _, err := st.Snapshot(); return err },
		func() error { return st.Checkpoint("/home/checkpoint") },
		st.Err,
		st.Close,
	} {
		if err := call(); !errors.Is(err, pebblestore.ErrFailed) || !strings.Contains(err.Error(), errDisk.Error()) {
			t.Fatalf("after the failure: %v, want %v because %v", err, pebblestore.ErrFailed, errDisk)
		}
	}
	if err := st.Close(); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("closing again: %v", err)
	}
	if told.Load() != 1 || !errors.Is(*says.Load(), pebblestore.ErrFailed) {
		t.Fatalf("OnFatal was called %d times", told.Load())
	}
	last, err := afterCrash(mem.CrashClone(vfs.CrashCloneCfg{}), "/home/state")
	if err != nil || last < w.synced || last > w.committed+1 {
		t.Fatalf("on a sound disk it holds %d batches, %v; %d were synced, %d committed", last, err, w.synced, w.committed)
	}
}

// TestCorruptTable flips bits in a table on disk: a read that meets them must fail, and with it the store.
func TestCorruptTable(t *testing.T) {
	fs := vfs.NewMem()
	st, err := open(fs, "/state")
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{store: st}
	for range 60 {
		if err := w.commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	flushLog(t, fs)
	flipTables(t, fs)
	var told atomic.Int64
	broken, err := pebblestore.Open("/state", pebblestore.Options{FS: fs, Logger: quiet(), OnFatal: func(error) { told.Add(1) }})
	if err == nil {
		_, err = survived(broken)
		if err == nil || !errors.Is(broken.Err(), pebblestore.ErrFailed) {
			t.Fatalf("reading a corrupt table: %v; the store says %v", err, broken.Err())
		}
		if err := broken.Close(); !errors.Is(err, pebblestore.ErrFailed) {
			t.Fatalf("closing: %v", err)
		}
	}
	if told.Load() != 1 {
		t.Fatalf("OnFatal was called %d times", told.Load())
	}
}

// silent is a pebble.Logger.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

// flushLog moves all that the store in /state holds from its log into tables.
func flushLog(t *testing.T, fs vfs.FS) {
	t.Helper()
	db, err := pebble.Open("/state", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Flush(), db.Compact(t.Context(), []byte("a"), []byte("z"), false), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func flipTables(t *testing.T, fs *vfs.MemFS) {
	t.Helper()
	names, err := fs.List("/state")
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite("/state/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := 8; i < len(b)/2; i += 64 {
			b[i] ^= 0x10
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		flipped++
	}
	if flipped == 0 {
		t.Fatal("there is no table to corrupt")
	}
}
