package pebblestore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/fsm/store/storetest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(fs vfs.FS, dir string) (store.Store, error) {
	return pebblestore.Open(dir, pebblestore.Options{FS: fs, Logger: quiet(), CacheBytes: 1 << 20})
}

// backend makes stores under root of fs.
func backend(fs vfs.FS, root string) storetest.Backend {
	made := 0
	newDir := func() string { made++; return fs.PathJoin(root, fmt.Sprint(made)) }
	dirs := map[store.Store]string{}
	at := func(dir string) (store.Store, error) {
		st, err := open(fs, dir)
		if err == nil {
			dirs[st] = dir
		}
		return st, err
	}
	return storetest.Backend{
		Open: func() (store.Store, error) { return at(newDir()) },
		Reopen: func(st store.Store) (store.Store, error) {
			dir := dirs[st]
			delete(dirs, st)
			if err := st.Close(); err != nil {
				return nil, err
			}
			return at(dir)
		},
		OpenCheckpoint: at,
		NewDir:         newDir,
	}
}

func TestConformsInMemory(t *testing.T) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/stores", 0o700); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, backend(fs, "/stores"))
}

func TestOnRealDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home", "state")
	opts := pebblestore.Options{Logger: quiet()}
	st, err := pebblestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Commit([]store.Write{{Key: []byte("a"), Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Sync(); err != nil {
		t.Fatal(err)
	}
	if st.DiskBytes() == 0 {
		t.Error("the store takes no space")
	}
	if err := st.Checkpoint(filepath.Join(t.TempDir(), "checkpoint")); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Open(dir, opts); !errors.Is(err, pebblestore.ErrLocked) {
		t.Fatalf("opening it twice: %v, want %v", err, pebblestore.ErrLocked)
	}
	openFromOtherProcess(t, dir)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err = pebblestore.Open(dir, opts); err != nil {
		t.Fatal(err)
	}
	if v, err := st.Get([]byte("a")); err != nil || string(v) != "1" {
		t.Fatalf("a is %q, %v", v, err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if st.DiskBytes() != 0 {
		t.Error("a closed store takes space")
	}
}

const otherProcessDir = "PEBBLESTORE_TEST_DIR"

// openFromOtherProcess runs this test binary again, as TestOtherProcess.
func openFromOtherProcess(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOtherProcess$", "-test.v") // #nosec G204 -- this very binary
	cmd.Env = append(os.Environ(), otherProcessDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("refused, as it should")) {
		t.Fatalf("another process, asked to open the store: %v\n%s", err, out)
	}
}

func TestOtherProcess(t *testing.T) {
	dir := os.Getenv(otherProcessDir)
	if dir == "" {
		return // runs as a child of TestOnRealDisk
	}
	_, err := pebblestore.Open(dir, pebblestore.Options{Logger: quiet()})
	if !errors.Is(err, pebblestore.ErrLocked) {
		t.Fatalf("error is %v, want %v", err, pebblestore.ErrLocked)
	}
	t.Log("refused, as it should")
}

func TestOpenRefuses(t *testing.T) {
	file := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	made := func(t *testing.T, dir string) {
		st, err := open(vfs.Default, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	both := func(steps ...func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, step := range steps {
				step(t, dir)
			}
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, string)
		is      error // nil: opens
		says    string
	}{
		{"absent", func(*testing.T, string) {}, nil, ""},
		{"interrupted while it was made", both(file("LOCK", ""), file("BIZRA-STORE.tmp", "biz")), nil, ""},
		{"made before", made, nil, ""},
		{"someone's directory", file("thesis.tex", "x"), pebblestore.ErrFormat, "thesis.tex"},
		{"newer format", file("BIZRA-STORE", "bizra-store 2\n"), pebblestore.ErrFormat, "bizra-store 2"},
		{"garbage format", file("BIZRA-STORE", strings.Repeat("x", 1<<20)), pebblestore.ErrFormat, "xxx"},
		{"format of a store changed", both(made, file("BIZRA-STORE", "bizra-store 9\n")), pebblestore.ErrFormat, "bizra-store 9"},
		{"format of a store lost", both(made, func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "BIZRA-STORE")); err != nil {
				t.Fatal(err)
			}
		}), pebblestore.ErrFormat, "no file BIZRA-STORE"},
		{"a file", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, os.ErrInvalid, "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			test.prepare(t, dir)
			st, err := open(vfs.Default, dir)
			if test.is == nil {
				if err != nil {
					t.Fatal(err)
				}
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !errors.Is(err, test.is) && !errors.Is(test.is, os.ErrInvalid) || len(err.Error()) > 1000 {
				t.Fatalf("error is %v, want %v", err, test.is)
			}
			if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("error %q does not say %q and %q", err, test.says, dir)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := pebblestore.Open("/state", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 100})
	if err == nil || !strings.Contains(err.Error(), "CacheBytes: 100") {
		t.Fatalf("error is %v, want one about CacheBytes", err)
	}
	for _, c := range []struct {
		bytes int64
		fits  bool
	}{{1<<20 - 1, false}, {1 << 20, true}, {1 << 30, true}, {1<<30 + 1, false}, {-1, false}} {
		st, err := pebblestore.Open("/state", pebblestore.Options{FS: vfs.NewMem(), Logger: quiet(), MemTableBytes: c.bytes})
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "MemTableBytes: ") {
			t.Errorf("memtables of %d bytes: %v", c.bytes, err)
		}
		if err == nil {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func benchmarkStore(b *testing.B) store.Store {
	b.Helper()
	st, err := pebblestore.Open(filepath.Join(b.TempDir(), "state"), pebblestore.Options{Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	})
	return st
}

// key is spread over the key space, as digests are.
func key(n uint64) []byte {
	k := make([]byte, 33)
	k[0] = 'D'
	binary.BigEndian.PutUint64(k[1:], n*0x9e3779b97f4a7c15)
	return k
}

// BenchmarkPebbleCommit commits what a batch of 512 proofs may write, sorted as Txn.Writes gives it.
func BenchmarkPebbleCommit(b *testing.B) {
	const writes, valueBytes = 512 * 12, 200
	st, n := benchmarkStore(b), uint64(0)
	value := make([]byte, valueBytes)
	batch := make([]store.Write, writes)
	b.ReportAllocs()
	b.SetBytes(writes * (33 + valueBytes))
	for b.Loop() {
		b.StopTimer()
		for i := range batch {
			n++
			batch[i] = store.Write{Key: key(n), Value: value}
		}
		slices.SortFunc(batch, func(x, y store.Write) int { return bytes.Compare(x.Key, y.Key) })
		b.StartTimer()
		if err := st.Commit(batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPebbleGetMiss looks up what is not there, as each new proof's digest is, among a million keys.
func BenchmarkPebbleGetMiss(b *testing.B) {
	const keys = 1_000_000
	st := benchmarkStore(b)
	fill(b, st, keys)
	b.ReportAllocs()
	n := uint64(keys)
	for b.Loop() {
		n++
		if _, err := st.Get(key(n)); !errors.Is(err, store.ErrNotFound) {
			b.Fatal(err)
		}
	}
}

// BenchmarkPebbleGetHit looks up a few keys of a million again and again, as sessions' heads are.
func BenchmarkPebbleGetHit(b *testing.B) {
	const keys, hot = 1_000_000, 5000
	st := benchmarkStore(b)
	fill(b, st, keys)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		if _, err := st.Get(key(n % hot)); err != nil {
			b.Fatal(err)
		}
	}
}

func fill(b *testing.B, st store.Store, keys uint64) {
	b.Helper()
	const perCommit = 10_000
	batch := make([]store.Write, 0, perCommit)
	for n := range keys {
		if batch = append(batch, store.Write{Key: key(n), Value: make([]byte, 8)}); len(batch) == perCommit {
			if err := st.Commit(batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}
