package market

import "math/bits"

// uint128 is what sums of differences need: up to 2^20 holders times 2^62.
type uint128 struct{ hi, lo uint64 }

func product(a, b uint64) uint128 {
	hi, lo := bits.Mul64(a, b)
	return uint128{hi, lo}
}

func (a uint128) plus(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return uint128{hi, lo}
}

func (a uint128) minus(b uint128) uint128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return uint128{hi, lo}
}

// times is for products that fit.
func (a uint128) times(b uint64) uint128 {
	p := product(a.lo, b)
	p.hi += a.hi * b
	return p
}

func (a uint128) compare(b uint128) int {
	switch {
	case a.hi < b.hi || a.hi == b.hi && a.lo < b.lo:
		return -1
	case a == b:
		return 0
	default:
		return 1
	}
}

// wide is the whole product of two, its high half first.
func (a uint128) wide(b uint128) (hi, lo uint128) {
	low := product(a.lo, b.lo)
	high := product(a.hi, b.hi)
	for _, cross := range [...]uint128{product(a.hi, b.lo), product(a.lo, b.hi)} {
		var carry uint64
		low.hi, carry = bits.Add64(low.hi, cross.lo, 0)
		high.lo, carry = bits.Add64(high.lo, cross.hi, carry)
		high.hi += carry
	}
	return high, low
}

// compareRatios compares a/b with c/d, where b and d are not 0.
func compareRatios(a, b, c, d uint128) int {
	leftHigh, leftLow := a.wide(d)
	rightHigh, rightLow := c.wide(b)
	if order := leftHigh.compare(rightHigh); order != 0 {
		return order
	}
	return leftLow.compare(rightLow)
}

// float is the nearest double, or one beside it.
func (a uint128) float() float64 {
	return float64(float64(a.hi)*0x1p64) + float64(a.lo)
}
