package link

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bizra/bizra/pci"
)

// Sizes of what is verified together. One signature alone takes 62 µs, one of 64
// together 24 µs; but one bad signature among them has all verified again one by one.
const (
	batchProofsMax = 64
	batchProofsMin = 8 // below that, more cores gain less than they cost
	// While more than gatherFrom proofs are on their way through the node, one more or less a millisecond later makes no
	// difference to them, but a batch of 8 costs a quarter of 8 signatures alone: what comes waits for
	// company, of a quarter of those on their way, at most for gatherDelay.
	gatherFrom       = 8
	gatherShare      = 4
	gatherDelay      = time.Millisecond
	suspectProofsMax = 16 // of a source that owes for bad signatures
	badCost          = 3  // what a bad signature counts beside the proof itself
	costBytes        = 4 << 10
)

// verdict is what decoding and verifying made of one proof: an envelope or a refusal.
type verdict struct {
	envelope *pci.Envelope
	reject   *pci.Reject
}

// job is one submission to be verified. Its fields are guarded by verifier.mu until
// done is closed; raw is not changed.
type job struct {
	raw       [][]byte
	verdicts  []verdict
	left      int
	abandoned bool
	done      chan struct{}
}

// task is one proof of a job.
type task struct {
	job    *job
	at     int
	source *source
}

// verifier decodes and verifies proofs on a bounded number of goroutines. While one is
// free and little is on its way, what comes is verified at once; else what waits is put together.
// Among sources the one that has cost least goes first, so that none can starve another.
type verifier struct {
	workers     int
	verifyBatch func([]*pci.Envelope) []error // pci.VerifyBatch

	wg sync.WaitGroup // of the workers and of what is admitted

	mu         sync.Mutex // guards what follows
	closed     bool
	busy       int // workers, and callers that verify their own
	sources    map[sourceName]*source
	sweptAt    time.Time
	ready      readySources // those with something waiting
	waiting    int          // tasks of them all
	gathering  *time.Timer  // lets the workers begin with what waits; nil if they need not be told
	virtual    float64      // the cost at which the source served last stood
	proofs     int          // admitted and not released
	bytes      int
	verified   uint64 // proofs
	batches    uint64
	bad        uint64 // signatures
	turnedAway uint64 // submissions
}

func newVerifier(workers int) *verifier {
	return &verifier{workers: workers, verifyBatch: pci.VerifyBatch, sources: make(map[sourceName]*source)}
}

// close admits nothing more and waits for what is admitted.
func (v *verifier) close() {
	v.mu.Lock()
	v.closed = true
	v.begin()
	v.mu.Unlock()
	v.wg.Wait()
}

// verify gives a verdict on each proof of an admitted submission, in order.
func (v *verifier) verify(ctx context.Context, s *source, raw [][]byte) ([]verdict, error) {
	j := &job{raw: raw, verdicts: make([]verdict, len(raw)), left: len(raw), done: make(chan struct{})}
	tasks := make([]task, len(raw))
	for i := range raw {
		tasks[i] = task{j, i, s}
	}
	v.mu.Lock()
	if len(raw) <= batchProofsMin && v.waiting == 0 && v.busy < v.workers && v.proofs <= gatherFrom {
		v.busy++
		v.advance(s)
		v.virtual = max(v.virtual, s.virtual)
		for i := range tasks {
			s.virtual += cost(raw[i])
		}
		v.mu.Unlock()
		v.work(tasks)
		v.pass()
		return j.verdicts, nil
	}
	v.enqueue(s, tasks)
	v.mu.Unlock()
	select {
	case <-j.done:
		return j.verdicts, nil
	case <-ctx.Done():
		v.mu.Lock()
		j.abandoned = true
		v.mu.Unlock()
		return nil, fmt.Errorf("wait for signatures to be verified: %w", context.Cause(ctx))
	}
}

func cost(raw []byte) float64 { return 1 + float64(len(raw))/costBytes }

// advance brings a source that was idle to the present: what it did not use is gone. Under mu.
func (v *verifier) advance(s *source) {
	if len(s.waiting) == 0 {
		s.virtual = max(s.virtual, v.virtual)
	}
}

// enqueue lets tasks wait, and starts workers for them where enough wait and there are fewer workers than may be. Under mu.
func (v *verifier) enqueue(s *source, tasks []task) {
	v.advance(s)
	s.waiting = append(s.waiting, tasks...)
	v.waiting += len(tasks)
	if s.place < 0 {
		heap.Push(&v.ready, s)
	}
	v.gather()
}

// gather starts workers if enough waits to be verified together, else sees to it that they start soon. Under mu.
func (v *verifier) gather() {
	if v.enough() {
		v.begin()
	} else if v.gathering == nil {
		v.gathering = time.AfterFunc(gatherDelay, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			if !v.closed {
				v.begin()
			}
		})
	}
}

// enough says whether what waits need not wait for company. Under mu.
func (v *verifier) enough() bool {
	return v.waiting == 0 || v.closed || v.proofs <= gatherFrom || v.waiting >= min(max(v.proofs/gatherShare, batchProofsMin), batchProofsMax)
}

// begin starts workers for what waits. Under mu.
func (v *verifier) begin() {
	if v.gathering != nil {
		v.gathering.Stop()
		v.gathering = nil
	}
	for n := v.waiting; n > 0 && v.busy < v.workers; n -= v.batchSize() {
		v.busy++
		v.wg.Go(v.run)
	}
}

// batchSize spreads what waits over all workers. Under mu.
func (v *verifier) batchSize() int {
	return min(max((v.waiting+v.workers-1)/v.workers, batchProofsMin), batchProofsMax)
}

// pass hands a caller's place to a worker if something waits, so that the caller can go.
func (v *verifier) pass() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting == 0 {
		v.busy--
		return
	}
	v.wg.Go(v.run)
}

// run is a worker: it works while enough waits.
func (v *verifier) run() {
	for first := true; ; first = false {
		v.mu.Lock()
		var batch []task
		if first || v.enough() {
			batch = v.next(time.Now())
		} else {
			v.gather()
		}
		if len(batch) == 0 {
			v.busy--
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
		v.work(batch)
	}
}

// next takes the next batch. Sources share a batch, but for those that owe for bad
// signatures: they cost only themselves the second look. Under mu.
func (v *verifier) next(now time.Time) []task {
	size := v.batchSize()
	batch := make([]task, 0, size)
	var aside []*source
	for len(v.ready) > 0 && len(batch) < size {
		s := v.ready[0]
		suspect := s.owes(now) > 0
		if suspect && len(batch) > 0 {
			aside = append(aside, s)
			heap.Pop(&v.ready)
			continue
		}
		v.virtual = max(v.virtual, s.virtual)
		if suspect {
			size = min(size, suspectProofsMax)
			for len(s.waiting) > 0 && len(batch) < size {
				batch = v.take(s, batch)
			}
			if len(batch) > 0 {
				break
			}
			continue
		}
		batch = v.take(s, batch)
	}
	for _, s := range aside {
		heap.Push(&v.ready, s)
	}
	return batch
}

// take moves a source's first task into the batch, unless nobody waits for it any more. Under mu.
func (v *verifier) take(s *source, batch []task) []task {
	t := s.waiting[0]
	s.waiting[0] = task{}
	s.waiting = s.waiting[1:]
	v.waiting--
	if !t.job.abandoned {
		batch = append(batch, t)
		s.virtual += cost(t.job.raw[t.at])
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
		heap.Remove(&v.ready, s.place)
	} else {
		heap.Fix(&v.ready, s.place)
	}
	return batch
}

// work decodes and verifies a batch and hands out the verdicts.
func (v *verifier) work(batch []task) {
	verdicts := make([]verdict, len(batch))
	envelopes := make([]*pci.Envelope, 0, len(batch))
	places := make([]int, 0, len(batch))
	for i, t := range batch {
		env, err := pci.Decode(t.job.raw[t.at])
		if err != nil {
			verdicts[i].reject = rejectOf(err)
			continue
		}
		verdicts[i].envelope = env
		envelopes, places = append(envelopes, env), append(places, i)
	}
	bad := 0
	if len(envelopes) > 0 {
		for k, err := range v.verifyBatch(envelopes) {
			if err != nil {
				bad++
				verdicts[places[k]] = verdict{reject: rejectOf(err)}
			}
		}
	}
	v.settle(batch, verdicts, bad)
}

// rejectOf gives a gate's refusal; pci refuses with nothing else.
func rejectOf(err error) *pci.Reject {
	if r, ok := errors.AsType[*pci.Reject](err); ok {
		return r
	}
	return &pci.Reject{Code: pci.RejectInternalError, Detail: "the proof could not be looked at; send it again"}
}

func (v *verifier) settle(batch []task, verdicts []verdict, bad int) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.batches++
	v.verified += uint64(len(batch))
	v.bad += uint64(bad) //nolint:gosec // counts up from 0
	for i, t := range batch {
		t.job.verdicts[t.at] = verdicts[i]
		if r := verdicts[i].reject; r != nil && r.Code == pci.RejectSignature {
			t.source.charge(1, now)
			t.source.virtual += badCost
			if t.source.place >= 0 {
				heap.Fix(&v.ready, t.source.place)
			}
		}
		if t.job.left--; t.job.left == 0 {
			close(t.job.done)
		}
	}
}

// readySources is a heap: the source that has cost least first.
type readySources []*source

func (r readySources) Len() int           { return len(r) }
func (r readySources) Less(i, j int) bool { return r[i].virtual < r[j].virtual }
func (r readySources) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].place, r[j].place = i, j
}

// Push implements heap.Interface.
func (r *readySources) Push(x any) {
	s, ok := x.(*source)
	if !ok {
		return // enqueue pushes nothing else
	}
	s.place = len(*r)
	*r = append(*r, s)
}

// Pop implements heap.Interface.
func (r *readySources) Pop() any {
	last := len(*r) - 1
	s := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	s.place = -1
	return s
}
