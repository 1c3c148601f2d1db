package ntu

import (
	"errors"
	"fmt"
	"math"
)

// Level is the coarse size of an observation, and a state of the [Chain].
type Level uint8

// The levels: below 0.33, below 0.67, the rest.
const (
	Low Level = iota
	Medium
	High
)

const (
	mediumMin = 0.33
	highMin   = 0.67
)

// The first components of the unit vectors along (0.1, 0.2, 0.7), (0.4, 0.4, 0.2) and (0.8, 0.1, 0.1).
const (
	priorLow    = 0.13608276348795437 // 0.1/√0.54
	priorMedium = 0.6666666666666666  // 0.4/√0.36
	priorHigh   = 0.9847319278346618  // 0.8/√0.66
)

func (l Level) String() string {
	switch l {
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	default:
		return fmt.Sprintf("level(%d)", uint8(l))
	}
}

// LevelOf returns the level of an observation in [0, 1].
func LevelOf(v float64) Level {
	switch {
	case v < mediumMin:
		return Low
	case v < highMin:
		return Medium
	default:
		return High
	}
}

// prior returns what an observation alone makes one believe.
func prior(v float64) float64 {
	switch LevelOf(v) {
	case Low:
		return priorLow
	case Medium:
		return priorMedium
	default:
		return priorHigh
	}
}

// bin returns which third of [0, 1] an observation lies in; a bin holds its lower end, the last its upper too.
func bin(v float64) uint8 {
	var b uint8
	if v >= 1.0/3 {
		b = 1
	}
	if v >= 2.0/3 {
		b = 2
	}
	return b
}

// ErrChain is returned for a [Chain] that is not a matrix of probabilities or has no
// unique stationary distribution.
var ErrChain = errors.New("ntu: bad chain")

// chainTolerance is how far the sum of a row may be from 1.
const chainTolerance = 1e-9

// Chain is a Markov chain over the levels: Chain[i][j] is the probability that j follows i.
type Chain [3][3]float64

// DefaultChain is the blueprint's chain of levels; its stationary distribution
// is (0.16, 0.2533…, 0.5866…).
func DefaultChain() Chain {
	return Chain{{0.5, 0.4, 0.1}, {0.2, 0.4, 0.4}, {0.05, 0.15, 0.8}}
}

// Stationary returns the share of time that the chain spends at each level in the long
// run. It is exact up to rounding, by the Markov chain tree theorem: a level's share is in proportion to
// the sum, over the trees that lead to it, of the products of their steps (Leighton and
// Rivest, 1986). The error is [ErrChain] if entries are no probabilities, a row does not
// sum to 1, or several distributions are stationary.
func (c Chain) Stationary() ([3]float64, error) {
	for i, row := range c {
		for j, p := range row {
			if !(p >= 0 && p <= 1) {
				return [3]float64{}, fmt.Errorf("%w: entry [%d][%d] is %v", ErrChain, i, j, p)
			}
		}
		if sum := row[0] + row[1] + row[2]; math.Abs(sum-1) > chainTolerance {
			return [3]float64{}, fmt.Errorf("%w: row %d sums to %v", ErrChain, i, sum)
		}
	}
	var share [3]float64
	for i := range share {
		j, k := (i+1)%3, (i+2)%3
		share[i] = float64(c[j][i]*c[k][i]) + float64(c[j][i]*c[k][j]) + float64(c[j][k]*c[k][i])
	}
	total := share[0] + share[1] + share[2]
	if total == 0 {
		return [3]float64{}, fmt.Errorf("%w: several distributions are stationary", ErrChain)
	}
	for i := range share {
		share[i] /= total
	}
	return share, nil
}
