package region

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// A voter without its Raft store has forgotten its votes and its part of the log; under its old ID it could help to elect a
// leader that lacks acknowledged proofs. A first start looks just like that. So it is told by a file:
//
//   - founding: made with the home. All founding voters must be up at once, none of them past founding; then each writes the
//     first entry of its log, durably deletes the file, and only then may vote.
//   - added: made by StartAsAdded, for a node under a new ID that was added to a running region; deleted as soon as its log or
//     state holds anything, which is before it can vote.
//
// A home with neither and without a store does not start. The first proof-bearing entry, the genesis, is proposed only after
// every founding voter has reported that its file is gone: so a home whose founding file is back (a copy, a wiped disk made anew)
// finds the others past founding and does not start either.

// Names of the marker files in a home.
const (
	FoundingName = "founding"
	addedName    = "added"
)

// Phase is how far a voter's founding is.
type Phase uint8

// The phases, in their order.
const (
	PhaseUnknown  Phase = iota // no store, or not looked yet
	PhaseFounding              // has its founding file; has never voted
	PhaseStarted               // Raft runs; its log holds no commands yet
	PhasePast                  // its log or state holds commands
)

// String is the phase's name.
func (p Phase) String() string {
	switch p {
	case PhaseFounding:
		return "founding"
	case PhaseStarted:
		return "started"
	case PhasePast:
		return "past founding"
	default:
		return "unknown"
	}
}

// addedMark is what the file added holds: who may send to this node before it knows the region's configuration.
type addedMark struct {
	Senders []raft.ServerID `json:"senders"`
}

// stored is what a home holds of Raft.
type stored struct {
	term, first, last uint64
	voted             bool
	commands          bool // an entry with a command, or a snapshot
}

func (r *Region) look() (stored, error) {
	var s stored
	var err error
	if s.term, err = r.logs.watched.GetUint64([]byte(currentTermKey)); err != nil && !isKeyNotFound(err) {
		return s, err
	}
	switch vote, err := r.logs.watched.GetUint64([]byte("LastVoteTerm")); {
	case err == nil:
		s.voted = vote > 0
	case !isKeyNotFound(err):
		return s, err
	}
	if s.first, err = r.logs.watched.FirstIndex(); err != nil {
		return s, err
	}
	if s.last, err = r.logs.watched.LastIndex(); err != nil {
		return s, err
	}
	s.commands = r.snapshots.newest() != nil || s.last > foundingScanMax
	for i := s.first; i <= s.last && s.last > 0 && !s.commands; i++ {
		var log raft.Log
		if err := r.logs.watched.GetLog(i, &log); err != nil {
			return s, fmt.Errorf("read entry %d of the Raft log: %w", i, err)
		}
		s.commands = log.Type == raft.LogCommand
	}
	return s, nil
}

// decide says how this home may start; it does what must be done before Raft runs.
func (r *Region) decide(ctx context.Context) error {
	s, err := r.look()
	if err != nil {
		return err
	}
	if s.commands {
		r.setPhase(PhasePast)
	}
	founding, err := exists(r.path(FoundingName))
	if err != nil {
		return err
	}
	p := r.snapshots.newest()
	if p != nil && s.term < p.Term {
		return r.noStore(fmt.Sprintf("a snapshot of term %d is there, but the Raft store knows term %d", p.Term, s.term))
	}
	holds := s.term > 0 && (s.last > 0 || p != nil)
	switch {
	case founding && (s.voted || s.term > bootstrapIndexTerm || s.last > bootstrapIndexTerm || p != nil):
		// The store is there and has voted, so it is the voter's own; the file is the odd one.
		r.cfg.Logger.Warn("removing a founding file beside a Raft store that is in use")
		return r.disk.remove(r.path(FoundingName))
	case founding:
		return r.found(ctx, s)
	case holds:
		return r.disk.remove(r.path(addedName))
	default:
		return r.decideAdded()
	}
}

func (r *Region) decideAdded() error {
	b, err := os.ReadFile(r.path(addedName))
	if errors.Is(err, os.ErrNotExist) {
		return r.noStore("it holds neither a Raft store nor the file " + FoundingName)
	}
	if err != nil {
		return fmt.Errorf("read the file %s: %w", addedName, err)
	}
	mark, err := parseAddedMark(b)
	if err != nil {
		return fmt.Errorf("the file %s is damaged: remove it and add the node again (%w)", r.path(addedName), errors.Join(err, ErrNoStore))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.senders = mark.Senders
	return nil
}

func parseAddedMark(text []byte) (mark addedMark, err error) {
	if err := json.Unmarshal(text, &mark); err != nil {
		return addedMark{}, fmt.Errorf("decode it: %w", err)
	}
	if len(mark.Senders) == 0 {
		return addedMark{}, errors.New("it names nobody")
	}
	return mark, nil
}

func (r *Region) noStore(why string) error {
	return fmt.Errorf("%w: %s: %s. A voter that lost its Raft store must not vote under its old name: replace it with `bizra voter replace`",
		ErrNoStore, r.cfg.Home, why)
}

// StartAsAdded starts a node that was added to a running region under an ID that has never voted. The home must be empty of
// Raft. senders are the region's present voters; they alone may send before the node knows the configuration.
func (r *Region) StartAsAdded(ctx context.Context, senders []raft.ServerID) error {
	if len(senders) == 0 {
		return errors.New("start as added: the region's voters are missing")
	}
	founding, err := exists(r.path(FoundingName))
	if err != nil {
		return err
	}
	if founding {
		return fmt.Errorf("start as added: %s has the file %s: it belongs to a founding voter", r.cfg.Home, FoundingName)
	}
	b, err := json.Marshal(addedMark{senders})
	if err != nil {
		return fmt.Errorf("start as added: %w", err)
	}
	if err := os.MkdirAll(r.cfg.Home, dirMode); err != nil {
		return fmt.Errorf("start as added: %w", err)
	}
	if err := r.disk.write(r.path(addedName), b); err != nil {
		return fmt.Errorf("start as added: %w", err)
	}
	return r.Start(ctx)
}

// held is called when the log or the state has come to hold something.
func (r *Region) held(commands bool) {
	if commands {
		r.setPhase(PhasePast)
	}
	r.heldOnce.Do(func() {
		if err := r.disk.remove(r.path(addedName)); err != nil {
			r.fail(fmt.Errorf("remove the file %s: %w", addedName, err))
		}
	})
}

// found waits for the other founding voters, writes the first entry of the log and deletes the founding file.
func (r *Region) found(ctx context.Context, s stored) error {
	if err := r.checkNoState(); err != nil {
		return err
	}
	r.setPhase(PhaseFounding)
	if err := r.awaitFounders(ctx, PhaseFounding); err != nil {
		return err
	}
	if s.last == 0 {
		if err := r.bootstrap(); err != nil {
			return err
		}
	}
	// The log's file must be there for certain before the founding file is not.
	if err := r.disk.sync(r.path(raftName)); err != nil {
		return err
	}
	if err := r.disk.sync(r.cfg.Home); err != nil {
		return err
	}
	if err := r.disk.remove(r.path(FoundingName)); err != nil {
		return err
	}
	r.setPhase(PhaseStarted)
	return nil
}

// checkNoState refuses to found on a state that has already applied something.
func (r *Region) checkNoState() error {
	if index := r.replica.index.Load(); index > 0 {
		return r.noStore(fmt.Sprintf("its state is at index %d, so the file %s does not belong here", index, FoundingName))
	}
	return nil
}

// bootstrap writes the configuration of the founding voters as the log's first entry. Doing it again after a crash in the middle
// changes nothing.
func (r *Region) bootstrap() error {
	if err := r.disk.step("write the first term"); err != nil {
		return err
	}
	if err := r.logs.watched.SetUint64([]byte(currentTermKey), bootstrapIndexTerm); err != nil {
		return fmt.Errorf("found the Raft log: %w", err)
	}
	if err := r.disk.step("write the first entry"); err != nil {
		return err
	}
	entry := &raft.Log{Index: bootstrapIndexTerm, Term: bootstrapIndexTerm, Type: raft.LogConfiguration,
		Data: raft.EncodeConfiguration(r.founders())}
	if err := r.logs.watched.StoreLog(entry); err != nil {
		return fmt.Errorf("found the Raft log: %w", err)
	}
	return nil
}

func (r *Region) founders() raft.Configuration {
	var c raft.Configuration
	for _, id := range r.cfg.Founders {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: id, Address: raft.ServerAddress(id)})
	}
	return c
}

// awaitFounders returns when every other founding voter has answered with at least this phase. While we are founding ourselves,
// one that is past founding ends it.
func (r *Region) awaitFounders(ctx context.Context, least Phase) error {
	waiting := make(map[raft.ServerID]bool)
	for _, id := range r.cfg.Founders {
		if id != r.id {
			waiting[id] = true
		}
	}
	ticker := time.NewTicker(r.cfg.PhaseInterval)
	defer ticker.Stop()
	for {
		for _, id := range r.cfg.Founders {
			if !waiting[id] {
				continue
			}
			phase, err := r.askPhase(ctx, id)
			switch {
			case err != nil:
				r.cfg.Logger.Debug("a founding voter does not answer yet", "peer", string(id), "error", err)
			case phase == PhasePast && least == PhaseFounding:
				return fmt.Errorf("%w: voter %s has proofs in its log, and this home has none. If its disk was lost, replace the voter with `bizra voter replace`",
					ErrPastFounding, id)
			case phase >= least:
				delete(waiting, id)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d founding voters (all must be up once): %w", len(waiting), context.Cause(ctx))
		case <-r.closing:
			return ErrClosed
		}
	}
}

func (r *Region) askPhase(ctx context.Context, id raft.ServerID) (Phase, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.RPCTimeout)
	defer cancel()
	return r.cfg.PeerPhase(ctx, id)
}

func (r *Region) path(name string) string { return filepath.Join(r.cfg.Home, name) }
