package market

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawValues(t *rapid.T, most int) []int64 {
	largest := rapid.SampledFrom([]int64{Credit + 3, 20 * Credit, ValueMax}).Draw(t, "largest")
	n := rapid.IntRange(1, most).Draw(t, "holders")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	values := make([]int64, n)
	for i := range values {
		values[i] = Credit + r.Int64N(largest-Credit+1)
		if r.IntN(4) == 0 {
			values[i] = Credit
		}
	}
	slices.Sort(values)
	return values
}

func cut(values []int64, height int64) []int64 {
	cut := make([]int64, len(values))
	for i, v := range values {
		cut[i] = min(v, height)
	}
	return cut
}

// TestCapIsTheLargest compares the cap with the definition: it keeps the limit, and one micro-credit more does not.
func TestCapIsTheLargest(t *testing.T) {
	needed := 0
	rapid.Check(t, func(t *rapid.T) {
		values := drawValues(t, 60)
		s := spreadOf(values)
		for range 5 {
			height := rapid.Int64Range(0, values[len(values)-1]+5).Draw(t, "height")
			if got := s.capped(height); got != dumbGini(cut(values, height)) {
				t.Fatalf("cut at %d: %+v, by the definition %+v", height, got, dumbGini(cut(values, height)))
			}
		}
		height, cutting := s.cap()
		if dumbGini(cut(values, height)).Exceeds(GiniLimitPercent) {
			t.Fatalf("at the cap %d the Gini is %v", height, dumbGini(cut(values, height)).Float64())
		}
		if cutting != dumbGini(values).Exceeds(GiniLimitPercent) {
			t.Fatalf("cutting is %v for a Gini of %v", cutting, dumbGini(values).Float64())
		}
		if !cutting {
			return
		}
		needed++
		if !dumbGini(cut(values, height+1)).Exceeds(GiniLimitPercent) {
			t.Fatalf("a cap of %d would do, and it is %d", height+1, height)
		}
	})
	if needed == 0 {
		t.Error("no market needed a cap")
	}
}

// TestFloorIsTheLeast compares the floor with its definition, and shows that lifting never raises the Gini.
func TestFloorIsTheLeast(t *testing.T) {
	needed := 0
	rapid.Check(t, func(t *rapid.T) {
		values := drawValues(t, 60)
		s := spreadOf(values)
		enough := func(height int64) bool {
			lifted := make([]int64, len(values))
			for i, v := range values {
				lifted[i] = max(v, height)
			}
			if dumbGini(lifted).Compare(dumbGini(values)) > 0 {
				t.Fatalf("lifting to %d raises the Gini", height)
			}
			return !dumbGini(lifted).belowFloor(height)
		}
		height := s.floor()
		if !enough(height) || height > 0 && enough(height-1) {
			t.Fatalf("the floor %d is not the least that does", height)
		}
		if height > values[0] {
			needed++
		}
	})
	if needed == 0 {
		t.Error("no holder was below a floor")
	}
}

func TestRedeclare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, LicencesMax).Draw(t, "licences")
		licences := make([]Licence, n)
		var was, value int64
		for i := range licences {
			licences[i].Price = Credit + rapid.SampledFrom([]int64{0, 1, 7, Credit, ValueMax / LicencesMax / 2}).Draw(t, "price")
			value += licences[i].Price
		}
		total := rapid.Int64Range(int64(n)*Credit, value).Draw(t, "total")
		before := slices.Clone(licences)
		redeclare(licences, total)
		for i := range licences {
			was += licences[i].Price
			if licences[i].Price < Credit || licences[i].Price > before[i].Price {
				t.Fatalf("licence %d goes from %d to %d", i, before[i].Price, licences[i].Price)
			}
		}
		if was != total {
			t.Fatalf("prices sum to %d, want %d", was, total)
		}
	})
}

func TestTax(t *testing.T) {
	for _, c := range []struct{ price, millis, tax int64 }{
		{100 * Credit, EpochMillis, 5 * Credit},
		{100 * Credit, EpochMillis / 2, 5 * Credit / 2},
		{Credit, 1, 1}, // rounded up: 0.0139
		{Credit, 72, 1},
		{Credit, 73, 2},
		{Credit, 0, 0},
		{Credit, -5, 0},
		{0, EpochMillis, 0},
		{ValueMax, LapseMillis, 5277655813325}, // 2^42 · 24 · 5 / 100, rounded up
	} {
		if got := tax(c.price, c.millis); got != c.tax {
			t.Errorf("tax of %d for %d ms is %d, want %d", c.price, c.millis, got, c.tax)
		}
	}
}

func TestUint128(t *testing.T) {
	whole := func(u uint128) *big.Int {
		n := new(big.Int).SetUint64(u.hi)
		return n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(u.lo))
	}
	draw := func(t *rapid.T, name string) uint128 {
		edge := rapid.SampledFrom([]uint64{0, 1, 1<<32 - 1, 1 << 63, 1<<64 - 1})
		word := rapid.OneOf(rapid.Uint64(), edge)
		return uint128{word.Draw(t, name+" high"), word.Draw(t, name+" low")}
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 128)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := draw(t, "a"), draw(t, "b"), draw(t, "c"), draw(t, "d")
		wrap := func(n *big.Int) *big.Int { return n.Mod(n, modulus) }
		for name, pair := range map[string][2]*big.Int{
			"plus":  {whole(a.plus(b)), wrap(new(big.Int).Add(whole(a), whole(b)))},
			"minus": {whole(a.minus(b)), wrap(new(big.Int).Sub(whole(a), whole(b)))},
			"times": {whole(a.times(b.lo)), wrap(new(big.Int).Mul(whole(a), new(big.Int).SetUint64(b.lo)))},
		} {
			if pair[0].Cmp(pair[1]) != 0 {
				t.Fatalf("%s: %v, want %v", name, pair[0], pair[1])
			}
		}
		high, low := a.wide(b)
		got := new(big.Int).Add(new(big.Int).Lsh(whole(high), 128), whole(low))
		if want := new(big.Int).Mul(whole(a), whole(b)); got.Cmp(want) != 0 {
			t.Fatalf("wide: %v, want %v", got, want)
		}
		if got, want := a.compare(b), whole(a).Cmp(whole(b)); got != want {
			t.Fatalf("compare: %d, want %d", got, want)
		}
		left, right := new(big.Int).Mul(whole(a), whole(d)), new(big.Int).Mul(whole(c), whole(b))
		if got, want := compareRatios(a, b, c, d), left.Cmp(right); got != want {
			t.Fatalf("compareRatios: %d, want %d", got, want)
		}
	})
}

// TestHoldersMax fills the order of values instead of 2^17 records: the gate reads nothing else.
func TestHoldersMax(t *testing.T) {
	rules := Rules{Supply: 1000 * Credit}
	rules.Capacity[CPU] = CapacityMax
	m, err := Found(NewInMemory(), rules, 0)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]int64, HoldersMax-1)
	for i := range values {
		values[i] = ValueMax
	}
	m.values = orderOf(values)
	if _, err := m.Apply(0, Actor{Owner: "last", Ihsan: 1}, Issue{CPU, 1, ValueMax}); err != nil {
		t.Fatalf("holder %d: %v", HoldersMax, err)
	}
	if g := m.Gini(); g.Float64() != 0 || g.Total() != HoldersMax*ValueMax {
		t.Errorf("the Gini of a full market of equals is %v, its value %d", g.Float64(), g.Total())
	}
	before := m.Gini()
	_, err = m.Apply(0, Actor{Owner: "one more", Ihsan: 1}, Issue{CPU, 1, ValueMax})
	if refusal, ok := err.(*Refusal); !ok || refusal.Reason != ReasonHoldersMax { //nolint:errorlint // the type itself is promised
		t.Errorf("holder %d: %v", HoldersMax+1, err)
	}
	if m.Gini() != before {
		t.Error("a refused step moved the Gini")
	}
}

func TestLicencesTotalMax(t *testing.T) {
	rules := Rules{Supply: 1000 * Credit}
	rules.Capacity[CPU] = CapacityMax
	m, err := Found(NewInMemory(), rules, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.head.Licences = LicencesTotalMax - 1
	for i, want := range []Reason{"", ReasonLicencesTotalMax} {
		_, err := m.Apply(0, Actor{Owner: "one", Ihsan: 1}, Issue{CPU, 1, Credit})
		var refusal *Refusal
		if errors.As(err, &refusal); want == "" && err != nil || want != "" && (refusal == nil || refusal.Reason != want) {
			t.Errorf("licence %d: %v", LicencesTotalMax+i, err)
		}
	}
	if _, err := m.Apply(0, Actor{Owner: "one", Ihsan: 1}, Release{0}); err != nil || m.head.Licences != LicencesTotalMax-1 {
		t.Errorf("%d licences after one was released: %v", m.head.Licences, err)
	}
}
