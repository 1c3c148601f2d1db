package memnet

import (
	"sync"
	"time"
)

const (
	// grain is what the time of an arrival is rounded up to, counted from the network's beginning. In
	// virtual time all that arrives at one instant is worked on by all processors, and between two instants
	// they stand still; with an instant of its own for each message a large network would mostly do that.
	grain = 100 * time.Microsecond
	// deadlineGrain is what deadlines are rounded up to: most never come, and each instant costs a timer.
	deadlineGrain = 10 * time.Millisecond
)

// post does what is due at an instant, by one timer for each instant. Timers of their own, which every
// write would move, cost a bubble of ten thousand hosts most of its time: whenever one of its
// timers is moved, the runtime looks at them all.
type post struct {
	born time.Time

	mu    sync.Mutex
	rooms map[time.Duration]*room // by the time since born
}

// room is what is due at one instant.
type room struct {
	pipes []*pipe // whose readers are to look
	calls []func()
}

func newPost() *post { return &post{born: time.Now(), rooms: make(map[time.Duration]*room)} }

// round gives the first instant of a grain that is not before a time.
func (p *post) round(at time.Time, grain time.Duration) time.Time {
	if rest := at.Sub(p.born) % grain; rest > 0 {
		return at.Add(grain - rest)
	}
	return at
}

// wake makes the readers of a pipe look at an instant.
func (p *post) wake(at time.Time, who *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.roomOf(at)
	r.pipes = append(r.pipes, who)
}

// call calls a function on a goroutine of its own, in the instant that some time from now falls into.
func (p *post) call(after time.Duration, f func()) {
	at := p.round(time.Now().Add(after), grain)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.roomOf(at)
	r.calls = append(r.calls, f)
}

// roomOf is called under mu.
func (p *post) roomOf(at time.Time) *room {
	key := at.Sub(p.born)
	r := p.rooms[key]
	if r == nil {
		r = new(room)
		p.rooms[key] = r
		time.AfterFunc(time.Until(at), func() { p.deliver(key) })
	}
	return r
}

func (p *post) deliver(key time.Duration) {
	p.mu.Lock()
	r := p.rooms[key]
	delete(p.rooms, key)
	p.mu.Unlock()
	for _, f := range r.calls {
		go f()
	}
	for _, w := range r.pipes {
		w.due()
	}
}
