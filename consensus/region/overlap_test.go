package region

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// overlapping is a log store over a disk that can hang, of a leader that may overlap.
func overlapping(t *testing.T) (l *logStore, disk *fakeLog, leads, may *atomic.Bool) {
	t.Helper()
	disk, leads, may = newFakeLog(), &atomic.Bool{}, &atomic.Bool{}
	l = newLogStore(&watched{backing: disk, limit: time.Hour, report: func(error) {}}, leads.Load, func(bool) {})
	l.may = may.Load
	leads.Store(true)
	may.Store(true)
	return l, disk, leads, may
}

func command(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fmt.Append(nil, index)}
}

// waits says whether fn has not returned although everything else in the bubble waits; release lets it return.
func waits(release func(), fn func()) bool {
	var done atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended) // whatever ends the goroutine
		fn()
		done.Store(true)
	}()
	synctest.Wait()
	waited := !done.Load()
	release()
	<-ended
	return waited
}

func (l *fakeLog) hangs() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hang := make(chan struct{})
	l.hang = hang
	return func() {
		l.mu.Lock()
		l.hang = nil
		l.mu.Unlock()
		close(hang)
	}
}

// What is being written can be read and sent by the leader. Whoever acts on its being on the disk waits.
func TestOverlapShowsWhatIsBeingWrittenToTheLeaderAlone(t *testing.T) {
	var got raft.Log
	for name, tc := range map[string]struct {
		do   func(l *logStore, leads *atomic.Bool)
		want bool
	}{
		"the leader reads it":          {func(l *logStore, _ *atomic.Bool) { _ = l.GetLog(2, &got) }, false},
		"the leader reads one before":  {func(l *logStore, _ *atomic.Bool) { _ = l.GetLog(1, &got) }, false},
		"who led before reads it":      {func(l *logStore, leads *atomic.Bool) { leads.Store(false); _ = l.GetLog(2, &got) }, true},
		"who led before reads another": {func(l *logStore, leads *atomic.Bool) { leads.Store(false); _ = l.GetLog(1, &got) }, false},
		"an answer vouches for it":     {func(l *logStore, _ *atomic.Bool) { _ = l.await(2, nil) }, true},
		"an answer vouches for more":   {func(l *logStore, _ *atomic.Bool) { _ = l.await(3, nil) }, true},
		"an answer vouches for less":   {func(l *logStore, _ *atomic.Bool) { _ = l.await(1, nil) }, false},
		"the next write":               {func(l *logStore, _ *atomic.Bool) { _ = l.StoreLog(command(3)) }, true},
		"a configuration": {func(l *logStore, _ *atomic.Bool) {
			_ = l.StoreLog(&raft.Log{Index: 3, Term: 1, Type: raft.LogConfiguration})
		}, true},
		"where the log ends":  {func(l *logStore, _ *atomic.Bool) { _, _ = l.LastIndex() }, true},
		"cutting the log":     {func(l *logStore, _ *atomic.Bool) { _ = l.DeleteRange(2, 2) }, true},
		"closing it":          {func(l *logStore, _ *atomic.Bool) { _ = l.close(time.Hour) }, true},
		"a vote is apart":     {func(l *logStore, _ *atomic.Bool) { _, _ = l.GetUint64([]byte(currentTermKey)) }, false},
		"where it begins too": {func(l *logStore, _ *atomic.Bool) { _, _ = l.FirstIndex() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, disk, leads, _ := overlapping(t)
				if err := errors.Join(l.StoreLog(command(1)), l.settle()); err != nil {
					t.Fatal(err)
				}
				release := disk.hangs()
				if err := l.StoreLog(command(2)); err != nil {
					t.Fatal(err)
				}
				if got := waits(release, func() { tc.do(l, leads) }); got != tc.want {
					t.Errorf("waits for the disk: %v", got)
				}
			})
		})
	}
}

// Who commits alone, and what may make a leader commit alone, is on the disk first.
func TestOverlapOnlyWhereAnAnswerIsNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		may  bool
		kind raft.LogType
		want bool
	}{
		"a proof, with other voters":           {true, raft.LogCommand, false},
		"the first entry of a term":            {true, raft.LogNoop, false},
		"a proof, alone or without leadership": {false, raft.LogCommand, true},
		"a configuration":                      {true, raft.LogConfiguration, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, disk, _, may := overlapping(t)
				may.Store(tc.may)
				entry := command(1)
				entry.Type = tc.kind
				if got := waits(disk.hangs(), func() { _ = l.StoreLog(entry) }); got != tc.want {
					t.Errorf("waits for the disk: %v", got)
				}
				if err := l.settle(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Nothing is stored after a write that failed, and nobody is told that it was.
func TestOverlapEndsWithAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, disk, _, _ := overlapping(t)
		broken := errors.New("no such luck")
		disk.err = broken
		if err := l.StoreLog(command(1)); err != nil {
			t.Fatalf("the write that fails later: %v", err)
		}
		synctest.Wait()
		disk.err = nil
		_, last := l.LastIndex()
		for what, err := range map[string]error{"awaited": l.await(1, nil), "the next write": l.StoreLog(command(2)), "the end": last} {
			if !errors.Is(err, broken) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := l.await(0, nil); err != nil {
			t.Errorf("what was stored before: %v", err)
		}
		if err := l.close(time.Second); err != nil {
			t.Error(err)
		}
		if last, _ := disk.LastIndex(); last != 0 {
			t.Errorf("the disk has entries up to %d", last)
		}
	})
}

// unsealed keeps everything but proofs out of the log.
func unsealed(_ raft.ServerID, cfg *Config) { cfg.SealInterval = time.Hour }

// While the leader's disk hangs its followers get an entry and vouch for it; nothing of it may be acknowledged, or a power cut
// at the leader and one follower, which a region of three survives otherwise, could lose what was.
func TestNothingIsAcknowledgedBeforeTheLeaderHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, unsealed)
		c.start()
		leader := c.leader(10 * time.Second)
		synctest.Wait()
		before, _ := leader.log.LastIndex()
		release := leader.log.hangs()
		err := leader.propose(300*time.Millisecond, "on the way") // below LeaseTimeout: it leads all the time
		if !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("acknowledged before the leader had it: %v", err)
		}
		sent := 0
		for _, n := range c.others(leader) {
			if last, _ := n.log.LastIndex(); last > before {
				sent++
			}
		}
		if sent == 0 {
			t.Fatal("the followers did not get it while the leader wrote: nothing overlapped")
		}
		if applied := leader.current().Status().AppliedIndex; applied > before {
			t.Fatalf("applied up to %d", applied)
		}
		release()
		if err := leader.propose(time.Second, "after it"); err != nil {
			t.Fatal(err)
		}
		entries := c.agree(time.Second)
		if got := entries[len(entries)-2:]; got[0] != "on the way" || got[1] != "after it" {
			t.Errorf("the ledger ends with %q", got)
		}
		c.stop()
	})
}

// A region of one voter commits alone, so it writes first.
func TestALoneVoterWritesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, unsealed)
		c.start()
		alone := c.leader(10 * time.Second)
		synctest.Wait()
		release := alone.log.hangs()
		if err := alone.propose(300*time.Millisecond, "on the way"); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("acknowledged before it was on the only disk: %v", err)
		}
		release()
		if err := alone.propose(time.Second, "after it"); err != nil {
			t.Fatal(err)
		}
		c.stop()
	})
}
