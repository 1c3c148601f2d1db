package region

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// copyEntriesMax and copyBytesMax bound what is copied from one log to another in one write.
const (
	copyEntriesMax = 1024
	copyBytesMax   = 8 << 20
)

// ErrNoLog is returned by [MigrateLog] for a home without a Raft log.
var ErrNoLog = errors.New("this home has no Raft log")

// MigrateLog moves the Raft log of a home, whose node must not be running, to where kind says, and returns how many entries were
// moved: none if it is there already. Votes and term stay where they are. The copy is read back and compared before it becomes
// the log. Interrupted at any point, it leaves the home as it was or with the log moved, and can be called again. progress is
// told how many entries are done of how many.
func MigrateLog(ctx context.Context, home string, kind LogKind, logger *slog.Logger, progress func(done, total uint64)) (moved uint64, err error) {
	return migrateLog(ctx, &disk{}, home, kind, logger, progress)
}

func migrateLog(ctx context.Context, d *disk, home string, kind LogKind, logger *slog.Logger, progress func(done, total uint64)) (moved uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("move the Raft log of %s to %s: %w", home, kind, err)
		}
	}()
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Join(home, raftName)
	there, err := exists(filepath.Join(dir, boltName))
	if err != nil {
		return 0, err
	}
	if !there {
		return 0, fmt.Errorf("%w: only a voter that has started has one", ErrNoLog)
	}
	log, err := openLog(d, dir, "", logger) // finishes what an earlier call left
	if err != nil {
		return 0, err
	}
	m := migration{disk: d, dir: dir, logger: logger, progress: progress}
	switch from := log.(type) {
	case *splitLog:
		if kind == LogInBolt {
			moved, err = m.toBolt(ctx, from)
		}
	default:
		if kind == LogInWAL {
			moved, err = m.toWAL(ctx, from)
		}
	}
	return moved, errors.Join(err, log.Close())
}

type migration struct {
	disk     *disk
	dir      string
	logger   *slog.Logger
	progress func(done, total uint64)
}

func (m *migration) toWAL(ctx context.Context, bolt LogBacking) (moved uint64, err error) {
	err = makeWAL(m.disk, m.dir, m.logger, func(w raft.LogStore) error {
		moved, err = m.copy(ctx, w, bolt)
		return err
	})
	if err != nil {
		return 0, err
	}
	return moved, empty(m.disk, bolt)
}

func (m *migration) toBolt(ctx context.Context, from *splitLog) (moved uint64, err error) {
	if moved, err = m.copy(ctx, from.votes, from.walLog); err != nil {
		return 0, err
	}
	if err := m.disk.remove(filepath.Join(m.dir, inWALName)); err != nil {
		return 0, err
	}
	if err := from.walLog.Close(); err != nil { // once more by Close, which is of no effect then
		return moved, fmt.Errorf("close the log that is not in use any more: %w", err)
	}
	return moved, m.disk.remove(filepath.Join(m.dir, walName))
}

// copy copies every entry to an empty log and compares.
func (m *migration) copy(ctx context.Context, to, from raft.LogStore) (uint64, error) {
	first, last, err := span(from)
	if err != nil || last == 0 {
		return 0, err
	}
	total := last - first + 1
	for next := first; next <= last; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		batch, err := read(from, next, last)
		if err != nil {
			return 0, err
		}
		if err := m.disk.step("copy entries from %d on", next); err != nil {
			return 0, err
		}
		if err := to.StoreLogs(batch); err != nil {
			return 0, fmt.Errorf("copy entries from %d on: %w", next, err)
		}
		next += uint64(len(batch))
		m.progress(next-first, total)
	}
	return total, compare(to, from, first, last)
}

// read reads as many entries as go into one write.
func read(log raft.LogStore, next, last uint64) (batch []*raft.Log, err error) {
	for size := 0; next <= last && len(batch) < copyEntriesMax && size < copyBytesMax; next++ {
		var entry raft.Log
		err := log.GetLog(next, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			return nil, fmt.Errorf("entry %d is missing in the middle of the log: start the node once, which mends that, and stop it", next)
		}
		if err != nil {
			return nil, fmt.Errorf("read entry %d: %w", next, err)
		}
		batch = append(batch, &entry)
		size += len(entry.Data)
	}
	return batch, nil
}

func compare(a, b raft.LogStore, first, last uint64) error {
	if f, l, err := span(a); err != nil || f != first || l != last {
		return fmt.Errorf("the copy goes from %d to %d, the log from %d to %d: %w", f, l, first, last, err)
	}
	for i := first; i <= last; i++ {
		var x, y raft.Log
		if err := errors.Join(a.GetLog(i, &x), b.GetLog(i, &y)); err != nil {
			return fmt.Errorf("read entry %d again: %w", i, err)
		}
		if x.Index != y.Index || x.Term != y.Term || x.Type != y.Type || !bytes.Equal(x.Data, y.Data) || !bytes.Equal(x.Extensions, y.Extensions) {
			return fmt.Errorf("entry %d differs in the copy: the disk or its memory is faulty", i)
		}
	}
	return nil
}
