package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/store"
)

// layer is a Txn and what it should read, all layers below included.
type layer struct {
	txn   *store.Txn
	state map[string]string
	wrote map[string]bool
}

// TestTxnModel nests overlays at random and compares all reads with plain maps.
func TestTxnModel(t *testing.T) {
	merged := 0
	rapid.Check(t, func(t *rapid.T) {
		base := store.NewMemory()
		state := map[string]string{"a": "base", "c": "base"}
		for k, v := range state {
			if err := base.Commit([]store.Write{{Key: []byte(k), Value: []byte(v)}}); err != nil {
				t.Fatal(err)
			}
		}
		stack := []*layer{{store.NewTxn(base), maps.Clone(state), map[string]bool{}}}
		top := func() *layer { return stack[len(stack)-1] }
		below := func() map[string]string {
			if len(stack) == 1 {
				return state
			}
			return stack[len(stack)-2].state
		}
		key := func(t *rapid.T) string { return rapid.StringMatching(`[a-e]{1,2}`).Draw(t, "key") }
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, v := key(t), rapid.StringN(0, 40, 100).Draw(t, "value")
				b := []byte(v)
				top().txn.Set([]byte(k), b)
				clear(b)
				top().state[k], top().wrote[k] = v, true
			},
			"delete": func(t *rapid.T) {
				k := key(t)
				top().txn.Delete([]byte(k))
				delete(top().state, k)
				top().wrote[k] = true
			},
			"child": func(*rapid.T) {
				stack = append(stack, &layer{top().txn.Child(), maps.Clone(top().state), map[string]bool{}})
			},
			"merge": func(*rapid.T) {
				if len(stack) == 1 {
					return
				}
				child := top()
				child.txn.Merge()
				stack = stack[:len(stack)-1]
				top().state = child.state
				maps.Copy(top().wrote, child.wrote)
				merged++
			},
			"reset": func(*rapid.T) {
				top().txn.Reset()
				top().state, top().wrote = maps.Clone(below()), map[string]bool{}
			},
			"": func(t *rapid.T) {
				for _, l := range stack {
					checkLayer(t, l)
				}
			},
		})
		for len(stack) > 1 {
			child := top()
			child.txn.Merge()
			stack = stack[:len(stack)-1]
			top().state = child.state
		}
		if err := base.Commit(top().txn.Writes()); err != nil {
			t.Fatal(err)
		}
		for k, v := range top().state {
			if got, err := base.Get([]byte(k)); err != nil || string(got) != v {
				t.Fatalf("after the commit %q is %q, %v, want %q", k, got, err, v)
			}
		}
	})
	if merged == 0 {
		t.Fatal("no run merged")
	}
}

func checkLayer(t *rapid.T, l *layer) {
	for _, k := range []string{"a", "b", "c", "d", "e", "aa", "ab", "ba"} {
		got, err := l.txn.Get([]byte(k))
		want, ok := l.state[k]
		if ok != (err == nil) || string(got) != want || err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("Get(%q) = %q, %v, want %q, %v", k, got, err, want, ok)
		}
		for i := range got {
			got[i] = '!' // ours
		}
	}
	writes := l.txn.Writes()
	if len(writes) != len(l.wrote) || l.txn.Len() != len(l.wrote) {
		t.Fatalf("%d writes, Len %d, want %d", len(writes), l.txn.Len(), len(l.wrote))
	}
	if !slices.IsSortedFunc(writes, func(a, b store.Write) int { return bytes.Compare(a.Key, b.Key) }) {
		t.Fatalf("writes are not sorted: %v", writes)
	}
	for _, w := range writes {
		if v, ok := l.state[string(w.Key)]; w.Delete == ok || string(w.Value) != v {
			t.Fatalf("write of %q is %q delete=%v, want %q", w.Key, w.Value, w.Delete, v)
		}
	}
}

// TestTxnKeepsWhatItHandedOut: until the outermost Txn is reset, no later write shows in what was handed out.
func TestTxnKeepsWhatItHandedOut(t *testing.T) {
	txn := store.NewTxn(store.NewMemory())
	child := txn.Child()
	for range 3 {
		txn.Set([]byte("a"), []byte("first"))
		writes := slices.Clone(txn.Writes())
		for i := range 10_000 {
			child.Set([]byte("a"), fmt.Appendf(nil, "value %d", i))
			child.Set(fmt.Appendf(nil, "b%d", i), make([]byte, 100))
			if i%2 == 0 {
				child.Reset()
			} else {
				child.Merge()
			}
		}
		if string(writes[0].Value) != "first" {
			t.Fatalf("a write changed to %q", writes[0].Value)
		}
		_ = append(writes[0].Value, "overrun"...)
		if got, _ := txn.Get([]byte("a")); string(got) != "value 9999" || txn.Len() != 5001 {
			t.Fatalf("a value is %q after another was appended to, of %d", got, txn.Len())
		}
		txn.Reset()
		if got, err := txn.Get([]byte("a")); !errors.Is(err, store.ErrNotFound) || txn.Len() != 0 || len(txn.Writes()) != 0 {
			t.Fatalf("after Reset: %q, %v", got, err)
		}
	}
}

// TestTxnOrder holds the order of Writes against bytes.Compare, for keys that agree in much or end where others go on with zeros,
// and for Txns that were large before and small again.
func TestTxnOrder(t *testing.T) {
	longest := 0
	rapid.Check(t, func(t *rapid.T) {
		txn := store.NewTxn(store.NewMemory())
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			keys := map[string]bool{}
			for range rapid.SampledFrom([]int{0, 1, 12, 13, 14, 300}).Draw(t, "keys") {
				k := rapid.SampledFrom([]string{"", "S", "Ssession/", "Ssession/0123456789abcdef", "T\x00", "\xff"}).Draw(t, "start") +
					rapid.StringMatching(`[\x00a]{0,20}`).Draw(t, "rest")
				keys[k] = true
				txn.Set([]byte(k), nil)
			}
			want := slices.Sorted(maps.Keys(keys))
			got := txn.Writes()
			longest = max(longest, len(got))
			if !slices.EqualFunc(got, want, func(w store.Write, k string) bool { return string(w.Key) == k }) {
				t.Fatalf("%d writes out of order, or not those of %q", len(got), want)
			}
			txn.Reset()
		}
	})
	if longest < 100 {
		t.Fatalf("the longest list had %d writes", longest)
	}
}

// TestTxnScan holds Scan of two overlays over a store against a map.
func TestTxnScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := store.NewMemory()
		parent := store.NewTxn(base)
		child := parent.Child()
		key := rapid.StringMatching("[ab]{1,3}")
		want := map[string]string{}
		for i, txn := range []*store.Txn{nil, parent, child} {
			for range rapid.IntRange(0, 8).Draw(t, "writes") {
				k, v := key.Draw(t, "key"), fmt.Sprint(i, len(want))
				w := store.Write{Key: []byte(k), Value: []byte(v), Delete: rapid.IntRange(0, 3).Draw(t, "deletes") == 0}
				if want[k] = v; w.Delete {
					delete(want, k)
				}
				switch {
				case txn == nil:
					if err := base.Commit([]store.Write{w}); err != nil {
						t.Fatal(err)
					}
				case w.Delete:
					txn.Delete(w.Key)
				default:
					txn.Set(w.Key, w.Value)
				}
			}
		}
		lower, upper := key.Draw(t, "lower"), key.Draw(t, "upper")
		var wanted, got []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if lower <= k && k < upper {
				wanted = append(wanted, k+"="+want[k])
			}
		}
		scan := func(visit func(k, v []byte) error) error {
			return child.Scan(base, []byte(lower), []byte(upper), visit)
		}
		if err := scan(func(k, v []byte) error { got = append(got, string(k)+"="+string(v)); return nil }); err != nil || !slices.Equal(got, wanted) {
			t.Fatalf("visited %q, want %q: %v", got, wanted, err)
		}
		stop := errors.New("stop")
		if err := scan(func([]byte, []byte) error { return stop }); errors.Is(err, stop) != (len(wanted) > 0) {
			t.Fatalf("the visitor's error: %v of %d keys", err, len(wanted))
		}
		if err := base.Close(); err != nil { // no iterator was left open
			t.Fatal(err)
		}
	})
}

func TestTxnPassesOnErrors(t *testing.T) {
	base := store.NewMemory()
	txn := store.NewTxn(base).Child()
	if err := base.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := txn.Get([]byte("a")); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("error is %v, want %v", err, store.ErrClosed)
	}
}

// FuzzTxnOrder cuts its input into keys where a byte says so, and holds the order of Writes against bytes.Compare.
func FuzzTxnOrder(f *testing.F) {
	f.Add([]byte(""), byte(0))
	f.Add([]byte("Ssession/a,Ssession/a\x00,Ssession/ab,S,T,Ssession/a\x00\x00\x00\x00\x00\x00\x00\x00"), byte(','))
	f.Add(bytes.Repeat([]byte("12345678\x00"), 40), byte('8'))
	f.Fuzz(func(t *testing.T, input []byte, between byte) {
		txn := store.NewTxn(store.NewMemory())
		keys := map[string]bool{}
		for key := range bytes.SplitSeq(input, []byte{between}) {
			keys[string(key)] = true
			txn.Set(key, key)
		}
		want := slices.Sorted(maps.Keys(keys))
		if got := txn.Writes(); !slices.EqualFunc(got, want, func(w store.Write, k string) bool { return string(w.Key) == k && string(w.Value) == k }) {
			t.Fatalf("%d writes out of order, or not those of %q", len(got), want)
		}
	})
}

func TestTxnMergeWithoutParent(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("Merge of a Txn without a parent did not panic")
		}
	}()
	store.NewTxn(store.NewMemory()).Merge()
}

// BenchmarkTxn does what one proof does: a dozen reads and writes in a child, merged into the batch's overlay.
func BenchmarkTxn(b *testing.B) {
	const writesPerProof, proofsPerBatch = 12, 512
	txn := store.NewTxn(store.NewMemory())
	child := txn.Child()
	var key [33]byte
	value := make([]byte, 200)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for i := range writesPerProof {
			binary.BigEndian.PutUint64(key[:], uint64(n)*writesPerProof+uint64(i))
			if _, err := child.Get(key[:]); !errors.Is(err, store.ErrNotFound) {
				b.Fatal(err)
			}
			child.Set(key[:], value)
		}
		child.Merge()
		if n++; n%proofsPerBatch == 0 {
			txn.Reset()
		}
	}
}
