package p2p

import (
	"cmp"
	"slices"

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
	if l := a.listed.Load(); l != nil && region != a.cfg.Region {
		ids = slices.Clone(l.voters[region])
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
	ids := k.ranked(region, k.ownVoters())
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
