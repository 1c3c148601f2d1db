package gossip

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/p2p"
)

// tendEvery is how many samples pass between two looks at who is connected.
const tendEvery = 5

// round samples, tends and looks around.
func (r *Router) round() time.Duration {
	r.sample()
	if r.samples++; r.samples%tendEvery == 0 {
		r.tend()
	}
	r.lookAround()
	return r.cfg.SampleEvery
}

// stir makes the outbox be looked at.
func (r *Router) stir() { r.saying.Within(0) }

// sample closes an interval of everybody's behaviour.
func (r *Router) sample() {
	now, distinct := time.Now(), r.distinct.Load()
	r.standings.mu.Lock()
	defer r.standings.mu.Unlock()
	// A duplicate may come an interval after what it duplicates.
	heard := distinct - r.standings.before
	r.standings.before, r.standings.last = r.standings.last, distinct
	for p, s := range r.standings.byPeer {
		if s.sample(now, float64(heard), &r.cfg, &r.metrics.offences) {
			r.restrained(p, s, now)
		}
		if now.Sub(s.heard) >= peersKeptFor && !s.muted(now) {
			delete(r.standings.byPeer, p)
		}
	}
}

// restrained tells of a peer whose breaker has changed.
func (r *Router) restrained(p peer.ID, s *standing, now time.Time) {
	switch b := &s.faults.breaker; b.state {
	case breakerOpen:
		r.metrics.mutes.Inc()
		r.cfg.Logger.Warn("peer muted", "peer", p, "until", b.until, "why", s.why(now))
	case breakerHalf:
		r.cfg.Logger.Info("peer is heard again, on probation", "peer", p)
	case breakerClosed:
		r.cfg.Logger.Info("peer passed its probation", "peer", p)
	}
}

// tend makes topics and streams follow what this node and its peers are now.
func (r *Router) tend() {
	self := r.place(r.host.ID())
	for _, k := range Kinds() {
		t := Topic{Kind: k}
		if k.rule().perRegion {
			t.Region = r.access.Region()
		}
		if r.handlers[k].Judge != nil {
			r.listen(t, self.subscribes(t))
		}
	}
	for _, p := range r.streams.admitted(func(p peer.ID, t Topic) bool { return r.place(p).subscribes(t) }) {
		r.renew(p)
	}
	r.dropTrespassers()
	r.greet()
}

// dropTrespassers ends the streams of peers that subscribe to what they no longer may.
func (r *Router) dropTrespassers() {
	r.topics.mu.Lock()
	topics := make(map[Topic]*joined, len(r.topics.joined))
	for t, j := range r.topics.joined {
		if t.Kind == Checkpoints || t.Kind.rule().perRegion {
			topics[t] = j
		}
	}
	r.topics.mu.Unlock()
	for t, j := range topics {
		for _, p := range j.topic.ListPeers() {
			if !r.place(p).subscribes(t) {
				r.renew(p)
			}
		}
	}
}

// greet makes GossipSub try again with connected peers that it gave up: it does so after
// four refusals, which a node meets that connects before its invitation is known there.
func (r *Router) greet() {
	talking := r.pubsub.ListPeers("")
	for _, p := range r.host.Network().Peers() {
		if r.access.Role(p) < p2p.Foreign || slices.Contains(talking, p) {
			continue
		}
		if supported, err := r.host.Peerstore().SupportsProtocols(p, p2p.ProtocolGossip); err == nil && len(supported) > 0 {
			_ = r.emitter.Emit(event.EvtPeerProtocolsUpdated{Peer: p, Added: []protocol.ID{p2p.ProtocolGossip}})
		}
	}
}
