package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// crowd measures what the nodes of a federation cost that do not vote, and how certificates reach them.
type crowd struct {
	regions, voters, members, certificates int

	place *Placement
	world *World
	// doing names what goes on, for the profiler, which is outside of the bubble.
	doing atomic.Pointer[string]

	mu       sync.Mutex
	arrived  map[certificateID]map[*Node]time.Time
	messages map[string]int // of gossip, by what they are, while counting
	bytes    int
	counting bool
}

type certificateID struct {
	origin string
	size   int64
}

const (
	crowdSettles = 30 * time.Second // until meshes stand
	crowdIdles   = 20 * time.Second
	crowdSpreads = 3 * time.Second // each certificate
)

func (c *crowd) String() string {
	return fmt.Sprintf("regions=%d/voters=%d/members=%d", c.regions, c.voters, c.members)
}

// topicWord is the last word of a topic that names no region, else the one before.
func topicWord(topic string) string {
	words := strings.Split(topic, "/")
	for _, w := range slices.Backward(words) {
		switch w {
		case "checkpoints", "certificates", "patterns", "digests", "evidence", "votes", "members", "roster":
			return w
		}
	}
	return "other"
}

func (c *crowd) tap(_, _ peer.ID, on protocol.ID, data []byte) {
	if on != p2p.ProtocolGossip {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.counting {
		return
	}
	c.bytes += len(data)
	size, n := binary.Uvarint(data)
	var rpc pb.RPC
	if n <= 0 || uint64(len(data)-n) != size || proto.Unmarshal(data[n:], &rpc) != nil {
		return
	}
	for _, m := range rpc.Publish {
		c.messages[topicWord(m.GetTopic())]++
	}
	ctl := rpc.GetControl()
	c.messages["ihave"] += len(ctl.GetIhave())
	c.messages["iwant"] += len(ctl.GetIwant())
	c.messages["idontwant"] += len(ctl.GetIdontwant())
	c.messages["rpc"]++
}

func (c *crowd) count(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on {
		clear(c.messages)
		c.bytes = 0
	}
	c.counting = on
}

func (c *crowd) observe(n *Node, _ *fsm.Result, l *attest.Learned) {
	if l == nil {
		return
	}
	id := certificateID{l.Origin, l.Size}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrived[id] == nil {
		c.arrived[id] = map[*Node]time.Time{}
	}
	if _, ok := c.arrived[id][n]; !ok {
		c.arrived[id][n] = time.Now()
	}
}

// use is what the process has taken.
type use struct {
	cpu               time.Duration
	goroutines        int
	heap, stack, held uint64
}

func measure(collect bool) use {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	if collect {
		runtime.GC()
		runtime.GC() // stacks shrink by half each time
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return use{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc, stack: m.StackInuse, held: m.HeapInuse + m.StackInuse}
}

func (c *crowd) nodes() float64 { return float64(c.regions * (c.voters + c.members)) }

// during measures what something takes, without the collection of garbage before and after.
func (c *crowd) during(name string, do func() error) (time.Duration, error) {
	before := measure(false)
	c.doing.Store(&name)
	c.count(true)
	err := do()
	c.count(false)
	idle := ""
	c.doing.Store(&idle)
	return measure(false).cpu - before.cpu, err
}

func (c *crowd) run(ctx context.Context, b *testing.B, dir string) (err error) {
	if c.place, err = NewPlacement(c.regions, 1); err != nil {
		return err
	}
	before := measure(true)
	start, err := c.during("start", func() (err error) {
		c.world, err = New(ctx, Config{Dir: dir, Regions: c.regions, Voters: c.voters, Members: c.members, Seed: 1, Latency: c.place.OneWay, Tap: c.tap})
		if err == nil {
			<-time.After(crowdSettles)
		}
		return err
	})
	if err != nil {
		return err
	}
	w := c.world
	defer func() { _ = w.Close() }()
	w.Auditor.watchAll(c.observe)
	settled := measure(true)
	connections := 0
	for _, n := range w.All() {
		connections += len(n.host.Network().Peers())
	}
	if prefix := os.Getenv("CROWD_PROFILE"); prefix != "" {
		for _, k := range []string{"heap", "goroutine"} {
			f, err := os.Create(prefix + "." + k)
			if err != nil {
				return err
			}
			if err := errors.Join(pprof.Lookup(k).WriteTo(f, 0), f.Close()); err != nil {
				return err
			}
		}
	}
	b.ReportMetric(start.Seconds()*1000/c.nodes(), "cpu-ms/node-start")
	b.ReportMetric(float64(settled.goroutines)/c.nodes(), "goroutines/node")
	b.ReportMetric(float64(settled.held-before.held)/c.nodes()/1024, "KB/node")
	b.ReportMetric(float64(connections)/c.nodes(), "connections/node")
	b.Logf("a node: heap %.0f KB, stack %.0f KB", float64(settled.heap-before.heap)/c.nodes()/1024, float64(settled.stack-before.stack)/c.nodes()/1024)
	b.Logf("start: %v, %d bytes", c.messages, c.bytes)
	idle, err := c.during("idle", func() error { <-time.After(crowdIdles); return nil })
	b.ReportMetric(idle.Seconds()*1000/crowdIdles.Seconds()/c.nodes(), "cpu-ms/node-second-idle")
	b.Logf("idle for %v: %v, %d bytes", crowdIdles, c.messages, c.bytes)
	if err != nil || c.certificates == 0 {
		return err
	}
	spread, err := c.during("spread", func() error { return c.certify(ctx) })
	if err != nil {
		return err
	}
	b.ReportMetric((spread.Seconds()/float64(c.certificates)-idle.Seconds()*crowdSpreads.Seconds()/crowdIdles.Seconds())*1000/c.nodes(), "cpu-ms/node-certificate")
	b.ReportMetric(float64(c.messages["certificates"])/c.nodes()/float64(c.certificates), "copies/node-certificate")
	b.Logf("%d certificates: %v, %d bytes", c.certificates, c.messages, c.bytes)
	c.spread(b)
	b.Logf("memoised: %v", w.Memo())
	return w.Auditor.Broken()
}

func (c *crowd) certify(ctx context.Context) error {
	regions := c.world.Regions()
	for i := range c.certificates {
		leader := c.world.Leader(regions[i*len(regions)/c.certificates%len(regions)])
		if leader == nil {
			return errDown
		}
		if _, err := c.world.Submit(ctx, leader); err != nil {
			return err
		}
		<-time.After(crowdSpreads)
	}
	return nil
}

// The yardsticks of spread, as docs/simulation.md has them.
const (
	directMargin  = 1.25
	directFixed   = 10 * time.Millisecond
	lateShareMax  = 0.01
	shortLimit    = 80 * time.Millisecond
	shortArrival  = 100 * time.Millisecond
	copiesLateMax = 0 // of those pairs
)

func (c *crowd) spread(b *testing.B) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ratios, over []float64
	late, lateShort := 0, 0
	for id, at := range c.arrived {
		var begin time.Time
		for n, t := range at {
			if n.Region == id.origin && (begin.IsZero() || t.Before(begin)) {
				begin = t
			}
		}
		if missing := int(c.nodes()) - len(at); missing > 0 {
			b.Errorf("%d nodes never heard of the certificate of %s at %d entries", missing, id.origin, id.size)
		}
		for n, t := range at {
			if n.Votes && n.Region == id.origin {
				continue // a voter takes its own region's from Raft, not from gossip
			}
			took, direct := t.Sub(begin), c.place.OneWay(id.origin, n.Region)
			if took > time.Duration(directMargin*float64(direct))+directFixed {
				late++
			}
			if c.place.Limit(id.origin, n.Region) < shortLimit && took > shortArrival {
				lateShort++
			}
			ratios = append(ratios, float64(took)/float64(direct))
			over = append(over, (took-direct).Seconds()*1000)
		}
	}
	if len(c.arrived) < c.certificates {
		b.Errorf("%d certificates, want %d", len(c.arrived), c.certificates)
		return
	}
	slices.Sort(ratios)
	slices.Sort(over)
	at := func(list []float64, q float64) float64 { return list[int(q*float64(len(list)-1))] }
	b.ReportMetric(at(ratios, 0.99), "of-direct-p99")
	b.ReportMetric(at(over, 0.99), "ms-over-direct-p99")
	b.ReportMetric(100*float64(late)/float64(len(ratios)), "%-late")
	b.Logf("%d pairs, %d late, %d of limits below %v after %v; over the direct way, ms: p50 %.1f p99 %.1f max %.1f", len(ratios), late, lateShort, shortLimit, shortArrival,
		at(over, .5), at(over, .99), at(over, 1))
	if float64(late) > lateShareMax*float64(len(ratios)) {
		b.Errorf("%d of %d pairs took more than %.2f times the direct way and %v", late, len(ratios), directMargin, directFixed)
	}
	if lateShort > copiesLateMax {
		b.Errorf("%d pairs whose limit is below %v took more than %v", lateShort, shortLimit, shortArrival)
	}
}

// profile writes what the processor does while the crowd starts, idles and hears of certificates, until done.
// Time passes outside of the bubble only.
func (c *crowd) profile(prefix string, done <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var f *os.File
	for was := ""; ; {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now := c.doing.Load()
		if now == nil || *now == was {
			continue
		}
		if was != "" {
			pprof.StopCPUProfile()
			_ = f.Close()
		}
		if was = *now; was != "" {
			var err error
			if f, err = os.Create(prefix + "." + was); err == nil {
				err = pprof.StartCPUProfile(f)
			}
			if err != nil {
				return
			}
		}
	}
}

// BenchmarkCrowd measures what a federation's nodes cost at rest, what a certificate costs each of them, and
// how it spreads over measured latencies, against the yardsticks of docs/simulation.md. CROWD=regions,voters,members,certificates
// sets another size than the small ones; CROWD_PROFILE=FILE writes FILE.start, .idle, .spread, .heap and .goroutine.
func BenchmarkCrowd(b *testing.B) {
	sizes := []*crowd{{regions: 4, voters: 3, members: 22, certificates: 4}, {regions: 4, voters: 3, members: 72, certificates: 4}}
	if size := os.Getenv("CROWD"); size != "" {
		c := &crowd{}
		if _, err := fmt.Sscanf(size, "%d,%d,%d,%d", &c.regions, &c.voters, &c.members, &c.certificates); err != nil {
			b.Fatalf("CROWD=%q is not regions,voters,members,certificates: %v", size, err)
		}
		sizes = []*crowd{c}
	}
	for _, c := range sizes {
		b.Run(c.String(), func(b *testing.B) {
			for b.Loop() {
				c.arrived, c.messages = map[certificateID]map[*Node]time.Time{}, map[string]int{}
				done := make(chan struct{})
				if prefix := os.Getenv("CROWD_PROFILE"); prefix != "" {
					go c.profile(prefix, done)
				}
				err := Run(func() error { return c.run(context.Background(), b, b.TempDir()) })
				close(done)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
