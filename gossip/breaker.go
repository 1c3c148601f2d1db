package gossip

import (
	"fmt"
	"time"

	"github.com/bizra/bizra/fsm/ntu"
)

// The breaker's unit weighs steadiness less and memory more than a session's unit does:
// with these weights two bad intervals in a row trip it, so does every second one being
// bad, and neither one alone nor every third one does; TestBreakerTrips holds them to it.
const (
	breakerAlpha  = 0.1
	breakerBeta   = 0.3
	breakerGamma  = 0.6
	breakerTrips  = 0.55
	breakerWindow = 5

	// anomalousMin is how many bad things an interval needs to be bad at all.
	anomalousMin = 3
	// probationBad is the share of bad things in an interval that ends a probation.
	probationBad = 0.33
	// strikesMax bounds how often the time of a mute is doubled; forgivenAfter takes one back.
	strikesMax    = 16
	forgivenAfter = time.Hour
)

// breakerState is where a peer's circuit breaker stands.
type breakerState uint8

const (
	breakerClosed breakerState = iota // heard
	breakerOpen                       // muted
	breakerHalf                       // heard on probation
)

// breaker mutes a peer whose behaviour turns anomalous, and lets it back on probation. It
// is fed with the share of bad things in what the peer did in each interval; what those
// say taken together is for a neural-tensor unit to tell.
type breaker struct {
	unit    ntu.Unit
	state   breakerState
	until   time.Time // of a mute or a probation
	strikes int
	struck  time.Time // when strikes changed last
	share   float64   // of bad things in the interval that tripped it
}

func newBreaker() (breaker, error) {
	u, err := ntu.New(ntu.Config{Window: breakerWindow, Alpha: breakerAlpha, Beta: breakerBeta, Gamma: breakerGamma})
	if err != nil {
		return breaker{}, fmt.Errorf("circuit breaker: %w", err)
	}
	b := breaker{unit: u}
	for range breakerWindow { // a peer that nothing is known of has done nothing bad
		b.observe(0)
	}
	return b, nil
}

func (b *breaker) observe(share float64) float64 {
	s, err := b.unit.Observe(share)
	if err != nil {
		return 1
	}
	return s.Belief
}

// anomaly is the share of bad things among all that a peer did in an interval.
func anomaly(bad, good float64) float64 {
	if bad < anomalousMin {
		return 0
	}
	return bad / (bad + good)
}

// step takes in an interval and says whether the breaker's state changed.
func (b *breaker) step(now time.Time, share float64, cfg *Config) (changed bool) {
	if b.strikes > 0 && now.Sub(b.struck) >= forgivenAfter {
		b.strikes, b.struck = b.strikes-1, now
	}
	if b.state == breakerOpen {
		if now.Before(b.until) {
			return false
		}
		fresh, err := newBreaker()
		if err != nil {
			return false
		}
		b.unit, b.state, b.until = fresh.unit, breakerHalf, now.Add(cfg.ProbationFor)
		return true
	}
	belief := b.observe(share)
	switch {
	case belief >= breakerTrips || b.state == breakerHalf && share >= probationBad:
		b.trip(now, share, cfg)
		return true
	case b.state == breakerHalf && !now.Before(b.until):
		b.state = breakerClosed
		return true
	}
	return false
}

func (b *breaker) trip(now time.Time, share float64, cfg *Config) {
	mute := cfg.MuteFor
	for range b.strikes {
		if mute *= 2; mute >= cfg.MuteForMax {
			mute = cfg.MuteForMax
			break
		}
	}
	b.state, b.until, b.share = breakerOpen, now.Add(mute), share
	b.strikes, b.struck = min(b.strikes+1, strikesMax), now
}

func (b *breaker) muted(now time.Time) bool { return b.state == breakerOpen && now.Before(b.until) }
