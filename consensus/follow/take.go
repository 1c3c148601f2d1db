package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

var (
	errSilent = errors.New("no frame came in time")
	errStale  = errors.New("the peer has not heard from its region for too long")
)

// follow takes frames from one peer until it fails, or ctx ends.
func (f *Follower) follow(ctx context.Context, p peer.ID) error {
	opening, cancel := context.WithTimeout(ctx, f.cfg.OpenTimeout)
	s, err := f.cfg.open(opening, p)
	cancel()
	if err != nil {
		return &fault{reason: reasonOf(err), err: streamError(err)}
	}
	f.set(func(st *Status) { st.Peer = p })
	// A stream's reads and writes do not end with a context.
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	defer func() { _ = s.Reset() }()
	var silent atomic.Bool
	watchdog := time.AfterFunc(f.cfg.SilenceMax, func() {
		silent.Store(true)
		_ = s.Reset()
	})
	defer watchdog.Stop()
	if err = writeRequest(s, f.request()); err == nil {
		err = f.take(ctx, p, s, watchdog)
	}
	if silent.Load() || errors.Is(err, errSilent) {
		return &fault{reason: leftSilent, err: fmt.Errorf("%w: none within %v", errSilent, f.cfg.SilenceMax)}
	}
	return err
}

func (f *Follower) request() *requestBody {
	b := &requestBody{Region: f.cfg.Region, From: f.at.size, FromSeal: f.at.seals}
	if f.cfg.Foreign {
		b.FromSeal, b.SealsFrom = 0, max(f.at.size, f.at.sealedSize+1)
	}
	return b
}

// take reads frames and brings the replica forward. The watchdog runs only while a
// frame is waited for.
func (f *Follower) take(ctx context.Context, p peer.ID, s Stream, watchdog *time.Timer) error {
	for first := true; ; first = false {
		fr, err := readFrame(s)
		received := time.Now()
		if !watchdog.Stop() {
			return errSilent
		}
		if err != nil {
			return &fault{reason: reasonOf(err), err: streamError(err)}
		}
		if first {
			f.greet(p, fr)
		}
		if err := f.expect(fr, first); err != nil {
			return err
		}
		if err := f.takeUp(ctx, p, fr, received); err != nil {
			return err
		}
		watchdog.Reset(f.cfg.SilenceMax)
	}
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
func (f *Follower) takeUp(ctx context.Context, p peer.ID, fr *frame, received time.Time) error {
	for {
		advanced, err := f.apply(fr)
		if advanced {
			f.cfg.OnAdvance(f.at.size)
		}
		if advanced || err == nil {
			f.book.served(p, advanced)
			f.heard(fr, received, advanced)
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
		fr = fr.rest(f.at.size)
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
func (f *Follower) apply(fr *frame) (advanced bool, err error) {
	switch fr.Kind {
	case frameEntries:
		return f.applyEntries(fr)
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
	if age > f.cfg.StaleAfter && len(f.peers()) > 1 {
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

func (f *Follower) applyEntries(fr *frame) (advanced bool, err error) {
	if fr.First != f.at.size {
		return false, outOfOrder("entries from %d on where entry %d was due", fr.First, f.at.size)
	}
	if !f.cfg.VerifySignatures {
		return f.applyBatch(fr.Entries)
	}
	good, why := f.examine(fr.Entries)
	if good > 0 {
		if advanced, err := f.applyBatch(fr.Entries[:good]); err != nil {
			return advanced, err
		}
	}
	return good > 0, why
}

// examine checks the signatures of entries, and of a foreign ledger the times. It gives
// how many are good, and the fault of the peer that sent the next.
func (f *Follower) examine(entries [][]byte) (good int, why error) {
	parsed, err := parse(entries)
	good = len(parsed)
	if f.cfg.Foreign {
		if n, timeErr := f.times(parsed); timeErr != nil {
			good, err = n, timeErr
		}
	}
	if n, sigErr := verify(parsed[:good]); sigErr != nil {
		good, err = n, sigErr
	}
	if err == nil {
		return good, nil
	}
	var e *early
	if errors.As(err, &e) {
		return good, &fault{reason: leftEarly, err: err}
	}
	return good, f.refuse(f.at.size+int64(good), entries[good], err)
}

// applyBatch applies entries together, or, where one of them is refused, those before it.
func (f *Follower) applyBatch(entries [][]byte) (advanced bool, err error) {
	err = f.cfg.Replica.ApplyEntries(entries)
	if err == nil {
		return true, f.moved(entries)
	}
	if err := f.alive(); err != nil {
		return false, err
	}
	for i, e := range entries {
		if err := f.cfg.Replica.ApplyEntries([][]byte{e}); err != nil {
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
	if parseErr == nil && e.Kind != fsm.EntryGenesis && !errors.Is(err, fsm.ErrDiverged) && !errors.Is(err, errSignature) && !errors.Is(err, errTimeBack) {
		return fmt.Errorf("%w: entry %d: %w", ErrReplica, index, err)
	}
	return &fault{reason: leftEntry, err: fmt.Errorf("entry %d is refused: %w", index, err), code: codeOf(err, e),
		claim: newClaim("entry "+strconv.FormatInt(index, 10), entry)}
}

// alive asks whether the replica can still commit, since its errors do not always tell
// a bad entry from a bad disk.
func (f *Follower) alive() error {
	if err := f.cfg.Replica.ApplyEntries(nil); err != nil {
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

var errSignature = errors.New("the signature of its envelope does not hold")

// parse reads entries up to the first that is none.
func parse(entries [][]byte) (parsed []*fsm.Entry, err error) {
	parsed = make([]*fsm.Entry, 0, len(entries))
	for _, b := range entries {
		e, err := fsm.ParseEntry(b)
		if err != nil {
			return parsed, err
		}
		parsed = append(parsed, e)
	}
	return parsed, nil
}

// verify checks the signatures of entries, and gives the index of the first whose does
// not hold.
func verify(parsed []*fsm.Entry) (int, error) {
	envelopes := make([]*pci.Envelope, 0, len(parsed))
	at := make([]int, 0, len(parsed))
	for i, e := range parsed {
		if e.Envelope != nil {
			envelopes, at = append(envelopes, e.Envelope), append(at, i)
		}
	}
	for i, err := range pci.VerifyBatch(envelopes) {
		if err != nil {
			return at[i], fmt.Errorf("%w: %w", errSignature, err)
		}
	}
	return len(parsed), nil
}
