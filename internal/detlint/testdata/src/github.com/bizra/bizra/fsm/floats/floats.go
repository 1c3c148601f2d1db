package floats

import (
	"math"
	"math/bits"
	"math/cmplx"
)

type score float64

const half = 0.5

func forbidden(x, y, z float64, s score, f float32, c complex128, p *float64) float64 {
	_ = x*y + z             // want `float: the product may be fused with a sum`
	_ = z - x*y             // want `float: the product`
	_ = (x * y) + z         // want `float: the product`
	_ = -(x * y) + z        // want `float: the product`
	_ = x*y + float64(z)    // want `float: the product`
	_ = x*y*z + 1           // want `float: the product`
	_ = float64(x*y + z)    // want `float: the product`
	_ = half*x + y          // want `float: the product`
	_ = s*s - 1             // want `float: the product`
	_ = f*f + 1             // want `float: the product`
	t := x * y              // want `float: the product`
	*p = x * y              // want `float: the product`
	z += x * y              // want `float: the product`
	x *= y                  // want `float: the product may be fused with a sum in a later statement`
	add(x*y, z)             // want `float: the product`
	_ = x*y < z             // want `float: the product`
	_ = int64(x)            // want `floatint: NaN and what is out of range`
	_ = uint8(s)            // want `floatint: NaN`
	_ = int(math.Floor(x))  // want `floatint: NaN`
	_ = c * c               // want `float: complex arithmetic`
	_ = c / c               // want `float: complex arithmetic`
	c *= c                  // want `float: complex arithmetic`
	c /= c                  // want `float: complex arithmetic`
	_ = math.FMA(x, y, z)   // want `float: math.FMA`
	_ = math.Exp(x)         // want `math: math.Exp: is not bit-equal`
	_ = math.Log(x)         // want `math: math.Log`
	_ = math.Log2(x)        // want `math: math.Log2`
	_ = math.Pow(x, y)      // want `math: math.Pow`
	_ = math.Tanh(x)        // want `math: math.Tanh`
	_ = math.Hypot(x, y)    // want `math: math.Hypot`
	log := math.Log1p       // want `math: math.Log1p`
	_ = cmplx.Abs(c)        // want `math: cmplx.Abs`
	return log(x) * (y + t) // want `float: the product`
}

func add(a, b float64) float64 { return a + b }

func generic[F ~float32 | ~float64](x, y, z F) F {
	_ = F(x*y) + z
	return x*y + z // want `float: the product`
}

func allowed(x, y, z float64, s score, f float32, n, m int64, c complex128) {
	_ = float64(x*y) + z
	_ = z - float64((x * y))
	_ = float64(-(x * y)) + z
	_ = float64(x*y*z) + 1
	_ = x*y/z + 1
	_ = float64(x*(y+z)) + 1
	_ = score(s*s) - 1
	_ = float32(f*f) + 1
	_ = x/y + z
	z += float64(x * y)
	x = float64(x * y)
	x /= y
	x += y
	_ = n*m + 1
	n *= m
	_ = 2*half + x
	_ = float64(n*m) + x
	_ = int64(half * 4)
	_ = int64(uint8(n))
	_ = c + c
	_ = math.Sqrt(x) + math.Floor(y) + math.Abs(z) + math.Inf(1) + math.MaxFloat64
	_ = math.Float64bits(x)
	_ = bits.Len64(1)
	//detlint:allow floatint x is a count from 0 to 100
	_ = int(x)
}
