package region

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Settings of the log store.
const (
	raftName           = "raft"
	boltName           = "raft.db"
	boltLockTimeout    = 5 * time.Second
	boltMmapBytes      = 64 << 20 // mapped at once, so that growing seldom waits for readers
	currentTermKey     = "CurrentTerm"
	foundingScanMax    = 64 // a log of more entries than this is past founding, whatever they are
	bootstrapIndexTerm = 1  // index and term of the entry that founds a Raft log
)

// LogBacking is where Raft's log and votes are kept.
type LogBacking interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// OpenBolt opens or makes the default log store in dir: bbolt, tuned so that a commit does not rewrite the list of free pages.
func OpenBolt(dir string) (LogBacking, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make the Raft directory: %w", err)
	}
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, boltName),
		BoltOptions: &bbolt.Options{Timeout: boltLockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
			InitialMmapSize: boltMmapBytes},
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("open the Raft log in %s: another process has it open: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the Raft log in %s: %w", dir, err)
	}
	return store, nil
}

// watched is a log store under a time limit. A disk that hangs leaves Raft's leader sending heartbeats (hashicorp/raft #503), so
// the first call that exceeds the limit, or fails, is reported; what becomes of the replica then is the region's business.
type watched struct {
	backing LogBacking
	limit   time.Duration
	report  func(error)
}

// guard is called before a call of the backing store; what it returns, after.
func (w *watched) guard(op string) func() {
	timer := time.AfterFunc(w.limit, func() {
		w.report(fmt.Errorf("log store: %s: %w for %v", op, ErrStalled, w.limit))
	})
	return func() { timer.Stop() }
}

// checked reports an error after which nobody knows what is on disk.
func (w *watched) checked(op string, err error) error {
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || isKeyNotFound(err) {
		return err
	}
	err = fmt.Errorf("log store: %s: %w", op, err)
	w.report(err)
	return err
}

// isKeyNotFound recognises what Raft itself recognises by its text; the stores have no common value for it.
func isKeyNotFound(err error) bool { return err.Error() == "not found" }

func (w *watched) FirstIndex() (uint64, error) {
	defer w.guard("first index")()
	i, err := w.backing.FirstIndex()
	return i, w.checked("first index", err)
}

func (w *watched) LastIndex() (uint64, error) {
	defer w.guard("last index")()
	i, err := w.backing.LastIndex()
	return i, w.checked("last index", err)
}

func (w *watched) GetLog(index uint64, log *raft.Log) error {
	defer w.guard("read")()
	return w.checked("read", w.backing.GetLog(index, log))
}

func (w *watched) StoreLog(log *raft.Log) error { return w.StoreLogs([]*raft.Log{log}) }

func (w *watched) StoreLogs(logs []*raft.Log) error {
	defer w.guard("append")()
	return w.checked("append", w.backing.StoreLogs(logs))
}

func (w *watched) DeleteRange(first, last uint64) error {
	defer w.guard("truncate")()
	return w.checked("truncate", w.backing.DeleteRange(first, last))
}

func (w *watched) Set(key, value []byte) error {
	defer w.guard("write a vote")()
	return w.checked("write a vote", w.backing.Set(key, value))
}

func (w *watched) Get(key []byte) ([]byte, error) {
	defer w.guard("read a vote")()
	v, err := w.backing.Get(key)
	if err != nil {
		return nil, w.checked("read a vote", err)
	}
	return v, nil
}

func (w *watched) SetUint64(key []byte, value uint64) error {
	defer w.guard("write the term")()
	return w.checked("write the term", w.backing.SetUint64(key, value))
}

func (w *watched) GetUint64(key []byte) (uint64, error) {
	defer w.guard("read the term")()
	v, err := w.backing.GetUint64(key)
	return v, w.checked("read the term", err)
}

// IsMonotonic implements raft.MonotonicLogStore.
func (w *watched) IsMonotonic() bool {
	m, ok := w.backing.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// logStore is what Raft sees: the watched store behind a cache, with writes that overlap with sending, and with the end of the last snapshot as an entry that can be asked
// for its term.
//
// That boundary is needed by a follower whose own log differed from a snapshot that it received (hashicorp/raft #697): Raft goes
// on with the entry after the snapshot and first asks the log for the term of the snapshot's last entry. With a wrong or no
// answer the leader would send the snapshot again, for ever.
//
// Where the store keeps no gaps (raft-wal), Raft removes every entry when it has installed a snapshot, and yet goes on to believe
// that its log ends where it did: it would vouch for entries after the snapshot that are gone. So what comes after the snapshot is
// kept, as it is in other stores; align has seen to it that there is no gap.
type logStore struct {
	*overlap
	cache   *logCache
	weight  logWeight
	leading func() bool
	// needed is the first entry that somebody who gets a snapshot needs after it, 0 if nobody does; at most neededMax entries are
	// kept for it.
	needed    func() uint64
	neededMax uint64
	// The newest entries, at most trailing of them and trailingBytes, outlive the cut that follows a snapshot: what Raft itself
	// leaves is next to nothing. For who gets a snapshot it is neededFactor times as much.
	trailing, trailingBytes uint64
	// stored is called after entries were stored: whether commands are among them.
	stored func(commands bool)

	boundary atomic.Pointer[boundary]
	keep     atomic.Uint64 // what is after this index outlives Raft's next removal of everything; 0 if nothing is to
}

type boundary struct{ index, term uint64 }

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

func newLogStore(w *watched, leading func() bool, stored func(commands bool)) *logStore {
	o := &overlap{watched: w, may: func() bool { return false }}
	return &logStore{overlap: o, cache: newLogCache(o), leading: leading, stored: stored, needed: func() uint64 { return 0 }}
}

// GetLog implements raft.LogStore. Raft panics, on threads of its own, over a log that it cannot read; instead the thread ends
// here, as it would in a shutdown, and the region has already been told to stop.
func (l *logStore) GetLog(index uint64, log *raft.Log) error {
	err := l.cache.GetLog(index, log)
	if err == nil && !l.leading() {
		err = l.await(index, nil)
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, raft.ErrLogNotFound):
		runtime.Goexit()
	case l.leading():
		// A leader must send a snapshot instead.
	default:
		if b := l.boundary.Load(); b != nil && b.index == index {
			*log = raft.Log{Index: b.index, Term: b.term, Type: boundaryType}
			return nil
		}
	}
	return err
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	l.keep.Store(0)
	if err := l.cache.StoreLogs(logs); err != nil {
		return err
	}
	l.weight.add(logs, neededFactor*l.trailingBytes)
	commands := false
	for _, log := range logs {
		commands = commands || log.Type == raft.LogCommand
	}
	l.stored(commands)
	return nil
}

// DeleteRange implements raft.LogStore.
func (l *logStore) DeleteRange(first, last uint64) error {
	end, err := l.LastIndex()
	if err != nil {
		return err
	}
	// Raft cuts the front after a snapshot of our own, and never all of it; whatever reaches the end is not that.
	switch keep := l.keep.Load(); {
	case last < end:
		last = l.cut(last, end)
	case keep > 0:
		l.keep.Store(0)
		last = keep
	}
	if first > last {
		return nil
	}
	return l.cache.DeleteRange(first, last)
}

// cut is how far the front of the log may go, of what Raft would remove.
func (l *logStore) cut(last, end uint64) uint64 {
	first := l.weight.within(l.trailingBytes)
	if end >= l.trailing {
		first = max(first, end-l.trailing+1)
	}
	if last >= first {
		last = max(first, 1) - 1
	}
	// Who gets a snapshot would find the entries after it gone, and need another (hashicorp/raft #617).
	if needed := l.needed(); needed > 0 && needed <= last && end-needed < l.neededMax && needed >= l.weight.within(neededFactor*l.trailingBytes) {
		last = needed - 1
	}
	return last
}

// installed is align for a snapshot that Raft has just received.
func (l *logStore) installed(p *pointer) error {
	if err := l.align(p); err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err == nil && last > p.Index && l.IsMonotonic() {
		l.keep.Store(p.Index)
	}
	return err
}

// SetUint64 implements raft.StableStore. Raft panics when its term cannot be written; see GetLog.
func (l *logStore) SetUint64(key []byte, value uint64) error {
	err := l.watched.SetUint64(key, value)
	if err != nil && string(key) == currentTermKey {
		runtime.Goexit()
	}
	return err
}

// align makes the log fit a snapshot that begins it. If the log's own entry at the snapshot's last index is of another term, or
// missing, then what the log holds up to there may be from a leader whose entries were never committed, and goes. What is after
// it stays: Raft overwrites it, and while running has its last index in memory. Doing it again changes nothing.
func (l *logStore) align(p *pointer) error {
	l.boundary.Store(&boundary{p.Index, p.Term})
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	if first == 0 || first > p.Index {
		return nil
	}
	var own raft.Log
	err = l.cache.GetLog(p.Index, &own)
	if err == nil && own.Term == p.Term {
		return nil
	}
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if err := l.cache.DeleteRange(first, p.Index); err != nil {
		return fmt.Errorf("remove entries %d to %d, which differ from the snapshot: %w", first, p.Index, err)
	}
	return nil
}
