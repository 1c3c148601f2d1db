package gossip

import (
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// tracer counts what GossipSub does. It is called in the middle of it and must be quick.
type tracer struct{ r *Router }

var _ pubsub.RawTracer = tracer{}

// Copies counts what the spread of certificates costs a node.
type Copies struct {
	Received   uint64 // copies of certificates
	Duplicates uint64 // of those, had already
}

type copies struct {
	topic              string
	copies, duplicates atomic.Uint64
}

// Certificates counts the copies of certificates that this node received.
func (r *Router) Certificates() Copies {
	return Copies{Received: r.counts.copies.Load(), Duplicates: r.counts.duplicates.Load()}
}

func (t tracer) DuplicateMessage(m *pubsub.Message) {
	t.r.metrics.duplicates.Inc()
	if m.GetTopic() == t.r.counts.topic {
		t.r.counts.duplicates.Add(1)
	}
	t.r.standings.mu.Lock()
	defer t.r.standings.mu.Unlock()
	if s := t.r.standings.byPeer[m.ReceivedFrom]; s != nil {
		s.duplicates++
	}
}

func (t tracer) RejectMessage(m *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		t.r.metrics.dropped.With("validate_queue").Inc()
	case pubsub.RejectValidationFailed, pubsub.RejectValidationIgnored:
		// counted where they are judged
	default:
		t.r.metrics.dropped.With("signed").Inc()
		t.r.offend(m.ReceivedFrom, invalid, reason)
	}
}

// DropRPC means that a queue to a peer was full: what was in it has to be announced again.
func (t tracer) DropRPC(*pubsub.RPC, peer.ID) {
	t.r.metrics.dropped.With("outbound_queue").Inc()
	t.r.listeners.Add(1)
}

func (t tracer) SendRPC(rpc *pubsub.RPC, _ peer.ID) {
	t.r.metrics.sent.Add(float64(len(rpc.Publish)))
}

func (t tracer) RecvRPC(rpc *pubsub.RPC) {
	t.r.metrics.received.Add(float64(len(rpc.Publish)))
	for _, m := range rpc.Publish {
		if m.GetTopic() == t.r.counts.topic {
			t.r.counts.copies.Add(1)
		}
	}
}

func (t tracer) Graft(peer.ID, string)                                { t.r.metrics.grafts.Inc() }
func (t tracer) Prune(peer.ID, string)                                { t.r.metrics.prunes.Inc() }
func (t tracer) ValidateMessage(*pubsub.Message)                      {}
func (t tracer) DeliverMessage(*pubsub.Message)                       {}
func (t tracer) UndeliverableMessage(*pubsub.Message)                 {}
func (t tracer) ThrottlePeer(peer.ID)                                 {}
func (t tracer) Join(string)                                          {}
func (t tracer) Leave(string)                                         {}
func (t tracer) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (t tracer) OnClosedOutboundStream(peer.ID)                       {}
func (t tracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
