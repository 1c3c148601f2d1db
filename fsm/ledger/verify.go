package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/store"
)

// verifyStep is how many entries or records Verify handles between looks at its context and reports of progress.
const verifyStep = 1024

// Part names what of a ledger is wrong.
type Part string

// The parts of a ledger in a store.
const (
	PartSize       Part = "size"
	PartEntry      Part = "entry"
	PartHash       Part = "stored hash"
	PartDigest     Part = "digest index"
	PartEnvelopeID Part = "envelope id index"
)

// Corruption is the error for a ledger whose stored parts do not fit together.
type Corruption struct {
	Part   Part
	Index  int64 // of the entry concerned; −1 where none is
	Detail string
}

func (c *Corruption) Error() string {
	return fmt.Sprintf("ledger is corrupt: %s of entry %d: %s", c.Part, c.Index, c.Detail)
}

func missing(part Part, index int64) error { return &Corruption{part, index, "missing"} }

func badHash(index, stored int64, detail string) error {
	level, n := tlog.SplitStoredHashIndex(stored)
	return &Corruption{PartHash, index, fmt.Sprintf("hash %d (level %d, number %d): %s", stored, level, n, detail)}
}

func wrongHash(index, stored int64, got, want Hash) error {
	return badHash(index, stored, fmt.Sprintf("is %v, the entries give %v", got, want))
}

// Describe returns for an entry what Append was given with it. Its Data is ignored.
type Describe func(index int64, entry []byte) (Appended, error)

// Verify recomputes all stored hashes and both indexes from the entries and compares. It returns a *Corruption that names the
// first part that is missing, different or too much. progress, which may be nil, is called with the number of entries done
// and of all, now and then and at the end.
//
// The reader must be a snapshot, or a store that nobody writes.
//
// The ledger does not know what its entries mean, so describe says which index records belong to each. With a nil describe the
// index records are only checked to be well formed and to point to entries.
func (v View) Verify(ctx context.Context, describe Describe, progress func(done, total int64)) (err error) {
	size, err := v.Size()
	if err != nil {
		return err
	}
	c := &verification{view: v, size: size, describe: describe, progress: progress}
	if c.progress == nil {
		c.progress = func(int64, int64) {}
	}
	if c.entries, err = c.scan(prefixEntry); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.entries.Close()) }()
	if c.hashes, err = c.scan(prefixHash); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.hashes.Close()) }()
	if err := c.checkEntries(ctx); err != nil {
		return err
	}
	if err := c.checkIndex(ctx, prefixDigest); err != nil {
		return err
	}
	if err := c.checkIndex(ctx, prefixEnvelopeID); err != nil {
		return err
	}
	c.progress(size, size)
	return nil
}

type verification struct {
	view            View
	size            int64
	describe        Describe
	progress        func(done, total int64)
	entries, hashes store.Iterator // both stand on what comes next
	edge            edge           // of the entries done
	digests, ids    int64          // index records that the entries done call for
	key             []byte         // scratch
}

// scan opens an iterator over all keys of a prefix and moves it to the first.
func (c *verification) scan(prefix byte) (store.Iterator, error) {
	it, err := c.view.Iter([]byte{prefix}, []byte{prefix + 1})
	if err != nil {
		return nil, fmt.Errorf("verifying the ledger: %w", err)
	}
	it.First()
	return it, nil
}

func (c *verification) checkEntries(ctx context.Context) error {
	for index := range c.size {
		if index%verifyStep == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			c.progress(index, c.size)
		}
		if err := c.checkEntry(index); err != nil {
			return err
		}
	}
	for _, rest := range []struct {
		part Part
		it   store.Iterator
	}{{PartEntry, c.entries}, {PartHash, c.hashes}} {
		if key := rest.it.Key(); key != nil {
			return &Corruption{rest.part, c.size, fmt.Sprintf("key %x is beyond the size of %d", key, c.size)}
		}
		if err := rest.it.Err(); err != nil {
			return fmt.Errorf("verifying the ledger: %w", err)
		}
	}
	return nil
}

func (c *verification) checkEntry(index int64) error {
	entry, err := c.take(c.entries, PartEntry, index, index)
	if err != nil {
		return err
	}
	if len(entry) > EntryBytesMax {
		return &Corruption{PartEntry, index, fmt.Sprintf("%d bytes, at most %d", len(entry), EntryBytesMax)}
	}
	stored, err := tlog.StoredHashes(index, entry, &c.edge)
	if err != nil {
		return fmt.Errorf("hashing entry %d: %w", index, err)
	}
	first := tlog.StoredHashIndex(0, index)
	for i, want := range stored {
		at := first + int64(i)
		got, err := c.take(c.hashes, PartHash, index, at)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want[:]) {
			return badHash(index, at, fmt.Sprintf("is %x, the entries give %x", got, want[:]))
		}
		c.hashes.Next()
	}
	c.edge.push(stored)
	if err := c.checkNames(index, entry); err != nil {
		return err
	}
	c.entries.Next()
	return nil
}

// take returns the value under number if the iterator stands on it, which must be the next key of its prefix.
func (c *verification) take(it store.Iterator, part Part, index, number int64) ([]byte, error) {
	prefix := byte(prefixEntry)
	if part == PartHash {
		prefix = prefixHash
	}
	c.key = appendNumberKey(c.key[:0], prefix, number)
	key := it.Key()
	if bytes.Equal(key, c.key) {
		return it.Value(), nil
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("verifying the ledger: %w", err)
	}
	switch {
	case key != nil && bytes.Compare(key, c.key) < 0:
		return nil, &Corruption{part, index, fmt.Sprintf("stray key %x", key)}
	case part == PartHash:
		return nil, badHash(index, number, "missing")
	}
	return nil, missing(part, index)
}

// checkNames looks up the index records that an entry calls for.
func (c *verification) checkNames(index int64, entry []byte) error {
	if c.describe == nil {
		return nil
	}
	e, err := c.describe(index, entry)
	if err != nil {
		return &Corruption{PartEntry, index, err.Error()}
	}
	if e.Digest != nil {
		c.digests++
		switch at, err := c.view.IndexByDigest(*e.Digest); {
		case errors.Is(err, store.ErrNotFound):
			return missing(PartDigest, index)
		case err != nil:
			return err
		case at != index:
			return &Corruption{PartDigest, index, fmt.Sprintf("digest %x points to entry %d", *e.Digest, at)}
		}
	}
	if e.EnvelopeID != "" {
		c.ids++
		c.key = appendNumber(appendEnvelopeIDKey(c.key[:0], e.EnvelopeID, 0), index)
		switch _, err := c.view.Get(c.key); {
		case errors.Is(err, store.ErrNotFound):
			return missing(PartEnvelopeID, index)
		case err != nil:
			return fmt.Errorf("verifying the ledger: %w", err)
		}
	}
	return nil
}

// checkIndex walks over all records of an index. Every record that the entries call for has been seen by now, so one that
// does not belong shows in the count; only then are the records compared with their entries one by one.
func (c *verification) checkIndex(ctx context.Context, prefix byte) error {
	part, want := PartDigest, c.digests
	if prefix == prefixEnvelopeID {
		part, want = PartEnvelopeID, c.ids
	}
	count := int64(0)
	err := c.eachRecord(ctx, prefix, part, func(int64, []byte) error { count++; return nil })
	if err != nil || c.describe == nil || count == want {
		return err
	}
	err = c.eachRecord(ctx, prefix, part, func(index int64, key []byte) error {
		entry, err := c.view.Entry(index)
		if err != nil {
			return err
		}
		e, err := c.describe(index, entry)
		if err != nil {
			return err
		}
		c.key = c.key[:0]
		switch {
		case part == PartDigest && e.Digest != nil:
			c.key = appendDigestKey(c.key, e.Digest)
		case part == PartEnvelopeID && e.EnvelopeID != "":
			c.key = appendNumber(appendEnvelopeIDKey(c.key, e.EnvelopeID, 0), index)
		}
		if !bytes.Equal(key, c.key) {
			return &Corruption{part, index, fmt.Sprintf("key %x does not belong to the entry", key)}
		}
		return nil
	})
	if err == nil {
		err = &Corruption{part, -1, fmt.Sprintf("%d records, the entries call for %d", count, want)}
	}
	return err
}

func (c *verification) eachRecord(ctx context.Context, prefix byte, part Part, visit func(index int64, key []byte) error) (err error) {
	it, err := c.scan(prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for n := 0; it.Key() != nil; n++ {
		if n%verifyStep == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		key := it.Key()
		index, err := recordIndex(part, key, it.Value())
		if err != nil {
			return &Corruption{part, -1, fmt.Sprintf("key %x: %v", key, err)}
		}
		if index >= c.size {
			return &Corruption{part, index, fmt.Sprintf("key %x points beyond the size of %d", key, c.size)}
		}
		if err := visit(index, key); err != nil {
			return err
		}
		it.Next()
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("verifying the ledger: %w", err)
	}
	return nil
}

// recordIndex returns the entry that an index record points to, if the record is well formed.
func recordIndex(part Part, key, value []byte) (int64, error) {
	if part == PartDigest {
		if len(key) != digestKeyBytes {
			return 0, fmt.Errorf("key of %d bytes, want %d", len(key), digestKeyBytes)
		}
		return readNumber(value)
	}
	separator := len(key) - numberBytes - 1
	if separator < 2 || separator > 1+EnvelopeIDBytesMax || bytes.IndexByte(key, 0) != separator {
		return 0, errors.New("malformed key")
	}
	if len(value) != 0 {
		return 0, fmt.Errorf("value of %d bytes, want none", len(value))
	}
	index := binary.BigEndian.Uint64(key[separator+1:])
	if index >= uint64(SizeMax) {
		return 0, fmt.Errorf("entry %d is out of range", index)
	}
	return int64(index), nil // #nosec G115 -- checked above
}
