package market

import (
	"errors"
	"fmt"
	"slices"
)

// ErrValues is returned by [GiniOf] for values that no market has.
var ErrValues = errors.New("market: bad values")

// Gini is a Gini coefficient as an exact ratio: Σ|xi−xj| over all pairs, divided by 2n·Σx; 0 below two holders or where
// there is no value. The zero Gini is 0.
type Gini struct {
	differences uint128 // Σ|xi−xj| over pairs, each once
	holders     int64   // n
	total       int64   // Σx
}

// GiniOf returns the coefficient of the values, each from 0 to [ValueMax] and at most [HoldersMax] of them, in
// O(n log n). It does not change values. The error is [ErrValues].
func GiniOf(values []int64) (Gini, error) {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n > HoldersMax || n > 0 && (sorted[0] < 0 || sorted[n-1] > ValueMax) {
		return Gini{}, fmt.Errorf("%w: %d of them, from %d to %d", ErrValues, n, sorted[0], sorted[n-1])
	}
	g := Gini{holders: int64(len(sorted))}
	for i, x := range sorted {
		// x is above each of the i before it by what they lack of x.
		g.differences = g.differences.plus(product(unsigned(x), unsigned(int64(i)))).minus(uint128{lo: unsigned(g.total)})
		g.total += x
	}
	return g, nil
}

// unsigned is for what is never negative.
func unsigned(n int64) uint64 { return uint64(n) } //nolint:gosec // never negative

// Holders is how many values the coefficient is over.
func (g Gini) Holders() int64 { return g.holders }

// Total is the sum of the values, in micro-credits.
func (g Gini) Total() int64 { return g.total }

// Mean is the mean of the values, in micro-credits rounded down; 0 without holders.
func (g Gini) Mean() int64 {
	if g.holders == 0 {
		return 0
	}
	return g.total / g.holders
}

func (g Gini) flat() bool { return g.holders < 2 || g.total == 0 }

func (g Gini) denominator() uint128 { return product(unsigned(g.holders), unsigned(g.total)) }

// Compare returns -1, 0 or 1 as g is less than, equal to or more than o. It is exact.
func (g Gini) Compare(o Gini) int {
	a, b, c, d := g.differences, g.denominator(), o.differences, o.denominator()
	if g.flat() {
		a, b = uint128{}, uint128{lo: 1}
	}
	if o.flat() {
		c, d = uint128{}, uint128{lo: 1}
	}
	return compareRatios(a, b, c, d)
}

// Exceeds reports whether the coefficient is above so many hundredths. It is exact.
func (g Gini) Exceeds(percent int64) bool {
	return !g.flat() && compareRatios(g.differences, g.denominator(), uint128{lo: unsigned(percent)}, uint128{lo: 100}) > 0
}

// Millionths is the coefficient in millionths, rounded down: a form that is the same on every processor.
func (g Gini) Millionths() int64 {
	if g.flat() {
		return 0
	}
	const whole = 1_000_000
	return firstOf(0, whole, func(i int64) bool {
		return compareRatios(g.differences, g.denominator(), uint128{lo: unsigned(i + 1)}, uint128{lo: whole}) < 0
	})
}

// Float64 is the coefficient for people and plots; it decides nothing.
func (g Gini) Float64() float64 {
	if g.flat() {
		return 0
	}
	return g.differences.float() / g.denominator().float()
}

// withNobody is the coefficient with one more holder, who has nothing.
func (g Gini) withNobody() Gini {
	g.differences = g.differences.plus(uint128{lo: unsigned(g.total)})
	g.holders++
	return g
}

// aboveMean reports whether a value is above the mean.
func (g Gini) aboveMean(value int64) bool {
	return product(unsigned(value), unsigned(g.holders)).compare(uint128{lo: unsigned(g.total)}) > 0
}

// belowFloor reports whether a value is below the mean divided by FloorDivisor.
func (g Gini) belowFloor(value int64) bool {
	return product(unsigned(value), unsigned(g.holders)*FloorDivisor).compare(uint128{lo: unsigned(g.total)}) < 0
}
