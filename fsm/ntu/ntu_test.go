package ntu

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/exact"
)

func mustNew(t rapid.TB, c Config) Unit {
	t.Helper()
	u, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func drawConfig(t *rapid.T) Config {
	c := Config{Window: rapid.IntRange(1, WindowMax).Draw(t, "window")}
	if rapid.Bool().Draw(t, "weighted") {
		weight := rapid.Float64Range(0, 2)
		c.Alpha, c.Beta, c.Gamma = weight.Draw(t, "alpha"), weight.Draw(t, "beta"), weight.Draw(t, "gamma")
		if c.Alpha+c.Beta+c.Gamma < 1e-6 {
			c.Alpha = 1
		}
	}
	return c
}

// slow computes a state in the plainest way from all that a unit has seen, oldest first.
func slow(c Config, seen []float64) State {
	c = c.withDefaults()
	total := c.Alpha + c.Beta + c.Gamma
	s := State{Belief: 0.5, Entropy: 1, Potential: 0.5}
	for i, v := range seen {
		w := seen[max(0, i+1-c.Window) : i+1]
		n := float64(len(w))
		mean, variance, signs := 0.0, 0.0, 0.0
		var bins [3]float64
		for j, x := range w {
			mean += x / n
			bins[min(2, int(x*3))]++
			if j > 0 && x != w[j-1] {
				signs += math.Copysign(1, x-w[j-1])
			}
		}
		for _, x := range w {
			variance += (x - mean) * (x - mean) / n
		}
		temporal := 0.5
		if len(w) > 1 {
			temporal = 0.7*math.Exp(-4*variance) + 0.3*math.Abs(signs/(n-1))
		}
		s.Belief = (c.Alpha*temporal + c.Beta*prior(v) + c.Gamma*s.Belief) / total
		s.Entropy = 0
		for _, k := range bins {
			p := (k/n + 1e-10/3) / (1 + 1e-10)
			s.Entropy -= p * math.Log(p) / math.Log(3)
		}
		s.Potential = s.Belief * (1 - s.Entropy)
	}
	return s
}

func nearly(a, b State) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) < 1e-9 }
	return near(a.Belief, b.Belief) && near(a.Entropy, b.Entropy) && near(a.Potential, b.Potential)
}

func TestAgainstPlainComputation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		u := mustNew(t, c)
		value := rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 1, 0.33, 0.67, 1.0 / 3, 2.0 / 3, 1e-300, 0.5}))
		seen := rapid.SliceOfN(value, 1, 60).Draw(t, "seen")
		for i, v := range seen {
			got, err := u.Observe(v)
			if err != nil {
				t.Fatal(err)
			}
			if want := slow(c, seen[:i+1]); !nearly(got, want) {
				t.Fatalf("after %v: %+v, want %+v", seen[:i+1], got, want)
			}
		}
	})
}

func TestStateStaysInCube(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := mustNew(t, drawConfig(t))
		for _, v := range rapid.SliceOfN(rapid.Float64(), 1, 100).Draw(t, "observations") {
			before := u
			s, err := u.Observe(v)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				if !errors.Is(err, ErrNotFinite) || u != before {
					t.Fatalf("Observe(%v) = %v and changed the unit: %t", v, err, u != before)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !inUnit(s.Belief) || !inUnit(s.Entropy) || !inUnit(s.Potential) || s != u.State() {
				t.Fatalf("state %+v after %v", s, v)
			}
		}
	})
}

func TestConstantInputConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		v := rapid.Float64Range(-1, 2).Draw(t, "v")
		epsilon := rapid.Float64Range(0.002, 1).Draw(t, "epsilon")
		got, err := Converge(c, []float64{v}, epsilon, IterationsMax)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Converged || float64(got.Iterations) > IterationsBound(epsilon) {
			t.Fatalf("%+v, bound %v", got, IterationsBound(epsilon))
		}
	})
}

// What left the window has left no trace: only the integers of the window count.
func TestSumsDoNotDrift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(1, WindowMax).Draw(t, "window")
		u := mustNew(t, Config{Window: window})
		value := rapid.Float64Range(0, 1)
		for _, v := range rapid.SliceOfN(value, 0, 200).Draw(t, "before") {
			if _, err := u.Observe(v); err != nil {
				t.Fatal(err)
			}
		}
		last := rapid.SliceOfN(value, window, window).Draw(t, "last")
		fresh := mustNew(t, Config{Window: window})
		for _, v := range last {
			for _, unit := range []*Unit{&u, &fresh} {
				if _, err := unit.Observe(v); err != nil {
					t.Fatal(err)
				}
			}
		}
		if u.sum != fresh.sum || u.squaresHi != fresh.squaresHi || u.squaresLo != fresh.squaresLo || u.signs != fresh.signs || u.bins != fresh.bins {
			t.Fatalf("%+v and %+v differ in what they keep of %v", u, fresh, last)
		}
	})
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := mustNew(t, drawConfig(t))
		for _, v := range rapid.SliceOfN(rapid.Float64Range(0, 1), 0, 40).Draw(t, "observations") {
			if _, err := u.Observe(v); err != nil {
				t.Fatal(err)
			}
		}
		b, err := u.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back Unit
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if back.State() != u.State() {
			t.Fatalf("state %+v came back as %+v", u.State(), back.State())
		}
		for range 2 * WindowMax {
			v := rapid.Float64Range(0, 1).Draw(t, "then")
			want, _ := u.Observe(v)
			if got, _ := back.Observe(v); got != want {
				t.Fatalf("then %v gives %+v, want %+v", v, got, want)
			}
		}
	})
}

func TestResize(t *testing.T) {
	u := mustNew(t, Config{Window: 3})
	for _, v := range []float64{0.1, 0.9, 0.8, 0.7} {
		if _, err := u.Observe(v); err != nil {
			t.Fatal(err)
		}
	}
	belief := u.State().Belief
	for _, step := range []struct{ window, count int }{{12, 3}, {2, 2}, {5, 2}, {1, 1}, {1, 1}} {
		if err := u.Resize(step.window); err != nil {
			t.Fatal(err)
		}
		if u.Window() != step.window || u.Count() != step.count || u.State().Belief != belief {
			t.Errorf("after Resize(%d): window %d, count %d, %+v", step.window, u.Window(), u.Count(), u.State())
		}
		if last := u.at(u.count - 1); last != 0.7 {
			t.Errorf("after Resize(%d) the newest is %v", step.window, last)
		}
	}
	for _, window := range []int{-1, 0, WindowMax + 1, 257} {
		if err := u.Resize(window); !errors.Is(err, ErrConfig) {
			t.Errorf("Resize(%d) = %v", window, err)
		}
	}
}

func TestLimits(t *testing.T) {
	if size := unsafe.Sizeof(Unit{}); size > 1024 {
		t.Errorf("a unit takes %d bytes", size)
	}
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []Config{
		{Window: -1}, {Window: WindowMax + 1}, {Alpha: -1, Beta: 2}, {Alpha: nan}, {Beta: inf}, {Gamma: 2 * weightMax}, {Alpha: math.SmallestNonzeroFloat64, Beta: -0.1},
	} {
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("New(%+v) = %v", c, err)
		}
	}
	if _, err := New(Config{Window: WindowMax, Alpha: weightMax, Beta: weightMax, Gamma: weightMax}); err != nil {
		t.Error(err)
	}
	long := make([]float64, SequenceMax+1)
	one := []float64{1}
	for name, err := range map[string]error{
		"no observations":   second(Converge(Config{}, nil, 0, 0)),
		"many observations": second(Converge(Config{}, long, 0, 0)),
		"epsilon NaN":       second(Converge(Config{}, one, nan, 0)),
		"epsilon 2":         second(Converge(Config{}, one, 2, 0)),
		"iterations":        second(Converge(Config{}, one, 0, IterationsMax+1)),
		"converge config":   second(Converge(Config{Window: 99}, one, 0, 0)),
		"long sequence":     second(Detect(Config{}, long, 0)),
		"threshold NaN":     second(Detect(Config{}, one, nan)),
		"threshold -1":      second(Detect(Config{}, one, -1)),
		"detect config":     second(Detect(Config{Window: 99}, one, 0)),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := second(Converge(Config{}, []float64{inf}, 0, 0)); !errors.Is(err, ErrNotFinite) {
		t.Errorf("Converge over an infinity: %v", err)
	}
	if err := second(Detect(Config{}, []float64{nan}, 0)); !errors.Is(err, ErrNotFinite) {
		t.Errorf("Detect over NaN: %v", err)
	}
	if d, err := Detect(Config{}, long[:SequenceMax], 0); err != nil || d.Detected {
		t.Errorf("Detect over zeros: %+v, %v", d, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestZeroUnit(t *testing.T) {
	var u Unit
	_, observe := u.Observe(1)
	_, marshal := u.MarshalBinary()
	for name, err := range map[string]error{"Observe": observe, "MarshalBinary": marshal, "Resize": u.Resize(3)} {
		if !errors.Is(err, ErrZero) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEntropyTerms(t *testing.T) {
	for n := 1; n <= WindowMax; n++ {
		for c := range ringPlaces {
			want := 0.0
			if c <= n {
				p := (float64(c)/float64(n) + 1e-10/3) / (1 + 1e-10)
				want = -exact.Mul(p, exact.Log(p)) / exact.Log(3)
			}
			if got := entropyTerms[n][c]; got != want {
				t.Errorf("entropyTerms[%d][%d] = %v, want %v", n, c, got, want)
			}
		}
	}
}

func TestPriors(t *testing.T) {
	for _, c := range []struct {
		v, want float64
		level   Level
	}{
		{0, 0.1 / math.Sqrt(0.54), Low},
		{0.32999, 0.1 / math.Sqrt(0.54), Low},
		{0.33, 0.4 / math.Sqrt(0.36), Medium},
		{0.66999, 0.4 / math.Sqrt(0.36), Medium},
		{0.67, 0.8 / math.Sqrt(0.66), High},
		{1, 0.8 / math.Sqrt(0.66), High},
	} {
		if got := prior(c.v); math.Abs(got-c.want) > 1e-15 || LevelOf(c.v) != c.level {
			t.Errorf("prior(%v) = %v at level %v, want %v at %v", c.v, got, LevelOf(c.v), c.want, c.level)
		}
	}
	for level, want := range map[Level]string{Low: "low", Medium: "medium", High: "high", 9: "level(9)"} {
		if level.String() != want {
			t.Errorf("%d is %q", level, level)
		}
	}
}

func TestChain(t *testing.T) {
	for name, c := range map[string]Chain{
		"negative":  {{-0.1, 1.1, 0}, {0, 1, 0}, {0, 0, 1}},
		"NaN":       {{math.NaN(), 0, 0}, {0, 1, 0}, {0, 0, 1}},
		"row sum":   {{0.5, 0.4, 0}, {0, 1, 0}, {0, 0, 1}},
		"reducible": {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	} {
		if _, err := c.Stationary(); !errors.Is(err, ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var c Chain
		for i := range c {
			a, b := rapid.Float64Range(0.01, 1).Draw(t, "a"), rapid.Float64Range(0.01, 1).Draw(t, "b")
			c[i] = [3]float64{a / (a + b + 1), b / (a + b + 1), 1 / (a + b + 1)}
		}
		share, err := c.Stationary()
		if err != nil {
			t.Fatal(err)
		}
		for j := range share {
			if next := share[0]*c[0][j] + share[1]*c[1][j] + share[2]*c[2][j]; math.Abs(next-share[j]) > 1e-12 {
				t.Fatalf("%v is not stationary under %v", share, c)
			}
		}
	})
}

func TestDetectRuns(t *testing.T) {
	high, low := 1.0, 0.0
	sequence := []float64{high, high, high, high, high, high, low, low, low, high, high, high, high, high, high, high, high}
	d, err := Detect(Config{}, sequence, 0.8)
	if err != nil {
		t.Fatal(err)
	}
	u := mustNew(t, Config{})
	covered := make([]bool, len(sequence))
	for _, r := range d.Runs {
		for i := r.From; i < r.To; i++ {
			covered[i] = true
		}
	}
	for i, v := range sequence {
		s, err := u.Observe(v)
		if err != nil {
			t.Fatal(err)
		}
		if covered[i] != (s.Belief >= 0.8) {
			t.Errorf("observation %d with belief %v is in a run: %t", i, s.Belief, covered[i])
		}
	}
	if !d.Detected || len(d.Runs) != 2 || d.Final != u.State() || d.Runs[1].To != len(sequence) {
		t.Errorf("Detect = %+v", d)
	}
}

func TestNoAllocation(t *testing.T) {
	u := mustNew(t, Config{Window: 12})
	buffer := make([]byte, 0, EncodedBytesMax)
	v := 0.0
	if n := testing.AllocsPerRun(1000, func() {
		v += 0.37
		if v > 1 {
			v--
		}
		if _, err := u.Observe(v); err != nil {
			t.Fatal(err)
		}
		b, err := u.AppendBinary(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for an observation", n)
	}
}

func FuzzUnmarshalBinary(f *testing.F) {
	for _, c := range []Config{{}, {Window: 1}, {Window: WindowMax, Alpha: 1}} {
		u := mustNew(f, c)
		for i := range 20 {
			b, err := u.MarshalBinary()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
			if _, err := u.Observe(float64(i) / 20); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Add([]byte{encodingVersion, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		u := mustNew(t, Config{})
		before := u
		if err := u.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) || u != before {
				t.Fatalf("UnmarshalBinary: %v, changed %t", err, u != before)
			}
			return
		}
		again, err := u.MarshalBinary()
		if err != nil || string(again) != string(b) {
			t.Fatalf("%x came back as %x, %v", b, again, err)
		}
		for range 2 * WindowMax {
			s, err := u.Observe(0.4)
			if err != nil || !inUnit(s.Belief) || !inUnit(s.Entropy) || !inUnit(s.Potential) {
				t.Fatalf("%+v, %v", s, err)
			}
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	u := mustNew(t, Config{Window: 2})
	if _, err := u.Observe(0.5); err != nil {
		t.Fatal(err)
	}
	good, err := u.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	put := func(at int, f float64) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[at:], math.Float64bits(f))
			return b
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"version":        func(b []byte) []byte { b[0] = 2; return b },
		"window 0":       func(b []byte) []byte { b[1] = 0; return b },
		"window too big": func(b []byte) []byte { b[1] = WindowMax + 1; return b },
		"count":          func(b []byte) []byte { b[2] = 2; return b },
		"trailing":       func(b []byte) []byte { return append(b, 0) },
		"short":          func(b []byte) []byte { return b[:len(b)-1] },
		"weight":         put(3, 0.5),
		"weight NaN":     put(3, math.NaN()),
		"belief":         put(27, 1.5),
		"belief -0":      put(27, math.Copysign(0, -1)),
		"observation":    put(35, math.Inf(1)),
		"observation -0": put(35, math.Copysign(0, -1)),
	} {
		var back Unit
		if err := back.UnmarshalBinary(change(append([]byte(nil), good...))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fresh := mustNew(t, Config{})
	b, err := fresh.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.UnmarshalBinary(put(27, 0.6)(b)); !errors.Is(err, ErrFormat) {
		t.Errorf("belief of a unit that has seen nothing: %v", err)
	}
}

func BenchmarkObserve(b *testing.B) {
	u := mustNew(b, Config{})
	b.ReportAllocs()
	v := 0.0
	for b.Loop() {
		v += 0.37
		if v > 1 {
			v--
		}
		if _, err := u.Observe(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	u := mustNew(b, Config{Window: 12})
	for i := range 12 {
		if _, err := u.Observe(float64(i) / 12); err != nil {
			b.Fatal(err)
		}
	}
	buffer := make([]byte, 0, EncodedBytesMax)
	b.ReportAllocs()
	for b.Loop() {
		encoded, err := u.AppendBinary(buffer)
		if err != nil {
			b.Fatal(err)
		}
		if err := u.UnmarshalBinary(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
