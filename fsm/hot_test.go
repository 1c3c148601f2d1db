package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/store"
)

// counted counts reads that reach the store.
type counted struct {
	store.Getter
	reads int
}

func (c *counted) Get(key []byte) ([]byte, error) {
	c.reads++
	return c.Getter.Get(key)
}

// TestHotIsExact reads and commits at random, more keys than it holds, and compares with the store.
func TestHotIsExact(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	st := store.NewMemory()
	under := &counted{Getter: st}
	h := newHot(under)
	h.tree.max = 100 // few of the reads are for nodes of the tree
	const keys, rounds = 3 * hotRecordsMax, 60_000
	reads, misses := 0, 0
	key := func() []byte {
		n := r.IntN(keys)
		if r.IntN(2) == 0 {
			n = r.IntN(100) // some are used more than others
		}
		prefix := byte(keyState)
		if r.IntN(10) == 0 {
			prefix = keyNode
		} else if r.IntN(10) == 0 {
			prefix = prefixtree.KeyPrefix
		}
		return fmt.Appendf([]byte{prefix}, "%d", n)
	}
	for range rounds {
		var writes []store.Write
		for range r.IntN(4) {
			w := store.Write{Key: key(), Value: fmt.Appendf(nil, "%d", r.Uint32()), Delete: r.IntN(5) == 0}
			writes = append(writes, w)
		}
		if err := st.Commit(writes); err != nil {
			t.Fatal(err)
		}
		h.committed(writes)
		if len(h.state.young) > hotRecordsMax || len(h.state.old) > hotRecordsMax {
			t.Fatalf("it holds %d and %d records", len(h.state.young), len(h.state.old))
		}
		if len(h.tree.young) > h.tree.max || len(h.tree.old) > h.tree.max {
			t.Fatalf("it holds %d and %d nodes", len(h.tree.young), len(h.tree.old))
		}
		k := key()
		want, wantErr := st.Get(k)
		got, err := h.Get(k)
		if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
			t.Fatalf("%s is %q, %v; the store has %q, %v", k, got, err, want, wantErr)
		}
		for i := range got {
			got[i] ^= 0xff // what is returned is the caller's
		}
		reads++
		if errors.Is(err, store.ErrNotFound) {
			misses++
		}
	}
	if under.reads > reads*3/4 || misses == 0 || len(h.state.old) == 0 || len(h.tree.old) == 0 {
		t.Errorf("of %d reads, %d for nothing, %d reached the store; %d records are old", reads, misses, under.reads, len(h.state.old))
	}
}

// TestHotIsBoundedInBytes: large records, written again and deleted too, are counted as what they are.
func TestHotIsBoundedInBytes(t *testing.T) {
	const recordBytes = 64 << 10
	h := newHot(store.NewMemory())
	bytesOf := func(m map[string][]byte) (n int) {
		for k, v := range m {
			n += len(k) + len(v)
		}
		return n
	}
	turned := false
	for i := range 3000 {
		key := fmt.Appendf([]byte{keyState}, "%d", i%700)
		h.committed([]store.Write{{Key: key, Value: make([]byte, recordBytes+i), Delete: i%7 == 0}})
		if got := bytesOf(h.state.young); got != h.state.bytes {
			t.Fatalf("%d bytes are held, %d counted", got, h.state.bytes)
		}
		turned = turned || len(h.state.old) > 0
		if h.state.bytes > hotBytesMax+2*recordBytes || bytesOf(h.state.old) > hotBytesMax+2*recordBytes {
			t.Fatalf("%d and %d bytes are held", h.state.bytes, bytesOf(h.state.old))
		}
	}
	if !turned {
		t.Error("nothing grew old")
	}
}
