// Package storetest checks that a store.Store keeps the promises of package store. It is imported by tests only.
//
// It does not check what a crash leaves: that needs a file system that crashes, and is tested with each implementation.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/bizra/bizra/fsm/store"
)

// Backend says how to make and find the stores of one implementation.
type Backend struct {
	// Open returns a new, empty store.
	Open func() (store.Store, error)
	// Reopen closes a store that Open or Reopen returned and opens it again where it was; nil if such stores end with Close.
	Reopen func(store.Store) (store.Store, error)
	// OpenCheckpoint opens a directory that Checkpoint wrote.
	OpenCheckpoint func(dir string) (store.Store, error)
	// NewDir returns a path that does not exist yet in a directory that does.
	NewDir func() string
}

// Run runs the whole suite.
func Run(t *testing.T, b Backend) {
	t.Run("model", func(t *testing.T) { runModel(t, b) })
	for _, test := range []struct {
		name string
		run  func(*testing.T, Backend, store.Store)
	}{
		{"values", testValues},
		{"commit is whole", testCommitIsWhole},
		{"limits", testLimits},
		{"iterator bounds", testIteratorBounds},
		{"iterator off its range", testIteratorOff},
		{"snapshot", testSnapshot},
		{"checkpoint", testCheckpoint},
		{"concurrent readers", testConcurrentReaders},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := must(b.Open())(t)
			test.run(t, b, st)
			noError(t, st.Close())
		})
	}
	t.Run("closed", func(t *testing.T) { testClosed(t, b) })
}

// fataler is what *testing.T and *rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must[T any](v T, err error) func(fataler) T {
	return func(t fataler) T {
		t.Helper()
		noError(t, err)
		return v
	}
}

func noError(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func isError(t fataler, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func set(key, value string) store.Write { return store.Write{Key: []byte(key), Value: []byte(value)} }
func del(key string) store.Write        { return store.Write{Key: []byte(key), Delete: true} }

// wantAll compares everything a reader holds with what it should.
func wantAll(t fataler, r store.Reader, want map[string]string) {
	t.Helper()
	it := must(r.Iter(nil, nil))(t)
	got := map[string]string{}
	var last []byte
	for ok := it.First(); ok; ok = it.Next() {
		if last != nil && bytes.Compare(last, it.Key()) >= 0 {
			t.Fatalf("iterator went from %q to %q", last, it.Key())
		}
		last = bytes.Clone(it.Key())
		got[string(it.Key())] = string(it.Value())
	}
	noError(t, it.Err())
	noError(t, it.Close())
	if !maps.Equal(got, want) {
		t.Fatalf("holds %d keys %v, want %d keys %v", len(got), summary(got), len(want), summary(want))
	}
	for key, value := range want {
		if b := must(r.Get([]byte(key)))(t); string(b) != value {
			t.Fatalf("Get(%q) = %q, want %q", key, b, value)
		}
	}
}

func summary(m map[string]string) string {
	keys := slices.Sorted(maps.Keys(m))
	return fmt.Sprintf("%.20q", keys[:min(len(keys), 30)])
}

func testValues(t *testing.T, _ Backend, st store.Store) {
	_, err := st.Get([]byte("a"))
	isError(t, err, store.ErrNotFound)
	_, err = st.Get(nil)
	isError(t, err, store.ErrNotFound)

	noError(t, st.Commit(nil))
	key, value := []byte("a"), []byte("one")
	noError(t, st.Commit([]store.Write{{Key: key, Value: value}, set("empty", "")}))
	key[0], value[0] = 'x', 'x' // the slices are ours again
	wantAll(t, st, map[string]string{"a": "one", "empty": ""})

	got := must(st.Get([]byte("a")))(t)
	got[0] = 'x' // and so is what Get returned
	wantAll(t, st, map[string]string{"a": "one", "empty": ""})
	if b := must(st.Get([]byte("empty")))(t); b == nil {
		t.Fatalf("an empty value reads as nil")
	}

	noError(t, st.Commit([]store.Write{set("a", "1"), set("a", "2"), del("empty"), del("absent"), set("b", "3"), del("b"), del("c"), set("c", "4")}))
	wantAll(t, st, map[string]string{"a": "2", "c": "4"})
}

func testCommitIsWhole(t *testing.T, _ Backend, st store.Store) {
	noError(t, st.Commit([]store.Write{set("a", "1")}))
	isError(t, st.Commit([]store.Write{set("a", "2"), set("b", "2"), set("", "2")}), store.ErrEmptyKey)
	wantAll(t, st, map[string]string{"a": "1"})
}

func testLimits(t *testing.T, _ Backend, st store.Store) {
	key, value := bytes.Repeat([]byte{'k'}, store.KeyBytesMax+1), make([]byte, store.ValueBytesMax+1)
	noError(t, st.Commit([]store.Write{{Key: key[1:], Value: value[1:]}}))
	if got := must(st.Get(key[1:]))(t); len(got) != store.ValueBytesMax {
		t.Fatalf("the largest value reads as %d bytes", len(got))
	}
	isError(t, st.Commit([]store.Write{{Key: key}}), store.ErrTooLarge)
	isError(t, st.Commit([]store.Write{{Key: key[1:], Value: value}}), store.ErrTooLarge)
	var many []store.Write
	for range store.CommitBytesMax / store.ValueBytesMax {
		many = append(many, store.Write{Key: key[1:], Value: value[1:]})
	}
	isError(t, st.Commit(many), store.ErrTooLarge)
	noError(t, st.Commit([]store.Write{{Key: key[1:], Delete: true}}))
	wantAll(t, st, map[string]string{})
}

func testIteratorBounds(t *testing.T, _ Backend, st store.Store) {
	noError(t, st.Commit([]store.Write{set("\x00", "0"), set("b", "1"), set("b\x00", "2"), set("d", "3"), set("\xff\xff", "4")}))
	for _, test := range []struct {
		lower, upper []byte
		want         string
	}{
		{nil, nil, "01234"},
		{[]byte{}, nil, "01234"},
		{[]byte("b"), nil, "1234"},
		{[]byte("a"), []byte("c"), "12"},
		{[]byte("b\x00"), []byte("d"), "2"},
		{nil, []byte("b"), "0"},
		{nil, []byte{}, ""},
		{[]byte("b"), []byte("b"), ""},
		{[]byte("d"), []byte("b"), ""},
		{[]byte("e"), []byte("f"), ""},
		{[]byte("\xff\xff\x00"), nil, ""},
	} {
		it := must(st.Iter(test.lower, test.upper))(t)
		forward, backward := "", ""
		for ok := it.First(); ok; ok = it.Next() {
			forward += string(it.Value())
		}
		for ok := it.Last(); ok; ok = it.Prev() {
			backward = string(it.Value()) + backward
		}
		seek := ""
		for ok := it.SeekGE(nil); ok; ok = it.SeekGE(append(bytes.Clone(it.Key()), 0)) {
			seek += string(it.Value())
		}
		noError(t, it.Err())
		noError(t, it.Close())
		if forward != test.want || backward != test.want || seek != test.want {
			t.Fatalf("[%q, %q): forward %q, backward %q, seeking %q, want %q", test.lower, test.upper, forward, backward, seek, test.want)
		}
	}
}

func testIteratorOff(t *testing.T, _ Backend, st store.Store) {
	noError(t, st.Commit([]store.Write{set("a", "1"), set("b", "2"), set("c", "3")}))
	lower := []byte("a")
	it := must(st.Iter(lower, []byte("c")))(t)
	lower[0] = 'z' // the bounds are ours again
	off := func(what string, moved bool) {
		t.Helper()
		if moved || it.Key() != nil || it.Value() != nil || it.Next() || it.Prev() {
			t.Fatalf("%s: the iterator stands on %q", what, it.Key())
		}
	}
	off("before the first move", false)
	it.Last()
	off("past the end", it.Next())
	it.First()
	off("before the start", it.Prev())
	off("sought beyond", it.SeekGE([]byte("c")))
	if !it.SeekGE([]byte("aa")) || string(it.Key()) != "b" || !it.Prev() || string(it.Key()) != "a" {
		t.Fatalf("seeking and stepping back ends on %q, want a", it.Key())
	}
	noError(t, it.Err())
	noError(t, it.Close())
	off("closed", it.First() || it.Last() || it.SeekGE(nil))
	isError(t, it.Err(), store.ErrClosed)
	isError(t, it.Close(), store.ErrClosed)
}

func testSnapshot(t *testing.T, _ Backend, st store.Store) {
	noError(t, st.Commit([]store.Write{set("a", "1"), set("b", "1")}))
	snap := must(st.Snapshot())(t)
	it := must(st.Iter(nil, nil))(t)
	noError(t, st.Commit([]store.Write{set("a", "2"), del("b"), set("c", "2")}))
	noError(t, st.Sync())
	old, now := map[string]string{"a": "1", "b": "1"}, map[string]string{"a": "2", "c": "2"}
	wantAll(t, snap, old)
	wantAll(t, st, now)
	_, err := snap.Get([]byte("c"))
	isError(t, err, store.ErrNotFound)
	seen := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		seen[string(it.Key())] = string(it.Value())
	}
	if !maps.Equal(seen, old) {
		t.Fatalf("an iterator sees %v, which was %v when it was made", seen, old)
	}
	isError(t, st.Close(), store.ErrInUse)
	noError(t, it.Close())
	isError(t, st.Close(), store.ErrInUse)

	late := must(snap.Iter(nil, nil))(t)
	noError(t, snap.Close())
	if !late.First() || string(late.Value()) != "1" {
		t.Fatalf("an iterator does not outlive the snapshot it was made from")
	}
	noError(t, late.Close())
	_, err = snap.Get([]byte("a"))
	isError(t, err, store.ErrClosed)
	_, err = snap.Iter(nil, nil)
	isError(t, err, store.ErrClosed)
	isError(t, snap.Close(), store.ErrClosed)
	wantAll(t, st, now)
}

func testCheckpoint(t *testing.T, b Backend, st store.Store) {
	want := map[string]string{}
	var writes []store.Write
	for i := range 3000 { // enough for several files where there are files
		key, value := fmt.Sprintf("key-%04d", i), fmt.Sprintf("%0400d", i)
		want[key] = value
		writes = append(writes, set(key, value))
	}
	noError(t, st.Commit(writes))
	dir := b.NewDir()
	noError(t, st.Checkpoint(dir))
	if err := st.Checkpoint(dir); err == nil {
		t.Fatalf("a second checkpoint into the same directory went through")
	}
	noError(t, st.Commit([]store.Write{set("later", "1"), del("key-0000")}))
	copied := must(b.OpenCheckpoint(dir))(t)
	wantAll(t, copied, want)
	noError(t, copied.Commit([]store.Write{set("other", "1")}))
	if _, err := st.Get([]byte("other")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a write to the checkpoint shows in the store: %v", err)
	}
	noError(t, copied.Close())

	empty := must(b.Open())(t)
	dir = b.NewDir()
	noError(t, empty.Checkpoint(dir))
	noError(t, empty.Close())
	copied = must(b.OpenCheckpoint(dir))(t)
	wantAll(t, copied, map[string]string{})
	noError(t, copied.Close())
}

// testConcurrentReaders commits pairs of equal values while others read: no reader may see half a commit.
func testConcurrentReaders(t *testing.T, _ Backend, st store.Store) {
	const rounds, readers = 300, 4
	noError(t, st.Commit([]store.Write{set("a", "0"), set("b", "0")}))
	errs, stop := make(chan error, readers), make(chan struct{})
	for range readers {
		go func() {
			for {
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
				if err := readPair(st); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for i := range rounds {
		v := fmt.Sprint(i + 1)
		noError(t, st.Commit([]store.Write{set("a", v), set("b", v)}))
	}
	close(stop)
	for range readers {
		noError(t, <-errs)
	}
}

func readPair(st store.Store) error {
	snap, err := st.Snapshot()
	if err != nil {
		return err
	}
	a, err := snap.Get([]byte("a"))
	if err != nil {
		return err
	}
	b, err := snap.Get([]byte("b"))
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("a snapshot holds a=%s and b=%s", a, b)
	}
	return snap.Close()
}

func testClosed(t *testing.T, b Backend) {
	st := must(b.Open())(t)
	noError(t, st.Commit([]store.Write{set("a", "1")}))
	noError(t, st.Close())
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"Get", func() error { _, err := st.Get([]byte("a")); return err }},
		{"Iter", func() error { _, err := st.Iter(nil, nil); return err }},
		{"Commit", func() error { return st.Commit([]store.Write{set("a", "1")}) }},
		{"empty Commit", func() error { return st.Commit(nil) }},
		{"Sync", st.Sync},
		{"Snapshot", func() error { _, err := st.Snapshot(); return err }},
		{"Checkpoint", func() error { return st.Checkpoint(b.NewDir()) }},
		{"Close", st.Close},
	} {
		t.Run(call.name, func(t *testing.T) { isError(t, call.do(), store.ErrClosed) })
	}
}
