package gossip

import (
	"strings"
	"testing"
	"time"
)

func TestBreakerTrips(t *testing.T) {
	for name, c := range map[string]struct {
		shares string // of bad things by interval: 0 none, 3 a third, 5 half, 9 nearly all
		after  int    // intervals until it trips, 0 for never
	}{
		"nothing bad":            {strings.Repeat("0", 50), 0},
		"once":                   {"000009000000", 0},
		"twice in a row":         {"0000099", 7},
		"from the first":         {"99", 2},
		"every second":           {strings.Repeat("09", 20), 4},
		"every third":            {strings.Repeat("009", 20), 0},
		"half of it all along":   {strings.Repeat("5", 20), 3},
		"less than a third only": {strings.Repeat("3", 50), 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Federation: "f"}.withDefaults()
			b, err := newBreaker()
			if err != nil {
				t.Fatal(err)
			}
			now, tripped := time.Now(), 0
			for i, digit := range c.shares {
				now = now.Add(cfg.SampleEvery)
				if b.step(now, map[rune]float64{'0': 0, '3': 0.3, '5': 0.5, '9': 0.97}[digit], &cfg) {
					tripped = i + 1
					break
				}
			}
			if tripped != c.after {
				t.Errorf("tripped after %d intervals, want %d; belief %.3f", tripped, c.after, b.unit.State().Belief)
			}
		})
	}
}

func TestBreakerLetsBackOnProbation(t *testing.T) {
	cfg := Config{Federation: "f"}.withDefaults()
	b, err := newBreaker()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	step := func(share float64) bool {
		now = now.Add(cfg.SampleEvery)
		return b.step(now, share, &cfg)
	}
	trip := func() time.Duration {
		for !b.muted(now) {
			step(1)
		}
		start := now
		for b.muted(now) {
			step(0)
		}
		if b.state != breakerHalf {
			t.Fatalf("after the mute it is in state %d", b.state)
		}
		return now.Sub(start)
	}
	if took := trip(); took != cfg.MuteFor {
		t.Errorf("muted for %v, want %v", took, cfg.MuteFor)
	}
	if !step(0.5) || !b.muted(now) {
		t.Error("half of an interval bad does not end a probation")
	}
	if took := trip(); took != 2*cfg.MuteFor {
		t.Errorf("muted for %v the second time, want twice %v", took, cfg.MuteFor)
	}
	for range 10 {
		trip()
	}
	if took := trip(); took != cfg.MuteForMax {
		t.Errorf("muted for %v after many times, want %v", took, cfg.MuteForMax)
	}
	start := now
	for !step(0) {
		continue
	}
	if took := now.Sub(start); b.state != breakerClosed || took != cfg.ProbationFor {
		t.Errorf("a clean probation ended after %v in state %d, want %v", took, b.state, cfg.ProbationFor)
	}
	strikes := b.strikes
	for end := now.Add(forgivenAfter + time.Minute); now.Before(end); {
		step(0)
	}
	if b.strikes != strikes-1 {
		t.Errorf("%d strikes of %d are left after an hour", b.strikes, strikes)
	}
}

func TestBreakerIsFedWithShares(t *testing.T) {
	for _, c := range []struct{ bad, good, share float64 }{{0, 0, 0}, {anomalousMin - 1, 0, 0}, {anomalousMin, 0, 1}, {5, 5, 0.5}, {5, 95, 0.05}} {
		if got := anomaly(c.bad, c.good); got != c.share {
			t.Errorf("%v bad and %v good are %v, want %v", c.bad, c.good, got, c.share)
		}
	}
}
