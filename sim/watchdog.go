package sim

import (
	"bytes"
	"runtime/pprof"
	"sync"
	"time"
)

// Watchdog lives outside of virtual time. A goroutine that waits for a lock whose holder sleeps
// stops virtual time for ever, and silently: the watchdog sees that and says who waits.
type Watchdog struct {
	limit   time.Duration
	expired func(dump []byte)
	done    chan struct{}
	wg      sync.WaitGroup

	mu   sync.Mutex
	seen mark
	at   time.Time // when it moved last
}

// mark is what moves while a run does.
type mark struct {
	phase   string
	virtual time.Duration
	up      int
}

// watchdogLooks is how often it looks within its limit.
const watchdogLooks = 10

// NewWatchdog calls expired, once, with the stacks of all goroutines when a run that it was shown
// has not moved for the limit in real time. It must be made, and told, outside of the bubble.
func NewWatchdog(limit time.Duration, expired func(dump []byte)) *Watchdog {
	d := &Watchdog{limit: limit, expired: expired, done: make(chan struct{}), at: time.Now()}
	d.wg.Go(func() {
		tick := time.NewTicker(max(1, limit/watchdogLooks))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-d.done:
				return
			}
			if d.stands() {
				d.expired(waiters())
				return
			}
		}
	})
	return d
}

// Saw tells how far the run is. While it closes, time need not move.
func (d *Watchdog) Saw(p Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if is := (mark{p.Phase, p.Virtual, p.NodesUp}); is != d.seen {
		d.seen, d.at = is, time.Now()
	}
}

func (d *Watchdog) stands() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.at) > d.limit
}

// Stop ends the watch.
func (d *Watchdog) Stop() {
	close(d.done)
	d.wg.Wait()
}

// waiters are the stacks of all goroutines, those of one stack counted together: there may be
// hundreds of thousands.
func waiters() []byte {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // into memory
	return b.Bytes()
}
