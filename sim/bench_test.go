package sim

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// spread is a federation with a region in each of some places.
type spread struct {
	matrix  *Matrix
	places  []string
	byName  map[string]string // place of a region
	regions []string

	times *sealTimes

	mu       sync.Mutex
	messages map[protocol.ID]int // over links between regions
	bytes    map[protocol.ID]int
}

// messagesPowerMax is linear, with a margin for what runs idle.
const messagesPowerMax = 1.2

func newSpread(b *testing.B, regions int) *spread {
	b.Helper()
	f, err := os.Open("testdata/aws-rtt.csv")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := &spread{byName: map[string]string{}, times: newSealTimes(),
		messages: map[protocol.ID]int{}, bytes: map[protocol.ID]int{}}
	if s.matrix, err = ReadMatrix(f); err != nil {
		b.Fatal(err)
	}
	for i := range regions { // as far apart in the list as may be
		s.places = append(s.places, s.matrix.Places[i*len(s.matrix.Places)/regions])
	}
	return s
}

func (s *spread) floor(region string) time.Duration {
	return quorumFloor(s.byName[region], s.places, s.matrix.OneWay)
}

func (s *spread) tap(w *World) func(from, to peer.ID, proto protocol.ID, data []byte) {
	return func(from, to peer.ID, proto protocol.ID, data []byte) {
		if w.home[from] == w.home[to] {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.messages[proto]++
		s.bytes[proto] += len(data)
	}
}

// run has every region seal some times.
func (s *spread) run(ctx context.Context, dir string, seals int) error {
	var tap atomic.Pointer[func(from, to peer.ID, proto protocol.ID, data []byte)]
	cfg := Config{Dir: dir, Regions: len(s.places), Latency: func(from, to string) time.Duration {
		if from == to {
			return near
		}
		return s.matrix.OneWay(s.byName[from], s.byName[to])
	}, Tap: func(from, to peer.ID, proto protocol.ID, data []byte) {
		if t := tap.Load(); t != nil {
			(*t)(from, to, proto, data)
		}
	}, Change: func(d *federation.Document) {
		for i, r := range d.Regions {
			s.byName[r.Name] = s.places[i]
		}
	}}
	w, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	s.regions = w.Regions()
	<-time.After(15 * time.Second) // connected, and the first seals certified
	w.Auditor.watchAll(s.times.observe)
	count := s.tap(w)
	tap.Store(&count)
	for range seals {
		for _, r := range s.regions {
			if w.Leader(r) == nil {
				return fmt.Errorf("%s has no leader", r)
			}
			if _, err := w.Submit(ctx, w.Leader(r)); err != nil {
				return err
			}
		}
		<-time.After(2 * time.Second)
	}
	return w.Auditor.Audit()
}

// BenchmarkCertificate measures, in virtual time and over measured latencies, from a region's seal
// to its certificate in that region, against 1.3 times the round trip to the region that completes
// the quorum and two commits; and what crosses links between regions, with all that runs idle. The
// powers are those of the number of regions by which that grows from the fewest on.
func BenchmarkCertificate(b *testing.B) {
	const seals = 5
	type point struct{ n, bytes, messages float64 }
	var points []point
	for _, regions := range []int{4, 10, 20, 33} {
		b.Run(fmt.Sprintf("regions=%d", regions), func(b *testing.B) {
			var s *spread
			for b.Loop() {
				s = newSpread(b, regions)
				dir := b.TempDir()
				if err := Run(func() error { return s.run(context.Background(), dir, seals) }); err != nil {
					b.Fatal(err)
				}
			}
			worst, at, count, messages, bytes := 0.0, "", 0, 0, 0
			var all []float64
			for region, took := range s.times.took {
				count += len(took)
				slices.Sort(took)
				median := took[len(took)/2]
				if ratio := float64(median) / float64(s.floor(region)); ratio > worst {
					worst, at = ratio, s.byName[region]
				}
				all = append(all, float64(median)/float64(time.Millisecond))
			}
			if len(s.times.took) != regions || count < regions*(seals-1) {
				b.Fatalf("%d certificates of %d regions", count, len(s.times.took))
			}
			for _, proto := range []protocol.ID{p2p.ProtocolEntries, p2p.ProtocolAttest, p2p.ProtocolGossip} {
				messages, bytes = messages+s.messages[proto], bytes+s.bytes[proto]
				b.Logf("%s: %d messages, %d bytes a checkpoint", proto, s.messages[proto]/count, s.bytes[proto]/count)
			}
			slices.Sort(all)
			b.ReportMetric(all[len(all)/2], "ms-median")
			b.ReportMetric(all[len(all)-1], "ms-slowest-region")
			b.ReportMetric(worst, "of-floor-worst")
			b.ReportMetric(float64(messages)/float64(count), "messages/checkpoint")
			b.ReportMetric(float64(bytes)/float64(count), "bytes/checkpoint")
			points = append(points, point{float64(regions), float64(bytes) / float64(count), float64(messages) / float64(count)})
			if len(points) > 1 {
				few, many := points[0], points[len(points)-1]
				power := func(y func(point) float64) float64 { return math.Log(y(many)/y(few)) / math.Log(many.n/few.n) }
				inMessages := power(func(p point) float64 { return p.messages })
				b.ReportMetric(inMessages, "power-messages")
				b.ReportMetric(power(func(p point) float64 { return p.bytes }), "power-bytes")
				if inMessages > messagesPowerMax {
					b.Errorf("messages a checkpoint grow with the number of regions to the power of %.2f, bound %.2f", inMessages, messagesPowerMax)
				}
			}
			b.Logf("worst region %s: %.2f of its floor, bound %.1f", at, worst, latencyBound)
			if worst > latencyBound {
				b.Errorf("a certificate of %s took %.2f times the round trip to the region that completes the quorum and two commits, bound %.1f", at, worst, latencyBound)
			}
		})
	}
}
