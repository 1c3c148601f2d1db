package sim

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// TestSimulate runs a small plan as cmd/bizra-sim does, and looks at what it must tell.
func TestSimulate(t *testing.T) {
	t.Parallel()
	var told atomic.Int64
	rep, err := Simulate(t.Context(), Plan{Config: Config{Nodes: 18}, Work: Workload{Certificates: 4, Rate: 10}}, func(Progress) { told.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	if !rep.OK() || told.Load() == 0 {
		t.Fatalf("broken: %v, told %d times", rep.Broken, told.Load())
	}
	if rep.Nodes != 18 || rep.Regions != 4 || rep.Voters != 12 || rep.Routers != 18 || rep.Certificates != 4 {
		t.Errorf("%d nodes, %d regions, %d voters, %d routers, %d certificates", rep.Nodes, rep.Regions, rep.Voters, rep.Routers, rep.Certificates)
	}
	if p := rep.Proofs; p.Submitted < 38 || p.Committed != p.Submitted || p.Attested != p.Committed {
		t.Errorf("proofs: %+v", p)
	}
	if rep.PropagationMS.P50 <= 0 || rep.LimitMS <= 0 || rep.WallSeconds <= 0 || rep.PeakRSSBytes <= 0 || rep.CPUSeconds <= 0 || rep.GoroutinesMax < 18 {
		t.Errorf("not measured: %+v", rep)
	}
	if len(rep.Timings) != 4 || len(rep.ByRegion) != 4 || len(rep.Timeline) < 4 || len(rep.Settings) == 0 || rep.Spread.Missing != 0 {
		t.Errorf("%d timings, %d regions, %d moments, %d settings, %+v", len(rep.Timings), len(rep.ByRegion), len(rep.Timeline), len(rep.Settings), rep.Spread)
	}
	for _, i := range rep.Invariants {
		if i.Checks == 0 || i.Violations != 0 {
			t.Errorf("%+v", i)
		}
	}
}

// TestSimulateInterrupted has a run that is ended tell what there is.
func TestSimulateInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	rep, err := Simulate(ctx, Plan{Config: Config{Nodes: 12}, Work: Workload{Certificates: 1000, Rate: 10, Duration: DurationMax}}, func(p Progress) {
		if p.Committed > 20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || rep == nil || !rep.Interrupted || rep.OK() || rep.Proofs.Committed < 20 {
		t.Fatalf("%v, %+v", err, rep)
	}
}
