package drive

import (
	"context"
	"slices"
	"sync"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
)

// inbox is where what happens waits for the owner. Where the owner is slow, it grows only by
// what is bounded: the newest of each kind, and queues that drop.
type inbox struct {
	wake      chan struct{}
	questions chan *question

	mu sync.Mutex // guards what follows
	waiting
}

// waiting is what the owner takes at once.
type waiting struct {
	agreed   int64 // own seal; -1: none
	executed []string
	diverged []attest.Diverged // one for each region
	applied  []fsm.Attested
	answers  []attest.Exchanged // to this node's exchanges, at most as many as those
	heard    [][]byte
	lost     bool // more was applied than there was place for
	dropped  int  // messages heard
}

// question is an exchange that another region's node opened.
type question struct {
	region   string
	request  *attest.Exchange
	answered chan *attest.Exchange
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), questions: make(chan *question), waiting: waiting{agreed: -1}}
}

func (in *inbox) take() waiting {
	in.mu.Lock()
	defer in.mu.Unlock()
	got := in.waiting
	in.waiting = waiting{agreed: -1}
	return got
}

// put changes what waits, under the lock, and wakes the owner.
func (in *inbox) put(change func(w *waiting)) {
	in.mu.Lock()
	change(&in.waiting)
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// ask hands a question to the owner and waits for its answer.
func (in *inbox) ask(ctx context.Context, q *question) (*attest.Exchange, error) {
	select {
	case in.questions <- q:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case x := <-q.answered:
		return x, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Applied is told every result of the own Raft after it can be read; results that are none of
// attestation's are passed over.
func (d *Driver) Applied(res *fsm.Result) {
	if res.Attested == nil {
		return
	}
	a := *res.Attested
	d.inbox.put(func(w *waiting) {
		if len(w.applied) >= AppliedMax {
			w.applied, w.lost = nil, true
		}
		w.applied = append(w.applied, a)
	})
}

// Restored says that the own state was replaced by a snapshot.
func (d *Driver) Restored() {
	d.inbox.put(func(w *waiting) { w.applied, w.lost = nil, true })
}

// Agreed is told each newer own seal on which a majority of the voters agrees (link.SealsConfig.OnAgreed).
func (d *Driver) Agreed(number int64) {
	d.inbox.put(func(w *waiting) { w.agreed = max(w.agreed, number) })
}

// Executed is told when the copy of a region's ledger has a seal more.
func (d *Driver) Executed(origin string) {
	d.inbox.put(func(w *waiting) {
		w.diverged = slices.DeleteFunc(w.diverged, func(ev attest.Diverged) bool { return ev.Origin == origin })
		if !slices.Contains(w.executed, origin) {
			w.executed = append(w.executed, origin)
		}
	})
}

// Diverged is told when the copy of a region's ledger refuses what the region serves, with a code
// of a refusal (package certificate) and a sentence.
func (d *Driver) Diverged(origin, code, detail string) {
	d.inbox.put(func(w *waiting) {
		w.diverged = slices.DeleteFunc(w.diverged, func(ev attest.Diverged) bool { return ev.Origin == origin })
		w.diverged = append(w.diverged, attest.Diverged{Origin: origin, Code: code, Detail: detail})
	})
}

// Heard is told every message of attestation that gossip delivers.
func (d *Driver) Heard(data []byte) {
	d.inbox.put(func(w *waiting) {
		if len(w.heard) >= HeardMax {
			w.dropped++
			return
		}
		w.heard = append(w.heard, data)
	})
}
