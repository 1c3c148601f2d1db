package budget_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/budget"
)

// goldenBits is the SHA-256 over 10,000 allocations, every one for a text that is measured. Any
// processor must give it, whatever GOARCH, GOAMD64 or GOARM64 say.
const goldenBits = "5358b10788164cdef7aadf100bf76e1df0f8de8b226ce7c80cbb69ce3be645dd"

func TestGolden(t *testing.T) {
	h := sha256.New()
	seed := uint64(4)
	draw := func() uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed >> 11
	}
	unit := func() float64 { return float64(draw()) / (1 << 53) }
	write := func(values ...float64) {
		for _, v := range values {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], math.Float64bits(v))
			h.Write(b[:])
		}
	}
	for i := range 10000 {
		text := make([]rune, draw()>>30%200)
		for j := range text {
			text[j] = rune('a' + draw()>>30%uint64(2+i%700))
		}
		m, err := budget.Measure(string(text))
		if err != nil {
			t.Fatal(err)
		}
		r := budget.Request{Task: budget.Task(draw() >> 30 % uint64(tasks)), Text: m, KnowledgeGap: unit(), HasKnowledgeGap: i%3 == 0, Attempts: int64(draw() >> 30 % 12)}
		for range i % 4 {
			if r.History, err = r.History.Add(unit()); err != nil {
				t.Fatal(err)
			}
		}
		a, err := budget.Allocate(r)
		if err != nil {
			t.Fatal(err)
		}
		write(m.Entropy, float64(m.Length), a.Complexity, a.TimeSeconds, float64(a.TimeMillis), float64(a.Tokens), a.Confidence,
			float64(a.Tier), float64(a.Depth), float64(a.Tracks), float64(a.Iterations), float64(a.NTUWindow))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != goldenBits {
		t.Errorf("allocations have hash %s, want %s", got, goldenBits)
	}
}
