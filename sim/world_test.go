package sim

import (
	"context"
	"log/slog"
	"os"
	"runtime"
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
			t.Logf("%+v", w.Auditor.Counts())
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}()
		run(t, w)
	})
}

func TestCalm(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		for _, r := range w.Regions() {
			rec, err := w.Submit(t.Context(), w.Voters(r)[0])
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := w.Within(t.Context(), time.Minute, "it to be attested", func() (bool, error) { return w.Attested(r, rec.Index), nil }); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s attested after %v", r, time.Since(start))
		}
	})
}
