package region

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// hashicorp/raft #695: a heartbeat that is served off the main thread, as NetworkTransport does once it has a handler, moves the
// term under a leader that is about to append: the entry then bears the term of another leader, and the two logs differ at one
// index and term. The test provokes it with our transport made to offer that way, and shows that ours does not.
func TestHeartbeatDoesNotMoveTheTermUnderTheLeader(t *testing.T) {
	for name, offered := range map[string]bool{"main thread": false, "the way that raft takes if it can": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { heartbeatOfTheNextTerm(t, offered) })
		})
	}
}

// besideTheMainThread is a transport that offers what ours refuses.
type besideTheMainThread struct{ *Transport }

func (b besideTheMainThread) SetHeartbeatHandler(handle func(raft.RPC)) {
	if r, err := b.remote("b"); err == nil {
		r.trans.SetHeartbeatHandler(handle)
	}
}

func heartbeatOfTheNextTerm(t *testing.T, offered bool) {
	n := newMemNet(time.Millisecond)
	admit := func(raft.ServerID, any) error { return nil }
	ours, err1 := NewTransport(TransportConfig{Network: &memNode{n, "a"}, Admit: admit})
	other, err2 := NewTransport(TransportConfig{Network: &memNode{n, "b"}, Admit: admit})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var transport raft.Transport = ours
	if offered {
		transport = besideTheMainThread{ours}
	}
	cfg := Config{}.withDefaults()
	log := newLogStore(&watched{backing: newFakeLog(), limit: time.Minute, report: func(err error) { t.Error(err) }}, func() bool { return true }, func(bool) {})
	snapshots := raft.NewInmemSnapshotStore()
	alone := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}
	if err := raft.BootstrapCluster(cfg.raft("a"), log, log, snapshots, transport, alone); err != nil {
		t.Fatal(err)
	}
	leader, err := raft.NewRaft(cfg.raft("a"), countingFSM{}, log, log, snapshots, transport)
	if err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "a to lead", func() bool { return leader.Apply([]byte("first"), time.Second).Error() == nil })
	term := leader.CurrentTerm()

	heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("b"), Addr: []byte("b")}, Term: term + 1}
	var answer raft.AppendEntriesResponse
	if err := other.AppendEntries("a", "a", heartbeat, &answer); err != nil || answer.Term != term+1 {
		t.Fatalf("the heartbeat of b: %+v, %v", answer, err)
	}
	err = leader.Apply([]byte("second"), time.Second).Error()
	last, lookErr := log.LastIndex()
	var entry raft.Log
	if err := errors.Join(lookErr, log.GetLog(last, &entry)); err != nil {
		t.Fatal(err)
	}
	forged := entry.Term == term+1 && string(entry.Data) == "second"
	switch {
	case offered && !forged:
		t.Errorf("offered the way, raft appended %q in term %d (%v), which is right: the fault is gone, and so may its wrapper go", entry.Data, entry.Term, err)
	case !offered && (err == nil || forged):
		t.Errorf("a, which led in term %d, appended %q in term %d, which b leads: %v", term, entry.Data, entry.Term, err)
	}
	if err := errors.Join(leader.Shutdown().Error(), ours.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}

// countingFSM applies nothing.
type countingFSM struct{}

func (countingFSM) Apply(*raft.Log) any                 { return nil }
func (countingFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none is asked for") }
func (countingFSM) Restore(r io.ReadCloser) error       { return r.Close() }

// hashicorp/raft #617: log entries go on while a snapshot is taken, or sent, and the log is cut before followers have them.
func TestTruncationDuringASnapshotOutrunsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &atomic.Int64{} // milliseconds that a received snapshot takes to be verified
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.SnapshotEntries, cfg.TrailingEntries, cfg.SealInterval = 50, 100, 50*time.Millisecond
			cfg.VerifyState = func(dir string) (uint64, error) {
				<-time.After(time.Duration(slow.Load()) * time.Millisecond)
				return verifyFake(dir)
			}
		})
		c.start()
		l := c.leader(10 * time.Second)
		stop := c.stream(l)

		// One that takes long, while many times what the log keeps goes by: followers that keep up need none.
		before := []int{c.others(l)[0].opens(), c.others(l)[1].opens()}
		var slept atomic.Bool
		l.fake().mu.Lock()
		l.fake().onSync = func() { slept.Store(true); <-time.After(4 * time.Second) }
		l.fake().mu.Unlock()
		from := l.current().Status().LastIndex
		until(t, time.Minute, "a slow snapshot", func() bool { return l.current().Status().SnapshotIndex > from && slept.Load() })
		l.fake().mu.Lock()
		l.fake().onSync = nil
		l.fake().mu.Unlock()
		if went := l.current().Status().LastIndex - from; went < 400 {
			t.Errorf("only %d entries went by: the test does not test", went)
		}
		for i, o := range c.others(l) {
			if o.opens() != before[i] {
				t.Errorf("%s was sent a snapshot, and had missed nothing", o.id)
			}
		}

		// One that was away needs longer to take a snapshot in than the log keeps entries for.
		away := c.others(l)[0]
		c.crash(away)
		gone := l.current().Status().LastIndex
		until(t, time.Minute, "the log to be cut", func() bool { return l.current().Status().SnapshotIndex > gone+200 })
		slow.Store(3000)
		opened, at := away.opens(), l.current().Status().LastIndex
		c.restart(away)
		until(t, time.Minute, "it to catch up", func() bool {
			return away.current().Status().LastIndex+20 > l.current().Status().LastIndex
		})
		if went := l.current().Status().LastIndex - at; went < 300 {
			t.Errorf("only %d entries went by: the test does not test", went)
		}
		if got := away.opens() - opened; got < 2 || got > 3 { // once when it starts
			t.Errorf("it was sent %d snapshots", got-1)
		}
		stop()
		c.agree(10 * time.Second)
		c.stop()
	})
}

// stream proposes some 200 proofs a second until it is stopped.
func (c *cluster) stream(l *node) (stop func()) {
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-enough:
				return
			case <-time.After(time.Millisecond):
			}
			if err := l.propose(5*time.Second, fmt.Sprintf("stream %d", i)); err != nil {
				c.t.Error(err)
				return
			}
		}
	}()
	return func() { close(enough); <-done }
}

// What is kept for a receiver is bounded, and nothing is kept of what a conflict removes.
func TestLogKeptForAReceiver(t *testing.T) {
	for name, c := range map[string]struct {
		needed, max         uint64
		from, to            uint64 // removed by Raft
		wantFirst, wantLast uint64
	}{
		"nobody needs anything":  {0, 100, 1, 60, 61, 100},
		"what is needed is kept": {40, 100, 1, 60, 40, 100},
		"all of it is needed":    {1, 100, 1, 60, 1, 100},
		"needed further on":      {80, 100, 1, 60, 61, 100},
		"more than is kept":      {40, 60, 1, 60, 61, 100},
		"as much as is kept":     {41, 60, 1, 60, 41, 100},
		"a conflict at the end":  {40, 100, 30, 100, 1, 29},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogStore(&watched{backing: newFakeLog(), limit: time.Minute}, func() bool { return true }, func(bool) {})
			l.needed, l.neededMax = func() uint64 { return c.needed }, c.max
			for i := uint64(1); i <= 100; i++ {
				if err := l.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.DeleteRange(c.from, c.to); err != nil {
				t.Fatal(err)
			}
			if first, last, err := span(l); err != nil || first != c.wantFirst || last != c.wantLast {
				t.Errorf("entries %d to %d are left, want %d to %d: %v", first, last, c.wantFirst, c.wantLast, err)
			}
		})
	}
}
