package region

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestBoltKeepsWhatItStored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	b, err := OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.SetUint64([]byte(currentTermKey), 7), b.StoreLog(&raft.Log{Index: 1, Term: 7, Data: []byte("x")}), b.Close()); err != nil {
		t.Fatal(err)
	}
	if b, err = OpenBolt(dir); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var log raft.Log
	if err := b.GetLog(1, &log); err != nil || string(log.Data) != "x" {
		t.Errorf("%q, %v", log.Data, err)
	}
	if term, err := b.GetUint64([]byte(currentTermKey)); err != nil || term != 7 {
		t.Errorf("term %d, %v", term, err)
	}
	if _, err := b.GetUint64([]byte("absent")); err == nil || !isKeyNotFound(err) {
		t.Errorf("an absent key: %v", err)
	}
}

type monotonicLog struct{ *fakeLog }

func (monotonicLog) IsMonotonic() bool { return true }

func TestIsMonotonicIsForwarded(t *testing.T) {
	for _, c := range []struct {
		backing LogBacking
		want    bool
	}{{newFakeLog(), false}, {monotonicLog{newFakeLog()}, true}} {
		l := newLogStore(&watched{backing: c.backing, limit: time.Second}, func() bool { return false }, func(bool) {})
		var store raft.LogStore = l
		if m, ok := store.(raft.MonotonicLogStore); !ok || m.IsMonotonic() != c.want {
			t.Errorf("%T: monotonic %v, want %v", c.backing, ok && m.IsMonotonic(), c.want)
		}
	}
}

func TestStoreCallsHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var reports []error
		take := func() []error {
			mu.Lock()
			defer mu.Unlock()
			taken := reports
			reports = nil
			return taken
		}
		log := newFakeLog()
		w := &watched{backing: log, limit: time.Second, report: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, err)
		}}
		for name, call := range map[string]func() error{
			"append":       func() error { return w.StoreLogs([]*raft.Log{{Index: 1}}) },
			"append one":   func() error { return w.StoreLog(&raft.Log{Index: 2}) },
			"write a term": func() error { return w.SetUint64([]byte(currentTermKey), 1) },
			"write a vote": func() error { return w.Set([]byte("LastVoteCand"), []byte("x")) },
		} {
			log.hang = make(chan struct{})
			take() // none yet
			done := make(chan error, 1)
			go func() { done <- call() }()
			<-time.After(999 * time.Millisecond)
			synctest.Wait()
			if early := take(); len(early) > 0 {
				t.Errorf("%s: reported before its limit", name)
			}
			<-time.After(2 * time.Millisecond)
			synctest.Wait()
			if late := take(); len(late) != 1 || !errors.Is(late[0], ErrStalled) {
				t.Errorf("%s: reported %v", name, late)
			}
			close(log.hang)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestStoreErrorsEndRaftsGoroutineInsteadOfPanic(t *testing.T) {
	broken := errors.New("input/output error")
	for name, call := range map[string]func(*logStore){
		"the term": func(l *logStore) { _ = l.SetUint64([]byte(currentTermKey), 3) },
		"a read":   func(l *logStore) { _ = l.GetLog(9, &raft.Log{}) },
	} {
		t.Run(name, func(t *testing.T) {
			var reported error
			log := &brokenReads{fakeLog: newFakeLog(), err: broken}
			log.fakeLog.err = broken
			l := newLogStore(&watched{backing: log, limit: time.Minute, report: func(err error) { reported = err }},
				func() bool { return false }, func(bool) {})
			returned, ended := false, make(chan struct{})
			go func() {
				defer close(ended)
				call(l)
				returned = true
			}()
			<-ended
			if returned || !errors.Is(reported, broken) {
				t.Errorf("returned %v, reported %v", returned, reported)
			}
		})
	}
}

type brokenReads struct {
	*fakeLog
	err error
}

func (b *brokenReads) GetLog(uint64, *raft.Log) error { return b.err }

func TestAlign(t *testing.T) {
	entries := func(term uint64, from, to uint64) (logs []*raft.Log) {
		for i := from; i <= to; i++ {
			logs = append(logs, &raft.Log{Index: i, Term: term})
		}
		return logs
	}
	at := &pointer{Index: 10, Term: 3}
	for name, c := range map[string]struct {
		logs        []*raft.Log
		first, last uint64 // afterwards
		term        uint64 // that is answered for the boundary
	}{
		"empty":                               {nil, 0, 0, 3},
		"fits":                                {entries(3, 1, 12), 1, 12, 3},
		"fits at its end":                     {entries(3, 5, 10), 5, 10, 3},
		"compacted just behind":               {entries(3, 11, 14), 11, 14, 3},
		"compacted further":                   {entries(3, 13, 14), 13, 14, 3},
		"shorter, never mind whether it fits": {entries(2, 1, 8), 0, 0, 3},
		"differs and is longer":               {entries(2, 1, 20), 11, 20, 3},
		"differs and ends there":              {entries(2, 4, 10), 0, 0, 3},
		"a gap over it":                       {slices.Concat(entries(2, 1, 5), entries(3, 15, 20)), 11, 20, 3}, // 11: the in-memory store knows no gaps
	} {
		for kind, open := range map[string]func() LogBacking{"in memory": func() LogBacking { return newFakeLog() },
			"in raft-wal": func() LogBacking { return newWALLog(t) }} {
			if kind == "in raft-wal" && name == "a gap over it" {
				continue // raft-wal takes none
			}
			t.Run(name+" "+kind, func(t *testing.T) { checkAlign(t, open(), at, c.logs, c.first, c.last, c.term) })
		}
	}
}

// newWALLog is a log in raft-wal of its own.
func newWALLog(t *testing.T) LogBacking {
	t.Helper()
	log, err := OpenLog(filepath.Join(t.TempDir(), raftName), LogInWAL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func checkAlign(t *testing.T, log LogBacking, at *pointer, logs []*raft.Log, wantFirst, wantLast, wantTerm uint64) {
	if len(logs) > 0 {
		if err := log.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	leading := false
	l := newLogStore(&watched{backing: log, limit: time.Minute, report: func(err error) { t.Error(err) }},
		func() bool { return leading }, func(bool) {})
	for range 2 { // again, as after a crash
		if err := l.align(at); err != nil {
			t.Fatal(err)
		}
	}
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	if len(logs) > 0 && wantFirst == 0 {
		if err := l.GetLog(logs[0].Index, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) && logs[0].Index != at.Index {
			t.Errorf("an entry that differs is still there: %v", err)
		}
	} else if first != wantFirst || last != wantLast {
		t.Errorf("entries %d to %d, want %d to %d", first, last, wantFirst, wantLast)
	}
	var boundary raft.Log
	if err := l.GetLog(at.Index, &boundary); err != nil || boundary.Term != wantTerm {
		t.Errorf("the boundary's term is %d (%v), want %d", boundary.Term, err, wantTerm)
	}
	leading = true
	if err := l.GetLog(at.Index, &boundary); err == nil && boundary.Type == boundaryType {
		t.Error("a leader was given the boundary for an entry")
	}
}

func TestStoredTellsOfCommands(t *testing.T) {
	var told []bool
	l := newLogStore(&watched{backing: newFakeLog(), limit: time.Minute}, func() bool { return false }, func(c bool) { told = append(told, c) })
	for _, log := range []*raft.Log{{Index: 1, Type: raft.LogConfiguration}, {Index: 2, Type: raft.LogNoop}, {Index: 3, Type: raft.LogCommand}} {
		if err := l.StoreLog(log); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(told, []bool{false, false, true}) {
		t.Errorf("%v", told)
	}
}
