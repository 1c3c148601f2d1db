package sim

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/p2p"
)

// votersBench measures what the voters of a federation without members cost, and how soon a seal is certified.
type votersBench struct {
	regions, voters int
	place           *Placement
	world           *World
	counting        atomic.Bool

	times *sealTimes

	mu              sync.Mutex
	messages, bytes int // between regions, of entries and attestation
}

const (
	votersSettle       = 15 * time.Second // connected, and the first seals certified
	votersIdle         = 10 * time.Second
	votersCertificates = 20
)

func (v *votersBench) tap(from, to peer.ID, proto protocol.ID, data []byte) {
	if !v.counting.Load() || v.world.home[from] == v.world.home[to] || proto == p2p.ProtocolJoin {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.messages++
	v.bytes += len(data)
}

func (v *votersBench) floor(region string) time.Duration {
	return quorumFloor(region, v.world.Regions(), v.place.OneWay)
}

// certify has regions seal, one each and more where there are fewer, and waits for the certificates.
func (v *votersBench) certify(ctx context.Context) error {
	names := v.world.Regions()
	names = names[:min(len(names), votersCertificates)]
	for done := 0; done < votersCertificates; done += len(names) {
		want := map[string]int64{}
		for _, r := range names {
			leader := v.world.Leader(r)
			if leader == nil {
				return fmt.Errorf("%s has no leader", r)
			}
			receipt, err := v.world.Submit(ctx, leader)
			if err != nil {
				return err
			}
			want[r] = receipt.Index
		}
		if err := v.world.Within(ctx, time.Minute, "certificates", func() (bool, error) {
			for r, index := range want {
				if !v.world.Attested(r, index) {
					return false, nil
				}
			}
			return true, nil
		}); err != nil {
			return err
		}
	}
	<-time.After(time.Second) // the regions' own nodes learn of them
	return nil
}

func (v *votersBench) run(b *testing.B, dir string) error {
	b.Helper()
	ctx := context.Background()
	began, cpu := time.Now(), time.Duration(0)
	phase := func(name string) {
		now := processTime()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if name != "" {
			b.ReportMetric((now - cpu).Seconds(), "cpu-s-"+name)
		}
		b.Logf("%-8s after %v: %v of CPU, %d goroutines, %d MiB of heap and %d MiB of all", name, time.Since(began).Round(time.Millisecond),
			(now - cpu).Round(time.Millisecond), runtime.NumGoroutine(), m.HeapAlloc>>20, m.Sys>>20)
		cpu = now
	}
	phase("")
	w, err := New(ctx, Config{Dir: dir, Regions: v.regions, Voters: v.voters, Latency: v.place.OneWay, Tap: v.tap})
	if err != nil {
		return err
	}
	v.world = w
	defer func() { _ = w.Close() }()
	<-time.After(votersSettle)
	phase("start")
	<-time.After(votersIdle)
	phase("idle")
	w.Auditor.watchAll(v.times.observe)
	v.counting.Store(true)
	if err := v.certify(ctx); err != nil {
		return err
	}
	v.counting.Store(false)
	phase("certify")
	b.ReportMetric(float64(runtime.NumGoroutine())/float64(v.regions*v.voters), "goroutines/voter")
	return w.Auditor.Broken()
}

// BenchmarkVoters measures what the voters of a federation cost in a simulation with every region's leader following,
// re-executing, voting on and certifying the other regions' checkpoints: CPU to start and settle, in 10 s at rest, and for
// 20 certificates; and the time to certificate against 1.3 times the round trip to the region that completes the
// quorum and two commits. What crosses links between regions meanwhile is counted, with all that runs idle.
func BenchmarkVoters(b *testing.B) {
	for _, shape := range []struct{ regions, voters int }{{10, 3}, {33, 3}, {50, 5}, {100, 5}} {
		b.Run(fmt.Sprintf("%dx%d", shape.regions, shape.voters), func(b *testing.B) {
			var v *votersBench
			for b.Loop() {
				place, err := NewPlacement(shape.regions, 1)
				if err != nil {
					b.Fatal(err)
				}
				v = &votersBench{regions: shape.regions, voters: shape.voters, place: place, times: newSealTimes()}
				dir := b.TempDir()
				if err := Run(func() error { return v.run(b, dir) }); err != nil {
					b.Fatal(err)
				}
			}
			var all []time.Duration
			worst := 0.0
			for _, region := range slices.Sorted(maps.Keys(v.times.took)) {
				last := v.times.took[region][len(v.times.took[region])-1]
				all = append(all, last)
				worst = max(worst, float64(last)/float64(v.floor(region)))
			}
			if len(all) < min(shape.regions, votersCertificates) {
				b.Fatalf("%d of %d certificates were timed", len(all), votersCertificates)
			}
			slices.Sort(all)
			for kind, n := range v.world.Memo() {
				b.Logf("%s: %d real, %d memoised", kind, n.Real, n.Memoised)
			}
			b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "ms-certificate")
			b.ReportMetric(worst, "of-floor-worst")
			b.ReportMetric(float64(peakMemory()>>20), "MiB-peak")
			b.ReportMetric(float64(v.messages)/votersCertificates, "messages/certificate")
			b.ReportMetric(float64(v.bytes)/votersCertificates, "bytes/certificate")
			b.Logf("the slowest certificate took %.2f times its floor, bound %.1f", worst, latencyBound)
		})
	}
}
