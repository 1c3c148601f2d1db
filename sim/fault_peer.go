package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/gossip"
	"github.com/bizra/bizra/internal/rpcwire"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/sim/memnet"
)

// Attackers are members of their regions: admitted by an invitation, connected, and known. They run
// the node as everybody does, speak beside it on its own streams, and may keep back what they should
// pass on. One member in four is, where nothing else is said.
func peerFaults() map[string]kind {
	everything := func(*pb.Message) bool { return true }
	attackers := func(what string, every time.Duration, keeps func(*pb.Message) bool, says func(a *attack, beat int) ([]*pb.RPC, error)) kind {
		return kind{what: what, whom: Members, part: 0.25, everywhere: true, make: func(b *befall) Fault {
			return &attack{befall: b, every: every, keeps: keeps, says: says}
		}}
	}
	raw := func(what string, every time.Duration, writes func(beat int) []byte) kind {
		return kind{what: what, whom: Members, part: 0.25, everywhere: true, make: func(b *befall) Fault { return &attack{befall: b, every: every, raw: writes} }}
	}
	list := map[string]kind{
		"spam":          attackers("messages that are well formed and of no use, many a second", 50*time.Millisecond, nil, spam),
		"invalid":       attackers("messages that are none", 200*time.Millisecond, nil, invalid),
		"gossip-replay": attackers("old certificates, again and again under new names", 50*time.Millisecond, nil, gossipReplay),
		"mesh-grab":     attackers("attackers press into every mesh and pass nothing on", time.Second, everything, grab),
		"censorship":    attackers("certificates are not passed on", time.Second, func(m *pb.Message) bool { return strings.HasSuffix(m.GetTopic(), gossip.Certificates.String()) }, nil),
		"ihave-flood":   attackers("messages are offered that are not there", 50*time.Millisecond, nil, ihaves),
		"iwant-flood":   attackers("messages are asked for again and again", 50*time.Millisecond, nil, iwants),
		"graft-flood":   attackers("meshes are joined and left a hundred times a second", 10*time.Millisecond, nil, graftFlood),
		"oversized":     raw("messages that are longer than any may be", time.Second, oversized),
		"slow-drip":     raw("a message that takes hours to arrive, byte by byte", 500*time.Millisecond, drip),
		"sybil":         {what: "strangers, one for four nodes, who want to be heard", everywhere: true, part: 0.25, make: func(b *befall) Fault { return &sybil{befall: b} }},
	}
	list["eclipse"] = kind{what: "attackers connect to one member and are all that its mesh has", whom: Members, part: 0.5, make: func(b *befall) Fault {
		return &attack{befall: b, every: time.Second, keeps: everything, says: grab, surround: true}
	}}
	return list
}

// rogue is what makes an attacker of a node.
type rogue struct {
	keeps func(*pb.Message) bool // back; nil: nothing
	kept  atomic.Int64
}

// attack is done by members, each on a goroutine of its own, in beats.
type attack struct {
	*befall
	every    time.Duration
	keeps    func(*pb.Message) bool
	says     func(a *attack, beat int) ([]*pb.RPC, error) // to every peer, at each beat; nil: nothing
	raw      func(beat int) []byte                        // instead, as bytes
	surround bool                                         // all against one member

	world   *World
	victim  *Node // of surround
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Begin implements [Fault].
func (a *attack) Begin(w *World) error {
	a.world = w
	nodes, err := a.drawNodes(w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	if a.surround {
		among := a.among()
		for _, n := range w.regions[nodes[0].Region][w.cfg.Voters:] {
			if n.Running() != nil && !among(n) {
				a.victim = n
			}
		}
		if a.victim == nil {
			return errors.New("sim: eclipse: there is no member left to surround")
		}
	}
	for _, n := range nodes {
		n.rogue.Store(&rogue{keeps: a.keeps})
		if a.victim != nil {
			if err := n.host.Connect(ctx, peer.AddrInfo{ID: a.victim.ID}); err != nil {
				return fmt.Errorf("sim: eclipse %s: %w", a.victim.Name(), err)
			}
		}
		a.running.Go(func() { a.run(ctx, n) })
	}
	return nil
}

// End implements [Fault]. Whoever has attacked is honest again, though its peers may not hear it yet.
func (a *attack) End(*World) error {
	a.cancel()
	a.running.Wait()
	for _, n := range a.victims {
		a.effects.Add(n.rogue.Swap(&rogue{}).kept.Load())
	}
	return a.revive()
}

func (a *attack) run(ctx context.Context, n *Node) {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for beat := 0; ; beat++ {
		writes, err := a.writes(beat)
		if err != nil {
			a.world.Auditor.Note("%s: %v", a.cfg.Kind, err)
		}
		a.say(n, writes)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *attack) writes(beat int) (writes [][]byte, err error) {
	if a.raw != nil {
		return [][]byte{a.raw(beat)}, nil
	}
	if a.says == nil {
		return nil, nil
	}
	rpcs, err := a.says(a, beat)
	for _, rpc := range rpcs {
		b, e := rpcwire.Encode(rpc)
		if err = errors.Join(err, e); e == nil {
			writes = append(writes, b)
		}
	}
	return writes, err
}

// attackPatience is how long an attacker waits for a peer that reads no more.
const attackPatience = time.Second

func (a *attack) say(n *Node, writes [][]byte) {
	for _, v := range n.voices.all() {
		if a.victim != nil && v.Conn().RemotePeer() != a.victim.ID {
			continue
		}
		for _, b := range writes {
			_ = v.SetWriteDeadline(time.Now().Add(attackPatience))
			if _, err := v.say(b); err == nil {
				a.effects.Add(1)
			}
		}
	}
}

func (a *attack) message(t gossip.Topic, attempt int, payload []byte) *pb.RPC {
	m := gossip.Wire(a.world.Fed.Document.Name, t, uint8(attempt), payload) //nolint:gosec // it wraps: there are no more attempts
	return &pb.RPC{Publish: []*pb.Message{m}}
}

func (a *attack) topics() (names []string) {
	for _, k := range []gossip.Kind{gossip.Certificates, gossip.Patterns, gossip.Digests, gossip.Evidence} {
		names = append(names, a.message(gossip.Topic{Kind: k}, 0, []byte{0}).Publish[0].GetTopic())
	}
	return names
}

// spam is of a document that nobody knows, which may be nobody's fault.
func spam(a *attack, beat int) (list []*pb.RPC, _ error) {
	for i := range 10 {
		m := &attest.Message{Kind: attest.KindCertificate, Document: a.world.Fed.Document.Version + 1, Payload: fmt.Appendf(nil, "spam %d %d %p", beat, i, a)}
		list = append(list, a.message(gossip.Topic{Kind: gossip.Certificates}, 0, m.Encode()))
	}
	return list, nil
}

func invalid(a *attack, beat int) ([]*pb.RPC, error) {
	return []*pb.RPC{a.message(gossip.Topic{Kind: gossip.Certificates}, 0, fmt.Appendf(nil, "invalid %d", beat))}, nil
}

func gossipReplay(a *attack, beat int) (list []*pb.RPC, _ error) {
	for _, c := range a.world.Auditor.contradiction.some(4) {
		m := &attest.Message{Kind: attest.KindCertificate, Document: a.world.Fed.Document.Version, Payload: c.note}
		list = append(list, a.message(gossip.Topic{Kind: gossip.Certificates}, beat, m.Encode()))
	}
	return list, nil
}

func grab(a *attack, _ int) ([]*pb.RPC, error) { return []*pb.RPC{rpcwire.Graft(a.topics()...)}, nil }

func graftFlood(a *attack, _ int) ([]*pb.RPC, error) {
	return []*pb.RPC{rpcwire.Graft(a.topics()...), rpcwire.Prune(a.topics()...)}, nil
}

func ihaves(a *attack, beat int) ([]*pb.RPC, error) {
	ids := make([]string, 500)
	for i := range ids {
		ids[i] = fmt.Sprintf("%010d%010d", beat, i)
	}
	return []*pb.RPC{rpcwire.IHave(a.topics()[0], ids)}, nil
}

func iwants(a *attack, _ int) ([]*pb.RPC, error) {
	var ids []string
	for _, c := range a.world.Auditor.contradiction.some(100) {
		m := &attest.Message{Kind: attest.KindCertificate, Document: a.world.Fed.Document.Version, Payload: c.note}
		ids = append(ids, gossip.WireID(a.message(gossip.Topic{Kind: gossip.Certificates}, 0, m.Encode()).Publish[0]))
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return []*pb.RPC{rpcwire.IWant(slices.Repeat(ids, 1+100/len(ids)))}, nil
}

func oversized(int) []byte {
	const longer = 1 << 20
	return append(binary.AppendUvarint(nil, longer), make([]byte, longer)...)
}

func drip(beat int) []byte {
	if beat == 0 {
		return binary.AppendUvarint(nil, 200_000)
	}
	return []byte{0}
}

// sybil is strangers: hosts with keys that nobody has heard of.
type sybil struct {
	*befall
	hosts   []*memnet.Host
	cancel  context.CancelFunc
	running sync.WaitGroup
}

const sybilTargets = 8 // nodes that each stranger goes to

// Begin implements [Fault].
func (s *sybil) Begin(w *World) error {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	all := w.All()
	for i := range max(1, int(s.cfg.Part*float64(len(all)))) {
		key, err := hostKey(testfed.Key(fmt.Sprintf("stranger %d %d %p", s.cfg.Seed, i, s)))
		if err != nil {
			return err
		}
		h, err := w.net.NewHost(key)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, h)
		var targets []peer.ID
		for _, k := range s.draw.perm(len(all))[:min(sybilTargets, len(all))] {
			targets = append(targets, all[k].ID)
		}
		s.running.Go(func() { s.run(ctx, h, targets) })
	}
	return nil
}

// run knocks at every target, once a second.
func (s *sybil) run(ctx context.Context, h *memnet.Host, targets []peer.ID) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, p := range targets {
			st, err := h.NewStream(ctx, p, p2p.ProtocolGossip)
			if err != nil {
				continue
			}
			_ = st.SetDeadline(time.Now().Add(attackPatience))
			if _, err = st.Write([]byte{1, 0}); err == nil {
				if _, err = st.Read(make([]byte, 1)); err != nil {
					s.effects.Add(1) // it was turned away
				}
			}
			_ = st.Reset()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// End implements [Fault].
func (s *sybil) End(*World) (errs error) {
	s.cancel()
	s.running.Wait()
	for _, h := range s.hosts {
		errs = errors.Join(errs, h.Close())
	}
	return errs
}
