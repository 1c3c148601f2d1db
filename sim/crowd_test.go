package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
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

	mu       sync.Mutex
	arrived  map[certificateID]map[*Node]time.Time
	messages map[string]int // of gossip, by the last words of their topic, while certificates spread
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
		case "checkpoints", "certificates", "patterns", "digests", "evidence", "votes", "members":
			return w
		}
	}
	return "other"
}

func (c *crowd) tap(_, _ peer.ID, proto2 protocol.ID, data []byte) {
	if proto2 != p2p.ProtocolGossip {
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
	wall, cpu  time.Duration
	goroutines int
	heap, all  uint64
	stack      uint64
}

func measure(begin time.Time, gc bool) use {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	var m runtime.MemStats
	if gc {
		runtime.GC()
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return use{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano()), goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc, all: m.HeapInuse + m.StackInuse, stack: m.StackInuse}
}

func (c *crowd) run(ctx context.Context, b *testing.B, dir string) (err error) {
	if c.place, err = NewPlacement(c.regions, 1); err != nil {
		return err
	}
	nodes := float64(c.regions * (c.voters + c.members))
	t0 := measure(time.Time{}, true)
	w, err := New(ctx, Config{Dir: dir, Regions: c.regions, Voters: c.voters, Members: c.members, Seed: 1, Latency: c.place.OneWay, Tap: c.tap})
	if err != nil {
		return err
	}
	c.world = w
	defer func() { _ = w.Close() }()
	t1 := measure(time.Time{}, true)
	b.Logf("start: cpu %v, %d goroutines (%.1f a node), %.0f KB a node", t1.cpu-t0.cpu, t1.goroutines, float64(t1.goroutines)/nodes, float64(t1.all-t0.all)/nodes/1024)
	<-time.After(crowdSettles)
	w.Auditor.watchAll(c.observe)
	t2 := measure(time.Time{}, true)
	b.Logf("settled after %v: cpu %v, %d goroutines (%.1f a node), %.0f KB a node, heap %.0f KB, stack %.0f KB", crowdSettles, t2.cpu-t1.cpu, t2.goroutines, float64(t2.goroutines)/nodes, float64(t2.all-t0.all)/nodes/1024, float64(t2.heap-t0.heap)/nodes/1024, float64(t2.stack-t0.stack)/nodes/1024)
	if name := os.Getenv("CROWD_PROFILE"); name != "" {
		profile(b, name)
	}
	conns := 0
	for _, n := range w.All() {
		conns += len(n.host.Network().Peers())
	}
	b.Logf("%.1f connections a node", float64(conns)/nodes)
	t3 := measure(time.Time{}, false)
	stopProfile := cpuProfile(b, "idle")
	c.count(true)
	<-time.After(crowdIdles)
	c.count(false)
	stopProfile()
	t4 := measure(time.Time{}, true)
	b.Logf("idle: cpu %.3f s a virtual second, %.3f ms a node and second, messages %v, %d bytes", (t4.cpu-t3.cpu).Seconds()/crowdIdles.Seconds(), 1000*(t4.cpu-t3.cpu).Seconds()/crowdIdles.Seconds()/nodes, c.messages, c.bytes)
	clear(c.messages)
	c.bytes = 0
	c.count(true)
	stopProfile = cpuProfile(b, "spread")
	for i := range c.certificates {
		region := w.Regions()[i*len(w.Regions())/c.certificates%len(w.Regions())]
		if w.Leader(region) == nil {
			return fmt.Errorf("%s has no leader", region)
		}
		if _, err := w.Submit(ctx, w.Leader(region)); err != nil {
			return err
		}
		<-time.After(crowdSpreads)
	}
	stopProfile()
	t5 := measure(time.Time{}, true)
	c.count(false)
	b.Logf("certificates: cpu %v each, messages %v, %d bytes", (t5.cpu-t4.cpu)/time.Duration(c.certificates), c.messages, c.bytes)
	c.spread(b)
	b.Logf("end: %d goroutines, %.0f KB a node, heap %.0f KB", t5.goroutines, float64(t5.all-t0.all)/nodes/1024, float64(t5.heap-t0.heap)/nodes/1024)
	return w.Auditor.Broken()
}

func (c *crowd) spread(b *testing.B) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ratios, over []float64
	pairs, late, lateShort, missing := 0, 0, 0, 0
	for id, at := range c.arrived {
		var begin time.Time
		for n, t := range at {
			if n.Region == id.origin && (begin.IsZero() || t.Before(begin)) {
				begin = t
			}
		}
		missing += c.regions*(c.voters+c.members) - len(at)
		for n, t := range at {
			took, direct, limit := t.Sub(begin), c.place.OneWay(id.origin, n.Region), c.place.Limit(id.origin, n.Region)
			pairs++
			if float64(took) > 1.25*float64(direct)+float64(10*time.Millisecond) {
				late++
			}
			if limit < 80*time.Millisecond && took > 100*time.Millisecond {
				lateShort++
			}
			ratios = append(ratios, float64(took)/float64(direct))
			over = append(over, (took-direct).Seconds()*1000)
		}
	}
	slices.Sort(ratios)
	slices.Sort(over)
	at := func(list []float64, q float64) float64 {
		if len(list) == 0 {
			return 0
		}
		return list[min(len(list)-1, int(q*float64(len(list))))]
	}
	b.Logf("%d certificates: %d pairs, %d missing, %d late (%.3f %%), %d above 100 ms with a limit below 80 ms; ratio p50 %.3f p99 %.3f; over direct, ms: p50 %.1f p99 %.1f max %.1f",
		len(c.arrived), pairs, missing, late, 100*float64(late)/float64(max(1, pairs)), lateShort, at(ratios, .5), at(ratios, .99), at(over, .5), at(over, .99), at(over, 1))
}
