package follow

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

const (
	overTCP  = "/ip4/127.0.0.1/tcp/0"
	overQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
)

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

func newHost(t testing.TB, key *pci.PrivateKey, listen string) host.Host {
	t.Helper()
	h, err := p2p.NewHost(p2p.Config{Key: key, Listen: []string{listen}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func knows(h, other host.Host) {
	h.Peerstore().AddAddrs(other.ID(), other.Addrs(), peerstore.PermanentAddrTTL)
}

// serveOn serves an origin on a host, with the access rules of the region.
func serveOn(t testing.TB, o *origin, h host.Host, change ...func(*ServerConfig)) *Server {
	t.Helper()
	access, err := p2p.NewAccess(p2p.AccessConfig{Region: o.region, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := access.SetDocument(o.fed.Document); err != nil {
		t.Fatal(err)
	}
	cfg := o.serverConfig()
	cfg.Host, cfg.Access = h, access
	for _, c := range change {
		c(&cfg)
	}
	srv, err := Serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return srv
}

// following is a follower at work on a host.
type following struct {
	f       *Follower
	replica *fsm.Machine
	done    chan error
	cancel  context.CancelFunc
}

func followOn(t testing.TB, fed *testfed.Federation, h host.Host, peers ...peer.ID) *following {
	t.Helper()
	return followRegionOn(t, fed, h, "a", peers...)
}

func followRegionOn(t testing.TB, fed *testfed.Federation, h host.Host, region string, peers ...peer.ID) *following {
	t.Helper()
	r := &following{replica: replicaOf(t, fed, region), done: make(chan error, 1)}
	f, err := New(Config{Host: h, Region: region, Replica: r.replica, Peers: func() []peer.ID { return peers }, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	r.f = f
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- f.Run(ctx) }()
	return r
}

func (r *following) reaches(t testing.TB, o *origin) {
	t.Helper()
	want, seals := o.m.Size(), int64(0)
	if v, err := o.m.View(); err == nil {
		seals = v.Seals()
		_ = v.Close()
	}
	eventually(t, fmt.Sprintf("the follower has %d entries and %d seals; it has %+v", want, seals, r.f.Status()), func() bool {
		s := r.f.Status()
		return s.Size == want && s.Seals == seals
	})
}

func (r *following) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not end with its context")
	}
}

// noGoroutines fails while a goroutine of this package, tests apart, is left.
func noGoroutines(t testing.TB) {
	t.Helper()
	buf := make([]byte, 4<<20)
	eventually(t, "no goroutine of this package is left", func() bool {
		stacks := string(buf[:runtime.Stack(buf, true)])
		for _, g := range strings.Split(stacks, "\n\n") {
			if strings.Contains(g, "/consensus/follow.(*Follower)") || strings.Contains(g, "/consensus/follow.(*Server)") ||
				strings.Contains(g, "/consensus/follow.(*Copy)") || strings.Contains(g, "/consensus/follow.(*pusher)") || strings.Contains(g, "/consensus/follow.awaitLeave") {
				return false
			}
		}
		return true
	})
}

// TestOverLibp2p catches up over real hosts with the first peer down, follows live, and
// resumes with the server's next life.
func TestOverLibp2p(t *testing.T) {
	fed := openFed()
	o := newOrigin(t, fed, "a")
	for range 10 {
		o.grow(500).seal()
	}
	down := newHost(t, fed.Nodes["a"][0], overTCP)
	first := newHost(t, fed.Nodes["a"][1], overTCP)
	member := newHost(t, fed.Nodes["a"][2], overTCP)
	knows(member, down)
	knows(member, first)
	if err := down.Close(); err != nil {
		t.Fatal(err)
	}
	srv := serveOn(t, o, first)
	r := followOn(t, fed, member, down.ID(), first.ID())
	r.reaches(t, o)
	if o.m.Size() != 5001 || r.f.metrics.left.With(leftNetwork).Value() == 0 {
		t.Fatalf("%d entries; the peer that is down was left %v times", o.m.Size(), r.f.metrics.left.With(leftNetwork).Value())
	}
	for range 20 { // far more often than there are heartbeats
		o.grow(1)
		began := time.Now()
		r.reaches(t, o)
		if d := time.Since(began); d > 2*time.Second {
			t.Fatalf("an entry came after %v", d)
		}
	}
	if err := errors.Join(srv.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	o.grow(30).seal()
	eventually(t, "the follower misses its peer", func() bool { return !r.f.Status().Following })
	again := newHost(t, fed.Nodes["a"][1], overTCP)
	knows(member, again)
	srv = serveOn(t, o, again)
	r.reaches(t, o)
	if s := r.f.Status(); s.Peer != again.ID() || srv.Stats().Open != 1 {
		t.Fatalf("status %+v, server %+v", s, srv.Stats())
	}
	r.stop(t)
	sameAs(t, o, r.replica)
	eventually(t, "the server sees that its follower left", func() bool { return srv.Stats().Open == 0 })
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	noGoroutines(t)
}

func TestOverQUIC(t *testing.T) {
	fed := openFed()
	o := newOrigin(t, fed, "a").grow(600).seal().grow(5)
	voter, member := newHost(t, fed.Nodes["a"][0], overQUIC), newHost(t, fed.Nodes["a"][1], overQUIC)
	knows(member, voter)
	srv := serveOn(t, o, voter)
	r := followOn(t, fed, member, voter.ID())
	r.reaches(t, o)
	o.grow(1).seal()
	r.reaches(t, o)
	if err := srv.Close(); err != nil { // with the stream open
		t.Fatal(err)
	}
	eventually(t, "the follower misses its peer", func() bool { return !r.f.Status().Following })
	r.stop(t)
	sameAs(t, o, r.replica)
	noGoroutines(t)
}

func TestWhoMayNotFollowLearnsNothing(t *testing.T) {
	fed := openFed()
	o := newOrigin(t, fed, "a").grow(10)
	voter := newHost(t, fed.Nodes["a"][0], overTCP)
	srv := serveOn(t, o, voter)
	for name, key := range map[string]*pci.PrivateKey{"stranger": testfed.Key("mallory"), "node of another region that does not vote": testfed.Key("b-9")} {
		h := newHost(t, key, overTCP)
		knows(h, voter)
		before := srv.Stats().Refused
		r := followOn(t, fed, h, voter.ID())
		eventually(t, name+" is refused", func() bool { return r.f.metrics.left.With(leftRefused).Value() > 0 })
		r.stop(t)
		if srv.Stats().Refused == before || srv.Stats().Served != 0 {
			t.Fatalf("%s: server %+v", name, srv.Stats())
		}
		if s := r.f.Status(); r.replica.Size() != 0 || s.Following || !strings.Contains(s.LastError, "may not speak the protocol") {
			t.Fatalf("%s: %+v", name, s)
		}
	}
}

func TestLimitsOverLibp2p(t *testing.T) {
	fed := openFed()
	o := newOrigin(t, fed, "a").grow(4000)
	voter, member := newHost(t, fed.Nodes["a"][0], overTCP), newHost(t, fed.Nodes["a"][1], overTCP)
	knows(member, voter)
	srv := serveOn(t, o, voter, func(c *ServerConfig) { c.PerPeerMax, c.WriteTimeout = 2, 2*time.Second })
	open := func() network.Stream {
		s, err := member.NewStream(t.Context(), voter.ID(), p2p.ProtocolEntries)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeRequest(s, &requestBody{Region: "a"}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := open(), open() // neither is read
	eventually(t, "both are served", func() bool { return srv.Stats().Open == 2 || srv.metrics.ended.With("slow").Value() > 0 })
	three := open()
	if _, err := readFrame(three); !errors.Is(streamError(err), p2p.ErrBusy) {
		t.Fatalf("a third stream: %v", err)
	}
	eventually(t, "the slow readers are cut off", func() bool { return srv.metrics.ended.With("slow").Value() == 2 && srv.Stats().Open == 0 })
	for _, s := range []network.Stream{one, two} {
		var err error
		for err == nil {
			_, err = readFrame(s)
		}
		var reset *network.StreamError
		if !errors.As(err, &reset) && !errors.Is(err, network.ErrReset) {
			t.Fatalf("a slow reader's stream ended with %v", err)
		}
	}
	if sent := entryBytes(o.entries()); sent < 1<<21 {
		t.Fatalf("the ledger has only %d bytes: buffers could hold it", sent)
	}
}
