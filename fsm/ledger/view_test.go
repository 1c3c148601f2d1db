package ledger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

func numberKey(prefix byte, n int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, uint64(n))
}

func TestViewReads(t *testing.T) {
	const size = 100
	st := build(t, size)
	view := ledger.View{Reader: st}
	if n, err := view.Size(); err != nil || n != size {
		t.Fatalf("size is %d, %v", n, err)
	}
	for i := range int64(size) {
		e := appendedOf(i)
		if b, err := view.Entry(i); err != nil || !bytes.Equal(b, e.Data) {
			t.Fatalf("entry %d is %q, %v", i, b, err)
		}
		if e.Digest == nil {
			continue
		}
		if at, err := view.IndexByDigest(*e.Digest); err != nil || at != i {
			t.Fatalf("digest of %d points to %d, %v", i, at, err)
		}
		newest := i/3*3 + 2 // ids are shared by three
		for newest >= size || appendedOf(newest).Digest == nil {
			newest--
		}
		if at, err := view.IndexByEnvelopeID(e.EnvelopeID); err != nil || at != newest {
			t.Fatalf("id of %d points to %d, %v, want %d", i, at, err, newest)
		}
	}
	if _, err := view.IndexByDigest(sha256.Sum256(nil)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown digest: %v", err)
	}
	for _, id := range []string{"", "id", "id-", "id-1\x00", "id-1\x00\x00", strings.Repeat("x", 65)} {
		if _, err := view.IndexByEnvelopeID(id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("unknown id %q: %v", id, err)
		}
	}
}

func TestViewRefusesWhatIsOutside(t *testing.T) {
	view := ledger.View{Reader: build(t, 10)}
	for name, err := range map[string]error{
		"entry -1":                err1(view.Entry(-1)),
		"entry 10":                err1(view.Entry(10)),
		"entries from -1":         err1(view.Entries(-1, 5, 1)),
		"entries from 11":         err1(view.Entries(11, 12, 1)),
		"leaf hash 10":            err1(view.LeafHash(10)),
		"leaf hash -1":            err1(view.LeafHash(-1)),
		"leaf hash 2^63-1":        err1(view.LeafHash(1<<63 - 1)),
		"root of 11":              err1(view.Root(11)),
		"root of -1":              err1(view.Root(-1)),
		"inclusion of 5 in 5":     err1(view.InclusionProof(5, 5)),
		"inclusion of -1 in 5":    err1(view.InclusionProof(-1, 5)),
		"inclusion of 5 in 11":    err1(view.InclusionProof(5, 11)),
		"consistency of 6 with 5": err1(view.ConsistencyProof(6, 5)),
		"consistency with 11":     err1(view.ConsistencyProof(6, 11)),
		"consistency of -1":       err1(view.ConsistencyProof(-1, 5)),
		"tile of no width":        err1(view.Tile(tlog.Tile{H: 2, L: 0, N: 0, W: 0})),
		"tile too wide":           err1(view.Tile(tlog.Tile{H: 2, L: 0, N: 0, W: 5})),
		"tile not yet filled":     err1(view.Tile(tlog.Tile{H: 2, L: 0, N: 2, W: 3})),
		"tile beyond":             err1(view.Tile(tlog.Tile{H: 2, L: 0, N: 3, W: 1})),
		"tile far beyond":         err1(view.Tile(tlog.Tile{H: 2, L: 0, N: 1<<63 - 1, W: 1})),
		"tile of data":            err1(view.Tile(tlog.Tile{H: 2, L: -1, N: 0, W: 1})),
		"tile of a high level":    err1(view.Tile(tlog.Tile{H: 2, L: 63, N: 0, W: 1})),
		"tile of height 0":        err1(view.Tile(tlog.Tile{H: 0, L: 0, N: 0, W: 1})),
		"tile of height 30":       err1(view.Tile(tlog.Tile{H: 30, L: 0, N: 0, W: 1})),
	} {
		if !errors.Is(err, ledger.ErrOutOfRange) {
			t.Errorf("%s: %v, want %v", name, err, ledger.ErrOutOfRange)
		}
	}
}

func err1[T any](_ T, err error) error { return err }

func TestEntries(t *testing.T) {
	view := ledger.View{Reader: build(t, 20)} // entries 0 to 9 have 7 bytes, the others 8
	for _, test := range []struct {
		from, to  int64
		bytesMax  int
		last, num int64
	}{
		{0, 20, 1 << 20, 19, 20},
		{0, 1000, 1 << 20, 19, 20},
		{3, 5, 1 << 20, 4, 2},
		{3, 9, 21, 5, 3},
		{3, 9, 20, 4, 2},
		{3, 9, 7, 3, 1},
		{3, 9, 0, 3, 1},
		{3, 9, -1, 3, 1},
		{5, 5, 100, 0, 0},
		{5, 3, 100, 0, 0},
		{20, 30, 100, 0, 0},
	} {
		got, err := view.Entries(test.from, test.to, test.bytesMax)
		if err != nil || int64(len(got)) != test.num {
			t.Errorf("entries %d to %d, %d bytes: %d of them, %v, want %d", test.from, test.to, test.bytesMax, len(got), err, test.num)
			continue
		}
		for i, b := range got {
			if !bytes.Equal(b, entryOf(test.from+int64(i))) {
				t.Errorf("entries %d to %d: number %d is %q", test.from, test.to, i, b)
			}
		}
	}
}

// TestReadsThroughTxn demands that the lookups that decide about a retry see what the same batch appended.
func TestReadsThroughTxn(t *testing.T) {
	st := build(t, 10)
	log, err := ledger.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	txn := store.NewTxn(st)
	child := txn.Child()
	e := appendedOf(10)
	if _, err := log.Append(child, e); err != nil {
		t.Fatal(err)
	}
	for _, g := range []store.Getter{child, txn} {
		child.Merge()
		if at, err := ledger.IndexByDigest(g, *e.Digest); err != nil || at != 10 {
			t.Fatalf("index %d, %v", at, err)
		}
		if b, err := ledger.ReadEntry(g, 10); err != nil || !bytes.Equal(b, e.Data) {
			t.Fatalf("entry %q, %v", b, err)
		}
	}
	if _, err := ledger.IndexByDigest(st, *e.Digest); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the store knows the digest before the commit: %v", err)
	}
}

// TestTiles reads all tiles as a tile client does and lets tlog's own client check them against the root.
func TestTiles(t *testing.T) {
	const size, height = 700, 3
	view := ledger.View{Reader: build(t, size)}
	root, err := view.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	reader := &tileReader{view: view, height: height}
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, reader)
	for i := range int64(size) {
		got, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, i)})
		if err != nil || got[0] != ledger.LeafHash(entryOf(i)) {
			t.Fatalf("leaf %d by tiles is %v, %v", i, got, err)
		}
	}
	if reader.tiles < size {
		t.Fatalf("only %d tiles were read", reader.tiles)
	}
}

type tileReader struct {
	view   ledger.View
	height int
	tiles  int
}

func (r *tileReader) Height() int                     { return r.height }
func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r *tileReader) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		b, err := r.view.Tile(tile)
		if err != nil {
			return nil, err
		}
		data = append(data, b)
		r.tiles++
	}
	return data, nil
}

// TestCorruption damages a sound ledger in each way and demands that Verify names the damage; where the end of the ledger is
// hit, Open must see it too.
func TestCorruption(t *testing.T) {
	const size = 50
	d7, d8 := *appendedOf(7).Digest, *appendedOf(8).Digest
	digestKey := func(d [32]byte) []byte { return append([]byte{'D'}, d[:]...) }
	idKey := func(id string, n int64) []byte { return append([]byte("I"+id), numberKey(0, n)...) }
	set := func(key, value []byte) []store.Write { return []store.Write{{Key: key, Value: value}} }
	drop := func(key []byte) []store.Write { return []store.Write{{Key: key, Delete: true}} }
	hash := func(level int, n int64) []byte { return numberKey('H', tlog.StoredHashIndex(level, n)) }
	for _, test := range []struct {
		name   string
		damage []store.Write
		part   ledger.Part
		index  int64
		blind  bool // seen without describe as well
		open   bool // seen by Open as well
	}{
		{"size too small", set([]byte("L"), numberKey(0, size-1)[1:]), ledger.PartEntry, size - 1, true, true},
		{"size too large", set([]byte("L"), numberKey(0, size+1)[1:]), ledger.PartEntry, size, true, true},
		{"size malformed", set([]byte("L"), []byte{1}), ledger.PartSize, 0, true, true},
		{"size huge", set([]byte("L"), numberKey(0, 1<<62)[1:]), ledger.PartSize, 0, true, true},
		{"size negative", set([]byte("L"), numberKey(0, -1)[1:]), ledger.PartSize, 0, true, true},
		{"no size", drop([]byte("L")), ledger.PartEntry, 0, true, true},
		{"entry changed", set(numberKey('E', 20), entryOf(21)), ledger.PartHash, 20, true, false},
		{"entry missing", drop(numberKey('E', 20)), ledger.PartEntry, 20, true, false},
		{"first entry missing", drop(numberKey('E', 0)), ledger.PartEntry, 0, true, false},
		{"last entry missing", drop(numberKey('E', size-1)), ledger.PartEntry, size - 1, true, true},
		{"last entry changed", set(numberKey('E', size-1), nil), ledger.PartHash, size - 1, true, true},
		{"entry too large", set(numberKey('E', 20), make([]byte, ledger.EntryBytesMax+1)), ledger.PartEntry, 20, true, false},
		{"entry too much", set(numberKey('E', size+5), nil), ledger.PartEntry, size, true, false},
		{"stray key among entries", set(append(numberKey('E', 20), 0), nil), ledger.PartEntry, 21, true, false},
		{"leaf hash changed", set(hash(0, 20), make([]byte, 32)), ledger.PartHash, 20, true, false},
		{"leaf hash missing", drop(hash(0, 20)), ledger.PartHash, 20, true, false},
		{"hash cut", set(hash(0, 20), make([]byte, 31)), ledger.PartHash, 20, true, false},
		{"inner hash changed", set(hash(2, 5), make([]byte, 32)), ledger.PartHash, 23, true, false},
		{"inner hash missing", drop(hash(2, 5)), ledger.PartHash, 23, true, false},
		{"last hash changed", set(hash(1, 24), make([]byte, 32)), ledger.PartHash, size - 1, true, true},
		{"edge hash missing", drop(hash(5, 0)), ledger.PartHash, 31, true, true},
		{"edge hash cut", set(hash(5, 0), nil), ledger.PartHash, 31, true, true},
		{"hash too much", set(hash(0, size), make([]byte, 32)), ledger.PartHash, size, true, true},
		{"stray key among hashes", set([]byte("H"), nil), ledger.PartHash, 0, true, false},
		{"digest missing", drop(digestKey(d7)), ledger.PartDigest, 7, false, false},
		{"digest points elsewhere", set(digestKey(d7), numberKey(0, 8)[1:]), ledger.PartDigest, 7, false, false},
		{"digest points beyond", set(digestKey(sha256.Sum256(nil)), numberKey(0, size)[1:]), ledger.PartDigest, size, true, false},
		{"digest malformed", set(digestKey(d8), nil), ledger.PartDigest, -1, true, false},
		{"digest key malformed", set([]byte("Dx"), numberKey(0, 8)[1:]), ledger.PartDigest, -1, true, false},
		{"digest too much", set(digestKey(sha256.Sum256(nil)), numberKey(0, 8)[1:]), ledger.PartDigest, 8, false, false},
		{"digest for what has none", set(digestKey(sha256.Sum256(nil)), numberKey(0, 4)[1:]), ledger.PartDigest, 4, false, false},
		{"id missing", drop(idKey("id-2", 8)), ledger.PartEnvelopeID, 8, false, false},
		{"id too much", set(idKey("id-x", 8), nil), ledger.PartEnvelopeID, 8, false, false},
		{"id for what has none", set(idKey("id-1", 4), nil), ledger.PartEnvelopeID, 4, false, false},
		{"id points beyond", set(idKey("id-x", size), nil), ledger.PartEnvelopeID, size, true, false},
		{"id points far beyond", set(idKey("id-x", -1), nil), ledger.PartEnvelopeID, -1, true, false},
		{"id key malformed", set([]byte("Iid-x"), nil), ledger.PartEnvelopeID, -1, true, false},
		{"id of no bytes", set(idKey("", 8), nil), ledger.PartEnvelopeID, -1, true, false},
		{"id with a value", set(idKey("id-2", 8), []byte{1}), ledger.PartEnvelopeID, -1, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := build(t, size)
			view := ledger.View{Reader: st}
			if err := view.Verify(t.Context(), describe, nil); err != nil {
				t.Fatalf("before the damage: %v", err)
			}
			if err := st.Commit(test.damage); err != nil {
				t.Fatal(err)
			}
			wantCorruption(t, "Verify", view.Verify(t.Context(), describe, nil), test.part, test.index)
			if err := view.Verify(t.Context(), nil, nil); test.blind {
				wantCorruption(t, "Verify without describe", err, test.part, test.index)
			} else if err != nil {
				t.Errorf("Verify without describe: %v", err)
			}
			if _, err := ledger.Open(st); test.open {
				wantCorruption(t, "Open", err, test.part, test.index)
			} else if err != nil {
				t.Errorf("Open: %v", err)
			}
			if err := st.Close(); err != nil {
				t.Errorf("an iterator was left open: %v", err)
			}
		})
	}
}

func wantCorruption(t *testing.T, who string, err error, part ledger.Part, index int64) {
	t.Helper()
	var c *ledger.Corruption
	if !errors.As(err, &c) || c.Part != part || c.Index != index {
		t.Errorf("%s: %v, want %s of entry %d", who, err, part, index)
	}
}

// TestCorruptReads demands that single reads tell damage from absence.
func TestCorruptReads(t *testing.T) {
	st := build(t, 20)
	digest := *appendedOf(7).Digest
	if err := st.Commit([]store.Write{
		{Key: numberKey('E', 5), Delete: true},
		{Key: numberKey('H', tlog.StoredHashIndex(3, 0)), Delete: true},
		{Key: append([]byte{'D'}, digest[:]...), Value: []byte("x")},
		{Key: []byte("Iid-1\x00x")},
	}); err != nil {
		t.Fatal(err)
	}
	view := ledger.View{Reader: st}
	wantCorruption(t, "Entry", err1(view.Entry(5)), ledger.PartEntry, 5)
	wantCorruption(t, "Entries", err1(view.Entries(3, 9, 1000)), ledger.PartEntry, 5)
	wantCorruption(t, "Entries to the gap", err1(view.Entries(3, 6, 1000)), ledger.PartEntry, 5)
	wantCorruption(t, "Root", err1(view.Root(9)), ledger.PartHash, 7)
	wantCorruption(t, "InclusionProof", err1(view.InclusionProof(9, 12)), ledger.PartHash, 7)
	wantCorruption(t, "ConsistencyProof", err1(view.ConsistencyProof(9, 12)), ledger.PartHash, 7)
	wantCorruption(t, "Tile", err1(view.Tile(tlog.Tile{H: 3, L: 1, N: 0, W: 2})), ledger.PartHash, 7)
	wantCorruption(t, "IndexByDigest", err1(view.IndexByDigest(digest)), ledger.PartDigest, -1)
	wantCorruption(t, "IndexByEnvelopeID", err1(view.IndexByEnvelopeID("id-1")), ledger.PartEnvelopeID, -1)
}

func TestVerifyProgressAndCancel(t *testing.T) {
	const size = 2500
	view := ledger.View{Reader: build(t, size)}
	var seen []string
	err := view.Verify(t.Context(), describe, func(done, total int64) { seen = append(seen, fmt.Sprintf("%d/%d", done, total)) })
	if want := "0/2500 1024/2500 2048/2500 2500/2500"; err != nil || strings.Join(seen, " ") != want {
		t.Errorf("progress is %v, %v, want %s", seen, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = view.Verify(ctx, describe, func(done, _ int64) {
		if done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Verify returns %v", err)
	}
}

// FuzzChecks gives the two checks anything: they return, and take nothing that the plain implementation would not give.
func FuzzChecks(f *testing.F) {
	const size = 40
	d := entries(size)
	root := mth(d)
	f.Add(int64(7), int64(size), flat(path(7, d)))
	f.Add(int64(13), int64(size), flat(proof(13, d)))
	f.Add(int64(0), int64(0), []byte{})
	f.Add(int64(1)<<62, int64(1<<63-1), make([]byte, 64*32))
	f.Add(int64(1), ledger.SizeMax, make([]byte, 40*32))
	f.Fuzz(func(t *testing.T, n, total int64, b []byte) {
		hashes := make([]ledger.Hash, len(b)/32)
		for i := range hashes {
			copy(hashes[i][:], b[i*32:])
		}
		leaf, oldRoot := ledger.Hash{}, ledger.Hash{}
		inside := n >= 0 && n < size
		if inside {
			leaf, oldRoot = ledger.LeafHash(d[n]), mth(d[:n])
		}
		if ledger.CheckInclusion(hashes, total, root, n, leaf) == nil &&
			(!inside || !bytes.Equal(flat(hashes), flat(path(int(n), d)))) {
			t.Fatalf("a proof of %d in %d holds that is not the one", n, total)
		}
		if ledger.CheckConsistency(hashes, total, root, n, oldRoot) == nil && total == size &&
			(n > 0 && n < size && !bytes.Equal(flat(hashes), flat(proof(int(n), d)))) {
			t.Fatalf("a proof of %d with %d holds that is not the one", n, total)
		}
	})
}

func flat(hashes []ledger.Hash) (b []byte) {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}
