package gossip

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Announcing again: at first after announceBase, doubled up to announceMax, each wait
// drawn between three and five quarters of that, and never more than outboxPerSecond.
const (
	announceBase    = 2 * time.Second
	announceMax     = time.Minute
	outboxPerSecond = 16
	outboxIdle      = time.Hour
)

// Announcement says how long a payload is announced.
type Announcement struct {
	// Until ends it; required.
	Until time.Time
	// Done, if set, is asked before each repetition and ends it by true. It must be quick.
	// Without it the payload is announced again only when somebody new listens or a queue
	// was full; with it also to those who had it once, for they may have been unable to use it.
	Done func() bool
}

// outbox holds what is to be announced again.
type outbox struct {
	cfg *Config

	mu      sync.Mutex
	entries []*outboxEntry // the oldest first
	bytes   int
	evicted uint64
}

type outboxEntry struct {
	topic     Topic
	payload   []byte
	how       Announcement
	attempt   uint8
	wait      time.Duration
	due       time.Time
	listeners uint64 // the router's count when it was announced last
}

func newOutbox(cfg *Config) *outbox { return &outbox{cfg: cfg} }

// Announce publishes a payload now, and again, with growing waits, until it is done. Where
// there are too many announcements the oldest makes room. The payload must not be changed.
func (r *Router) Announce(t Topic, payload []byte, how Announcement) error {
	listeners := r.listeners.Load()
	if err := r.publish(t, 0, payload); err != nil {
		return err
	}
	r.outbox.add(&outboxEntry{topic: t, payload: payload, how: how, wait: announceBase, due: time.Now().Add(spread(announceBase)), listeners: listeners})
	r.stir()
	return nil
}

func spread(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1) //nolint:gosec // spreads announcements, guards no secret
}

func (o *outbox) add(e *outboxEntry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.entries = append(o.entries, e)
	o.bytes += len(e.payload)
	for len(o.entries) > o.cfg.OutboxMax || o.bytes > o.cfg.OutboxBytesMax {
		o.bytes -= len(o.entries[0].payload)
		o.entries[0] = nil
		o.entries = o.entries[1:]
		o.evicted++
	}
}

// size is how many entries and bytes wait, and how many were given up to make room.
func (o *outbox) size() (entries, bytes int, evicted uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries), o.bytes, o.evicted
}

// take removes what is done and gives one entry that is due, or says when one will be.
func (o *outbox) take(now time.Time, listeners uint64) (due *outboxEntry, next time.Time) {
	next = now.Add(outboxIdle)
	var waited, ended []*outboxEntry
	o.mu.Lock()
	for _, e := range o.entries {
		if now.Before(e.due) {
			next = earlier(next, e.due)
		} else {
			waited = append(waited, e)
		}
	}
	o.mu.Unlock()
	for _, e := range waited { // Done is the caller's, and is not asked under mu
		if !now.Before(e.how.Until) || e.attempt == attemptMax || e.how.Done != nil && e.how.Done() {
			ended = append(ended, e)
		} else if again, at := o.again(e, now, listeners); again {
			due, next = e, earlier(next, at)
			break
		} else {
			next = earlier(next, at)
		}
	}
	o.remove(ended)
	return due, next
}

// again says whether an entry that is due is to be published, and when it is due next.
func (o *outbox) again(e *outboxEntry, now time.Time, listeners uint64) (publish bool, next time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.wait = min(2*e.wait, announceMax)
	e.due = now.Add(spread(e.wait))
	if e.how.Done == nil && e.listeners == listeners {
		return false, e.due // everybody here has it
	}
	e.attempt++
	e.listeners = listeners
	return true, e.due
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (o *outbox) remove(ended []*outboxEntry) {
	if len(ended) == 0 {
		return
	}
	gone := make(map[*outboxEntry]bool, len(ended))
	for _, e := range ended {
		gone[e] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := o.entries[:0]
	for _, e := range o.entries {
		if gone[e] {
			o.bytes -= len(e.payload)
		} else {
			kept = append(kept, e)
		}
	}
	clear(o.entries[len(kept):])
	o.entries = kept
}

// hurry makes what new listeners did not hear due soon.
func (o *outbox) hurry(now time.Time, listeners uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.entries {
		if e.listeners != listeners {
			e.wait, e.due = announceBase, earlier(e.due, now.Add(spread(announceBase)))
		}
	}
}

// announce publishes one entry that is due and says how long nothing else has to be done.
func (r *Router) announce() time.Duration {
	now := time.Now()
	e, next := r.outbox.take(now, r.listeners.Load())
	if e == nil {
		return next.Sub(now)
	}
	if err := r.publish(e.topic, e.attempt, e.payload); err != nil && r.ctx.Err() == nil {
		r.cfg.Logger.Debug("announcing again failed", "topic", e.topic.String(), "error", err)
	}
	r.metrics.reannounced.With(e.topic.Kind.String()).Inc()
	return time.Second / outboxPerSecond
}
