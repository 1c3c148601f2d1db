package p2p

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	refusalLogEvery    = time.Minute
	refusalLogPeersMax = 1024 // a minute; beyond it refusals are only counted
)

// Refusal is how often a protocol was refused for one reason since the start.
type Refusal struct {
	Protocol protocol.ID // "other" for protocols that are not in [Rules]
	Reason   string      // "stranger", "expired", "foreign", "own-region", "not-voter", "unknown-protocol"
	Count    uint64
}

type refusalKey struct {
	protocol protocol.ID
	reason   string
}

// refusals counts by protocol and reason, both from closed sets, and remembers whom
// it logged in the running minute.
type refusals struct {
	mu     sync.Mutex
	counts map[refusalKey]uint64
	logged map[peer.ID]struct{}
	minute time.Time // when logged was emptied last
}

func newRefusals() refusals {
	return refusals{counts: make(map[refusalKey]uint64), logged: make(map[peer.ID]struct{})}
}

func reasonName(reason error) string {
	switch {
	case errors.Is(reason, ErrUnknownProtocol):
		return "unknown-protocol"
	case errors.Is(reason, ErrInvitationExpired):
		return "expired"
	case errors.Is(reason, ErrForeignRegion):
		return "foreign"
	case errors.Is(reason, ErrOwnRegion):
		return "own-region"
	case errors.Is(reason, ErrNotVoter):
		return "not-voter"
	default:
		return "stranger"
	}
}

func (r *refusals) count(proto protocol.ID, reason error) {
	if errors.Is(reason, ErrUnknownProtocol) {
		proto = "other"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[refusalKey{proto, reasonName(reason)}]++
}

func (r *refusals) shouldLog(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.minute) >= refusalLogEvery {
		clear(r.logged)
		r.minute = now
	}
	if _, done := r.logged[p]; done || len(r.logged) >= refusalLogPeersMax {
		return false
	}
	r.logged[p] = struct{}{}
	return true
}

// Refusals lists what was refused since the start, sorted, for metrics.
func (a *Access) Refusals() []Refusal {
	a.refusals.mu.Lock()
	defer a.refusals.mu.Unlock()
	list := make([]Refusal, 0, len(a.refusals.counts))
	for k, n := range a.refusals.counts {
		list = append(list, Refusal{k.protocol, k.reason, n})
	}
	slices.SortFunc(list, func(x, y Refusal) int {
		if c := strings.Compare(string(x.Protocol), string(y.Protocol)); c != 0 {
			return c
		}
		return strings.Compare(x.Reason, y.Reason)
	})
	return list
}
