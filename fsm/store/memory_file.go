//detlint:allow io a checkpoint is a file; what it holds is the state, not an input to it

package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"
)

const (
	memoryFileName    = "memory.cbor"
	memoryFileFormat  = "bizra-memory-store"
	memoryFileVersion = 1
	// memoryItemBytesMax bounds how much of the file one item may make the decoder buffer.
	memoryItemBytesMax = KeyBytesMax + ValueBytesMax + 64
)

// memoryHeader and memoryRecord are the two kinds of items in the file, a CBOR sequence (RFC 8742): one header, then as many
// records as it says, by strictly ascending key.
type memoryHeader struct {
	_       struct{} `cbor:",toarray"`
	Format  string
	Version uint64
	Records uint64
}

type memoryRecord struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
}

// Checkpoint implements Store; the file is durable when it returns.
func (m *Memory) Checkpoint(dir string) (err error) {
	tree, err := m.hold()
	if err != nil {
		return err
	}
	defer m.release()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making the checkpoint directory: %w", err)
	}
	if err := writeMemoryFile(filepath.Join(dir, memoryFileName), uint64(tree.Len()), tree.Scan); err != nil { //nolint:gosec // a length
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			return fmt.Errorf("syncing the checkpoint directory: %w", err)
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // #nosec G304 -- the caller names the directory it owns
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeMemoryFile(path string, records uint64, scan func(func(memoryItem) bool)) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- as above
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	enc := cbor.NewEncoder(w)
	if err := enc.Encode(memoryHeader{Format: memoryFileFormat, Version: memoryFileVersion, Records: records}); err != nil {
		return err
	}
	var failed error
	scan(func(item memoryItem) bool {
		failed = enc.Encode(memoryRecord{Key: item.key, Value: item.value})
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// OpenMemory loads the checkpoint in dir into a new store; the store does not write there.
func OpenMemory(dir string) (*Memory, error) {
	f, err := os.Open(filepath.Join(dir, memoryFileName)) // #nosec G304 -- the caller names the directory it owns
	if err != nil {
		return nil, fmt.Errorf("opening the checkpoint: %w", err)
	}
	m, err := readMemory(bufio.NewReaderSize(f, 1<<20))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading the checkpoint in %s: %w", dir, err)
	}
	return m, nil
}

func readMemory(r io.Reader) (*Memory, error) {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: r}
	dec := mode.NewDecoder(limited)
	next := func(item any) error {
		// The decoder reads ahead, so the limit bounds what one item may make it buffer, not the file.
		limited.N = memoryItemBytesMax
		return dec.Decode(item)
	}
	var head memoryHeader
	if err := next(&head); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if head.Format != memoryFileFormat || head.Version != memoryFileVersion {
		return nil, fmt.Errorf("format %q version %d is not %q version %d", head.Format, head.Version, memoryFileFormat, memoryFileVersion)
	}
	m := NewMemory()
	var last []byte
	for n := range head.Records {
		var rec memoryRecord
		if err := next(&rec); err != nil {
			return nil, fmt.Errorf("record %d of %d: %w", n, head.Records, err)
		}
		if err := CheckWrites([]Write{{Key: rec.Key, Value: rec.Value}}); err != nil {
			return nil, fmt.Errorf("record %d of %d: %w", n, head.Records, err)
		}
		if bytes.Compare(rec.Key, last) <= 0 {
			return nil, fmt.Errorf("record %d of %d: key %x does not come after %x", n, head.Records, rec.Key, last)
		}
		last = rec.Key
		m.tree.Set(memoryItem{key: rec.Key, value: rec.Value})
	}
	limited.N = 1
	if err := dec.Decode(new(cbor.RawMessage)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the last of %d records", head.Records)
	}
	return m, nil
}
