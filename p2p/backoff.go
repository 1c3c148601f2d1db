package p2p

import (
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// backoff is the wait before the next attempt: base, doubled with each failure up to
// max, each wait drawn from three quarters to five quarters of that, so that nodes that
// failed together do not come back together.
type backoff struct {
	base, max time.Duration
}

// wait is the time after failures failures, from 1.
func (b backoff) wait(failures int) time.Duration {
	d := b.base
	for range failures - 1 {
		if d >= b.max {
			break
		}
		d *= 2
	}
	return spread(min(d, b.max))
}

// spread gives a time give or take a quarter.
func spread(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1) //nolint:gosec // spreads load, guards no secret
}

// clearDialBackoff makes libp2p try the peer's addresses again: its own backoff grows
// to minutes, and ours decides when to dial.
func clearDialBackoff(h host.Host, p peer.ID) {
	if s, ok := h.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		s.Backoff().Clear(p)
	}
}
