package gossip

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"github.com/bizra/bizra/p2p"
)

// gate is the host that GossipSub sees: streams of peers come in through the access rules
// of package p2p, no faster than a peer may send.
type gate struct {
	host.Host
	r *Router
}

func (g gate) SetStreamHandler(proto protocol.ID, handle network.StreamHandler) {
	srv, err := p2p.ServeStream(g.Host, g.r.access, proto, p2p.Limits{ConcurrentMax: streamsMax, PerPeerMax: streamsPerPeerMax},
		func(ctx context.Context, from peer.ID, s network.Stream) error {
			m := &metered{Stream: s, ctx: ctx, limit: rate.NewLimiter(rate.Limit(g.r.cfg.PeerBytesPerSecond), g.r.cfg.PeerBytesBurst)}
			defer g.r.streams.add(from)()
			handle(m)
			return nil
		})
	if err != nil {
		g.r.serveErr = fmt.Errorf("serve %s: %w", proto, err)
		return
	}
	g.r.server = srv
}

// NewStream opens a stream over a connection that is there. GossipSub must not make any: with whom there are
// some, package p2p decides, and a peer that was let go would be dialled again.
func (g gate) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	return g.Host.NewStream(network.WithNoDial(ctx, "gossip makes no connections"), p, protos...)
}

// metered is a stream that is read no faster than its limit; the flow control of the
// transport then holds back its writer.
type metered struct {
	network.Stream
	ctx   context.Context
	limit *rate.Limiter
}

func (m *metered) Read(b []byte) (int, error) {
	if burst := m.limit.Burst(); len(b) > burst {
		b = b[:burst]
	}
	n, err := m.Stream.Read(b)
	if n > 0 && !m.limit.AllowN(time.Now(), n) { // to wait takes more, though there is nothing to wait for
		if waited := m.limit.WaitN(m.ctx, n); waited != nil && err == nil {
			err = waited
		}
	}
	return n, err
}

// streams remembers what was turned down on the open inbound ones.
type streams struct {
	mu   sync.Mutex
	open map[peer.ID]*inbound
}

type inbound struct {
	turnedDown []Topic // that it wanted to subscribe to; it does not repeat it on this stream
}

func newStreams() *streams { return &streams{open: make(map[peer.ID]*inbound)} }

func (s *streams) add(p peer.ID) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry := &inbound{}
	s.open[p] = entry
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[p] == entry {
			delete(s.open, p)
		}
	}
}

func (s *streams) turnDown(p peer.ID, topics []Topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in := s.open[p]; in != nil {
		in.turnedDown = append(in.turnedDown, topics...)
		in.turnedDown = in.turnedDown[:min(len(in.turnedDown), subscriptionsMax)]
	}
}

// admitted lists the peers that were turned down and would not be now.
func (s *streams) admitted(may func(peer.ID, Topic) bool) []peer.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []peer.ID
	for p, in := range s.open {
		if slices.ContainsFunc(in.turnedDown, func(t Topic) bool { return may(p, t) }) {
			list = append(list, p)
		}
	}
	return list
}

// renew ends the streams of gossip with a peer whose rights changed, in both directions;
// GossipSub opens others. The peer then says anew what it subscribes to, and is taken out
// of the meshes, which only the end of the stream towards it does.
func (r *Router) renew(p peer.ID) {
	for _, c := range r.host.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if s.Protocol() == p2p.ProtocolGossip {
				_ = s.ResetWithError(network.StreamNoError)
			}
		}
	}
}
