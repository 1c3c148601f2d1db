package market

import (
	"math/bits"
	"slices"
)

// spread answers questions about values as they would be if all were cut off at some height. Its values ascend.
type spread struct {
	values []int64
	below  []int64   // sum of the first i
	apart  []uint128 // differences between the first i, each pair once
}

func spreadOf(sorted []int64) spread {
	s := spread{values: sorted, below: make([]int64, len(sorted)+1), apart: make([]uint128, len(sorted)+1)}
	for i, x := range sorted {
		s.apart[i+1] = s.apart[i].plus(product(unsigned(x), unsigned(int64(i)))).minus(uint128{lo: unsigned(s.below[i])})
		s.below[i+1] = s.below[i] + x
	}
	return s
}

// capped is the coefficient of min(x, height).
func (s *spread) capped(height int64) Gini {
	n := int64(len(s.values))
	i, _ := slices.BinarySearch(s.values, height)
	above := n - int64(i)
	// Each of those below lacks something of height, and so many are at it.
	lack := uint128{lo: unsigned(height*int64(i) - s.below[i])}
	return Gini{differences: s.apart[i].plus(lack.times(unsigned(above))), holders: n, total: s.below[i] + height*above}
}

// cap is the largest height at which the coefficient of min(x, height) keeps the limit, or false if it does so uncut.
//
// Lowering the height never raises the coefficient, since min(x, c)/x does not rise with x, so the search may halve; and
// at the least value the coefficient is 0. Values are not empty and above 0.
func (s *spread) cap() (height int64, needed bool) {
	least, most := s.values[0], s.values[len(s.values)-1]
	if !s.capped(most).Exceeds(GiniLimitPercent) {
		return most, false
	}
	return firstOf(least+1, most, func(height int64) bool { return s.capped(height).Exceeds(GiniLimitPercent) }) - 1, true
}

// floor is the least height at which max(x, height) leaves nobody below the mean divided by FloorDivisor.
func (s *spread) floor() int64 {
	n := int64(len(s.values))
	most := s.values[len(s.values)-1]
	return firstOf(0, most, func(height int64) bool {
		i, _ := slices.BinarySearch(s.values, height)
		total := s.below[n] - s.below[i] + height*int64(i)
		return !Gini{holders: n, total: total}.belowFloor(height)
	})
}

// firstOf is the least number from low on that holds, or high; what holds for a number holds for every larger one.
// Package sort searches an int, which has 32 bits on some processors.
func firstOf(low, high int64, holds func(int64) bool) int64 {
	for low < high {
		middle := low + (high-low)/2
		if holds(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// redeclare changes the prices of licences so that they sum to total: what each has above one credit in proportion, the
// remainder to the oldest of those. No price falls below one credit; the licences are at most total / Credit, and at least
// one.
func redeclare(licences []Licence, total int64) {
	spare := total - int64(len(licences))*Credit
	var above int64
	for i := range licences {
		above += licences[i].Price - Credit
	}
	remainder := spare
	var shared []*Licence // who has a share, and so may have a part of the remainder
	for i := range licences {
		l := &licences[i]
		share := spare / int64(len(licences))
		if above > 0 {
			share = proportion(spare, l.Price-Credit, above)
		}
		if above == 0 || l.Price > Credit {
			shared = append(shared, l)
		}
		l.Price = Credit + share
		remainder -= share
	}
	// Rounding down lost less than one for each share.
	for _, l := range shared[:remainder] {
		l.Price++
	}
}

// proportion is whole·part/all rounded down, for part at most all.
func proportion(whole, part, all int64) int64 {
	hi, lo := bits.Mul64(unsigned(whole), unsigned(part))
	quotient, _ := bits.Div64(hi, lo, unsigned(all))
	return int64(quotient) //nolint:gosec // at most whole
}
