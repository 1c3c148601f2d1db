package gossip

import "sync"

// delivery holds accepted messages until their handlers have time. It is a list and not a
// channel, because a channel of this length takes its memory even while it is empty, and a
// simulator runs ten thousand.
type delivery struct {
	max int

	mu      sync.Mutex
	waiting []Message
	wake    chan struct{} // has one when something waits
}

func newDelivery(most int) *delivery { return &delivery{max: most, wake: make(chan struct{}, 1)} }

// put says whether there was a place for the message.
func (d *delivery) put(m Message) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) >= d.max {
		return false
	}
	d.waiting = append(d.waiting, m)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return true
}

// next gives the oldest message that waits.
func (d *delivery) next() (m Message, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		d.waiting = nil
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

// deliverAll hands messages to their handlers, one after the other.
func (r *Router) deliverAll() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.deliver.wake:
		}
		for r.ctx.Err() == nil {
			m, ok := r.deliver.next()
			if !ok {
				break
			}
			r.handlers[m.Topic.Kind].Deliver(m)
		}
	}
}
