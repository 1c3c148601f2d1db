package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/p2p"
)

func TestWhoHearsWhat(t *testing.T) {
	bubble(t, 3, 3, 2, func(t *testing.T, w *world) {
		w.startAll()
		for _, c := range []struct {
			topic   Topic
			from    *node
			hears   func(n *node) bool
			refused bool
		}{
			{topic: Topic{Kind: Checkpoints}, from: w.nodes["a"][0], hears: func(n *node) bool { return n.Voter }},
			{topic: Topic{Kind: Votes, Region: "b"}, from: w.nodes["a"][0], hears: func(n *node) bool { return n.Voter && n.Region == "b" }},
			{topic: Topic{Kind: Certificates}, from: w.nodes["b"][0], hears: func(*node) bool { return true }},
			{topic: Topic{Kind: Patterns}, from: w.nodes["c"][4], hears: func(*node) bool { return true }},
			{topic: Topic{Kind: Evidence}, from: w.nodes["c"][1], hears: func(*node) bool { return true }},
			{topic: Topic{Kind: Digests}, from: w.nodes["c"][0], hears: func(n *node) bool { return n.Voter }},
			{topic: Topic{Kind: Roster, Region: "c"}, from: w.nodes["c"][0], hears: func(n *node) bool { return n.Region == "c" }},
			{topic: Topic{Kind: Members, Region: "c"}, from: w.nodes["c"][4], hears: func(n *node) bool { return n.Voter && n.Region == "c" }},
			{topic: Topic{Kind: Members, Region: "c"}, from: w.nodes["a"][0], refused: true},
			{topic: Topic{Kind: Roster, Region: "c"}, from: w.nodes["a"][0], refused: true},
			{topic: Topic{Kind: Digests}, from: w.nodes["a"][4], refused: true},
			{topic: Topic{Kind: Checkpoints}, from: w.nodes["a"][4], refused: true},
			{topic: Topic{Kind: Votes, Region: "a"}, from: w.nodes["a"][4], refused: true},
			{topic: Topic{Kind: Votes}, from: w.nodes["a"][0], refused: true},
			{topic: Topic{Kind: kinds}, from: w.nodes["a"][0], refused: true},
		} {
			payload := fmt.Sprintf("ok:%s:%v", c.from.Region, c.topic)
			err := c.from.router.Publish(c.topic, []byte(payload))
			if c.refused {
				if !errors.Is(err, ErrTopic) {
					t.Errorf("%v from a node of %s: %v, want ErrTopic", c.topic, c.from.Region, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			testnet.Pass(8 * time.Second)
			for _, n := range w.all() {
				want := 0
				if c.hears(n) && n != c.from {
					want = 1
				}
				if got := n.received(payload); got != want {
					t.Errorf("%v from a node of %s: node %d of %s got it %d times, want %d", c.topic, c.from.Region, n.Index, n.Region, got, want)
				}
			}
		}
	})
}

func TestSizesAtTheirLimits(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		w.startAll()
		from, to := w.nodes["a"][0], w.nodes["b"][1]
		for _, k := range Kinds() {
			topic := Topic{Kind: k}
			if k.rule().perRegion {
				topic.Region = "a"
			}
			head := "ok:a:" + k.String()
			longest := []byte(head + strings.Repeat("x", k.rule().bytesMax-len(head)))
			if err := from.router.Publish(topic, longest); err != nil {
				t.Errorf("%v: %d bytes: %v", k, len(longest), err)
			}
			for _, bad := range [][]byte{append(longest, 'x'), nil} {
				if err := from.router.Publish(topic, bad); !errors.Is(err, ErrTooLong) {
					t.Errorf("%v: %d bytes: %v, want ErrTooLong", k, len(bad), err)
				}
			}
			testnet.Pass(time.Second)
			if topic.Region == "" && to.received(string(longest)) != 1 {
				t.Errorf("%v: the longest payload did not arrive", k)
			}
		}
	})
}

func TestOversizedMessagesAreInvalid(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		bad := w.nodes["a"][2]
		w.startAll(bad)
		r := bad.attack(w.nodes["a"][0])
		for _, data := range [][]byte{{}, {frameVersion}, {frameVersion, 0}, frame(0, bytes.Repeat([]byte("x"), Certificates.rule().bytesMax+1))} {
			r.send(&pb.RPC{Publish: []*pb.Message{{Topic: proto.String(r.name(certificates)), Data: data}}})
		}
		r.send(&pb.RPC{Publish: []*pb.Message{{Topic: proto.String(r.name(certificates)), Data: []byte{frameVersion + 1, 0, 'x'}}}}) // may be right in a later version
		testnet.Pass(11 * time.Second)
		st := r.standing()
		if want := "about 4 invalid"; !strings.Contains(strings.Join(st.Why, ";"), want) || st.Score >= graylistThreshold {
			t.Errorf("it stands at %+v, want %q and to be graylisted", st, want)
		}
		if distinct, _ := judgedOf(r.victim, ""); distinct != 0 {
			t.Errorf("%d of them came to the judge", distinct)
		}
	})
}

// A message that is brought where it is invalid, or by one who is muted, must not be
// taken for known where and when an honest peer brings it.
func TestNobodySilencesOthersByBeingFirst(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		bad := w.nodes["a"][2]
		w.startAll(bad)
		victim := w.nodes["a"][0]
		r := bad.attack(victim)
		first, second := "ok:a:first", "ok:a:second"
		r.publish(Topic{Kind: Evidence}, "bad:a:x") // the topic is another, and so is the name
		r.publish(Topic{Kind: Patterns}, first)
		for !r.standing().Muted {
			for i := range 5 {
				r.publish(Topic{Kind: Members, Region: "b"}, fmt.Sprintf("ok:b:%d", i))
			}
			testnet.Pass(time.Second)
		}
		r.publish(certificates, second)
		testnet.Pass(time.Second)
		if victim.received(second) != 0 {
			t.Fatal("a muted peer is heard")
		}
		for _, payload := range []string{first, second} {
			if err := w.nodes["a"][1].router.Publish(certificates, []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		testnet.Pass(time.Second)
		certificatesGot := 0
		for _, m := range victim.messages() {
			if m.Topic == certificates {
				certificatesGot++
			}
		}
		if certificatesGot != 2 {
			t.Errorf("%d of 2 honest messages arrived", certificatesGot)
		}
	})
}

func TestStrangersAreNotHeard(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		w.startAll()
		victim := w.nodes["a"][0]
		stranger := &node{Node: &testnet.Node{Region: "a", Host: w.NewHost("a", mustKey(t))}, w: w}
		defer stranger.Host.Close()
		w.Connect(stranger.Node, victim.Node)
		s, err := stranger.Host.NewStream(t.Context(), victim.Host.ID(), p2p.ProtocolGossip)
		if err != nil {
			t.Fatal(err)
		}
		r := &rogue{t: t, n: stranger, victim: victim, stream: s}
		r.publish(certificates, "ok:a:from a stranger")
		testnet.Pass(time.Second)
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("a stranger's stream stays open")
		}
		if distinct, _ := judgedOf(victim, "ok:a:from"); distinct != 0 {
			t.Error("a stranger's message was judged")
		}
	})
}

// A node that connects before others know that it is one is turned away, and heard soon
// after they do; a member that becomes a voter hears what voters hear.
func TestRightsThatChange(t *testing.T) {
	bubble(t, 2, 3, 1, func(t *testing.T, w *world) {
		late, others := w.nodes["a"][3], w.nodes["a"][:3]
		voters := testnet.IDs(w.Nodes["a"][:3])
		var now atomic.Pointer[p2p.RaftPeers]
		set := func(voters []peer.ID, others ...peer.ID) {
			peers := p2p.NewRaftPeers(voters, others)
			now.Store(&peers)
		}
		set(voters)
		w.SetRaft("a", func() p2p.RaftPeers { return *now.Load() })
		w.startAll()
		testnet.Pass(time.Minute)
		publish := func(topic Topic, payload string) {
			if err := others[0].router.Publish(topic, []byte(payload)); err != nil {
				t.Fatal(err)
			}
			testnet.Pass(10 * time.Second)
		}
		publish(certificates, "ok:a:1")
		if late.received("ok:a:1") != 0 {
			t.Fatal("a node that nobody knows hears everything")
		}
		set(voters, late.Host.ID())
		testnet.Pass(30 * time.Second)
		publish(certificates, "ok:a:2")
		publish(Topic{Kind: Checkpoints}, "ok:a:3")
		if late.received("ok:a:2") != 1 || late.received("ok:a:3") != 0 {
			t.Errorf("as a member it got a certificate %d times and a checkpoint %d times", late.received("ok:a:2"), late.received("ok:a:3"))
		}
		set(append(slices.Clone(voters), late.Host.ID()))
		testnet.Pass(30 * time.Second)
		publish(Topic{Kind: Checkpoints}, "ok:a:4")
		if late.received("ok:a:4") != 1 {
			t.Errorf("as a voter it got a checkpoint %d times", late.received("ok:a:4"))
		}
		set(voters, late.Host.ID())
		testnet.Pass(30 * time.Second)
		publish(Topic{Kind: Checkpoints}, "ok:a:5")
		if late.received("ok:a:5") != 0 {
			t.Error("as a member again it still gets checkpoints")
		}
	})
}

// Nodes learn of a change at different times. One that subscribed before others knew that
// it may is heard of again; one that stays subscribed after it may not is sent nothing.
func TestRightsOnWhichNodesDisagree(t *testing.T) {
	bubble(t, 2, 3, 1, func(t *testing.T, w *world) {
		late := w.nodes["a"][3]
		voters := testnet.IDs(w.Nodes["a"][:3])
		var others atomic.Pointer[p2p.RaftPeers]
		set := func(votes bool) {
			peers := p2p.NewRaftPeers(voters, []peer.ID{late.Host.ID()})
			if votes {
				peers = p2p.NewRaftPeers(append(slices.Clone(voters), late.Host.ID()), nil)
			}
			others.Store(&peers)
		}
		set(true)
		own := *others.Load() // late takes itself for a voter all the time
		set(false)
		w.SetRaft("a", func() p2p.RaftPeers { return own })
		believes := late.Access
		w.SetRaft("a", func() p2p.RaftPeers { return *others.Load() })
		late.Access = believes
		w.startAll()
		for i, votes := range []bool{false, true, false} {
			set(votes)
			testnet.Pass(30 * time.Second)
			payload := fmt.Sprintf("ok:a:%d", i)
			if err := w.nodes["a"][0].router.Publish(Topic{Kind: Checkpoints}, []byte(payload)); err != nil {
				t.Fatal(err)
			}
			testnet.Pass(10 * time.Second)
			want := 0
			if votes {
				want = 1
			}
			if got := late.received(payload); got != want {
				t.Errorf("step %d: while the others take it for a voter: %v, it got a checkpoint %d times, want %d", i, votes, got, want)
			}
		}
	})
}

// What one peer sends beyond its bytes a second waits at its side.
func TestBytesOfAPeerAreMetered(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		bad := w.nodes["a"][2]
		for _, n := range w.all() {
			if n != bad {
				n.start(func(c *Config) {
					c.PeerBytesPerSecond, c.PeerBytesBurst, c.off.breaker = 1<<20, 1<<20, true
				})
			}
		}
		r := bad.attack(w.nodes["a"][0])
		start := time.Now()
		sent := 0
		for sent < 64<<20 {
			rpc := &pb.RPC{Publish: []*pb.Message{{Topic: proto.String(r.name(Topic{Kind: Members, Region: "b"})), Data: make([]byte, 200<<10)}}}
			r.send(rpc)
			sent += 200 << 10
		}
		// 16 MiB lie in the window, 1 is the burst.
		if took := time.Since(start); took < 40*time.Second {
			t.Errorf("%d MiB were taken in %v", sent>>20, took)
		}
	})
}

func TestAFullDeliveryQueueLosesNothingThatIsAnnouncedAgain(t *testing.T) {
	bubble(t, 2, 3, 0, func(t *testing.T, w *world) {
		slow := w.nodes["a"][1]
		blocked, registry := make(chan struct{}), prometheus.NewRegistry()
		for _, n := range w.all() {
			if n != slow {
				n.start()
			}
		}
		r, err := New(slow.Host, slow.Access, Config{Federation: "test", DeliverQueue: 2, ValidateWorkers: 1, Logger: testnet.Quiet(), Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		slow.router = r
		r.Handle(Certificates, Handler{Judge: slow.judge, Deliver: func(m Message) { <-blocked; slow.take(m) }})
		r.Start()
		w.ConnectAll()
		testnet.Pass(5 * time.Second)
		var done atomic.Bool
		for i := range 6 {
			how := Announcement{Until: time.Now().Add(time.Hour), Done: done.Load}
			if err := w.nodes["a"][0].router.Announce(certificates, fmt.Appendf(nil, "ok:a:%d", i), how); err != nil {
				t.Fatal(err)
			}
			testnet.Pass(10 * time.Millisecond)
		}
		testnet.Pass(time.Second)
		if got := gathered(t, registry, "bizra_gossip_dropped_total", "deliver_queue"); got != 3 {
			t.Errorf("%v messages were dropped, want all but one under way and two waiting", got)
		}
		close(blocked)
		testnet.Pass(10 * time.Second)
		for i := range 6 {
			if got := slow.received(fmt.Sprintf("ok:a:%d", i)); got != 1 {
				t.Errorf("message %d was delivered %d times", i, got)
			}
		}
		done.Store(true)
		testnet.Pass(2 * announceMax)
		if n, bytes, _ := w.nodes["a"][0].router.outbox.size(); n != 0 || bytes != 0 {
			t.Errorf("%d entries of %d bytes are still in the outbox", n, bytes)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Federation":         func(c *Config) { c.Federation = "" },
		"Regions":            func(c *Config) { c.Regions = -1 },
		"ValidateWorkers":    func(c *Config) { c.ValidateWorkers = -1 },
		"MuteForMax":         func(c *Config) { c.MuteForMax = time.Second },
		"PeerBytesPerSecond": func(c *Config) { c.PeerBytesPerSecond = rpcBytesMax - 1 },
	} {
		cfg := Config{Federation: "f"}
		change(&cfg)
		if err := cfg.withDefaults().validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
