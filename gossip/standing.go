package gossip

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/bizra/bizra/internal/tally"
)

// offence is something that a peer does and should not.
type offence uint8

const (
	spam      offence = iota // messages above its rate
	invalid                  // messages that were rejected
	replay                   // the same again and again
	trespass                 // messages of topics that are not its
	tellMuch                 // more message ids offered (IHAVE) than there are messages
	askMuch                  // more message ids asked for (IWANT)
	graftMuch                // more grafts, prunes and subscriptions than a mesh needs
	offences
)

// penalty is what one offence takes off a peer's score; see docs/network.md. Invalid
// messages cost by GossipSub's own rule (P4).
func (o offence) penalty() float64 {
	switch o {
	case spam, replay:
		return 0.1
	case trespass, graftMuch:
		return 1
	case tellMuch:
		return 0.01
	case askMuch:
		return 0.02
	default:
		return 0
	}
}

// weight is how much one offence counts for the circuit breaker beside one good message.
func (o offence) weight() float64 {
	switch o {
	case tellMuch, askMuch:
		return 0.05
	default:
		return 1
	}
}

func (o offence) String() string {
	return [...]string{"spam", "invalid", "replay", "trespass", "ihave_flood", "iwant_flood", "graft_flood"}[o]
}

func (o offence) sentence(count float64) string {
	return fmt.Sprintf([...]string{"sent about %.0f messages above its rate", "sent about %.0f invalid messages", "sent about %.0f messages again and again",
		"sent about %.0f messages in topics that are not its", "offered about %.0f messages too many", "asked for about %.0f messages too many",
		"joined and left meshes about %.0f times too often"}[o], count)
}

// penaltyHalfLife is how long it takes until half of an offence is forgotten.
const penaltyHalfLife = 5 * time.Minute

// mutedScore is far below every threshold.
const mutedScore = -1000

// buckets of a peer: one for each kind of topic, then those of control messages.
const (
	ihaveBucket = int(kinds) + iota
	iwantBucket
	graftBucket
	bucketsCount
)

// standing is what is remembered of one peer's behaviour. Under the router's standings lock.
type standing struct {
	heard   time.Time
	buckets [bucketsCount]*rate.Limiter // made when they are needed
	faults  *faults                     // nil for a peer that has never done anything it should not, as most never do

	// Since the last sample.
	good       float64 // messages that were accepted
	duplicates float64 // messages that others had brought before
	stale      float64 // messages whose payload was known
}

// faults are what is held against a peer.
type faults struct {
	breaker  breaker
	bad      [offences]float64 // since the last sample
	owed     [offences]float64 // decaying with penaltyHalfLife
	decayed  time.Time         // when it was last; zero before the first time
	rejected string            // why its last rejected message was
}

// offend counts what the peer did and should not, and gives what is held against it.
func (s *standing) offend(o offence, count float64) *faults {
	if s.faults == nil {
		fresh, _ := newBreaker() // whose error [New] has met
		s.faults = &faults{breaker: fresh}
	}
	s.faults.bad[o] += count
	return s.faults
}

// muted says whether the peer is not heard now, probation whether it is heard on probation.
func (s *standing) muted(now time.Time) bool { return s.faults != nil && s.faults.breaker.muted(now) }

func (s *standing) probation() bool {
	return s.faults != nil && s.faults.breaker.state == breakerHalf
}

// decay lets what is owed fade up to now.
func (f *faults) decay(now time.Time) {
	if !f.decayed.IsZero() {
		factor := math.Exp2(-now.Sub(f.decayed).Seconds() / penaltyHalfLife.Seconds())
		for o := range f.owed {
			f.owed[o] *= factor
		}
	}
	f.decayed = now
}

// sample ends an interval in which the router heard so many distinct messages, and says
// whether the breaker's state changed. Everybody brings a message once and, asked, twice;
// what is beyond that is replayed. Offences are counted.
func (s *standing) sample(now time.Time, distinct float64, cfg *Config, counted *tally.Counters) (changed bool) {
	if over := s.duplicates - (2*distinct + anomalousMin); over > 0 {
		s.offend(replay, over)
		s.duplicates -= over
	}
	if over := s.stale - staleAllowedPerSec*cfg.SampleEvery.Seconds(); over > 0 {
		s.offend(replay, over)
		s.stale -= over
	}
	good := s.good + s.duplicates + s.stale
	s.good, s.duplicates, s.stale = 0, 0, 0
	f := s.faults
	if f == nil {
		return false
	}
	f.decay(now)
	bad := 0.0
	for o, n := range f.bad {
		if n == 0 {
			continue
		}
		counted.With(offence(o).String()).Add(n)
		f.owed[o] += n
		bad += n * offence(o).weight()
	}
	f.bad = [offences]float64{}
	return !cfg.off.breaker && f.breaker.step(now, anomaly(bad, good), cfg)
}

// score is the application's part (P5) of the peer's score, at most 0.
func (s *standing) score(now time.Time) float64 {
	switch {
	case s.faults == nil:
		return 0
	case s.muted(now):
		return mutedScore
	}
	total := 0.0
	for o, n := range s.faults.owed {
		total -= n * offence(o).penalty()
	}
	return max(total, mutedScore)
}

// why says what is held against the peer, worst first.
func (s *standing) why(now time.Time) []string {
	f := s.faults
	if f == nil {
		return nil
	}
	var reasons []string
	switch b := &f.breaker; {
	case b.muted(now):
		reasons = append(reasons, fmt.Sprintf("muted until %s: %.0f %% of what it did was wrong", b.until.UTC().Format(time.RFC3339), 100*b.share))
	case b.state != breakerClosed:
		reasons = append(reasons, "on probation after it was muted")
	}
	worst := make([]offence, 0, offences)
	for o := range offences {
		if f.owed[o] >= 0.5 {
			worst = append(worst, o)
		}
	}
	slices.SortStableFunc(worst, func(a, b offence) int {
		return cmp.Compare(f.owed[b]*(b.penalty()+b.weight()), f.owed[a]*(a.penalty()+a.weight()))
	})
	for _, o := range worst {
		text := o.sentence(f.owed[o])
		if o == invalid && f.rejected != "" {
			text += ", the last one because " + f.rejected
		}
		reasons = append(reasons, text)
	}
	return reasons
}

// standingFor gives the record of a peer, made if need be; nil where too many are
// remembered. Under standings.mu.
func (r *Router) standingFor(p peer.ID, now time.Time) *standing {
	if s := r.standings.byPeer[p]; s != nil {
		s.heard = now
		return s
	}
	if len(r.standings.byPeer) >= peersMax {
		return nil
	}
	s := &standing{heard: now}
	r.standings.byPeer[p] = s
	return s
}
