package budget

import (
	"errors"
	"fmt"
)

// ErrExceeded is what every [*Exceeded] is: the reject code BUDGET_EXCEEDED.
var ErrExceeded = errors.New("budget exceeded")

// ErrUse is returned for a use with a negative part.
var ErrUse = errors.New("budget: bad use")

// Exceeded says which part of a budget a use is over.
type Exceeded struct {
	// Part is the part's name as in the JSON form of a [Use]: "time_ms", "tokens", "iterations",
	// "depth" or "tracks".
	Part string
	// Asked is what was to be used, Left is what may be.
	Asked, Left int64
}

func (e *Exceeded) Error() string {
	return fmt.Sprintf("budget exceeded: %s %d, %d left", e.Part, e.Asked, e.Left)
}

// Is makes errors.Is(err, [ErrExceeded]) hold.
func (e *Exceeded) Is(target error) bool { return target == ErrExceeded }

// Use is what a step used, each part at least 0.
type Use struct {
	TimeMillis int64 `json:"time_ms"`
	Tokens     int64 `json:"tokens"`
	Iterations int64 `json:"iterations"`
	// Depth and Tracks are the most that the step had at a time; they are not spent.
	Depth  int64 `json:"depth"`
	Tracks int64 `json:"tracks"`
}

// Remaining is what is left of an allocation. The zero Remaining has nothing left.
type Remaining struct {
	TimeMillis int64 `json:"time_ms"`
	Tokens     int64 `json:"tokens"`
	Iterations int64 `json:"iterations"`
	// Depth and Tracks are ceilings, which no use lowers.
	Depth  int64 `json:"depth"`
	Tracks int64 `json:"tracks"`
}

// Charge returns what a use leaves. All of it is charged or nothing: the error is an [*Exceeded] for the first part
// that is over, or [ErrUse], and what is left is unchanged then.
func (r Remaining) Charge(u Use) (Remaining, error) {
	for _, part := range [...]struct {
		name        string
		asked, left int64
	}{
		{"time_ms", u.TimeMillis, r.TimeMillis},
		{"tokens", u.Tokens, r.Tokens},
		{"iterations", u.Iterations, r.Iterations},
		{"depth", u.Depth, r.Depth},
		{"tracks", u.Tracks, r.Tracks},
	} {
		if part.asked < 0 {
			return r, fmt.Errorf("%w: %s is %d, want 0 or more", ErrUse, part.name, part.asked)
		}
		if part.asked > part.left {
			return r, &Exceeded{Part: part.name, Asked: part.asked, Left: part.left}
		}
	}
	r.TimeMillis -= u.TimeMillis
	r.Tokens -= u.Tokens
	r.Iterations -= u.Iterations
	return r, nil
}

// Least returns the smaller of each part: what a merge of two lines of work has left. (A branch and a
// rollback inherit what their parent has, as it is.)
func (r Remaining) Least(other Remaining) Remaining {
	return Remaining{
		TimeMillis: min(r.TimeMillis, other.TimeMillis),
		Tokens:     min(r.Tokens, other.Tokens),
		Iterations: min(r.Iterations, other.Iterations),
		Depth:      min(r.Depth, other.Depth),
		Tracks:     min(r.Tracks, other.Tracks),
	}
}

// Merge returns the least of each part over all that are merged, and nothing for none.
func Merge(all ...Remaining) Remaining {
	if len(all) == 0 {
		return Remaining{}
	}
	least := all[0]
	for _, r := range all[1:] {
		least = least.Least(r)
	}
	return least
}
