package ntu

import (
	"fmt"
	"math"
)

const (
	// IterationsDefault is where [Converge] gives up unless told otherwise.
	IterationsDefault = 1000
	// IterationsMax is the most that it may be told.
	IterationsMax = 1_000_000
	// EpsilonDefault is the change of belief below which a unit has converged.
	EpsilonDefault = 0.01

	// DetectionThreshold is the belief from which a pattern counts as detected.
	DetectionThreshold = 0.95
	// SequenceMax is how many observations [Converge] and [Detect] accept.
	SequenceMax = 1 << 20
)

// Convergence is how a unit came to rest, or did not.
type Convergence struct {
	Converged bool
	// Iterations is the number of observations made, the last being the one that changed
	// belief by less than epsilon.
	Iterations int
	State      State
}

// Converge shows a new unit the observations over and over until one changes its belief by
// less than epsilon (0 stands for [EpsilonDefault]), at most iterationsMax times (0 stands
// for [IterationsDefault]).
//
// A constant input always converges, within [IterationsBound]; any other may not, as belief can
// settle into a cycle. The error is [ErrConfig] for a parameter out of range, and what [Unit.Observe]
// gives.
func Converge(config Config, observations []float64, epsilon float64, iterationsMax int) (Convergence, error) {
	if epsilon == 0 {
		epsilon = EpsilonDefault
	}
	if iterationsMax == 0 {
		iterationsMax = IterationsDefault
	}
	switch {
	case len(observations) == 0 || len(observations) > SequenceMax:
		return Convergence{}, fmt.Errorf("%w: %d observations, want 1 to %d", ErrConfig, len(observations), SequenceMax)
	case !(epsilon > 0 && epsilon <= 1):
		return Convergence{}, fmt.Errorf("%w: epsilon is %v, want above 0 and at most 1", ErrConfig, epsilon)
	case iterationsMax < 1 || iterationsMax > IterationsMax:
		return Convergence{}, fmt.Errorf("%w: %d iterations, want 1 to %d", ErrConfig, iterationsMax, IterationsMax)
	}
	u, err := New(config)
	if err != nil {
		return Convergence{}, err
	}
	for i := range iterationsMax {
		before := u.state.Belief
		if _, err := u.Observe(observations[i%len(observations)]); err != nil {
			return Convergence{}, fmt.Errorf("observation %d: %w", i%len(observations), err)
		}
		if math.Abs(u.state.Belief-before) < epsilon {
			return Convergence{Converged: true, Iterations: i + 1, State: u.state}, nil
		}
	}
	return Convergence{Iterations: iterationsMax, State: u.state}, nil
}

// IterationsBound returns how many observations of one value suffice for convergence, whatever
// the value, the window and the weights: 3 + 1/ε².
//
// From the second observation on the target of belief is fixed, and belief comes nearer to it by the
// factor γ each time. So step k after it changes belief by at most (1−γ)·γᵏ ≤ 1/(k+1), which is
// below ε once k ≥ 1/ε; and 1/ε ≤ 1/ε².
func IterationsBound(epsilon float64) float64 {
	return 3 + 1/float64(epsilon*epsilon)
}

// Run is a stretch of a sequence: the observations From to To−1, counted from 0.
type Run struct{ From, To int }

// Detection is what a unit made of a sequence.
type Detection struct {
	// Detected says that belief after the last observation is at least the threshold.
	Detected bool
	// Final is the state after the last observation.
	Final State
	// Runs are the stretches in which belief was at least the threshold, in order.
	Runs []Run
}

// Detect shows a sequence to a new unit, each observation once, and reports where belief was
// at least the threshold (0 stands for [DetectionThreshold]). An empty sequence is a unit that has
// seen nothing. The error is [ErrConfig] for a parameter out of range, and what [Unit.Observe] gives.
func Detect(config Config, sequence []float64, threshold float64) (Detection, error) {
	if threshold == 0 {
		threshold = DetectionThreshold
	}
	switch {
	case len(sequence) > SequenceMax:
		return Detection{}, fmt.Errorf("%w: %d observations, want at most %d", ErrConfig, len(sequence), SequenceMax)
	case !(threshold > 0 && threshold <= 1):
		return Detection{}, fmt.Errorf("%w: threshold is %v, want above 0 and at most 1", ErrConfig, threshold)
	}
	u, err := New(config)
	if err != nil {
		return Detection{}, err
	}
	var runs []Run
	above := false
	for i, v := range sequence {
		if _, err := u.Observe(v); err != nil {
			return Detection{}, fmt.Errorf("observation %d: %w", i, err)
		}
		before := above
		above = u.state.Belief >= threshold
		switch {
		case above && before:
			runs[len(runs)-1].To = i + 1
		case above:
			runs = append(runs, Run{From: i, To: i + 1})
		}
	}
	return Detection{Detected: u.state.Belief >= threshold, Final: u.state, Runs: runs}, nil
}
