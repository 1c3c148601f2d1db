package region

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// queueBytesMin lets the largest submission in: a proof with the largest document.
const queueBytesMin = federation.DocumentBytesMax + pci.EnvelopeBytesMax

// intake is the leader's: it puts proofs into few log entries. A proof that is alone goes at once; while others are being committed
// it waits up to BatchDelay for company, up to what one entry may hold.
type intake struct {
	submit      func(data []byte) (await func() (*fsm.Result, error))
	wall        func() time.Time
	refusal     func() error // why nothing more is to be taken, though it could be; nil if nothing speaks against it
	delay       time.Duration
	inFlightMax int
	proofsMax   int
	bytesMax    int
	hooks       Hooks

	mu       sync.Mutex // guards what follows
	refusing error      // why proofs are not taken; nil while they are
	holding  bool       // proofs are taken and wait
	stopped  bool       // refusing is final
	waiting  []*pending
	bytes    int // of what waits
	inFlight int
	pairing  bool          // the loop runs
	wake     chan struct{} // the loop may have something to do
}

// pending is one proof on its way.
type pending struct {
	proof    []byte
	document []byte // that the proof adopts; it then goes alone
	at       int    // its place in the submission
	since    time.Time
	of       *submission
}

func (p *pending) bytes() int { return len(p.proof) + len(p.document) }

// submission is one call of Propose. Its fields are guarded by intake.mu until done is closed.
type submission struct {
	receipts []fsm.Receipt
	left     int
	ok       int   // proofs with a receipt
	certain  error // of a proof that is not in the log
	doubtful error // of a proof that may be
	err      error // of the whole, once done
	done     chan struct{}
}

func newIntake(cfg Config, submit func([]byte) func() (*fsm.Result, error)) *intake {
	return &intake{submit: submit, wall: cfg.Wall, refusal: func() error { return nil }, delay: cfg.BatchDelay, inFlightMax: cfg.InFlightMax, proofsMax: cfg.QueueProofsMax,
		bytesMax: cfg.QueueBytesMax, hooks: cfg.Hooks, refusing: ErrNotLeader, wake: make(chan struct{}, 1)}
}

// Propose commits proofs, whose signatures the caller has verified, and returns their receipts in order. At most
// [fsm.BatchProofsMax] at once. It must be called on the leader; elsewhere it fails with ErrNotLeader. If it fails, errors.Is
// tells ErrNotCommitted, after which none is in the log, from ErrUnknownOutcome, after which any may be or come to be: the same
// envelopes may then be proposed again, and those that were committed give their first receipts.
func (r *Region) Propose(ctx context.Context, envelopes []*pci.Envelope) ([]fsm.Receipt, error) {
	proofs := make([][]byte, len(envelopes))
	for i, e := range envelopes {
		proofs[i] = e.Canonical()
	}
	return r.intake.propose(ctx, proofs, nil)
}

// Adopt commits the proof by which an operator adopts a federation document, together with the document in canonical form. It fails
// as Propose does.
func (r *Region) Adopt(ctx context.Context, envelope *pci.Envelope, document []byte) (fsm.Receipt, error) {
	if len(document) == 0 || len(document) > federation.DocumentBytesMax {
		return fsm.Receipt{}, notCommitted(fmt.Errorf("%w: a document of %d bytes: 1 to %d", ErrTooLarge, len(document), federation.DocumentBytesMax))
	}
	receipts, err := r.intake.propose(ctx, [][]byte{envelope.Canonical()}, document)
	if err != nil {
		return fsm.Receipt{}, err
	}
	return receipts[0], nil
}

// propose commits proofs, or the one proof that adopts a document with it.
func (in *intake) propose(ctx context.Context, proofs [][]byte, document []byte) ([]fsm.Receipt, error) {
	if len(proofs) == 0 {
		return nil, nil
	}
	if len(proofs) > fsm.BatchProofsMax {
		return nil, notCommitted(fmt.Errorf("%w: %d proofs, at most %d", ErrTooLarge, len(proofs), fsm.BatchProofsMax))
	}
	for i, p := range proofs {
		if len(p) > pci.EnvelopeBytesMax {
			return nil, notCommitted(fmt.Errorf("%w: proof %d has %d bytes, at most %d", ErrTooLarge, i, len(p), pci.EnvelopeBytesMax))
		}
	}
	s, err := in.enqueue(proofs, document)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		if in.withdraw(ctx, s) {
			return nil, notCommitted(context.Cause(ctx))
		}
		select {
		case <-s.done:
		default:
			return nil, unknownOutcome(context.Cause(ctx))
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.receipts, nil
}

func (in *intake) enqueue(proofs [][]byte, document []byte) (*submission, error) {
	total := len(document)
	for _, p := range proofs {
		total += len(p)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.refusing != nil {
		return nil, notCommitted(in.refusing)
	}
	if err := in.refusal(); err != nil {
		in.hooks.Overloaded(len(proofs))
		return nil, err
	}
	if len(in.waiting)+len(proofs) > in.proofsMax || in.bytes+total > in.bytesMax {
		in.hooks.Overloaded(len(proofs))
		return nil, &OverloadedError{RetryAfter: in.retryAfter()}
	}
	s := &submission{receipts: make([]fsm.Receipt, len(proofs)), left: len(proofs), done: make(chan struct{})}
	now := time.Now()
	for i, p := range proofs {
		in.waiting = append(in.waiting, &pending{proof: p, document: document, at: i, since: now, of: s})
	}
	in.bytes += total
	if !in.pairing {
		in.pairing = true
		go in.loop()
	}
	in.signal()
	return s, nil
}

// retryAfter guesses when the queue has half emptied: an entry of 512 proofs takes some tens of milliseconds.
func (in *intake) retryAfter() time.Duration {
	entries := len(in.waiting)/(2*fsm.BatchProofsMax) + 1
	return time.Duration(entries) * 50 * time.Millisecond
}

func (in *intake) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a submission back if none of its proofs has gone to Raft.
func (in *intake) withdraw(ctx context.Context, s *submission) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	mine := 0
	for _, p := range in.waiting {
		if p.of == s {
			mine++
		}
	}
	if mine != len(s.receipts) {
		return false
	}
	in.waiting = slices.DeleteFunc(in.waiting, func(p *pending) bool {
		if p.of == s {
			in.bytes -= p.bytes()
			return true
		}
		return false
	})
	s.err = notCommitted(context.Cause(ctx))
	close(s.done)
	return true
}

// loop runs while anything waits, and ends when nothing does: there is no goroutine on a node that takes no proofs.
func (in *intake) loop() {
	for {
		in.mu.Lock()
		batch, wait := in.next(time.Now())
		if batch == nil && len(in.waiting) == 0 {
			in.pairing = false
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
		if batch != nil {
			in.send(batch)
			continue
		}
		timer := time.NewTimer(wait) // moving one that runs has the runtime look at all others
		select {
		case <-in.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next takes the proofs of the next entry, or says how long to wait if nothing happens.
func (in *intake) next(now time.Time) (batch []*pending, wait time.Duration) {
	const nothingToWaitFor = time.Hour
	if len(in.waiting) == 0 || in.holding || in.inFlight >= in.inFlightMax {
		return nil, nothingToWaitFor
	}
	n, size, taken := 0, 0, 0
	for n < len(in.waiting) && n < fsm.BatchProofsMax && size+len(in.waiting[n].proof) <= fsm.BatchBytesMax {
		if n > 0 && (in.waiting[0].document != nil || in.waiting[n].document != nil) {
			break
		}
		size += len(in.waiting[n].proof)
		taken += in.waiting[n].bytes()
		n++
	}
	full := n == fsm.BatchProofsMax || n < len(in.waiting)
	if age := now.Sub(in.waiting[0].since); in.inFlight > 0 && !full && age < in.delay {
		return nil, in.delay - age
	}
	batch = slices.Clone(in.waiting[:n])
	in.waiting = slices.Delete(in.waiting, 0, n)
	in.bytes -= taken
	in.inFlight++
	return batch, 0
}

// send gives one entry to Raft. The loop alone calls it, so the proofs of a submission keep their order across entries.
func (in *intake) send(batch []*pending) {
	start := time.Now()
	proofs, size := make([][]byte, len(batch)), 0
	for i, p := range batch {
		proofs[i] = p.proof
		size += p.bytes()
	}
	command := fsm.EncodeProofs
	if document := batch[0].document; document != nil {
		command = func(stamp int64, proofs [][]byte) []byte { return fsm.EncodeAdopt(stamp, proofs[0], document) }
	}
	await := in.submit(command(in.wall().UnixMilli(), proofs))
	go func() {
		result, err := await()
		if err == nil {
			in.hooks.Committed(len(batch), size, time.Since(start))
		}
		in.finish(batch, result, err)
	}()
}

// finish hands each proof of an entry its receipt.
func (in *intake) finish(batch []*pending, result *fsm.Result, err error) {
	if err == nil && len(result.Receipts) != len(batch) {
		err = unknownOutcome(fmt.Errorf("%d receipts for %d proofs", len(result.Receipts), len(batch)))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, p := range batch {
		if err == nil {
			p.of.receipts[p.at] = result.Receipts[i]
		}
		p.of.settle(err)
	}
	in.inFlight--
	in.signal()
}

// settle counts one proof as done, and with the last one says what became of the submission: it succeeds whole, it is certainly
// not in the log at all, or its outcome is unknown.
func (s *submission) settle(err error) {
	s.left--
	switch {
	case err == nil:
		s.ok++
	case errors.Is(err, ErrNotCommitted):
		s.certain = err
	default:
		s.doubtful = err
	}
	if s.left > 0 {
		return
	}
	switch {
	case s.doubtful != nil:
		s.err = s.doubtful
	case s.certain != nil && s.ok == 0:
		s.err = s.certain
	case s.certain != nil:
		s.err = unknownOutcome(fmt.Errorf("%d of its %d proofs were, the others not: %v", s.ok, len(s.receipts), s.certain)) //nolint:errorlint // not to be taken for ErrNotCommitted
	}
	close(s.done)
}

// open lets proofs through.
func (in *intake) open() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stopped {
		return
	}
	in.refusing, in.holding = nil, false
	in.signal()
}

// hold takes proofs and lets them wait.
func (in *intake) hold() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.stopped {
		in.refusing, in.holding = nil, true
	}
}

// refuse turns away what comes and what waits. For ErrClosed and ErrFailed that is final.
func (in *intake) refuse(why error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stopped {
		return
	}
	in.stopped = errors.Is(why, ErrClosed) || errors.Is(why, ErrFailed)
	in.refusing, in.holding = why, false
	for _, p := range in.waiting {
		p.of.settle(notCommitted(why))
	}
	in.waiting, in.bytes = nil, 0
	in.signal()
}
