package pebblestore_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

// TestLargeValuesApart: values of 512 bytes and more leave the memtables for files of their own, from where a checkpoint, the
// store opened again and the store after overwriting and deleting read them; those below stay in tables.
func TestLargeValuesApart(t *testing.T) {
	for _, test := range []struct {
		size  int
		apart bool
	}{{511, false}, {512, true}, {65_535, true}} {
		dir := filepath.Join(t.TempDir(), "state")
		opts := pebblestore.Options{Logger: quiet(), MemTableBytes: 1 << 20}
		st, err := pebblestore.Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		count := uint64(8<<20/test.size + 1) // several memtables
		large := func(n, version uint64) []byte {
			return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{byte(n)}, test.size-8), version)
		}
		version := func(n uint64) uint64 { return n % 3 } // 1: overwritten, 2: deleted
		for round := range uint64(3) {
			for n := range count {
				write := store.Write{Key: key(n), Value: large(n, round), Delete: round == 2}
				if round > version(n) || round == 1 && version(n) == 2 {
					continue
				}
				if err := st.Commit([]store.Write{write}); err != nil {
					t.Fatal(err)
				}
			}
		}
		check := func(what string, r store.Reader) {
			t.Helper()
			it, err := r.Iter(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := uint64(0)
			for ok := it.First(); ok; ok = it.Next() {
				n := binary.BigEndian.Uint64(it.Key()[1:]) * 0xf1de83e19937733d // undoes key
				if !bytes.Equal(it.Value(), large(n, version(n))) || version(n) == 2 {
					t.Fatalf("%s: key %d has %d bytes, version %d", what, n, len(it.Value()), version(n))
				}
				found++
			}
			if err := it.Err(); err != nil || found != count-count/3 {
				t.Fatalf("%s: %d keys of %d, %v", what, found, count-count/3, err)
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
		}
		check("as written", st)
		copied := filepath.Join(t.TempDir(), "checkpoint")
		if err := st.Checkpoint(copied); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{dir, copied} {
			if st, err = pebblestore.Open(at, opts); err != nil {
				t.Fatal(err)
			}
			check(filepath.Base(at), st)
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if blobs, err := filepath.Glob(filepath.Join(at, "*.blob")); err != nil || len(blobs) > 0 != test.apart {
				t.Fatalf("values of %d bytes in %s: files %v, %v", test.size, filepath.Base(at), blobs, err)
			}
		}
	}
}
