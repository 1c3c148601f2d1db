package sim

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// TestWatchdog has time stand still: somebody waits for a lock of which the holder waits for time.
// The runtime says nothing of it; the watchdog says who waits.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var dump []byte
	expired := make(chan struct{})
	dog := NewWatchdog(200*time.Millisecond, func(d []byte) {
		dump = d
		close(expired)
		mu.Unlock() // as nobody in the bubble ever would
	})
	defer dog.Stop()
	var virtual time.Duration
	if err := Run(func() error {
		start := time.Now()
		mu.Lock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			waitsForTheLock(&mu)
		}()
		<-time.After(time.Hour)
		<-done
		virtual = time.Since(start)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	<-expired
	if virtual != time.Hour {
		t.Errorf("%v of virtual time passed", virtual)
	}
	if !bytes.Contains(dump, []byte("waitsForTheLock")) {
		t.Errorf("the dump does not name who waits:\n%s", dump)
	}
}

//go:noinline
func waitsForTheLock(mu *sync.Mutex) {
	mu.Lock()
	mu.Unlock() //nolint:staticcheck,gocritic // having had the lock is the point
}

// TestWatchdogIsQuiet while anything moves.
func TestWatchdogIsQuiet(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	dog := NewWatchdog(limit, func([]byte) { t.Error("it barked") })
	tick := time.NewTicker(limit / 10)
	defer tick.Stop()
	for i := range 30 {
		switch i % 3 {
		case 0:
			dog.Saw(Progress{Virtual: time.Duration(i)})
		case 1:
			dog.Saw(Progress{Virtual: time.Duration(i), NodesUp: i})
		default:
			dog.Saw(Progress{Virtual: time.Duration(i), NodesUp: i, Phase: PhaseClose})
		}
		<-tick.C
	}
	dog.Stop()
}
