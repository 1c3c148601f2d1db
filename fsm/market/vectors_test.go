package market_test

import (
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/internal/vectors"
)

func TestVectorsGini(t *testing.T) {
	var file struct {
		Cases []struct {
			Values []float64
			Gini   float64
		}
	}
	vectors.Load(t, "gini.json", &file)
	unequal := 0
	for i, c := range file.Cases {
		values := make([]int64, len(c.Values))
		for j, v := range c.Values {
			values[j] = int64(math.Round(v * market.Credit))
		}
		g, err := market.GiniOf(values)
		if err != nil || math.Abs(g.Float64()-c.Gini) > 1e-9 || math.Abs(float64(g.Millionths())-c.Gini*1e6) > 1 {
			t.Errorf("case %d: %v or %d millionths (%v), want %v", i, g.Float64(), g.Millionths(), err, c.Gini)
		}
		if c.Gini > 0 {
			unequal++
		}
	}
	if len(file.Cases) != 60 || unequal < 30 {
		t.Errorf("%d cases, %d of them above 0", len(file.Cases), unequal)
	}
}
