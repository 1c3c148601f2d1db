package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	sealsKept      = 64 // seals, the newest here, for which reports are remembered
	sealAskersMax  = 16 // questions at once
	sealRepliesMax = 2 * sealAskersMax
)

// Divergence is why a replica must stop: a majority of the voters made something else of a seal.
type Divergence struct {
	Number    int64 // of the seal
	Own       SealSum
	Majority  SealSum
	With      []peer.ID // who made that of it
	OfVoters  int       // how many there are
	Confirmed int       // of With and what agrees; always more than half of OfVoters
}

// Error says which seal, and what each side made of it.
func (d *Divergence) Error() string {
	names := make([]string, len(d.With))
	for i, p := range d.With {
		names[i] = p.String()
	}
	return fmt.Sprintf("this replica differs from its region: seal %d covers %d entries here and its body has SHA-256 %x; "+
		"%d of %d voters (%s) have %d entries and %x. Keep this home for examination, run `bizra fsck` on it, and replace the voter with `bizra voter replace`",
		d.Number, d.Own.Size, d.Own.Body, d.Confirmed, d.OfVoters, strings.Join(names, ", "), d.Majority.Size, d.Majority.Body)
}

// SealsConfig configures [Seals]. A zero field takes the default named at it.
type SealsConfig struct {
	Self peer.ID
	// Voters gives the region's voters now, this node among them if it is one.
	Voters func() []peer.ID
	// Read reads the own state, stale.
	Read Reader
	// Ask asks a voter what it made of these seals; [Asker.Seals] does. What it tells of
	// others besides is used too.
	Ask func(ctx context.Context, p peer.ID, numbers []int64) ([]SealSum, error)
	// OnDiverged is called once when this replica must stop, on a goroutine that Close
	// waits for.
	OnDiverged func(*Divergence)
	// OnAgreed is told each newer seal that a majority agrees on. May be nil.
	OnAgreed func(number int64)

	RetryBase time.Duration // until a voter that does not have the newest seal yet is asked again; 10 ms, doubled each time
	RetryMax  time.Duration // 2 s
	Logger    *slog.Logger  // default: nowhere
}

func (c SealsConfig) withDefaults() SealsConfig {
	set(&c.RetryBase, 10*time.Millisecond)
	set(&c.RetryMax, 2*time.Second)
	if c.OnAgreed == nil {
		c.OnAgreed = func(int64) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c SealsConfig) validate() error {
	if c.Self == "" || c.Voters == nil || c.Read == nil || c.Ask == nil || c.OnDiverged == nil {
		return errors.New("seals: Self, Voters, Read, Ask or OnDiverged is missing")
	}
	return positive("seals", duration{"RetryBase", c.RetryBase}, duration{"RetryMax", c.RetryMax})
}

// Seals asks the other voters what they made of the seals that this replica has
// applied. One goroutine owns all fields but those said to be shared.
type Seals struct {
	cfg     SealsConfig
	wake    chan struct{}
	replies chan sealReply
	agreed  atomic.Int64 // shared; -1: none

	reports  map[int64]map[peer.ID]SealSum // by seal, by voter other than this one
	own      map[int64]SealSum             // of the seals in reports' window
	newest   int64                         // seal here; -1: none
	peers    map[peer.ID]*sealPeer
	warned   int64 // the newest seal about which a difference without a majority was logged
	ctx      context.Context
	cancel   context.CancelFunc
	loop, wg sync.WaitGroup // the loop; the questions under way
}

// sealPeer is where the questions to one voter stand.
type sealPeer struct {
	asking bool
	next   time.Time // not asked again before
	pause  time.Duration
}

type sealReply struct {
	from peer.ID
	sums []SealSum
	err  error
}

// NewSeals starts comparing. Close ends it.
func NewSeals(cfg SealsConfig) (*Seals, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Seals{cfg: cfg, wake: make(chan struct{}, 1), replies: make(chan sealReply, sealRepliesMax), reports: make(map[int64]map[peer.ID]SealSum),
		own: make(map[int64]SealSum), newest: -1, peers: make(map[peer.ID]*sealPeer), warned: -1}
	s.agreed.Store(-1)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.loop.Go(s.run)
	return s, nil
}

// Close ends the comparison and waits for it.
func (s *Seals) Close() error {
	s.cancel()
	s.loop.Wait()
	return nil
}

// Sealed says that a seal was applied here. It does not wait.
func (s *Seals) Sealed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Agreed is the newest seal of which a majority of the voters, this one among them,
// reported the same body since this node started; ok is false if there is none yet.
// Only up to there may this node sign.
func (s *Seals) Agreed() (number int64, ok bool) {
	n := s.agreed.Load()
	return n, n >= 0
}

func (s *Seals) run() {
	defer s.wg.Wait()
	timer := time.NewTimer(0)
	defer func() { timer.Stop() }()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		case r := <-s.replies:
			s.heard(r)
		}
		if err := s.refresh(); err != nil {
			s.cfg.Logger.Warn("seals here cannot be read", "error", err)
		}
		if d := s.judge(); d != nil {
			s.cancel()
			s.cfg.Logger.Error("this replica stops", "error", d)
			s.cfg.OnDiverged(d)
			return
		}
		timer.Stop()
		timer = time.NewTimer(s.askAround(time.Now())) // moving one that runs has the runtime look at all others
	}
}

// refresh notes the seals that this replica has applied since.
func (s *Seals) refresh() error {
	return s.cfg.Read(s.ctx, func(v StateView) error {
		newest := v.Seals() - 1
		for n := max(s.newest+1, newest-sealsKept+1, 0); n <= newest; n++ {
			seal, err := v.SealAt(n)
			if err != nil {
				return err
			}
			s.own[n] = sumOf(n, seal)
			s.newest = n
			delete(s.own, n-sealsKept)
			delete(s.reports, n-sealsKept)
		}
		for n := range s.own {
			if n <= s.newest-sealsKept {
				delete(s.own, n)
				delete(s.reports, n)
			}
		}
		return nil
	})
}

// heard notes what a voter reported of seals that are of interest here.
func (s *Seals) heard(r sealReply) {
	p, known := s.peers[r.from]
	if !known {
		return
	}
	p.asking = false
	if r.err != nil {
		s.cfg.Logger.Debug("a voter does not say what it made of the seals", "peer", r.from, "error", r.err)
	}
	for _, sum := range r.sums {
		if _, here := s.own[sum.Number]; !here {
			continue
		}
		if s.reports[sum.Number] == nil {
			s.reports[sum.Number] = make(map[peer.ID]SealSum)
		}
		s.reports[sum.Number][r.from] = sum
	}
	if _, reported := s.reports[s.newest][r.from]; reported {
		p.pause, p.next = 0, time.Time{}
		return
	}
	p.pause = min(max(2*p.pause, s.cfg.RetryBase), s.cfg.RetryMax)
	p.next = time.Now().Add(p.pause)
}

// askAround asks the voters that have not reported the newest seal, and says when to
// look again if nothing happens before.
func (s *Seals) askAround(now time.Time) time.Duration {
	wait := s.cfg.RetryMax
	voters := s.cfg.Voters()
	for p := range s.peers {
		if !slices.Contains(voters, p) {
			delete(s.peers, p)
		}
	}
	asking := 0
	for _, p := range s.peers {
		if p.asking {
			asking++
		}
	}
	for _, id := range voters {
		if id == s.cfg.Self || s.newest < 0 {
			continue
		}
		p := s.peers[id]
		if p == nil {
			p = &sealPeer{}
			s.peers[id] = p
		}
		_, reported := s.reports[s.newest][id]
		switch {
		case p.asking || reported:
		case now.Before(p.next):
			wait = min(wait, p.next.Sub(now))
		case asking < sealAskersMax:
			p.asking = true
			asking++
			s.ask(id)
		}
	}
	return wait
}

// ask puts the question about the newest seals here that are not agreed on.
func (s *Seals) ask(id peer.ID) {
	numbers := []int64{s.newest}
	for n := s.newest - 1; n > s.agreed.Load() && n >= 0 && len(numbers) < SealsAskedMax; n-- {
		numbers = append(numbers, n)
	}
	s.wg.Go(func() {
		sums, err := s.cfg.Ask(s.ctx, id, numbers)
		select {
		case s.replies <- sealReply{id, sums, err}:
		case <-s.ctx.Done():
		}
	})
}

// judge looks at every seal that was reported. It returns why this replica must stop, if it must.
func (s *Seals) judge() *Divergence {
	voters := s.cfg.Voters()
	numbers := make([]int64, 0, len(s.own))
	for n := range s.own {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) {
		if n <= s.agreed.Load() {
			break
		}
		majority, with, differ := s.count(n, voters)
		switch {
		case len(with) <= len(voters)/2:
			if differ && n > s.warned {
				s.warned = n
				s.cfg.Logger.Error("voters made different things of a seal, and no majority the same: none of them may be signed", "seal", n)
			}
		case majority != s.own[n]:
			return &Divergence{Number: n, Own: s.own[n], Majority: majority, With: with, OfVoters: len(voters), Confirmed: len(with)}
		case slices.Contains(with, s.cfg.Self):
			s.agreed.Store(n)
			s.cfg.OnAgreed(n)
		}
	}
	return nil
}

// count finds what most voters made of a seal, and whether any differ.
func (s *Seals) count(n int64, voters []peer.ID) (most SealSum, with []peer.ID, differ bool) {
	by := make(map[SealSum][]peer.ID)
	for _, id := range voters {
		if id == s.cfg.Self {
			by[s.own[n]] = append(by[s.own[n]], id)
		} else if sum, ok := s.reports[n][id]; ok {
			by[sum] = append(by[sum], id)
		}
	}
	for sum, ids := range by {
		if len(ids) > len(with) {
			most, with = sum, ids
		}
	}
	return most, with, len(by) > 1
}

// Seals asks a node what it made of these seals.
func (a *Asker) Seals(ctx context.Context, p peer.ID, numbers []int64) ([]SealSum, error) {
	s, err := a.Status(ctx, p, numbers...)
	if err != nil {
		return nil, err
	}
	return s.Seals, nil
}
