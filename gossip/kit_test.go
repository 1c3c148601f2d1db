package gossip

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/internal/rpcwire"
	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// world is a federation on a network in memory whose nodes gossip.
type world struct {
	*testnet.Net
	t     *testing.T
	nodes map[string][]*node // by region; voters first

	mu     sync.Mutex
	copies map[link]map[string]int // of payloads, by link
}

type link struct{ from, to peer.ID }

type node struct {
	*testnet.Node
	w      *world
	router *Router // nil for a rogue

	mu     sync.Mutex
	got    []Message
	judged map[string]int // by payload
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, regions, voters, members int, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Net: testnet.New(regions, voters, members), t: t, nodes: make(map[string][]*node), copies: make(map[link]map[string]int)}
		w.Tap = w.see
		for region, nodes := range w.Nodes {
			for _, n := range nodes {
				w.nodes[region] = append(w.nodes[region], &node{Node: n, w: w, judged: make(map[string]int)})
			}
		}
		defer w.close()
		test(t, w)
	})
}

func (w *world) close() {
	for _, n := range w.all() {
		if n.router != nil {
			_ = n.router.Close()
		}
	}
	w.Close()
}

// see counts the copies of payloads on each link.
func (w *world) see(from, to peer.ID, proto protocol.ID, data []byte) {
	if proto != p2p.ProtocolGossip {
		return
	}
	rpc := rpcwire.Decode(data)
	if rpc == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
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

// sent counts the copies of a payload between two regions.
func (w *world) sent(payload, from, to string) (total int, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l, byPayload := range w.copies {
		if w.RegionOf(l.from) == from && w.RegionOf(l.to) == to {
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

func (n *node) messages() []Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

func (n *node) received(payload string) (count int) {
	for _, m := range n.messages() {
		if string(m.Payload) == payload {
			count++
		}
	}
	return count
}

func (n *node) start(change ...func(*Config)) *Router {
	n.w.t.Helper()
	cfg := Config{Federation: n.w.Fed.Document.Name, Regions: len(n.w.Fed.Document.Regions), RegionNodes: len(n.w.nodes[n.Region]), ValidateWorkers: 1, Logger: testnet.Quiet()}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(n.Host, n.Access, cfg)
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

// startAll starts and connects every node that is not left out.
func (w *world) startAll(leaveOut ...*node) {
	var out []*testnet.Node
	for _, n := range w.all() {
		if slices.Contains(leaveOut, n) {
			out = append(out, n.Node)
		} else {
			n.start()
		}
	}
	w.ConnectAll(out...)
	testnet.Pass(5 * time.Second)
}

func (w *world) all() (list []*node) {
	for _, nodes := range w.nodes {
		list = append(list, nodes...)
	}
	return list
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
	n.Host.SetStreamHandler(p2p.ProtocolGossip, r.read)
	n.w.Connect(n.Node, victim.Node)
	s, err := n.Host.NewStream(n.w.t.Context(), victim.Host.ID(), p2p.ProtocolGossip)
	if err != nil {
		n.w.t.Fatal(err)
	}
	r.stream = s
	testnet.Pass(2 * testnet.Far)
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
	write, err := rpcwire.Encode(rpc)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = r.stream.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := r.stream.Write(write); err != nil {
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

func (r *rogue) name(t Topic) string { return t.name(r.n.w.Fed.Document.Name) }

func (r *rogue) message(t Topic, attempt uint8, payload string) *pb.Message {
	return Wire(r.n.w.Fed.Document.Name, t, attempt, []byte(payload))
}

func (r *rogue) publish(t Topic, payloads ...string) {
	rpc := &pb.RPC{}
	for _, p := range payloads {
		rpc.Publish = append(rpc.Publish, r.message(t, 0, p))
	}
	r.send(rpc)
}

// standing is what the victim thinks of the rogue.
func (r *rogue) standing() PeerStanding { return r.victim.router.Standing(r.n.Host.ID()) }

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
