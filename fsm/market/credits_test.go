package market_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/market"
)

func TestCredits(t *testing.T) {
	for micro, text := range map[int64]string{0: "0", 1: "0.000001", 2_500_000: "2.5", 10_000_000: "10", 1_000_001: "1.000001", -1_500_000: "-1.5",
		math.MaxInt64: "9223372036854.775807", math.MinInt64: "-9223372036854.775808"} {
		if got := market.FormatCredits(micro); got != text {
			t.Errorf("%d is written %s, want %s", micro, got, text)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "1.0000001", "1_000", " 1", "1,5", "９", "9223372036854.775808", "99999999999999999999"} {
		if n, err := market.ParseCredits(text); err == nil {
			t.Errorf("%q is read as %d", text, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		micro := rapid.Int64Min(0).Draw(t, "micro")
		if again, err := market.ParseCredits(market.FormatCredits(micro)); err != nil || again != micro {
			t.Fatalf("%d became %d: %v", micro, again, err)
		}
	})
}
