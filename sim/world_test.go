package sim

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test on a world in virtual time, and audits it in the end.
func bubble(t *testing.T, change func(*Config), run func(t *testing.T, w *World)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Dir: dir}
		if os.Getenv("SIM_LOG") != "" {
			cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		if change != nil {
			change(&cfg)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		w, err := New(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("founded after %v with %d goroutines", time.Since(start), runtime.NumGoroutine())
		defer func() {
			if err := w.Auditor.Audit(); err != nil {
				t.Error(err)
			}
			for _, i := range w.Auditor.Invariants() {
				t.Logf("%s: checked %d times", i.Name(), i.Checks())
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		run(t, w)
	})
}

// bothWays is bubble twice: where nodes share what they would work out alike, and where each works
// it out for itself.
func bothWays(t *testing.T, change func(*Config), run func(t *testing.T, w *World)) {
	t.Helper()
	for name, off := range map[string]bool{"memoised": false, "each for itself": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(c *Config) {
				if change != nil {
					change(c)
				}
				c.NoMemo = off
			}, func(t *testing.T, w *World) {
				run(t, w)
				counts := w.Memo()
				if n := counts[MemoReexecution]; off != (n.Real == 0) || off != (n.Memoised == 0) {
					t.Errorf("memoised: %+v", counts)
				}
			})
		})
	}
}

// TestCalm has every node of every region see what was committed attested, and a seal certified
// about as soon as light allows: the barrier after a seal and the voters' being asked again at once
// are worth a hundred milliseconds of it.
func TestCalm(t *testing.T) {
	bubble(t, func(c *Config) { c.Members = 1 }, func(t *testing.T, w *World) {
		s := newSealTimes()
		last := map[string]int64{}
		for round := range 4 {
			for _, r := range w.Regions() {
				last[r] = w.submit(t, r, 1)
			}
			w.quiet(t, 4*time.Second)
			if round == 0 { // connected
				w.Auditor.watchAll(s.observe)
			}
		}
		const floor = 2*far + 2*commitTrip
		for _, r := range w.Regions() {
			w.attestedAt(t, 10*time.Second, r, last[r])
			if len(s.took[r]) < 3 {
				t.Fatalf("%d certificates of %s were timed", len(s.took[r]), r)
			}
			slices.Sort(s.took[r])
			if median := s.took[r][len(s.took[r])/2]; float64(median) > latencyBound*float64(floor) {
				t.Errorf("half of the certificates of %s took more than %v, bound %.1f times %v", r, median, latencyBound, floor)
			}
		}
		if err := w.Auditor.Audit(); err != nil {
			t.Fatal(err)
		}
		for _, i := range w.Auditor.Invariants()[:5] {
			if i.Checks() == 0 {
				t.Errorf("%s was not checked", i.Name())
			}
		}
	})
}
