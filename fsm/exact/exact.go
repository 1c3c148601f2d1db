// Package exact computes exp and log with the same bits on every processor.
//
// The functions of package math are assembly on some processors and Go on others,
// and the compiler may fuse a product with a sum where the processor can. Replicas
// that compare hashes of what they computed cannot live with either. Here is one
// way to compute, in Go, with every product rounded by an explicit conversion, which
// the language specification (Floating-point operators) says is never fused.
//
// The method and its constants are those of FreeBSD's e_exp.c and e_log.c (Sun
// Microsystems, fdlibm), the error is below one unit in the last place. The bits
// are part of the state machine: a change of them is a change of the state's version.
//
// The package has no trigonometry, no powers and no float32.
package exact

import "math"

// ln 2 in two parts: the upper has 32 significant bits, so that its product with an
// exponent is exact.
const (
	ln2Hi = 6.93147180369123816490e-01
	ln2Lo = 1.90821492927058770002e-10
)

// Mul returns x·y rounded to float64, which the compiler then cannot fuse with a sum.
func Mul(x, y float64) float64 { return float64(x * y) }

// Clamp01 returns x held to [0, 1]; NaN and −0 give 0.
func Clamp01(x float64) float64 {
	switch {
	case x >= 1:
		return 1
	case x > 0:
		return x
	default:
		return 0
	}
}

// Exp returns e to the power x. It is 0 below −745.13…, +Inf above 709.78…, and
// NaN for NaN.
func Exp(x float64) float64 {
	const (
		log2e     = 1.44269504088896338700e+00
		overflow  = 7.09782712893383973096e+02
		underflow = -7.45133219101941108420e+02
		nearZero  = 1.0 / (1 << 28)
	)
	switch {
	case math.IsNaN(x):
		return x
	case x > overflow:
		return math.Inf(1)
	case x < underflow:
		return 0
	case -nearZero < x && x < nearZero:
		return 1 + x
	}
	// x = k·ln 2 + r with |r| ≤ ln(2)/2, and r = hi − lo.
	half := 0.5
	if x < 0 {
		half = -0.5
	}
	k := int(Mul(log2e, x) + half) //detlint:allow floatint |x| < 746, so the quotient is below 1076
	hi := x - Mul(float64(k), ln2Hi)
	lo := Mul(float64(k), ln2Lo)
	return scale(expReduced(hi, lo), k)
}

// expReduced returns e to the power hi − lo, which is at most ln(2)/2 in size.
func expReduced(hi, lo float64) float64 {
	const (
		p1 = 1.66666666666666657415e-01
		p2 = -2.77777777770155933842e-03
		p3 = 6.61375632143793436117e-05
		p4 = -1.65339022054652515390e-06
		p5 = 4.13813679705723846039e-08
	)
	r := hi - lo
	t := Mul(r, r)
	c := r - Mul(t, p1+Mul(t, p2+Mul(t, p3+Mul(t, p4+Mul(t, p5)))))
	return 1 - ((lo - Mul(r, c)/(2-c)) - hi)
}

// scale returns y·2^k for a y near 1.
func scale(y float64, k int) float64 {
	if -1021 <= k && k <= 1022 {
		return Mul(y, math.Float64frombits(uint64(k+1023)<<52))
	}
	return math.Ldexp(y, k)
}

// Log returns the natural logarithm of x. It is −Inf for 0, +Inf for +Inf, and NaN
// for NaN and for what is below 0.
func Log(x float64) float64 {
	const (
		l1 = 6.666666666666735130e-01
		l2 = 3.999999999940941908e-01
		l3 = 2.857142874366239149e-01
		l4 = 2.222219843214978396e-01
		l5 = 1.818357216161805012e-01
		l6 = 1.531383769920937332e-01
		l7 = 1.479819860511658591e-01
	)
	switch {
	case math.IsNaN(x) || math.IsInf(x, 1):
		return x
	case x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	}
	// x = 2^k·(1+f) with √½ ≤ 1+f < √2.
	fraction, exponent := math.Frexp(x)
	if fraction < math.Sqrt2/2 {
		fraction += fraction
		exponent--
	}
	f := fraction - 1
	k := float64(exponent)

	s := f / (2 + f)
	s2 := Mul(s, s)
	s4 := Mul(s2, s2)
	t1 := Mul(s2, l1+Mul(s4, l3+Mul(s4, l5+Mul(s4, l7))))
	t2 := Mul(s4, l2+Mul(s4, l4+Mul(s4, l6)))
	square := Mul(0.5, Mul(f, f))
	tail := Mul(s, square+(t1+t2)) + Mul(k, ln2Lo)
	return Mul(k, ln2Hi) - ((square - tail) - f)
}

// Log2 returns the logarithm of x to base 2, from [Log], to 2 units in the last
// place; it is not exact for powers of two.
func Log2(x float64) float64 { return Log(x) / math.Ln2 }
