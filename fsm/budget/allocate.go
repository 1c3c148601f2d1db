package budget

import (
	"errors"
	"fmt"
)

const (
	// KnowledgeGapDefault is the knowledge gap of a task that says nothing of it.
	KnowledgeGapDefault = 0.3
	// RiseOne is the complexity above which the tier rises by one.
	RiseOne = 0.7
	// RiseTwo is the complexity above which it rises by two.
	RiseTwo = 0.9

	lengthFull   = 10000 // code points that count as the most
	attemptsFull = 9     // attempts that count as the most
	depthFull    = 7
	tracksFull   = 3
)

// ErrRequest is returned when a [Request], or a score for a [History], is out of range.
var ErrRequest = errors.New("budget: bad request")

// History is the mean of the SNR scores so far. The zero History has none.
type History struct {
	Sum   float64 `json:"sum"`
	Count int64   `json:"count"`
}

// Add returns the history with one more SNR score, in [0, 1]. The error is [ErrRequest].
func (h History) Add(snr float64) (History, error) {
	if !(snr >= 0 && snr <= 1) {
		return h, fmt.Errorf("%w: SNR score %v, want 0 to 1", ErrRequest, snr)
	}
	return History{Sum: h.Sum + snr, Count: h.Count + 1}, nil
}

// Request is what an allocation depends on.
type Request struct {
	Task Task
	// Text is what [Measure] says of the task's input. The zero Text is not that of the empty
	// input, whose entropy is [EntropyOfNothing].
	Text Text
	// KnowledgeGap in [0, 1] is how much the task's owner says it lacks, if HasKnowledgeGap;
	// else [KnowledgeGapDefault] counts.
	KnowledgeGap    float64
	HasKnowledgeGap bool
	// Attempts is how often the task has failed before.
	Attempts int64
	History  History
}

func (r Request) validate() error {
	switch {
	case r.Task >= taskCount:
		return fmt.Errorf("%w: %v", ErrRequest, r.Task)
	case r.Text.Length < 0 || r.Text.Length > TextBytesMax:
		return fmt.Errorf("%w: Text.Length is %d, want 0 to %d", ErrRequest, r.Text.Length, TextBytesMax)
	case !(r.Text.Entropy >= 0 && r.Text.Entropy <= 1):
		return fmt.Errorf("%w: Text.Entropy is %v, want 0 to 1", ErrRequest, r.Text.Entropy)
	case r.HasKnowledgeGap && !(r.KnowledgeGap >= 0 && r.KnowledgeGap <= 1):
		return fmt.Errorf("%w: KnowledgeGap is %v, want 0 to 1", ErrRequest, r.KnowledgeGap)
	case r.Attempts < 0:
		return fmt.Errorf("%w: Attempts is %d, want 0 or more", ErrRequest, r.Attempts)
	case r.History.Count < 0 || !(r.History.Sum >= 0 && r.History.Sum <= float64(r.History.Count)):
		return fmt.Errorf("%w: History of %d SNR scores that sum to %v", ErrRequest, r.History.Count, r.History.Sum)
	}
	return nil
}

// Allocation is what a task gets.
type Allocation struct {
	Task Task `json:"task"`
	Tier Tier `json:"tier"`
	// Complexity in [0, 1] is what the tier was chosen by.
	Complexity float64 `json:"complexity"`
	// TimeSeconds is the time; TimeMillis is it in whole milliseconds, rounded down, for what is spent.
	TimeSeconds float64 `json:"time_seconds"`
	TimeMillis  int64   `json:"time_ms"`
	Tokens      int64   `json:"tokens"`
	// Depth is how deep reasoning may nest, Tracks how many lines of it may run at a time.
	Depth      int64 `json:"depth"`
	Tracks     int64 `json:"tracks"`
	Iterations int64 `json:"iterations"`
	// Confidence in [0, 1] is what the result should reach.
	Confidence       float64 `json:"confidence"`
	ExtendedThinking bool    `json:"extended_thinking"`
	// NTUWindow is how many observations the session's unit should look back on.
	NTUWindow int `json:"ntu_window"`
}

// Remaining returns the whole of the allocation as what is left of it.
func (a Allocation) Remaining() Remaining {
	return Remaining{TimeMillis: a.TimeMillis, Tokens: a.Tokens, Iterations: a.Iterations, Depth: a.Depth, Tracks: a.Tracks}
}

// signals are those that the task's own tier gives.
func signals(t Tier) (depth, tracks int64) {
	return min(depthFull, int64(t)+2), min(tracksFull, 1+int64(t)/2)
}

// Complexity returns how complex a task is, in [0, 1]. It allocates nothing. The error is [ErrRequest].
func Complexity(r Request) (float64, error) {
	if err := r.validate(); err != nil {
		return 0, err
	}
	return r.complexity(), nil
}

func (r Request) complexity() float64 {
	depth, tracks := signals(r.Task.Tier())
	gap := KnowledgeGapDefault
	if r.HasKnowledgeGap {
		gap = r.KnowledgeGap
	}
	effort := (min(1, float64(r.Text.Length)/lengthFull) + r.Text.Entropy + gap) / 3
	doubt := 0.5
	if r.History.Count > 0 {
		doubt = 1 - r.History.Sum/float64(r.History.Count)
	}
	completion := (min(1, float64(r.Attempts)/attemptsFull) + doubt) / 2
	sum := float64(7*min(1, float64(depth)/depthFull)) + float64(3*min(1, float64(tracks)/tracksFull)) +
		float64(6*effort) + float64(9*completion)
	return sum / 25
}

// Allocate gives a task its budget. It allocates no memory. The error is [ErrRequest].
func Allocate(r Request) (Allocation, error) {
	if err := r.validate(); err != nil {
		return Allocation{}, err
	}
	complexity := r.complexity()
	tier := r.Task.Tier()
	depth, tracks := signals(tier)
	if complexity > RiseTwo {
		tier++
	}
	if complexity > RiseOne {
		tier++
	}
	tier = min(tier, Mega)
	b := tier.base()
	return Allocation{
		Task:             r.Task,
		Tier:             tier,
		Complexity:       complexity,
		TimeSeconds:      float64(float64(b.timeMillis/1000) * (1 + float64(2.5*float64(depth))/depthFull)),
		TimeMillis:       b.timeMillis * (2*depthFull + 5*depth) / (2 * depthFull),
		Tokens:           b.tokens * (2*tracksFull + 5*tracks) / (2 * tracksFull),
		Depth:            max(b.depth, depth),
		Tracks:           max(b.tracks, tracks),
		Iterations:       b.iterations,
		Confidence:       b.confidence,
		ExtendedThinking: b.extendedThinking,
		NTUWindow:        b.ntuWindow,
	}, nil
}
