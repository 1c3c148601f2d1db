package p2p

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ForeignVoter is a voter of another region as that region's ledger names it.
type ForeignVoter struct {
	Region    string
	Addresses []string // multiaddrs without /p2p
}

// ForeignRegions lists the regions of the document but the own one, in its order.
func (a *Access) ForeignRegions() []string {
	l := a.listed.Load()
	if l == nil {
		return nil
	}
	var names []string
	for i := range l.document.Regions {
		if name := l.document.Regions[i].Name; name != a.cfg.Region {
			names = append(names, name)
		}
	}
	return names
}

// ForeignVoters lists the voters of another region, those of the document and those of
// its ledger, sorted.
func (a *Access) ForeignVoters(region string) []peer.ID {
	var ids []peer.ID
	if l := a.listed.Load(); l != nil {
		ids = slices.Clone(l.foreign[region])
	}
	for id, v := range a.cfg.Foreign() {
		if v.Region == region && a.Role(id) == Foreign {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Foreign lists the voters of another region in the order in which this node should turn
// to them: connected ones first, and then each node in an order of its own, so that a
// region's followers spread over its voters.
func (k *Keeper) Foreign(region string) []peer.ID {
	ids := k.ranked(region)
	slices.SortStableFunc(ids, func(x, y peer.ID) int {
		return cmp.Compare(rank(k.net.connected(x)), rank(k.net.connected(y)))
	})
	return ids
}

func rank(connected bool) int {
	if connected {
		return 0
	}
	return 1
}

// ranked orders a region's voters by a hash over both ends (rendezvous hashing): as good
// as random from node to node, and the same at this node as long as they are the same.
func (k *Keeper) ranked(region string) []peer.ID {
	self := k.net.self()
	weight := func(p peer.ID) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(self))
		_, _ = h.Write([]byte(p))
		return h.Sum64()
	}
	ids := slices.DeleteFunc(k.access.ForeignVoters(region), func(p peer.ID) bool { return p == self })
	slices.SortStableFunc(ids, func(x, y peer.ID) int { return cmp.Compare(weight(x), weight(y)) })
	return ids
}

// reachesOut says whether this node keeps connections to other regions.
func (k *Keeper) reachesOut() bool {
	return k.cfg.ForeignPerRegion > 0 && k.access.Role(k.net.self()) == Voter
}

// foreign gives the voters of other regions that may be kept, and says which of them are
// wanted now: of each region those that are connected or being dialled, up to
// ForeignPerRegion, and to make up the number those whose wait after a failure is over.
// A voter that cannot be reached is thus stood in for by another. Under mu.
func (k *Keeper) foreign(now time.Time) map[peer.ID]bool {
	candidates := make(map[peer.ID]bool)
	if !k.reachesOut() {
		return candidates
	}
	for _, region := range k.access.ForeignRegions() {
		ids := k.ranked(region)
		left := k.cfg.ForeignPerRegion
		want := func(ready func(id peer.ID, kp *keptPeer) bool) {
			for _, id := range ids {
				if left > 0 && !candidates[id] && ready(id, k.peers[id]) {
					candidates[id] = true
					left--
				}
			}
		}
		for _, id := range ids {
			candidates[id] = false
		}
		want(func(id peer.ID, kp *keptPeer) bool { return k.net.connected(id) || kp != nil && kp.busy })
		want(func(_ peer.ID, kp *keptPeer) bool { return kp == nil || !now.Before(kp.next) })
	}
	return candidates
}
