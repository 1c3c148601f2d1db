package ledger_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

// mth, path, proof and subproof are RFC 6962 §2.1, word for word and without any cleverness.
func mth(d [][]byte) ledger.Hash {
	switch len(d) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	}
	k := split(len(d))
	left, right := mth(d[:k]), mth(d[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// split is the largest power of two smaller than n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func path(m int, d [][]byte) []ledger.Hash {
	if len(d) == 1 {
		return nil
	}
	k := split(len(d))
	if m < k {
		return append(path(m, d[:k]), mth(d[k:]))
	}
	return append(path(m-k, d[k:]), mth(d[:k]))
}

func proof(m int, d [][]byte) []ledger.Hash { return subproof(m, d, true) }

func subproof(m int, d [][]byte, complete bool) []ledger.Hash {
	switch n := len(d); {
	case m == n && complete:
		return nil
	case m == n:
		return []ledger.Hash{mth(d)}
	}
	k := split(len(d))
	if m <= k {
		return append(subproof(m, d[:k], complete), mth(d[k:]))
	}
	return append(subproof(m-k, d[k:], false), mth(d[:k]))
}

// entry i, what Append gets with it, and what describe finds in it again.
func entryOf(i int64) []byte { return fmt.Appendf(nil, "entry %d", i) }

func appendedOf(i int64) ledger.Appended {
	e := ledger.Appended{Data: entryOf(i)}
	if i%5 != 4 { // some entries are no proofs
		digest := sha256.Sum256(e.Data)
		e.Digest, e.EnvelopeID = &digest, fmt.Sprintf("id-%d", i/3)
	}
	return e
}

func describe(i int64, entry []byte) (ledger.Appended, error) {
	if want := entryOf(i); string(entry) != string(want) {
		return ledger.Appended{}, fmt.Errorf("is %q, want %q", entry, want)
	}
	return appendedOf(i), nil
}

// build returns a store with a ledger of n entries, committed in uneven batches.
func build(tb testing.TB, n int64) *store.Memory {
	tb.Helper()
	st := store.NewMemory()
	log, err := ledger.Open(st)
	if err != nil {
		tb.Fatal(err)
	}
	txn := store.NewTxn(st)
	for i := range n {
		if _, err := log.Append(txn, appendedOf(i)); err != nil {
			tb.Fatal(err)
		}
		if i%7 == 3 || i == n-1 {
			if err := st.Commit(txn.Writes()); err != nil {
				tb.Fatal(err)
			}
			txn.Reset()
		}
	}
	return st
}

func entries(n int64) (d [][]byte) {
	for i := range n {
		d = append(d, entryOf(i))
	}
	return d
}

// TestCertificateTransparencyVectors appends the leaves of the certificate-transparency project's reference tests
// (merkletree/merkle_tree_test.cc) and compares the roots given there.
func TestCertificateTransparencyVectors(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	txn := store.NewTxn(store.NewMemory())
	log, err := ledger.Open(store.NewMemory())
	if err != nil {
		t.Fatal(err)
	}
	if got := ledger.EmptyRoot(); hex.EncodeToString(got[:]) != roots[0] {
		t.Errorf("EmptyRoot is %x", got)
	}
	for i, want := range roots {
		if got, err := log.Root(); err != nil || hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %d leaves is %x, %v, want %s", i, got, err, want)
		}
		if i == len(leaves) {
			break
		}
		leaf, err := hex.DecodeString(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if index, err := log.Append(txn, ledger.Appended{Data: leaf}); err != nil || index != int64(i) {
			t.Fatalf("appending leaf %d: index %d, %v", i, index, err)
		}
	}
}

func TestInclusionOfAll(t *testing.T) {
	const sizeMax = 130
	view, d := ledger.View{Reader: build(t, sizeMax)}, entries(sizeMax)
	for size := int64(1); size <= sizeMax; size++ {
		root, err := view.Root(size)
		if err != nil || root != mth(d[:size]) {
			t.Fatalf("root of %d is %v, %v", size, root, err)
		}
		for index := range size {
			got, err := view.InclusionProof(index, size)
			if err != nil {
				t.Fatal(err)
			}
			if want := path(int(index), d[:size]); fmt.Sprint([]ledger.Hash(got)) != fmt.Sprint(want) {
				t.Fatalf("proof of %d in %d is %v, want %v", index, size, got, want)
			}
			leaf, err := view.LeafHash(index)
			if err != nil || leaf != ledger.LeafHash(d[index]) {
				t.Fatalf("leaf hash of %d is %v, %v", index, leaf, err)
			}
			if err := ledger.CheckInclusion(got, size, root, index, leaf); err != nil {
				t.Fatal(err)
			}
			leaf[0] ^= 1
			if err := ledger.CheckInclusion(got, size, root, index, leaf); err == nil {
				t.Fatalf("the proof of %d in %d holds for another leaf", index, size)
			}
		}
	}
}

func TestConsistencyOfAll(t *testing.T) {
	const sizeMax = 70
	view, d := ledger.View{Reader: build(t, sizeMax)}, entries(sizeMax)
	for size := range int64(sizeMax + 1) {
		for old := range size + 1 {
			got, err := view.ConsistencyProof(old, size)
			if err != nil {
				t.Fatal(err)
			}
			if old > 0 {
				if want := proof(int(old), d[:size]); fmt.Sprint([]ledger.Hash(got)) != fmt.Sprint(want) {
					t.Fatalf("proof of %d with %d is %v, want %v", old, size, got, want)
				}
			}
			root, oldRoot := mth(d[:size]), mth(d[:old])
			if err := ledger.CheckConsistency(got, size, root, old, oldRoot); err != nil {
				t.Fatal(err)
			}
			oldRoot[31] ^= 1
			if err := ledger.CheckConsistency(got, size, root, old, oldRoot); err == nil {
				t.Fatalf("the proof of %d with %d holds for another old root", old, size)
			}
			if err := ledger.CheckConsistency(append(got, ledger.Hash{}), size, root, old, mth(d[:old])); err == nil {
				t.Fatalf("the proof of %d with %d holds with one hash too many", old, size)
			}
		}
	}
}

func TestChecksRefuseWhatIsOutside(t *testing.T) {
	for _, n := range [][2]int64{{-1, 1}, {1, 1}, {5, 1}, {0, 0}, {0, -1}, {0, ledger.SizeMax + 1}, {1 << 62, 1<<63 - 1}, {0, 1<<63 - 1}} {
		if err := ledger.CheckInclusion(nil, n[1], ledger.Hash{}, n[0], ledger.Hash{}); !errors.Is(err, ledger.ErrOutOfRange) {
			t.Errorf("inclusion of %d in %d: %v", n[0], n[1], err)
		}
	}
	for _, n := range [][2]int64{{-1, 1}, {2, 1}, {0, -1}, {1, ledger.SizeMax + 1}, {1<<62 + 1, 1<<63 - 1}} {
		if err := ledger.CheckConsistency(nil, n[1], ledger.Hash{}, n[0], ledger.Hash{}); !errors.Is(err, ledger.ErrOutOfRange) {
			t.Errorf("consistency of %d with %d: %v", n[0], n[1], err)
		}
	}
	if err := ledger.CheckConsistency(nil, 0, ledger.Hash{}, 0, ledger.EmptyRoot()); err == nil {
		t.Error("an empty tree may have another root")
	}
}

func TestAppendRefuses(t *testing.T) {
	digest := sha256.Sum256([]byte("proof"))
	for _, test := range []struct {
		name string
		e    ledger.Appended
		want error
	}{
		{"largest", ledger.Appended{Data: make([]byte, ledger.EntryBytesMax)}, nil},
		{"too large", ledger.Appended{Data: make([]byte, ledger.EntryBytesMax+1)}, ledger.ErrEntryTooLarge},
		{"empty", ledger.Appended{}, nil},
		{"longest id", ledger.Appended{EnvelopeID: strings.Repeat("x", ledger.EnvelopeIDBytesMax)}, nil},
		{"id too long", ledger.Appended{EnvelopeID: strings.Repeat("x", ledger.EnvelopeIDBytesMax+1)}, ledger.ErrEnvelopeID},
		{"id with a zero byte", ledger.Appended{EnvelopeID: "a\x00b"}, ledger.ErrEnvelopeID},
		{"id again", ledger.Appended{EnvelopeID: "id"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			txn := store.NewTxn(store.NewMemory())
			log, err := ledger.Open(store.NewMemory())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := log.Append(txn, ledger.Appended{Digest: &digest, EnvelopeID: "id"}); err != nil {
				t.Fatal(err)
			}
			root, err := log.Root()
			if err != nil {
				t.Fatal(err)
			}
			writes := txn.Len()
			if _, err := log.Append(txn, test.e); !errors.Is(err, test.want) {
				t.Fatalf("error is %v, want %v", err, test.want)
			}
			after, err := log.Root()
			if err != nil {
				t.Fatal(err)
			}
			if test.want != nil && (txn.Len() != writes || log.Size() != 1 || after != root) {
				t.Fatalf("a refused entry left %d writes and size %d", txn.Len()-writes, log.Size())
			}
			if test.want == nil && log.Size() != 2 {
				t.Fatalf("size is %d", log.Size())
			}
		})
	}
}

// TestOpenPassesOnErrors demands that a store that cannot answer is not taken for one that is empty.
func TestOpenPassesOnErrors(t *testing.T) {
	st := store.NewMemory()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(st); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("opening: %v", err)
	}
}

// TestLogModel appends, drops, commits and reopens at random, beside a plain list of entries.
func TestLogModel(t *testing.T) {
	dropped := 0
	rapid.Check(t, func(t *rapid.T) {
		st := store.NewMemory()
		log, err := ledger.Open(st)
		if err != nil {
			t.Fatal(err)
		}
		var committed, all [][]byte
		txn := store.NewTxn(st)
		child := txn.Child()
		add := func(t *rapid.T) {
			mark, size := log.Mark(), log.Size()
			drop := rapid.IntRange(0, 3).Draw(t, "drop") == 0
			var some [][]byte
			for range rapid.IntRange(1, 9).Draw(t, "entries") {
				data := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "entry")
				if _, err := log.Append(child, ledger.Appended{Data: data}); err != nil {
					t.Fatal(err)
				}
				some = append(some, data)
			}
			if drop {
				child.Reset()
				log.Reset(mark)
				if log.Size() != size {
					t.Fatalf("size is %d after a drop, want %d", log.Size(), size)
				}
				dropped++
				return
			}
			child.Merge()
			all = append(all, some...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": add,
			"commit": func(t *rapid.T) {
				if err := st.Commit(txn.Writes()); err != nil {
					t.Fatal(err)
				}
				txn.Reset()
				committed = all
			},
			"reopen": func(t *rapid.T) {
				txn.Reset()
				all = committed
				if log, err = ledger.Open(st); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				root, err := log.Root()
				if err != nil || log.Size() != int64(len(all)) || root != mth(all) {
					t.Fatalf("size %d, root %v, %v; want %d entries", log.Size(), root, err, len(all))
				}
			},
		})
		if err := (ledger.View{Reader: st}).Verify(context.Background(), nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	if dropped == 0 {
		t.Fatal("no run dropped what it appended")
	}
}

func TestBigIndex(t *testing.T) {
	// A log with its right edge set up as it would be at a large size, without the entries in between: all its hashes are
	// the same, which is enough to see that indexes of that size work.
	const size = ledger.SizeMax - 3
	st := store.NewMemory()
	var writes []store.Write
	put := func(prefix byte, n int64, value []byte) {
		writes = append(writes, store.Write{Key: numberKey(prefix, n), Value: value})
	}
	last := []byte("last")
	leaf := tlog.RecordHash(last)
	for level := range 41 {
		if (size-1)>>level&1 == 1 {
			put('H', tlog.StoredHashIndex(level, (size-1)>>level-1), make([]byte, 32))
		}
	}
	put('E', size-1, last)
	put('H', tlog.StoredHashIndex(0, size-1), leaf[:])
	writes = append(writes, store.Write{Key: []byte("L"), Value: numberKey('x', size)[1:]})
	if err := st.Commit(writes); err != nil {
		t.Fatal(err)
	}
	log, err := ledger.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	txn := store.NewTxn(st)
	for i := size; i < ledger.SizeMax; i++ {
		if index, err := log.Append(txn, appendedOf(i)); err != nil || index != i {
			t.Fatalf("index %d, %v, want %d", index, err, i)
		}
	}
	if _, err := log.Append(txn, ledger.Appended{}); !errors.Is(err, ledger.ErrFull) {
		t.Fatalf("appending to a full ledger: %v", err)
	}
	root, err := log.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Commit(txn.Writes()); err != nil {
		t.Fatal(err)
	}
	view := ledger.View{Reader: st}
	if again, err := view.Root(ledger.SizeMax); err != nil || again != root {
		t.Fatalf("the stored root is %v, %v, want %v", again, err, root)
	}
	if log, err = ledger.Open(st); err != nil || log.Size() != ledger.SizeMax {
		t.Fatalf("opening a full ledger: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	const entryBytes, batch = 1200, 512
	txn := store.NewTxn(store.NewMemory())
	log, err := ledger.Open(store.NewMemory())
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, entryBytes)
	var digest [32]byte
	b.ReportAllocs()
	b.SetBytes(entryBytes)
	n := int64(0)
	for b.Loop() {
		n++
		copy(digest[:], numberKey(0, n))
		if _, err := log.Append(txn, ledger.Appended{Data: data, Digest: &digest, EnvelopeID: "123e4567-e89b-12d3-a456-426614174000"}); err != nil {
			b.Fatal(err)
		}
		if n%batch == 0 {
			txn.Reset()
		}
	}
}
