package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/storetest"
)

func TestMemoryConforms(t *testing.T) {
	dir, made := t.TempDir(), 0
	newDir := func() string { made++; return filepath.Join(dir, fmt.Sprint(made)) }
	open := func(dir string) (store.Store, error) { return store.OpenMemory(dir) }
	storetest.Run(t, storetest.Backend{
		Open: func() (store.Store, error) { return store.NewMemory(), nil },
		Reopen: func(st store.Store) (store.Store, error) {
			dir := newDir()
			if err := st.Checkpoint(dir); err != nil {
				return nil, err
			}
			if err := st.Close(); err != nil {
				return nil, err
			}
			return open(dir)
		},
		OpenCheckpoint: open,
		NewDir:         newDir,
	})
}

// checkpointOf returns the bytes of a small store's checkpoint.
func checkpointOf(tb testing.TB) []byte {
	tb.Helper()
	m := store.NewMemory()
	if err := m.Commit([]store.Write{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2")}}); err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(tb.TempDir(), "checkpoint")
	if err := m.Checkpoint(dir); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "memory.cbor"))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func openBytes(tb testing.TB, b []byte) (*store.Memory, error) {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "memory.cbor"), b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return store.OpenMemory(dir)
}

func TestOpenMemoryRefuses(t *testing.T) {
	good := checkpointOf(t)
	if _, err := openBytes(t, good); err != nil {
		t.Fatalf("the unchanged file: %v", err)
	}
	head := bytes.IndexByte(good, 0x82) // the first record
	for _, test := range []struct {
		name, want string
		file       []byte
	}{
		{"empty", "EOF", nil},
		{"other format", "format", bytes.Replace(good, []byte("bizra"), []byte("pizza"), 1)},
		{"other version", "version 2", append(append(bytes.Clone(good[:head-2]), 2), good[head-1:]...)},
		{"cut", "record 1", good[:len(good)-1]},
		{"more", "follows", append(bytes.Clone(good), 0)},
		{"more than a few", "follows", append(bytes.Clone(good), good...)},
		{"out of order", "does not come after", bytes.Replace(good, []byte("Ab"), []byte("Aa"), 1)},
		{"empty key", "empty key", append(bytes.Clone(good[:head]), 0x82, 0x40, 0x40)},
		{"record of three", "record 0", append(bytes.Clone(good[:head]), 0x83, 0x41, 'a', 0x40, 0x40)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openBytes(t, test.file)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := store.OpenMemory(t.TempDir()); err == nil {
		t.Fatal("a directory without a checkpoint opens")
	}
}

func FuzzOpenMemory(f *testing.F) {
	good := checkpointOf(f)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{0x83, 0x60, 0x01, 0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(append(bytes.Clone(good[:len(good)-6]), 0x82, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := openBytes(t, b)
		if err != nil {
			return
		}
		dir := filepath.Join(t.TempDir(), "again")
		if err := m.Checkpoint(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := store.OpenMemory(dir); err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
	})
}
