package gossip

import "sync"

// delivery holds accepted messages until their handlers have time. It is a list and not a
// channel, because a channel of this length takes its memory even while it is empty, and what
// delivers is a goroutine only while something waits: a simulator runs ten thousand.
type delivery struct {
	max int

	mu      sync.Mutex
	waiting []Message
	begin   func() // starts what delivers until nothing waits; nil before the router starts and once it is closed
	busy    bool   // that runs
}

func newDelivery(most int) *delivery { return &delivery{max: most} }

// put says whether there was a place for the message.
func (d *delivery) put(m Message) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) >= d.max {
		return false
	}
	d.waiting = append(d.waiting, m)
	d.stir()
	return true
}

// start has messages delivered from now on, stop has nothing begun any more.
func (d *delivery) start(begin func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin = begin
	d.stir()
}

func (d *delivery) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin = nil
}

// stir is called under mu.
func (d *delivery) stir() {
	if !d.busy && d.begin != nil && len(d.waiting) > 0 {
		d.busy = true
		d.begin()
	}
}

// next gives the oldest message that waits. If there is none, whoever asks must end.
func (d *delivery) next() (m Message, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		d.waiting, d.busy = nil, false
		return Message{}, false
	}
	m = d.waiting[0]
	d.waiting[0] = Message{}
	d.waiting = d.waiting[1:]
	return m, true
}

func (d *delivery) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}

// deliverAll hands the messages that wait to their handlers, one after the other.
func (r *Router) deliverAll() {
	for r.ctx.Err() == nil {
		m, ok := r.deliver.next()
		if !ok {
			return
		}
		r.handlers[m.Topic.Kind].Deliver(m)
	}
}
