package sim

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// trouble is what is the matter with a node's machine; its zero value is a sound one. What the node
// runs into is counted.
type trouble struct {
	held  atomic.Pointer[chan struct{}] // the machine stands still until it is closed
	off   atomic.Bool                   // nothing leaves it or comes in
	slow  atomic.Int64                  // nanoseconds that each write of Raft's log takes
	full  atomic.Bool                   // nothing is free
	fails atomic.Bool                   // writes of Raft's log fail
	torn  atomic.Bool                   // the next one is cut short, and the power with it
	skew  atomic.Int64                  // nanoseconds that the wall clock is ahead
	count atomic.Int64
}

// write is asked before each write of Raft's log and votes.
func (t *trouble) write() error {
	if ch := t.held.Load(); ch != nil {
		t.count.Add(1)
		<-*ch
	}
	if d := time.Duration(t.slow.Load()); d > 0 {
		t.count.Add(1)
		<-time.After(d)
	}
	if t.fails.Load() {
		t.count.Add(1)
		return syscall.EIO
	}
	return nil
}

func (t *trouble) free() int64 {
	if t.full.Load() {
		t.count.Add(1)
		return 0
	}
	return freeBytes
}

func (t *trouble) wallOff() time.Duration {
	d := time.Duration(t.skew.Load())
	if d != 0 {
		t.count.Add(1)
	}
	return d
}

// tears says once whether the power fails during this write.
func (t *trouble) tears() bool {
	if !t.torn.CompareAndSwap(true, false) {
		return false
	}
	t.count.Add(1)
	t.off.Store(true)
	return true
}

// tear writes the first half of some log entries, the last thing that the disk does. What was
// written is whole: a log that finds half an entry at its end drops it.
func (l *raftLog) tear(logs []*raft.Log) error {
	l.mount.disk.mu.Lock()
	defer l.mount.disk.mu.Unlock()
	l.mount.dead.Store(true)
	return l.InmemStore.StoreLogs(logs[:len(logs)/2])
}

// hold makes the machine stand still: nothing is written, nothing leaves it or comes in. Its timers
// run on, as those of a program that was stopped do once it goes on.
func (t *trouble) hold() {
	ch := make(chan struct{})
	t.held.Store(&ch)
	t.off.Store(true)
}

// resume ends hold.
func (t *trouble) resume() {
	if ch := t.held.Swap(nil); ch != nil {
		close(*ch)
	}
	t.off.Store(false)
}
