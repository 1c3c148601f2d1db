package ntu

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/bizra/bizra/fsm/exact"
)

const (
	// WindowDefault is how many observations a unit keeps unless told otherwise.
	WindowDefault = 5
	// WindowMax is how many it can keep.
	WindowMax = 15

	// ringPlaces is one more, so that what leaves the window is still there when what enters it is.
	ringPlaces = WindowMax + 1
	ringMask   = ringPlaces - 1

	// AlphaDefault weighs the temporal score.
	AlphaDefault = 0.4
	// BetaDefault weighs the prior.
	BetaDefault = 0.35
	// GammaDefault weighs the belief so far.
	GammaDefault = 0.25

	// weightMax keeps the sum of three weights finite.
	weightMax = 1e9

	// beliefStart is the belief of a unit that has seen nothing.
	beliefStart = 0.5
)

var (
	// ErrConfig is returned when a [Config] or another parameter is out of its range.
	ErrConfig = errors.New("ntu: bad configuration")
	// ErrNotFinite is returned for an observation that is NaN or an infinity. The unit
	// is as it was before.
	ErrNotFinite = errors.New("ntu: observation is not a finite number")
	// ErrZero is returned when the unit is the zero [Unit], which [New] did not make.
	ErrZero = errors.New("ntu: unit without a configuration")
)

// Config says how a unit weighs what it sees.
type Config struct {
	// Window is how many observations count, 1 to [WindowMax]; 0 stands for [WindowDefault].
	Window int
	// Alpha, Beta and Gamma weigh the temporal score, the prior and the belief so far.
	// They are divided by their sum, which must be above 0; each is finite and at least 0.
	// All three 0 stand for the defaults.
	Alpha, Beta, Gamma float64
}

func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, WindowDefault)
	if c.Alpha == 0 && c.Beta == 0 && c.Gamma == 0 {
		c.Alpha, c.Beta, c.Gamma = AlphaDefault, BetaDefault, GammaDefault
	}
	return c
}

func (c Config) validate() error {
	if c.Window < 1 || c.Window > WindowMax {
		return fmt.Errorf("%w: Window is %d, want 1 to %d", ErrConfig, c.Window, WindowMax)
	}
	for _, w := range [...]struct {
		name  string
		value float64
	}{{"Alpha", c.Alpha}, {"Beta", c.Beta}, {"Gamma", c.Gamma}} {
		if !(w.value >= 0 && w.value <= weightMax) {
			return fmt.Errorf("%w: %s is %v, want 0 to %v", ErrConfig, w.name, w.value, weightMax)
		}
	}
	return nil
}

// State is what a unit says; each number is in [0, 1].
type State struct {
	Belief    float64 `json:"belief"`
	Entropy   float64 `json:"entropy"`
	Potential float64 `json:"potential"`
}

// Unit is one neural-tensor unit: a value of fixed size, which assignment copies.
// [New] makes one; the zero Unit refuses observations. A unit is not safe for use by
// several goroutines at once.
type Unit struct {
	alpha, beta, gamma float64 // sum to 1
	state              State

	ring   [ringPlaces]float64 // the observations, each in [0, 1]
	next   uint8               // the place that the next observation takes; the last ones lie before it
	count  uint8               // how many there are
	window uint8               // how many there are at most

	// What a new observation changes in O(1): the bins' counts, and sums over the window of
	// the signs of successive differences, of the observations in units of 2⁻⁵⁹, and of their squares.
	bins      [3]uint8
	signs     int8
	sum       uint64
	squaresHi uint64
	squaresLo uint64
}

// New makes a unit that has seen nothing: its state is (0.5, 1, 0.5).
func New(config Config) (Unit, error) {
	c := config.withDefaults()
	if err := c.validate(); err != nil {
		return Unit{}, err
	}
	total := c.Alpha + c.Beta + c.Gamma
	u := Unit{alpha: c.Alpha / total, beta: c.Beta / total, gamma: c.Gamma / total, window: uint8(c.Window)} //nolint:gosec // at most WindowMax
	if !u.weighted() {
		return Unit{}, fmt.Errorf("%w: weights %v, %v, %v have no usable sum", ErrConfig, c.Alpha, c.Beta, c.Gamma)
	}
	u.settle(beliefStart)
	return u, nil
}

// weighted reports whether the weights are those of a unit: in [0, 1], with sum 1 but for rounding.
func (u *Unit) weighted() bool {
	return inUnit(u.alpha) && inUnit(u.beta) && inUnit(u.gamma) && math.Abs(u.alpha+u.beta+u.gamma-1) <= 1e-12
}

// State returns what the unit says now.
func (u *Unit) State() State { return u.state }

// Window returns how many observations the unit keeps at most.
func (u *Unit) Window() int { return int(u.window) }

// Count returns how many observations the unit has in its window.
func (u *Unit) Count() int { return int(u.count) }

// Weights returns α, β and γ, which sum to 1.
func (u *Unit) Weights() (alpha, beta, gamma float64) { return u.alpha, u.beta, u.gamma }

// Observe takes in an observation, held to [0, 1], and returns the state that follows.
// The error is [ErrNotFinite] for NaN and infinities and [ErrZero] for the zero unit; the unit
// is unchanged then.
func (u *Unit) Observe(v float64) (State, error) {
	if v-v != 0 { // NaN for NaN and infinities
		return u.state, ErrNotFinite
	}
	if u.window == 0 {
		return State{}, ErrZero
	}
	v = exact.Clamp01(v)
	u.push(v)
	belief := float64(u.alpha*u.temporal()) + float64(u.beta*prior(v)) + float64(u.gamma*u.state.Belief)
	u.settle(exact.Clamp01(belief))
	return u.state, nil
}

// Resize changes how many observations the unit keeps; if they become fewer, the oldest
// go. Belief stays, entropy and potential are those of what is left. (A session's budget
// says how far back its unit looks.)
func (u *Unit) Resize(window int) error {
	if u.window == 0 {
		return ErrZero
	}
	if err := (Config{Window: window}).validate(); err != nil {
		return err
	}
	r := Unit{alpha: u.alpha, beta: u.beta, gamma: u.gamma, window: uint8(window)} //nolint:gosec // at most WindowMax
	for i := range u.count {
		r.push(u.at(i)) // pushes out the oldest itself
	}
	r.settle(u.state.Belief)
	*u = r
	return nil
}

// at returns the i-th observation in the window, the oldest being the 0th.
func (u *Unit) at(i uint8) float64 { return u.ring[(u.next-u.count+i)&ringMask] }

// push puts an observation in [0, 1] into the window, the oldest of a full one going.
func (u *Unit) push(v float64) {
	u.ring[u.next&ringMask] = v
	if u.count > 0 {
		u.signs += sign(u.ring[(u.next-1)&ringMask], v)
	}
	if u.count == u.window {
		oldest := u.at(0)
		u.remove(oldest)
		// In a window of one the second is v, and this takes back the sign just added.
		u.signs -= sign(oldest, u.at(1))
	} else {
		u.count++
	}
	u.next = (u.next + 1) & ringMask

	q := fixed(v)
	hi, lo := bits.Mul64(q, q)
	var carry uint64
	u.squaresLo, carry = bits.Add64(u.squaresLo, lo, 0)
	u.squaresHi, _ = bits.Add64(u.squaresHi, hi, carry)
	u.sum += q
	u.bins[bin(v)]++
}

func (u *Unit) remove(v float64) {
	q := fixed(v)
	hi, lo := bits.Mul64(q, q)
	var borrow uint64
	u.squaresLo, borrow = bits.Sub64(u.squaresLo, lo, 0)
	u.squaresHi, _ = bits.Sub64(u.squaresHi, hi, borrow)
	u.sum -= q
	u.bins[bin(v)]--
}

// fixedBits: 15 observations of at most 2⁵⁹ sum to less than 2⁶³, and 15 times the sum of their
// squares is below 2¹²⁶.
const fixedBits = 59

// fixed returns an observation in units of 2⁻⁵⁹, rounded down; from 2⁻⁶ on nothing is lost.
//
//detlint:allow floatint the observation is in [0, 1]
func fixed(v float64) uint64 {
	return uint64(int64(float64(v * (1 << fixedBits)))) //nolint:gosec // v is in [0, 1]
}

// variance returns the population variance of the window. n²·variance = n·Σv² − (Σv)² is an
// integer, so it is exact up to the two roundings at its end.
func (u *Unit) variance() float64 {
	n := uint64(u.count)
	carry, lo := bits.Mul64(u.squaresLo, n)
	hi := u.squaresHi*n + carry
	sumHi, sumLo := bits.Mul64(u.sum, u.sum)
	lo, borrow := bits.Sub64(lo, sumLo, 0)
	hi, _ = bits.Sub64(hi, sumHi, borrow)
	scaled := float64(float64(hi)*(1<<64)) + float64(lo)
	return scaled / float64(n*n) / (1 << (2 * fixedBits))
}

// temporal says how steady the window is, and how much it goes one way.
func (u *Unit) temporal() float64 {
	if u.count < 2 {
		return 0.5
	}
	steady := exact.Exp(-float64(4 * u.variance()))
	trend := float64(u.signs) / float64(u.count-1)
	return float64(0.7*steady) + float64(0.3*math.Abs(trend))
}

// settle sets the state from a belief and the window.
func (u *Unit) settle(belief float64) {
	if u.count == 0 {
		u.state = State{Belief: belief, Entropy: 1, Potential: 0.5}
		return
	}
	terms := &entropyTerms[u.count&ringMask]
	entropy := min(1, terms[u.bins[0]&ringMask]+terms[u.bins[1]&ringMask]+terms[u.bins[2]&ringMask])
	u.state = State{Belief: belief, Entropy: entropy, Potential: float64(belief * (1 - entropy))}
}

// sign returns the sign of b − a.
func sign(a, b float64) int8 {
	var s int8
	if b > a {
		s = 1
	}
	if b < a {
		s = -1
	}
	return s
}
