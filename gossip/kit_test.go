package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
	"github.com/bizra/bizra/sim/memnet"
)

const (
	near = time.Millisecond
	far  = 50 * time.Millisecond
)

// world is a federation on a network in memory: voters and members of every region.
type world struct {
	t     *testing.T
	fed   *testfed.Federation
	net   *memnet.Network
	nodes map[string][]*node // by region; voters first
	owner map[peer.ID]string // region

	mu     sync.Mutex
	copies map[link]map[string]int // of payloads, by link
	tap    func(from, to peer.ID, rpc *pb.RPC)
}

type link struct{ from, to peer.ID }

type node struct {
	w      *world
	region string
	voters int
	host   *memnet.Host
	access *p2p.Access
	router *Router // nil for a rogue

	mu     sync.Mutex
	got    []Message
	judged map[string]int // by payload
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, regions, voters, members int, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, fed: testfed.New(regions, voters), nodes: make(map[string][]*node), owner: make(map[peer.ID]string), copies: make(map[link]map[string]int)}
		var err error
		w.net, err = memnet.New(memnet.Config{Latency: w.latency, Tap: w.see})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.fed.Document.Regions {
			keys := append([]*pci.PrivateKey(nil), w.fed.Nodes[r.Name]...)
			for i := range members {
				keys = append(keys, testfed.Key(fmt.Sprintf("%s-member-%d", r.Name, i)))
			}
			for _, k := range keys {
				w.nodes[r.Name] = append(w.nodes[r.Name], w.newNode(r.Name, voters, k))
			}
		}
		for region, nodes := range w.nodes {
			var ids []peer.ID
			for _, n := range nodes {
				ids = append(ids, n.host.ID())
			}
			raft := p2p.NewRaftPeers(ids[:voters], ids[voters:])
			for _, n := range nodes {
				n.access, err = p2p.NewAccess(p2p.AccessConfig{Region: region, Logger: quiet(), Raft: func() (p2p.RaftPeers, bool) { return raft, true }})
				if err != nil {
					t.Fatal(err)
				}
				if err := n.access.SetDocument(w.fed.Document); err != nil {
					t.Fatal(err)
				}
			}
		}
		defer w.close()
		test(t, w)
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (w *world) newNode(region string, voters int, key *pci.PrivateKey) *node {
	seed := key.Seed()
	priv, _, err := crypto.GenerateEd25519Key(strings.NewReader(string(seed[:])))
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := w.net.NewHost(priv)
	if err != nil {
		w.t.Fatal(err)
	}
	w.owner[h.ID()] = region
	return &node{w: w, region: region, voters: voters, host: h, judged: make(map[string]int)}
}

func (w *world) latency(a, b peer.ID) time.Duration {
	if w.owner[a] == w.owner[b] {
		return near
	}
	return far
}

func (w *world) close() {
	for _, nodes := range w.nodes {
		for _, n := range nodes {
			if n.router != nil {
				_ = n.router.Close()
			}
		}
	}
	for _, nodes := range w.nodes {
		for _, n := range nodes {
			_ = n.host.Close()
		}
	}
}

// see counts the copies of payloads on each link.
func (w *world) see(from, to peer.ID, proto protocol.ID, data []byte) {
	if proto != p2p.ProtocolGossip {
		return
	}
	rpc := decodeRPC(data)
	if rpc == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tap != nil {
		w.tap(from, to, rpc)
	}
	for _, m := range rpc.Publish {
		if payload, err := unframe(m.GetData()); err == nil {
			l := link{from, to}
			if w.copies[l] == nil {
				w.copies[l] = make(map[string]int)
			}
			w.copies[l][string(payload)]++
		}
	}
}

func decodeRPC(data []byte) *pb.RPC {
	size, n := binary.Uvarint(data)
	if n <= 0 || uint64(len(data)-n) != size {
		return nil
	}
	rpc := new(pb.RPC)
	if proto.Unmarshal(data[n:], rpc) != nil {
		return nil
	}
	return rpc
}

// sent counts the copies of a payload between two regions.
func (w *world) sent(payload, from, to string) (total int, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l, byPayload := range w.copies {
		if w.owner[l.from] == from && w.owner[l.to] == to {
			total += byPayload[payload]
			most = max(most, byPayload[payload])
		}
	}
	return total, most
}

// judge understands payloads of the form verdict:origin:text.
func (n *node) judge(_ context.Context, _ Topic, payload []byte) Judgement {
	n.mu.Lock()
	n.judged[string(payload)]++
	n.mu.Unlock()
	parts := strings.SplitN(string(payload), ":", 3)
	if len(parts) < 3 {
		return Judgement{Verdict: Reject, Why: "it has not three parts"}
	}
	switch parts[0] {
	case "ok":
		return Judgement{Verdict: Accept, Origin: parts[1]}
	case "skip":
		return Judgement{Verdict: Ignore, Origin: parts[1]}
	default:
		return Judgement{Verdict: Reject, Origin: parts[1], Why: "it says so"}
	}
}

func (n *node) take(m Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, m)
}

func (n *node) received(payload string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.got {
		if string(m.Payload) == payload {
			count++
		}
	}
	return count
}

func (n *node) start(change ...func(*Config)) *Router {
	n.w.t.Helper()
	cfg := Config{Federation: n.w.fed.Document.Name, Regions: len(n.w.fed.Document.Regions), RegionNodes: len(n.w.nodes[n.region]), ValidateWorkers: 1, Logger: quiet()}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(n.host, n.access, cfg)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, k := range Kinds() {
		r.Handle(k, Handler{Judge: n.judge, Deliver: n.take})
	}
	r.Start()
	n.router = r
	return r
}

// startAll starts every node that is not left out, connects each region's nodes with each
// other and each region's first voter with two nodes of each other region.
func (w *world) startAll(leaveOut ...*node) {
	skip := make(map[*node]bool)
	for _, n := range leaveOut {
		skip[n] = true
	}
	for _, nodes := range w.nodes {
		for _, n := range nodes {
			if !skip[n] {
				n.start()
			}
		}
	}
	w.connectRegions(skip)
	w.connectLeaders(skip)
	pass(5 * time.Second)
}

func (w *world) connectRegions(skip map[*node]bool) {
	for _, nodes := range w.nodes {
		for i, a := range nodes {
			for _, b := range nodes[:i] {
				if !skip[a] && !skip[b] {
					w.connect(a, b)
				}
			}
		}
	}
}

func (w *world) connectLeaders(skip map[*node]bool) {
	for _, nodes := range w.nodes {
		for region, others := range w.nodes {
			for _, b := range others[1:3] {
				if region != nodes[0].region && !skip[nodes[0]] && !skip[b] {
					w.connect(nodes[0], b)
				}
			}
		}
	}
}

func (w *world) connect(a, b *node) {
	w.t.Helper()
	if err := a.host.Connect(w.t.Context(), peer.AddrInfo{ID: b.host.ID()}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) all() (list []*node) {
	for _, nodes := range w.nodes {
		list = append(list, nodes...)
	}
	return list
}

// pass lets virtual time pass, and then what is due by then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// rogue speaks the gossip protocol by hand.
type rogue struct {
	t      *testing.T
	n      *node
	victim *node
	stream network.Stream
	sent   int // messages and control messages

	mu  sync.Mutex
	got []*pb.RPC
}

// attack connects a node without a router to a victim and opens a stream to it.
func (n *node) attack(victim *node) *rogue {
	n.w.t.Helper()
	r := &rogue{t: n.w.t, n: n, victim: victim}
	n.host.SetStreamHandler(p2p.ProtocolGossip, r.read)
	n.w.connect(n, victim)
	s, err := n.host.NewStream(n.w.t.Context(), victim.host.ID(), p2p.ProtocolGossip)
	if err != nil {
		n.w.t.Fatal(err)
	}
	r.stream = s
	pass(2 * far)
	return r
}

func (r *rogue) read(s network.Stream) {
	in := bufio.NewReader(s)
	for {
		size, err := binary.ReadUvarint(in)
		if err != nil || size > rpcBytesMax {
			return
		}
		body, rpc := make([]byte, size), new(pb.RPC)
		if _, err := io.ReadFull(in, body); err != nil || proto.Unmarshal(body, rpc) != nil {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, rpc)
		r.mu.Unlock()
	}
}

func (r *rogue) send(rpc *pb.RPC) {
	r.t.Helper()
	body, err := proto.Marshal(rpc)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = r.stream.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := r.stream.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...)); err != nil {
		r.t.Fatalf("the attack was cut off: %v", err)
	}
	r.sent += len(rpc.Publish)
}

func (r *rogue) subscribe(topics ...Topic) {
	rpc := &pb.RPC{}
	for _, t := range topics {
		rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: proto.Bool(true), Topicid: proto.String(r.name(t))})
	}
	r.send(rpc)
}

func (r *rogue) name(t Topic) string { return t.name(r.n.w.fed.Document.Name) }

func (r *rogue) message(t Topic, attempt uint8, payload string) *pb.Message {
	return &pb.Message{Topic: proto.String(r.name(t)), Data: frame(attempt, []byte(payload))}
}

func (r *rogue) publish(t Topic, payloads ...string) {
	rpc := &pb.RPC{}
	for _, p := range payloads {
		rpc.Publish = append(rpc.Publish, r.message(t, 0, p))
	}
	r.send(rpc)
}

// standing is what the victim thinks of the rogue.
func (r *rogue) standing() PeerStanding { return r.victim.router.Standing(r.n.host.ID()) }

func mustKey(t *testing.T) *pci.PrivateKey {
	t.Helper()
	key, err := pci.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// gathered sums the samples of a metric, those with a label of this value if one is given.
func gathered(t *testing.T, reg *prometheus.Registry, name, label string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			if label == "" {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
