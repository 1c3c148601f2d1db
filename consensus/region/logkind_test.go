package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func quietly(_, _ uint64) {}

// shelf is a home's raft/ with a log of some entries and a vote.
type shelf struct {
	t    *testing.T
	home string
}

const (
	shelfFirst, shelfLast = 50, 3200 // more than one write copies
	shelfTerm             = 9
)

func newShelf(t *testing.T, kind LogKind) *shelf {
	t.Helper()
	s := &shelf{t, t.TempDir()}
	log := s.open(kind)
	var logs []*raft.Log
	for i := uint64(shelfFirst); i <= shelfLast; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1 + i/1000, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d", i),
			Extensions: []byte{byte(i)}, AppendedAt: time.Unix(int64(i), 0)})
	}
	if err := errors.Join(log.SetUint64([]byte(currentTermKey), shelfTerm), log.Set([]byte("LastVoteCand"), []byte("b")),
		log.StoreLogs(logs), log.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shelf) dir() string { return filepath.Join(s.home, raftName) }

func (s *shelf) open(kind LogKind) LogBacking {
	s.t.Helper()
	log, err := OpenLog(s.dir(), kind, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return log
}

// check opens the log wherever it is: all of it must be there, with term and vote, and nothing of it twice.
func (s *shelf) check() LogKind {
	s.t.Helper()
	log := s.open("")
	is := LogInBolt
	if split, ok := log.(*splitLog); ok {
		is = LogInWAL
		if _, last, err := span(split.votes); err != nil || last > 0 {
			s.t.Errorf("bolt holds entries up to %d too (%v)", last, err)
		}
	} else if there, err := exists(filepath.Join(s.dir(), walName)); err != nil || there {
		s.t.Errorf("the write-ahead log is there too (%v)", err)
	}
	first, last, err := span(log)
	if err != nil || first != shelfFirst || last != shelfLast {
		s.t.Errorf("entries %d to %d: %v", first, last, err)
	}
	for _, i := range []uint64{shelfFirst, 1000, 2047, 2048, shelfLast} {
		var entry raft.Log
		if err := log.GetLog(i, &entry); err != nil || string(entry.Data) != fmt.Sprintf("entry %d", i) || entry.Term != 1+i/1000 {
			s.t.Errorf("entry %d: %q of term %d: %v", i, entry.Data, entry.Term, err)
		}
	}
	term, err1 := log.GetUint64([]byte(currentTermKey))
	vote, err2 := log.Get([]byte("LastVoteCand"))
	if err := errors.Join(err1, err2, log.Close()); err != nil || term != shelfTerm || string(vote) != "b" {
		s.t.Errorf("term %d, vote %q: %v", term, vote, err)
	}
	return is
}

func (s *shelf) migrate(d *disk, to LogKind) (uint64, error) {
	return migrateLog(context.Background(), d, s.home, to, nil, quietly)
}

func TestMigrateLog(t *testing.T) {
	s := newShelf(t, LogInBolt)
	const all = shelfLast - shelfFirst + 1
	for _, c := range []struct {
		to    LogKind
		moved uint64
	}{{LogInBolt, 0}, {LogInWAL, all}, {LogInWAL, 0}, {LogInBolt, all}, {LogInWAL, all}} {
		if moved, err := s.migrate(&disk{}, c.to); err != nil || moved != c.moved {
			t.Errorf("to %s: %d entries, want %d: %v", c.to, moved, c.moved, err)
		}
		if is := s.check(); is != c.to {
			t.Errorf("to %s: it is in %s", c.to, is)
		}
	}
	// The log goes on where it ends.
	log := s.open("")
	if err := errors.Join(log.StoreLog(&raft.Log{Index: shelfLast + 1, Term: 9}), log.DeleteRange(shelfFirst, 100), log.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := migrateLog(t.Context(), &disk{}, t.TempDir(), LogInWAL, nil, quietly); !errors.Is(err, ErrNoLog) {
		t.Errorf("a home without a log: %v", err)
	}
	running := newShelf(t, LogInBolt)
	log = running.open("")
	if _, err := running.migrate(&disk{}, LogInWAL); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a log that is in use: %v", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := migrateLog(ctx, &disk{}, running.home, LogInWAL, nil, quietly); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	running.check()
}

// Either way is interrupted at each of its steps; the log is then whole in one place, a node can start, and the way can be gone
// to its end.
func TestCrashWhileMigrating(t *testing.T) {
	for _, c := range []struct{ from, to LogKind }{{LogInBolt, LogInWAL}, {LogInWAL, LogInBolt}} {
		before, after := 0, 0
		for stop := 1; ; stop++ {
			s := newShelf(t, c.from)
			var steps []string
			_, err := s.migrate(&disk{hook: func(step string) error {
				if steps = append(steps, step); len(steps) >= stop {
					return errCrash
				}
				return nil
			}}, c.to)
			if err == nil {
				t.Logf("to %s, %d steps: %s", c.to, len(steps), strings.Join(steps, ", "))
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatalf("step %d: %v", stop, err)
			}
			if is := s.check(); is == c.from {
				before++
				if after > 0 {
					t.Errorf("crash at %s: the log is back in %s", steps[len(steps)-1], is)
				}
			} else {
				after++
			}
			if _, err := s.migrate(&disk{}, c.to); err != nil {
				t.Fatalf("again after a crash at %s: %v", steps[len(steps)-1], err)
			}
			if is := s.check(); is != c.to {
				t.Errorf("again after a crash at %s: it is in %s", steps[len(steps)-1], is)
			}
		}
		if before < 5 || after < 2 {
			t.Errorf("to %s: %d crashes before the log had moved, %d after: the test does not test", c.to, before, after)
		}
	}
}

// A copy that differs does not become the log.
func TestMigrationCompares(t *testing.T) {
	a := raft.NewInmemStore()
	entry := raft.Log{Index: 1, Term: 1, Data: []byte("x"), Extensions: []byte("y")}
	if err := a.StoreLog(&entry); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*raft.Log){"its term": func(l *raft.Log) { l.Term++ }, "its type": func(l *raft.Log) { l.Type++ },
		"its data": func(l *raft.Log) { l.Data = []byte("z") }, "its extensions": func(l *raft.Log) { l.Extensions = nil },
		"its index": func(l *raft.Log) { l.Index++ }} {
		other := entry
		change(&other)
		b := raft.NewInmemStore()
		if err := b.StoreLog(&other); err != nil {
			t.Fatal(err)
		}
		if err := compare(b, a, 1, 1); err == nil {
			t.Errorf("%s differs, and nobody says so", name)
		}
	}
	if err := compare(a, a, 1, 1); err != nil {
		t.Error(err)
	}
	if _, err := read(a, 1, 2); err == nil || !strings.Contains(err.Error(), "start the node once") {
		t.Errorf("a gap: %v", err)
	}
}

func TestLogIsOpenedWhereItIs(t *testing.T) {
	inBolt, inWAL := newShelf(t, LogInBolt), newShelf(t, LogInWAL)
	for _, c := range []struct {
		s    *shelf
		kind LogKind
		ok   bool
	}{{inBolt, "", true}, {inBolt, LogInBolt, true}, {inBolt, LogInWAL, false}, {inWAL, "", true}, {inWAL, LogInWAL, true}, {inWAL, LogInBolt, false}} {
		log, err := OpenLog(c.s.dir(), c.kind, slog.New(slog.DiscardHandler))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrLogElsewhere) {
			t.Errorf("asked for %q: %v", c.kind, err)
		}
		if err == nil {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	// A term alone is a vote, so the home is not new.
	voted := &shelf{t, t.TempDir()}
	log := voted.open(LogInBolt)
	if err := errors.Join(log.SetUint64([]byte(currentTermKey), 1), log.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(voted.dir(), LogInWAL, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrLogElsewhere) {
		t.Errorf("a home that has voted: %v", err)
	}
	// A log that is gone is not made anew.
	if err := os.RemoveAll(filepath.Join(inWAL.dir(), walName)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(inWAL.dir(), "", slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoStore) {
		t.Errorf("a log that is gone: %v", err)
	}
	if _, err := ParseLogKind("leveldb"); err == nil {
		t.Error("an unknown kind was taken")
	}
}

// A new home's log is a write-ahead log, whatever interrupts the first start; one that was used in bolt stays there.
func TestANewHomeHasAWriteAheadLog(t *testing.T) {
	crashes := 0
	for stop := 1; ; stop++ {
		dir := filepath.Join(t.TempDir(), raftName)
		steps := 0
		log, err := openLog(&disk{hook: func(string) error {
			if steps++; steps >= stop {
				return errCrash
			}
			return nil
		}}, dir, "", slog.New(slog.DiscardHandler))
		whole := err == nil
		if errors.Is(err, errCrash) {
			crashes++
			log, err = OpenLog(dir, "", slog.New(slog.DiscardHandler))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := log.(*splitLog); !ok {
			t.Errorf("opened after %d steps, the log is a %T", stop-1, log)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if whole {
			break
		}
	}
	if crashes < 3 {
		t.Errorf("%d crashes: the test does not test", crashes)
	}
	for kind, s := range map[LogKind]*shelf{LogInBolt: newShelf(t, LogInBolt), LogInWAL: newShelf(t, "")} {
		if is := s.check(); is != kind {
			t.Errorf("a home with its log in %s was opened in %s", kind, is)
		}
	}
}

// Without the file that names it a write-ahead log looks like what a migration has left, and must not be removed as such.
func TestAWriteAheadLogOutlivesTheFileThatNamesIt(t *testing.T) {
	for name, lost := range map[string][]string{"the file": {inWALName}, "the file and the votes": {inWALName, boltName}} {
		s := newShelf(t, LogInWAL)
		for _, file := range lost {
			if err := os.Remove(filepath.Join(s.dir(), file)); err != nil {
				t.Fatal(err)
			}
		}
		for _, kind := range []LogKind{"", LogInWAL, LogInBolt} {
			if _, err := OpenLog(s.dir(), kind, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoStore) || !strings.Contains(err.Error(), inWALName) {
				t.Errorf("%s lost, asked for %q: %v", name, kind, err)
			}
		}
		if err := os.WriteFile(filepath.Join(s.dir(), inWALName), nil, fileMode); err != nil {
			t.Fatal(err)
		}
		if len(lost) == 1 {
			s.check()
		}
	}
}

// Raft removes every entry of a store without gaps when it has installed a snapshot, and goes on to vouch for those that came after
// it; the log keeps them.
func TestInstalledSnapshotLeavesWhatIsAfterIt(t *testing.T) {
	for name, c := range map[string]struct {
		term        uint64 // of the log's own entries
		length      uint64
		first, last uint64 // when Raft has removed everything
	}{
		"fits and is longer":    {3, 200, 101, 200},
		"differs and is longer": {2, 200, 101, 200},
		"fits and ends there":   {3, 100, 0, 0},
		"is shorter":            {2, 80, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := newWALLog(t)
			for i := uint64(1); i <= c.length; i++ {
				if err := log.StoreLog(&raft.Log{Index: i, Term: c.term}); err != nil {
					t.Fatal(err)
				}
			}
			l := newLogStore(&watched{backing: log, limit: time.Minute, report: func(err error) { t.Error(err) }}, func() bool { return false }, func(bool) {})
			if err := l.installed(&pointer{Index: 100, Term: 3}); err != nil {
				t.Fatal(err)
			}
			// What Raft does next; see its removeOldLogs.
			if first, last, err := span(l); err != nil || last > 0 && l.DeleteRange(first, last) != nil {
				t.Fatal(err)
			}
			if first, last, err := span(l); err != nil || first != c.first || last != c.last {
				t.Errorf("entries %d to %d are left, want %d to %d: %v", first, last, c.first, c.last, err)
			}
			// An entry that differs replaces the rest, this time all of it.
			if c.last > 0 {
				if err := l.DeleteRange(101, c.last); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.StoreLogs([]*raft.Log{{Index: 101, Term: 4}, {Index: 102, Term: 4}}); err != nil {
				t.Fatal(err)
			}
			if first, last, err := span(l); err != nil || first != 101 || last != 102 {
				t.Errorf("then entries %d to %d: %v", first, last, err)
			}
		})
	}
}

// A torn tail, as a power cut leaves it, costs what was not acknowledged and nothing before it.
func TestTornTailOfTheWriteAheadLog(t *testing.T) {
	s := &shelf{t, t.TempDir()}
	log := s.open(LogInWAL)
	for i := uint64(1); i <= 20; i++ {
		if err := log.StoreLog(&raft.Log{Index: i, Term: 1, Data: []byte(strings.Repeat("x", 500))}); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(s.dir(), walName, "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%v: %v", segments, err)
	}
	whole, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	end := lastNonZero(whole) + 1
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	torn := 0
	for cut := 1; cut < 600; cut += 37 { // of the last entry's bytes
		damaged := slices.Clone(whole)
		clear(damaged[end-cut:])
		if err := os.WriteFile(segments[0], damaged, fs.FileMode(fileMode)); err != nil {
			t.Fatal(err)
		}
		log := s.open("")
		last, err := log.LastIndex()
		if err != nil || last < 18 {
			t.Errorf("%d bytes torn off: entries up to %d, %v", cut, last, err)
		}
		if last < 20 {
			torn++
		}
		var entry raft.Log
		if err := errors.Join(log.GetLog(last, &entry), log.StoreLog(&raft.Log{Index: last + 1, Term: 2}), log.Close()); err != nil {
			t.Errorf("%d bytes torn off: %v", cut, err)
		}
	}
	if torn < 10 {
		t.Errorf("an entry was torn %d times: the test does not test", torn)
	}
}

func lastNonZero(b []byte) int {
	i := len(b) - 1
	for i > 0 && b[i] == 0 {
		i--
	}
	return i
}
