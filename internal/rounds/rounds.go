package rounds

import (
	"sync"
	"time"
)

// End is what a round returns to be the last.
const End time.Duration = -1

// Rounds are what [Rounds.Start] starts; the zero value has not been started. Safe for concurrent use.
type Rounds struct {
	wg sync.WaitGroup // has a place from Start until the last round

	mu      sync.Mutex
	round   func() time.Duration
	timer   *time.Timer // of the next round, nil before the start
	due     time.Time   // when it is
	working bool
	sooner  bool // a round is wanted at due, whatever the one under way says
	ended   bool // there will be no further round
}

// Start has the first round in so long, and each further one as long after the one before as that says.
func (r *Rounds) Start(first time.Duration, round func() (next time.Duration)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil || r.ended {
		return
	}
	r.round, r.due = round, time.Now().Add(first)
	r.wg.Add(1)
	r.timer = time.AfterFunc(first, r.work)
}

func (r *Rounds) work() {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		r.wg.Done()
		return
	}
	r.working, r.sooner = true, false
	r.mu.Unlock()
	next := r.round()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working = false
	if r.ended || next < 0 {
		r.ended = true
		r.wg.Done()
		return
	}
	due := time.Now().Add(next)
	if r.sooner && r.due.Before(due) {
		due = r.due
	}
	r.due = due
	r.timer.Reset(max(0, time.Until(due)))
}

// Within has the next round no later than in so long.
func (r *Rounds) Within(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := time.Now().Add(d)
	switch {
	case r.timer == nil || r.ended:
	case r.working:
		if !r.sooner || due.Before(r.due) {
			r.sooner, r.due = true, due
		}
	case due.Before(r.due) && r.timer.Stop():
		r.due = due
		r.timer = time.AfterFunc(d, r.work) // moving one that runs has the runtime look at all others
	}
}

// Stop has no further round and waits for the one under way. It must not be called by a round.
func (r *Rounds) Stop() {
	r.mu.Lock()
	if !r.ended && r.timer != nil && !r.working && r.timer.Stop() {
		r.wg.Done()
	}
	r.ended = true
	r.mu.Unlock()
	r.wg.Wait()
}
