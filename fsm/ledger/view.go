package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/store"
)

// View reads the ledger in any reader: a store, or a snapshot where several reads must agree. An index or a size outside it
// is ErrOutOfRange; what should be there and is not, or is malformed, is a *Corruption.
type View struct{ store.Reader }

// Size returns the number of entries.
func (v View) Size() (int64, error) { return readSize(v.Reader) }

func readSize(g store.Getter) (int64, error) {
	b, err := g.Get([]byte{prefixSize})
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the ledger's size: %w", err)
	}
	size, err := readNumber(b)
	if err != nil {
		return 0, &Corruption{PartSize, 0, err.Error()}
	}
	if size > SizeMax {
		return 0, &Corruption{PartSize, 0, fmt.Sprintf("%d entries, at most %d", size, SizeMax)}
	}
	return size, nil
}

// has returns an error unless 0 ≤ size ≤ the ledger's size.
func (v View) has(size int64) error {
	have, err := v.Size()
	if err != nil {
		return err
	}
	if size < 0 || size > have {
		return fmt.Errorf("%d of %d entries: %w", size, have, ErrOutOfRange)
	}
	return nil
}

// Entry returns entry index.
func (v View) Entry(index int64) ([]byte, error) { return ReadEntry(v.Reader, index) }

// ReadEntry returns entry index as g sees it; for a *store.Txn that includes what was appended through it.
func ReadEntry(g store.Getter, index int64) ([]byte, error) {
	if index < 0 {
		return nil, fmt.Errorf("entry %d: %w", index, ErrOutOfRange)
	}
	entry, err := g.Get(appendNumberKey(nil, prefixEntry, index))
	if err == nil {
		return entry, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	size, err := readSize(g)
	if err != nil {
		return nil, err
	}
	if index < size {
		return nil, missing(PartEntry, index)
	}
	return nil, fmt.Errorf("entry %d of %d: %w", index, size, ErrOutOfRange)
}

// Entries returns the entries from ≤ index < to, ending at the ledger's size, and before the one that would make them more
// than bytesMax bytes together; the first is returned whatever its size. from may be the size, and nothing is returned then.
func (v View) Entries(from, to int64, bytesMax int) (entries [][]byte, err error) {
	size, err := v.Size()
	if err != nil {
		return nil, err
	}
	if from < 0 || from > size {
		return nil, fmt.Errorf("entries from %d of %d: %w", from, size, ErrOutOfRange)
	}
	to = min(to, size)
	if from >= to {
		return nil, nil
	}
	it, err := v.Iter(appendNumberKey(nil, prefixEntry, from), appendNumberKey(nil, prefixEntry, to))
	if err != nil {
		return nil, fmt.Errorf("reading entries from %d: %w", from, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	total := 0
	for ok := it.First(); from < to; ok = it.Next() {
		if !ok || string(it.Key()) != string(appendNumberKey(nil, prefixEntry, from)) {
			if err := it.Err(); err != nil {
				return nil, fmt.Errorf("reading entry %d: %w", from, err)
			}
			return nil, missing(PartEntry, from)
		}
		total += len(it.Value())
		if len(entries) > 0 && total > bytesMax {
			break
		}
		entries = append(entries, append(make([]byte, 0, len(it.Value())), it.Value()...))
		from++
	}
	return entries, nil
}

// IndexByDigest returns the index of the entry with that digest, or store.ErrNotFound.
func (v View) IndexByDigest(digest [32]byte) (int64, error) { return IndexByDigest(v.Reader, digest) }

// IndexByDigest returns the index of the entry with that digest as g sees it, or store.ErrNotFound; for a *store.Txn that
// includes what was appended through it.
func IndexByDigest(g store.Getter, digest [32]byte) (int64, error) {
	b, err := g.Get(appendDigestKey(make([]byte, 0, digestKeyBytes), &digest))
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return 0, store.ErrNotFound
		}
		return 0, fmt.Errorf("looking up digest %x: %w", digest, err)
	}
	index, err := readNumber(b)
	if err != nil {
		return 0, &Corruption{PartDigest, -1, fmt.Sprintf("digest %x: %v", digest, err)}
	}
	return index, nil
}

// IndexByEnvelopeID returns the index of the newest entry with that envelope id, or store.ErrNotFound.
func (v View) IndexByEnvelopeID(id string) (index int64, err error) {
	if id == "" || len(id) > EnvelopeIDBytesMax || strings.IndexByte(id, 0) >= 0 {
		return 0, store.ErrNotFound // Append takes no such id
	}
	it, err := v.Iter(appendEnvelopeIDKey(nil, id, 0), appendEnvelopeIDKey(nil, id, 1))
	if err != nil {
		return 0, fmt.Errorf("looking up envelope id: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		if err := it.Err(); err != nil {
			return 0, fmt.Errorf("looking up envelope id: %w", err)
		}
		return 0, store.ErrNotFound
	}
	index, err = readNumber(it.Key()[1+len(id)+1:])
	if err != nil {
		return 0, &Corruption{PartEnvelopeID, -1, fmt.Sprintf("id %q: %v", id, err)}
	}
	return index, nil
}

// LeafHash returns the stored leaf hash of entry index.
func (v View) LeafHash(index int64) (Hash, error) {
	if index < 0 || index >= SizeMax {
		return Hash{}, fmt.Errorf("entry %d: %w", index, ErrOutOfRange)
	}
	if err := v.has(index + 1); err != nil {
		return Hash{}, err
	}
	return v.storedHash(tlog.StoredHashIndex(0, index))
}

// Root returns the RFC 6962 root of the first size entries.
func (v View) Root(size int64) (Hash, error) {
	if err := v.has(size); err != nil {
		return Hash{}, fmt.Errorf("root: %w", err)
	}
	root, err := tlog.TreeHash(size, v)
	if err != nil {
		return Hash{}, fmt.Errorf("root of %d entries: %w", size, err)
	}
	return root, nil
}

// InclusionProof returns the RFC 6962 audit path of entry index in the tree of the first size entries.
func (v View) InclusionProof(index, size int64) (tlog.RecordProof, error) {
	if err := v.has(size); err != nil {
		return nil, fmt.Errorf("inclusion proof: %w", err)
	}
	if index < 0 || index >= size {
		return nil, fmt.Errorf("inclusion proof of entry %d in %d: %w", index, size, ErrOutOfRange)
	}
	proof, err := tlog.ProveRecord(size, index, v)
	if err != nil {
		return nil, fmt.Errorf("inclusion proof of entry %d in %d: %w", index, size, err)
	}
	return proof, nil
}

// ConsistencyProof returns the RFC 6962 proof that the first oldSize entries are a prefix of the first size; it is empty
// for oldSize 0.
func (v View) ConsistencyProof(oldSize, size int64) (tlog.TreeProof, error) {
	if err := v.has(size); err != nil {
		return nil, fmt.Errorf("consistency proof: %w", err)
	}
	if oldSize < 0 || oldSize > size {
		return nil, fmt.Errorf("consistency proof of %d with %d: %w", oldSize, size, ErrOutOfRange)
	}
	if oldSize == 0 {
		return tlog.TreeProof{}, nil
	}
	proof, err := tlog.ProveTree(size, oldSize, v)
	if err != nil {
		return nil, fmt.Errorf("consistency proof of %d with %d: %w", oldSize, size, err)
	}
	return proof, nil
}

// tileHeightMax bounds what one Tile call reads.
const tileHeightMax = 12

// TileHeight is the height of the tiles of c2sp.org/tlog-tiles: 256 hashes or entries each.
const TileHeight = 8

// Tile returns a tile in the form of c2sp.org/tlog-tiles: its hashes one after the other, or for the data level −1, where the
// height must be TileHeight, its entries, each behind its length in two bytes (at most 16 MiB together). A tile that the
// ledger has not filled to that width is ErrOutOfRange.
func (v View) Tile(t tlog.Tile) ([]byte, error) {
	level := max(t.L, 0)
	if t.H < 1 || t.H > tileHeightMax || t.L < -1 || t.L == -1 && t.H != TileHeight || t.H*level > sizeMaxLog2 ||
		t.W < 1 || t.W > 1<<uint(t.H) || t.N < 0 || t.N > SizeMax>>uint(t.H) {
		return nil, fmt.Errorf("tile H=%d L=%d N=%d W=%d: %w", t.H, t.L, t.N, t.W, ErrOutOfRange)
	}
	size, err := v.Size()
	if err != nil {
		return nil, err
	}
	first := t.N << uint(t.H)
	if first+int64(t.W) > size>>uint(t.H*level) {
		return nil, fmt.Errorf("tile %s of %d entries: %w", t.Path(), size, ErrOutOfRange)
	}
	if t.L == -1 {
		return v.entryBundle(first, first+int64(t.W))
	}
	b, err := tlog.ReadTileData(t, v)
	if err != nil {
		return nil, fmt.Errorf("tile %s: %w", t.Path(), err)
	}
	return b, nil
}

func (v View) entryBundle(from, to int64) ([]byte, error) {
	entries, err := v.Entries(from, to, math.MaxInt)
	if err != nil {
		return nil, err
	}
	bytesTotal := 0
	for _, e := range entries {
		bytesTotal += 2 + len(e)
	}
	b := make([]byte, 0, bytesTotal)
	for i, e := range entries {
		if len(e) > EntryBytesMax {
			return nil, &Corruption{PartEntry, from + int64(i), fmt.Sprintf("%d bytes, at most %d", len(e), EntryBytesMax)}
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...) // #nosec G115 -- checked above
	}
	return b, nil
}

// ReadHashes implements tlog.HashReader over the stored hashes.
func (v View) ReadHashes(indexes []int64) ([]Hash, error) {
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		h, err := v.storedHash(index)
		if err != nil {
			return nil, err
		}
		hashes[i] = h
	}
	return hashes, nil
}

// storedHash reads a hash that the size says is there.
func (v View) storedHash(index int64) (Hash, error) {
	b, err := v.Get(appendNumberKey(nil, prefixHash, index))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Hash{}, fmt.Errorf("reading stored hash %d: %w", index, err)
	}
	if err != nil || len(b) != tlog.HashSize {
		level, n := tlog.SplitStoredHashIndex(index)
		return Hash{}, badHash(writer(level, n), index, fmt.Sprintf("%d bytes, want %d", len(b), tlog.HashSize))
	}
	return Hash(b), nil
}

// writer returns the entry whose append stored hash n of level: the last one below it.
func writer(level int, n int64) int64 { return (n+1)<<uint(level) - 1 }
