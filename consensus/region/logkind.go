package region

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// LogKind says where a home keeps Raft's log. Its votes and its term are in bolt in either case.
//
// A home's log is in the write-ahead log if raft/ holds the file log-in-wal, else in bolt. That file is written last when a log
// moves one way, and removed first when it moves the other way, so a crash leaves the log whole in one place; what is left in
// the other is removed when the log is next opened.
type LogKind string

// The kinds. The empty one means: where the home has it, and the write-ahead log in a new home.
const (
	LogInWAL  LogKind = "wal"  // hashicorp/raft-wal: one sync for each write, where bolt takes two
	LogInBolt LogKind = "bolt" // one file; the older of the two
)

// Names in raft/.
const (
	walName       = "wal"
	inWALName     = "log-in-wal"
	walFileBytes  = 16 << 20 // of one segment, allocated when it is made; above the largest entry
	walDataFormat = "Raft's log is in " + walName + "/. Do not remove this file: `bizra migrate log` moves the log.\n"
)

// ErrLogElsewhere is returned by Start for a home whose Raft log is not kept where the configuration asks for it.
var ErrLogElsewhere = errors.New("the Raft log of this home is kept elsewhere")

// ParseLogKind reads a kind; the empty text is one.
func ParseLogKind(text string) (LogKind, error) {
	switch k := LogKind(text); k {
	case "", LogInBolt, LogInWAL:
		return k, nil
	default:
		return "", fmt.Errorf("a Raft log is kept in %q or %q, not in %q", LogInBolt, LogInWAL, text)
	}
}

// walLog is a log in raft-wal with its own small store, which raft-wal v0.4.0 opens and never closes: the lock on it would keep
// the log from being opened again.
type walLog struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

// GetLog implements raft.LogStore. raft-wal v0.4.0 still gives entries that were removed from the front, while their segment is
// there; a follower would take one for the entry at the end of a snapshot that it differed from.
func (w *walLog) GetLog(index uint64, log *raft.Log) error {
	first, err := w.FirstIndex()
	if err != nil {
		return err
	}
	if index < first {
		return raft.ErrLogNotFound
	}
	return w.WAL.GetLog(index, log)
}

// Close implements LogBacking.
func (w *walLog) Close() error { return errors.Join(w.WAL.Close(), w.meta.Close()) }

// splitLog is such a log beside votes in bolt.
type splitLog struct {
	*walLog
	votes LogBacking
}

var (
	_ LogBacking             = (*splitLog)(nil)
	_ raft.MonotonicLogStore = (*splitLog)(nil)
)

// Set implements raft.StableStore.
func (s *splitLog) Set(key, value []byte) error { return s.votes.Set(key, value) }

// Get implements raft.StableStore.
func (s *splitLog) Get(key []byte) ([]byte, error) { return s.votes.Get(key) }

// SetUint64 implements raft.StableStore.
func (s *splitLog) SetUint64(key []byte, value uint64) error { return s.votes.SetUint64(key, value) }

// GetUint64 implements raft.StableStore.
func (s *splitLog) GetUint64(key []byte) (uint64, error) { return s.votes.GetUint64(key) }

// Close implements LogBacking.
func (s *splitLog) Close() error { return errors.Join(s.walLog.Close(), s.votes.Close()) }

// OpenLog opens or makes the log store in dir, a home's raft/, as the kind says.
func OpenLog(dir string, kind LogKind, logger *slog.Logger) (LogBacking, error) {
	return openLog(&disk{}, dir, kind, logger)
}

func openLog(d *disk, dir string, kind LogKind, logger *slog.Logger) (LogBacking, error) {
	bolt, err := OpenBolt(dir)
	if err != nil {
		return nil, err
	}
	store, err := openBeside(d, bolt, dir, kind, logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the Raft log in %s: %w", dir, err), bolt.Close())
	}
	return store, nil
}

// openBeside opens the log that belongs to the votes in bolt, whose lock is held.
func openBeside(d *disk, bolt LogBacking, dir string, kind LogKind, logger *slog.Logger) (LogBacking, error) {
	inWAL, err := exists(filepath.Join(dir, inWALName))
	if err != nil {
		return nil, err
	}
	unused, err := neverUsed(bolt)
	if err == nil && !inWAL {
		err = leftOver(bolt, dir, logger)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case inWAL && kind == LogInBolt:
		return nil, elsewhere(LogInWAL, LogInBolt)
	case inWAL:
	case kind == LogInWAL && !unused:
		return nil, elsewhere(LogInBolt, LogInWAL)
	case unused && kind != LogInBolt:
		if err := makeWAL(d, dir, logger, func(raft.LogStore) error { return nil }); err != nil {
			return nil, err
		}
	default:
		return bolt, d.remove(filepath.Join(dir, walName))
	}
	if err := empty(d, bolt); err != nil { // of what a migration may have left
		return nil, err
	}
	w, err := openWAL(dir, logger)
	if err != nil {
		return nil, err
	}
	return &splitLog{w, bolt}, nil
}

func elsewhere(is, asked LogKind) error {
	return fmt.Errorf("%w: it is in %s and %s was asked for: stop the node and move it with `bizra migrate log --to %s`, or do not ask",
		ErrLogElsewhere, is, asked, asked)
}

// neverUsed says whether bolt holds neither an entry nor a term.
func neverUsed(bolt LogBacking) (bool, error) {
	last, err := bolt.LastIndex()
	if err != nil || last > 0 {
		return false, err
	}
	term, err := bolt.GetUint64([]byte(currentTermKey))
	if err != nil && isKeyNotFound(err) {
		return true, nil
	}
	return term == 0, err
}

// leftOver fails unless a write-ahead log that no file names is what a migration has left: then bolt has all that it has. Where bolt
// has no entry and the other some, the file that names it was lost.
func leftOver(bolt LogBacking, dir string, logger *slog.Logger) error {
	path := filepath.Join(dir, walName)
	there, err := exists(filepath.Join(path, metadb.FileName))
	if err != nil || !there {
		return err
	}
	last, err := bolt.LastIndex()
	if err != nil || last > 0 {
		return err
	}
	w, err := newWAL(path, logger)
	if err != nil {
		return err
	}
	_, last, err = span(w)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	if last > 0 {
		return fmt.Errorf("%w: the log is in %s, and the file %s, which says so, is missing. Put that file back, empty, if nothing else is missing; else replace this voter with `bizra voter replace`",
			ErrNoStore, path, inWALName)
	}
	return nil
}

// makeWAL makes the write-ahead log anew, lets fill put entries into it, and makes it the home's log.
func makeWAL(d *disk, dir string, logger *slog.Logger, fill func(raft.LogStore) error) error {
	path := filepath.Join(dir, walName)
	if err := d.remove(path); err != nil {
		return err
	}
	if err := d.step("make %s", walName); err != nil {
		return err
	}
	if err := os.Mkdir(path, dirMode); err != nil {
		return fmt.Errorf("make room for the log: %w", err)
	}
	w, err := newWAL(path, logger)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(w), w.Close()); err != nil {
		return err
	}
	// Its files and its own name must be there for certain before the file that says so.
	if err := d.sync(path); err != nil {
		return err
	}
	return d.write(filepath.Join(dir, inWALName), []byte(walDataFormat))
}

// openWAL opens a write-ahead log that must be there: made anew in its place it would be a log that lost its entries.
func openWAL(dir string, logger *slog.Logger) (*walLog, error) {
	path := filepath.Join(dir, walName)
	there, err := exists(filepath.Join(path, metadb.FileName))
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("%w: %s says that the log is in %s, and it is not there. A voter that lost its log must not vote: replace it with `bizra voter replace`",
			ErrNoStore, inWALName, path)
	}
	return newWAL(path, logger)
}

func newWAL(path string, logger *slog.Logger) (*walLog, error) {
	meta := &metadb.BoltMetaDB{}
	w, err := wal.Open(path, wal.WithMetaStore(meta), wal.WithSegmentSize(walFileBytes), wal.WithLogger(newRaftLogger(logger)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the write-ahead log in %s: %w", path, err), meta.Close())
	}
	return &walLog{w, meta}, nil
}

// empty removes every entry of a log.
func empty(d *disk, log raft.LogStore) error {
	first, last, err := span(log)
	if err != nil || last == 0 {
		return err
	}
	if err := d.step("empty the old log"); err != nil {
		return err
	}
	if err := log.DeleteRange(first, last); err != nil {
		return fmt.Errorf("empty a log that is not in use: %w", err)
	}
	return nil
}

func span(log raft.LogStore) (first, last uint64, err error) {
	if first, err = log.FirstIndex(); err == nil {
		last, err = log.LastIndex()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("look how far a log goes: %w", err)
	}
	return first, last, nil
}
