package report

import (
	"fmt"
	"io"
	"math"
)

// Yardstick is a figure beside what it is to be.
type Yardstick struct {
	Of       string  `json:"of"` // which run
	Name     string  `json:"name"`
	Measured float64 `json:"measured"`
	Bound    float64 `json:"bound"`
	Moonshot float64 `json:"moonshot,omitempty"` // 0: none
	AtLeast  bool    `json:"at_least"`           // the bound is from below
	Met      bool    `json:"met"`
}

// Yardsticks of a certificate's way: to its quorum, and to every node.
const (
	spreadPartLeast = 99  // % of the pairs within 1.25 times the direct way and 10 ms
	nearLateMost    = 0   // % of the pairs with a limit under 80 ms that take 100 ms or longer
	certificateMost = 1.3 // times the round trip that completes a quorum, and two commits
)

// Bounds of what a run costs.
type Bounds struct {
	WallSeconds, WallMoonshot float64 // 0: none
	GiB, GiBMoonshot          float64
}

// Measure holds a run against its yardsticks.
func Measure(of string, r *Report, b Bounds) (list []Yardstick) {
	add := func(y Yardstick) {
		y.Of = of
		y.Met = y.AtLeast && y.Measured >= y.Bound || !y.AtLeast && y.Measured <= y.Bound
		list = append(list, y)
	}
	add(Yardstick{Name: "promises broken, or run not ended", Measured: count(!r.OK(), r.Violations)})
	if b.WallSeconds > 0 {
		add(Yardstick{Name: "wall, s", Measured: r.WallSeconds, Bound: b.WallSeconds, Moonshot: b.WallMoonshot})
	}
	add(Yardstick{Name: "memory at its peak, GiB", Measured: float64(r.PeakRSSBytes) / (1 << 30), Bound: b.GiB, Moonshot: b.GiBMoonshot})
	add(Yardstick{Name: "pairs within 1.25 × direct + 10 ms, %", Measured: 100 * r.Spread.WithinPart, Bound: spreadPartLeast, AtLeast: true})
	late := 0.0
	if r.Spread.NearPairs > 0 {
		late = 100 * float64(r.Spread.NearLate) / float64(r.Spread.NearPairs)
	}
	add(Yardstick{Name: "of pairs under 80 ms, those over 100 ms, %", Measured: late, Bound: nearLateMost})
	add(Yardstick{Name: "certificate, median ratio to its limit", Measured: r.timing("certificate").Ratio, Bound: certificateMost})
	return list
}

func count(bad bool, n int) float64 {
	if bad {
		return float64(max(1, n))
	}
	return 0
}

// MeasureGrowth holds the copies of a certificate against the logarithm of the number of nodes.
func MeasureGrowth(c *Cost) []Yardstick {
	least := c.Power.Slope - c.Power.Band
	if math.IsNaN(least) {
		least = math.Inf(1)
	}
	return []Yardstick{{Of: "growth", Name: "copies ∝ (log nodes)^p: p, less its band", Measured: least, Bound: 1, Met: least <= 1 && c.Power.points > 2}}
}

// WriteYardsticks writes a line for each.
func WriteYardsticks(w io.Writer, list []Yardstick) error {
	_, err := fmt.Fprintf(w, "\n%-14s%-42s %9s %9s  %s\n", "run", "yardstick", "measured", "bound", "")
	for _, y := range list {
		bound, verdict := fmt.Sprintf("%.4g", y.Bound), "met"
		if y.AtLeast {
			bound = "≥ " + bound
		}
		switch {
		case !y.Met:
			verdict = "MISSED"
		case y.Moonshot > 0 && y.Measured <= y.Moonshot:
			verdict = fmt.Sprintf("met, and the moonshot of %.4g", y.Moonshot)
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "%-14s%-42s %9.2f %9s  %s\n", y.Of, y.Name, y.Measured, bound, verdict)
		}
	}
	return err
}
