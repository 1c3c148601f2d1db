package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/p2p"
)

var errStale = errors.New("the peer has not heard from its region for too long")

// follow takes frames from one peer until it fails, or ctx ends.
func (f *Follower) follow(ctx context.Context, p peer.ID) error {
	opening, cancel := context.WithTimeout(ctx, f.cfg.OpenTimeout)
	s, err := f.cfg.open(opening, p)
	cancel()
	if err != nil {
		return &fault{reason: reasonOf(err), err: streamError(err)}
	}
	f.set(func(st *Status) { st.Peer = p })
	f.document = incoming{}
	// A stream's reads and writes do not end with a context.
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	defer func() { _ = s.Reset() }()
	if err := writeRequest(s, f.request()); err != nil {
		return &fault{reason: reasonOf(err), err: streamError(err)}
	}
	return f.take(ctx, p, s)
}

func (f *Follower) request() *requestBody {
	b := &requestBody{Region: f.cfg.Region, From: f.at.size, FromSeal: f.at.seals}
	if f.cfg.Foreign {
		b.FromSeal, b.SealsFrom = 0, max(f.at.size, f.at.sealedSize+1)
	}
	if digest, ok := f.cfg.Replica.Holds(); ok {
		b.Holds = digest[:]
	}
	if f.cfg.once {
		b.EntriesMax = ledger.SizeMax // the stream ends when there is no more
	}
	return b
}

// take brings the replica forward by the frames that arrive. While one is taken up, on a goroutine of
// its own, the next is read and its signatures are verified; while none arrives, there is no such goroutine.
func (f *Follower) take(ctx context.Context, p peer.ID, s Stream) error {
	in := &inflow{stream: s, silenceMax: f.cfg.SilenceMax, verify: f.cfg.VerifySignatures, open: f.cfg.OpenEntries}
	taken := make(chan error, 1) // what became of the frame before
	taken <- nil
	var says int64 // entries that the peer had, by its last frame
	for first := true; ; first = false {
		a := in.next()
		if err := <-taken; err != nil {
			return err
		}
		if a.err != nil {
			if f.cfg.once && !first && errors.Is(a.err, io.EOF) && f.at.size == says {
				return errCaughtUp
			}
			return a.err
		}
		says = a.frame.Size
		go func() {
			err := f.takeOne(ctx, p, a, first)
			if err != nil {
				_ = s.Reset() // no other frame is wanted
			}
			taken <- err
		}()
	}
}

func (f *Follower) takeOne(ctx context.Context, p peer.ID, a *arrival, first bool) error {
	if first {
		f.greet(p, a.frame)
	}
	if err := f.expect(a.frame, first); err != nil {
		return err
	}
	if err := f.takeUp(ctx, p, a); err != nil {
		return err
	}
	if f.cfg.once && a.frame.Kind == frameHeartbeat {
		return errCaughtUp
	}
	return nil
}

// expect checks that the first frame of a foreign ledger, and no other, says what the
// ledger was before.
func (f *Follower) expect(fr *frame, first bool) error {
	switch {
	case first && f.cfg.Foreign:
		return f.checkRoot(fr)
	case len(fr.Root) > 0:
		return outOfOrder("a root that was not asked for")
	default:
		return nil
	}
}

// takeUp takes up one frame, waiting where its entries are a little early.
func (f *Follower) takeUp(ctx context.Context, p peer.ID, a *arrival) error {
	for {
		advanced, err := f.apply(a)
		if advanced {
			f.cfg.OnAdvance(f.at.size)
		}
		if advanced || err == nil {
			f.book.served(p, advanced)
			f.heard(a.frame, a.received, advanced)
		}
		var e *early
		if !errors.As(err, &e) {
			return err
		}
		wait := f.waitEarly(e)
		if wait > earlyHereMax {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		a = a.rest(f.at.size)
	}
}

// greet logs whom the replica follows, loudly unless the peer failed before.
func (f *Follower) greet(p peer.ID, fr *frame) {
	level := slog.LevelInfo
	if f.book.failing(p) {
		level = slog.LevelDebug
	}
	f.cfg.Logger.Log(context.Background(), level, "following", "peer", p, "size", f.at.size, "peer_size", fr.Size)
}

func reasonOf(err error) string {
	switch err := streamError(err); {
	case errors.Is(err, ErrMalformed), errors.Is(err, p2p.ErrFrameMalformed), errors.Is(err, p2p.ErrFrameTooLong), errors.Is(err, p2p.ErrFrameVersion):
		return leftMalformed
	case errors.Is(err, p2p.ErrCallRefused), errors.Is(err, p2p.ErrBusy):
		return leftRefused
	default:
		return leftNetwork
	}
}

// apply takes up one frame. It says whether the replica moved, even if it also fails.
func (f *Follower) apply(a *arrival) (advanced bool, err error) {
	fr := a.frame
	if err := f.expectDocument(fr); err != nil {
		return false, err
	}
	switch fr.Kind {
	case frameDocument:
		return false, f.takeDocument(fr)
	case frameEntries:
		return f.applyEntries(a)
	case frameSeal:
		return f.applySeal(fr.Seal)
	case frameHeartbeat:
		return false, f.heartbeat(fr)
	default:
		return false, f.refused(fr)
	}
}

func outOfOrder(format string, args ...any) error {
	return &fault{reason: leftOrder, err: fmt.Errorf(format, args...)}
}

func (f *Follower) heartbeat(fr *frame) error {
	// A server beats only when it has sent all that it has.
	if fr.Size != f.at.size || !f.cfg.Foreign && fr.Seals != f.at.seals {
		return outOfOrder("heartbeat with %d entries and %d seals, of which %d and %d were sent", fr.Size, fr.Seals, f.at.size, f.at.seals)
	}
	age := time.Duration(fr.AgeMillis) * time.Millisecond
	if !f.cfg.once && age > f.cfg.StaleAfter && len(f.peers()) > 1 {
		return &fault{reason: leftStale, err: fmt.Errorf("%w: since %v", errStale, age)}
	}
	return nil
}

// refused judges a server's refusal. That we lack a seal which it passed is a claim
// about this replica, as a refused entry is.
func (f *Follower) refused(fr *frame) error {
	no := &refusal{fr.Code, fr.Detail}
	switch fr.Code {
	case refusedBeyond:
		return &fault{reason: leftBehind, err: fmt.Errorf("the peer has %d entries and %d seals, here are %d and %d: %w", fr.Size, fr.Seals, f.at.size, f.at.seals, no)}
	case refusedSealPassed:
		return &fault{reason: leftEntry, err: fmt.Errorf("seal %d was never received in its place: %w", f.at.seals, no), claim: newClaim(refusedSealPassed, nil)}
	default:
		return &fault{reason: leftRefused, err: no}
	}
}

func (f *Follower) applyEntries(a *arrival) (advanced bool, err error) {
	fr := a.frame
	if fr.First != f.at.size {
		return false, outOfOrder("entries from %d on where entry %d was due", fr.First, f.at.size)
	}
	good, why := f.judge(a)
	if good > 0 {
		if advanced, err := f.applyBatch(a.parsed[:good], fr.Entries[:good]); err != nil {
			return advanced, err
		}
	}
	return good > 0, why
}

// judge gives how many entries may be applied as to form, signature and, in a foreign
// ledger, time, and the fault of the peer that sent the next.
func (f *Follower) judge(a *arrival) (good int, why error) {
	good, why = a.good, a.flaw
	if f.cfg.Foreign {
		if n, err := f.times(a.parsed[:good]); err != nil {
			good, why = n, err
		}
	}
	var e *early
	switch {
	case why == nil:
		return good, nil
	case errors.As(why, &e):
		return good, &fault{reason: leftEarly, err: why}
	default:
		return good, f.refuse(f.at.size+int64(good), a.frame.Entries[good], why)
	}
}

// applyBatch applies entries together, or, where one of them is refused, those before it.
func (f *Follower) applyBatch(parsed []*fsm.Entry, entries [][]byte) (advanced bool, err error) {
	err = f.cfg.Replica.ApplyParsed(parsed, entries)
	if err == nil {
		return true, f.moved(entries)
	}
	if err := f.alive(); err != nil {
		return false, err
	}
	for i, e := range entries {
		if err := f.cfg.Replica.ApplyParsed(parsed[i:i+1], entries[i:i+1]); err != nil {
			index := f.at.size
			if err := f.alive(); err != nil {
				return i > 0, err
			}
			return i > 0, f.refuse(index, e, err)
		}
		if err := f.moved([][]byte{e}); err != nil {
			return true, err
		}
	}
	// Together they were refused and one by one they are not: the store cannot be trusted.
	return true, fmt.Errorf("%w: entries from %d on: %w", ErrReplica, f.at.size-int64(len(entries)), err)
}

// refuse makes the fault of a peer that sent an entry which the replica does not make,
// or of the replica, if it is its store that failed.
func (f *Follower) refuse(index int64, entry []byte, err error) error {
	e, parseErr := fsm.ParseEntry(entry)
	if parseErr == nil && e.Kind != fsm.EntryGenesis && !errors.Is(err, fsm.ErrDiverged) && !errors.Is(err, fsm.ErrDocument) && !errors.Is(err, errSignature) && !errors.Is(err, errTimeBack) {
		return fmt.Errorf("%w: entry %d: %w", ErrReplica, index, err)
	}
	return &fault{reason: leftEntry, err: fmt.Errorf("entry %d is refused: %w", index, err), code: codeOf(err, e),
		claim: newClaim("entry "+strconv.FormatInt(index, 10), entry)}
}

// alive asks whether the replica can still commit, since its errors do not always tell
// a bad entry from a bad disk.
func (f *Follower) alive() error {
	if err := f.cfg.Replica.ApplyParsed(nil, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrReplica, err)
	}
	return nil
}

// moved notes that entries were committed.
func (f *Follower) moved(entries [][]byte) error {
	f.metrics.count.Add(float64(len(entries)))
	f.metrics.bytes.Add(float64(entryBytes(entries)))
	size := f.at.size + int64(len(entries))
	if err := f.locate(); err != nil {
		return err
	}
	if f.at.size != size {
		return fmt.Errorf("%w: it has %d entries where %d were committed: something else writes to it", ErrReplica, f.at.size, size)
	}
	return nil
}

func (f *Follower) applySeal(w *wireSeal) (advanced bool, err error) {
	number := w.Number
	if f.cfg.Foreign {
		number = f.at.seals // the copy counts those that it passed
	}
	if number != f.at.seals || w.Size != f.at.size || w.Size <= f.at.sealedSize {
		return false, outOfOrder("seal %d of size %d where seal %d was due, at %d entries and with the last seal at %d", w.Number, w.Size, f.at.seals, f.at.size, f.at.sealedSize)
	}
	s := w.seal()
	s.Number = number
	if err := f.cfg.Replica.ApplySeal(s); err != nil {
		if err := f.alive(); err != nil {
			return false, err
		}
		if !errors.Is(err, fsm.ErrDiverged) {
			return false, fmt.Errorf("%w: seal %d: %w", ErrReplica, s.Number, err)
		}
		return false, &fault{reason: leftEntry, err: fmt.Errorf("seal %d is refused: %w", s.Number, err), code: RefusedSeal,
			claim: newClaim("seal "+strconv.FormatInt(s.Number, 10), s.Body())}
	}
	f.metrics.seals.Inc()
	if err := f.locate(); err != nil {
		return true, err
	}
	f.cfg.OnExecuted(s) // equal to what the replica has worked out
	return true, nil
}
