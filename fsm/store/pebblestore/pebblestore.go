// Package pebblestore is the store.Store on disk, over Pebble: one atomic batch per Commit, written to Pebble's log without
// waiting for the disk.
//
// It promises what package store promises, and that one process at a time has the directory. When Pebble reports an error
// that leaves in doubt what is on the disk, the store fails for good: it calls Options.OnFatal once, and every later call
// returns ErrFailed, and the disk is left as it was at that moment. The node then stops; the Raft log, not this store, holds what was acknowledged.
//
// It does not repair. A failed or foreign directory is refused with an error that says what is there.
package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/bizra/bizra/fsm/store"
)

const (
	cacheBytesDefault = 32 << 20
	cacheBytesMin     = 1 << 20
	// Commits stall when memTablesMax memtables wait for the disk. Pebble takes memtables out of the cache it is given, so it is
	// given memTablesCached more than CacheBytes: without them a busy store had no cache left, and a Get took several times as long.
	memTableBytesDefault = 16 << 20
	memTableBytesMin     = 1 << 20
	memTableBytesMax     = 1 << 30
	memTablesMax         = 3
	memTablesCached      = 2
	// compactionsMax leaves a processor to the node itself where there are two.
	compactionsMax = 2
	// bloomBitsPerKey gives 1 % false positives.
	bloomBitsPerKey = 10
	// tableBytesMax keeps the filter of a table of small records, one block of 1.25 bytes a key, near 1 MiB: a Get reads
	// the filters of the last level too, and they must not push each other out of the cache.
	tableBytesMin, tableBytesMax = 2 << 20, 32 << 20
	// Values of apartBytesMin and more are kept apart from the tables, in blob files that compaction leaves alone: the entries of the
	// ledger are half of what is written, and are never written again. apartDepthMax is how many overlapping blob files one table
	// may refer to, which bounds what a scan jumps about. A blob file of which apartGarbageMax is garbage is written anew once it is apartAgeLeast old.
	apartBytesMin   = 512
	apartDepthMax   = 10
	apartGarbageMax = 0.2
	apartAgeLeast   = 5 * time.Minute
	// recordOverheadBytes is what a write takes in a batch besides key and value, at most: kind and two lengths.
	recordOverheadBytes = 1 + 2*5
	// walBytesPerSync lets the kernel write the log out in the background, so that a Sync finds little left.
	walBytesPerSync = 1 << 20
)

var (
	// ErrLocked is returned by Open when another process, or another store of this one, has the directory.
	ErrLocked = errors.New("store directory is in use")
	// ErrFailed is returned by every call after Pebble could not tell any more what is on the disk.
	ErrFailed = errors.New("store failed: what is on its disk is in doubt")
)

// Options of Open. The zero value gives the defaults.
type Options struct {
	// CacheBytes is the size of the block cache; 0 means 32 MiB. Memtables come on top.
	CacheBytes int64
	// MemTableBytes is what one memtable grows to, 1 MiB to 1 GiB; 0 means 16 MiB. At most three are held, and one, as large as
	// the store was busy, while nothing is written. The larger they are, the more of what is soon written again or removed never
	// becomes a table that must be compacted.
	MemTableBytes int64
	// FS is the file system; nil means the operating system's, with warnings about slow disks.
	FS vfs.FS
	// Logger takes Pebble's messages; nil means slog.Default().
	Logger *slog.Logger
	// OnFatal, if set, is called once when the store fails, on a goroutine of Pebble's that may hold its locks: it must
	// return soon, and must not call the store.
	OnFatal func(error)
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytesDefault
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = memTableBytesDefault
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	return o
}

func (o Options) validate() error {
	if o.CacheBytes < cacheBytesMin {
		return fmt.Errorf("CacheBytes: %d is below the minimum of %d", o.CacheBytes, cacheBytesMin)
	}
	if o.MemTableBytes < memTableBytesMin || o.MemTableBytes > memTableBytesMax {
		return fmt.Errorf("MemTableBytes: %d is not between %d and %d", o.MemTableBytes, memTableBytesMin, memTableBytesMax)
	}
	return nil
}

func (o Options) pebbleOptions(dir string, h *health) *pebble.Options {
	p := &pebble.Options{
		CacheSize:                   o.CacheBytes + memTablesCached*o.MemTableBytes,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, compactionsMax },
		EventListener:               h.listener(),
		FormatMajorVersion:          pebble.FormatNewest,
		FS:                          &freezingFS{FS: o.FS, dir: dir, health: h},
		Logger:                      h,
		MemTableSize:                uint64(o.MemTableBytes), // #nosec G115 -- validated
		MemTableStopWritesThreshold: memTablesMax,
		WALBytesPerSync:             walBytesPerSync,
	}
	if o.FS == vfs.Default {
		p.WithFSDefaults()
	}
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: apartBytesMin, MaxBlobReferenceDepth: apartDepthMax,
			RewriteMinimumAge: apartAgeLeast, TargetGarbageRatio: apartGarbageMax}
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
		p.TargetFileSizes[i] = min(int64(tableBytesMin)<<i, tableBytesMax)
	}
	return p
}

// Store is a store.Store in a directory.
type Store struct {
	db     *pebble.DB
	lock   *pebble.Lock
	fs     vfs.FS
	health *health

	// mu is held for reading while a call uses db, and for writing by Close.
	mu     sync.RWMutex
	closed bool         // guarded by mu
	open   atomic.Int64 // snapshots and iterators; raised only while mu is held
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir and makes it if dir is absent or empty. It returns ErrLocked, ErrFormat, or what the disk or
// Pebble said.
func Open(dir string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("opening store %s: %w", dir, err)
	}
	dir = opts.FS.PathDir(opts.FS.PathJoin(dir, "x")) // clean
	if err := makeDir(opts.FS, dir); err != nil {
		return nil, fmt.Errorf("opening store %s: %w", dir, err)
	}
	lock, err := lockDir(opts.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("opening store %s: %w", dir, err)
	}
	h := &health{log: opts.Logger.With("store", dir), onFatal: opts.OnFatal}
	popts := opts.pebbleOptions(dir, h)
	popts.Lock = lock
	s := &Store{lock: lock, fs: opts.FS, health: h}
	if err := s.openLocked(dir, popts); err != nil {
		return nil, fmt.Errorf("opening store %s: %w", dir, errors.Join(err, lock.Close()))
	}
	return s, nil
}

func (s *Store) openLocked(dir string, popts *pebble.Options) (err error) {
	if err := checkFormat(s.fs, dir); err != nil {
		return err
	}
	if s.db, err = pebble.Open(dir, popts); err != nil {
		return err
	}
	if err := s.health.err(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// enter begins a call that uses db; leave ends it.
func (s *Store) enter() error {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return store.ErrClosed
	}
	if err := s.health.err(); err != nil {
		s.mu.RUnlock()
		return err
	}
	return nil
}

func (s *Store) leave() { s.mu.RUnlock() }

// Get implements store.Store.
func (s *Store) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return get(s.db, key)
}

// get reads through an iterator: Pebble's own Get leaves out the filters of the last level, so that looking for what is not
// there, as each new proof's digest and nonce are not, would read a data block from anywhere on the disk.
func get(r pebble.Reader, key []byte) ([]byte, error) {
	iter, err := r.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, fmt.Errorf("reading key %x: %w", key, err)
	}
	var value []byte
	found := iter.SeekPrefixGE(key) && bytes.Equal(iter.Key(), key)
	if found {
		value = append(make([]byte, 0, len(iter.Value())), iter.Value()...)
	}
	if err := iter.Close(); err != nil {
		return nil, fmt.Errorf("reading key %x: %w", key, err)
	}
	if !found {
		return nil, store.ErrNotFound
	}
	return value, nil
}

// Commit implements store.Store.
func (s *Store) Commit(writes []store.Write) (err error) {
	if err := store.CheckWrites(writes); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if len(writes) == 0 {
		return nil
	}
	bytesInAll := 0
	for i := range writes {
		bytesInAll += len(writes[i].Key) + len(writes[i].Value) + recordOverheadBytes
	}
	batch := s.db.NewBatchWithSize(bytesInAll)
	for i := range writes {
		if w := &writes[i]; w.Delete {
			err = batch.Delete(w.Key, nil)
		} else {
			err = batch.Set(w.Key, w.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("filling a batch: %w", errors.Join(err, batch.Close()))
		}
	}
	err = s.db.Apply(batch, pebble.NoSync)
	return s.settle("committing", errors.Join(err, batch.Close()))
}

// settle returns the outcome of a write of Pebble's. An error leaves in doubt what was written, so it is the store's failure.
func (s *Store) settle(doing string, err error) error {
	if err != nil {
		s.health.fail(fmt.Errorf("%s: %w", doing, err))
	}
	return s.health.err()
}

// Sync implements store.Store. Commits of others go on while it waits for the disk.
func (s *Store) Sync() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	// Pebble syncs its log up to a record that says nothing; logs before this one were synced when they were closed.
	return s.settle("syncing", s.db.LogData(nil, pebble.Sync))
}

// Iter implements store.Store.
func (s *Store) Iter(lower, upper []byte) (store.Iterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.newIterator(s.db, lower, upper)
}

// Snapshot implements store.Store.
func (s *Store) Snapshot() (store.Snapshot, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.open.Add(1)
	return &snapshot{store: s, snap: s.db.NewSnapshot()}, nil
}

// Checkpoint implements store.Store.
func (s *Store) Checkpoint(dir string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("writing checkpoint %s: %w", dir, err)
	}
	if err := writeFormat(s.fs, dir); err != nil {
		return fmt.Errorf("writing checkpoint %s: %w", dir, errors.Join(err, s.fs.RemoveAll(dir)))
	}
	return s.health.err()
}

// Err returns nil, or ErrFailed with its cause once the store has failed.
func (s *Store) Err() error { return s.health.err() }

// DiskBytes returns what the store takes on its disk, 0 once it is closed or failed.
func (s *Store) DiskBytes() uint64 {
	if err := s.enter(); err != nil {
		return 0
	}
	defer s.leave()
	return s.db.Metrics().DiskSpaceUsage()
}

// Close implements store.Store. After a failure it returns ErrFailed, and has let go of the directory all the same.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if n := s.open.Load(); n > 0 {
		return fmt.Errorf("closing the store: %w (%d)", store.ErrInUse, n)
	}
	s.closed = true
	if err := errors.Join(s.db.Close(), s.lock.Close(), s.health.err()); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

type snapshot struct {
	store *Store
	mu    sync.RWMutex
	snap  *pebble.Snapshot // guarded by mu; nil once closed
}

// enter begins a call that uses snap. The store cannot close meanwhile: it counts the snapshot as open.
func (s *snapshot) enter() error {
	s.mu.RLock()
	err := s.store.health.err()
	if s.snap == nil {
		err = store.ErrClosed
	}
	if err != nil {
		s.mu.RUnlock()
	}
	return err
}

func (s *snapshot) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	return get(s.snap, key)
}

func (s *snapshot) Iter(lower, upper []byte) (store.Iterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	return s.store.newIterator(s.snap, lower, upper)
}

func (s *snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snap == nil {
		return store.ErrClosed
	}
	err := s.snap.Close()
	s.snap = nil
	s.store.open.Add(-1)
	if err != nil {
		return fmt.Errorf("closing a snapshot: %w", err)
	}
	return nil
}

// newIterator is called inside enter and leave of the store or of a snapshot.
func (s *Store) newIterator(r pebble.Reader, lower, upper []byte) (store.Iterator, error) {
	i := &iterator{store: s, empty: upper != nil && bytes.Compare(lower, upper) >= 0}
	if !i.empty {
		// Pebble takes an empty bound for none in places; none is meant by an empty lower one alone.
		if len(lower) == 0 {
			lower = nil
		}
		iter, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return nil, fmt.Errorf("making an iterator: %w", err)
		}
		i.iter = iter
	}
	s.open.Add(1)
	return i, nil
}

type iterator struct {
	store  *Store
	iter   *pebble.Iterator // nil for an empty range and once closed
	empty  bool
	on     bool
	closed bool
}

func (i *iterator) settle(moved bool) bool { i.on = moved; return moved }

func (i *iterator) First() bool            { return i.iter != nil && i.settle(i.iter.First()) }
func (i *iterator) Last() bool             { return i.iter != nil && i.settle(i.iter.Last()) }
func (i *iterator) SeekGE(key []byte) bool { return i.iter != nil && i.settle(i.iter.SeekGE(key)) }
func (i *iterator) Next() bool             { return i.on && i.settle(i.iter.Next()) }
func (i *iterator) Prev() bool             { return i.on && i.settle(i.iter.Prev()) }

func (i *iterator) Key() []byte {
	if !i.on {
		return nil
	}
	return i.iter.Key()
}

func (i *iterator) Value() []byte {
	if !i.on {
		return nil
	}
	return i.iter.Value()
}

func (i *iterator) Err() error {
	switch {
	case i.closed:
		return store.ErrClosed
	case i.empty:
		return nil
	}
	if err := i.iter.Error(); err != nil {
		return fmt.Errorf("iterating: %w", err)
	}
	return nil
}

func (i *iterator) Close() error {
	if i.closed {
		return store.ErrClosed
	}
	i.closed, i.on = true, false
	defer i.store.open.Add(-1)
	if i.iter == nil {
		return nil
	}
	err := i.iter.Close()
	i.iter = nil
	if err != nil {
		return fmt.Errorf("closing an iterator: %w", err)
	}
	return nil
}
