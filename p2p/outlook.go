package p2p

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	votersKept         = 3  // voters of its region to whom a member holds connections; a voter holds them to all
	membersKept        = 2  // members to whom a node holds connections
	membersRemembered  = 32 // members that a member remembers, if it is not connected to more
	foreignPerRegion   = 2  // voters of each other region to whom a voter holds connections,
	foreignFew         = 1  // where there are many regions,
	foreignManyRegions = 33 // which is more than so many
	foreignMax         = 16
	foreignStandingBy  = 4 // other regions to which a voter holds a connection each that stands by

	// outlookFor is how long a keeper goes by what it worked out of the document, Raft and the book.
	outlookFor = 5 * time.Second
)

// outlook is whom a node may want connections to, as far as it does not depend on who is connected.
type outlook struct {
	at      time.Time
	votes   bool      // this node does
	stands  bool      // by: another voter of its region reaches the other regions
	voters  []peer.ID // of the own region but this node, in the order in which it turns to them
	members []peer.ID // that are wanted
	foreign [][]peer.ID

	// Of a member that remembers as many members as it may: the last of those near it in the
	// order of IDs, and the weight of the least of the others.
	crowded bool
	near    peer.ID
	least   uint64
}

// outlook gives what holds now, worked out anew if it is old or something was learned since.
// Under mu.
func (k *Keeper) outlookAt(now time.Time) *outlook {
	stands := k.cfg.StandsBy()
	if o := k.seen; o != nil && !k.stale.Swap(false) && now.Sub(o.at) < outlookFor && o.stands == stands {
		return o
	}
	own := k.ownVoters()
	self := k.net.self()
	o := &outlook{at: now, votes: slices.Contains(own, self), stands: stands}
	members := k.members(o)
	o.members = ring(self, members)
	o.voters = byHash(self, slices.DeleteFunc(slices.Clone(own), func(p peer.ID) bool { return p == self }))
	if o.votes && k.cfg.ForeignPerRegion > -1 {
		regions := k.access.ForeignRegions()
		if stands && len(regions) > foreignStandingBy {
			// As good as random from node to node, so that some voter of a region is reached by some of each.
			regions = byHash(self, regions)[:foreignStandingBy]
		}
		for _, region := range regions {
			o.foreign = append(o.foreign, k.ranked(region, own))
		}
	}
	k.seen = o
	return o
}

// ownVoters are the voters of the own region, sorted. They must not be changed.
func (k *Keeper) ownVoters() []peer.ID { return k.access.ownRegion().voters }

// members are those of the region that can be reached, sorted. A member remembers only so many:
// those that follow it and as good as random others, for its region may be large, and the voters know all.
func (k *Keeper) members(o *outlook) []peer.ID {
	self := k.net.self()
	var members []peer.ID
	for _, id := range k.access.ownRegion().members {
		if id != self && (len(k.book.told(id)) > 0 || len(k.bootstrap[id]) > 0 || len(k.access.dialable(id)) > 0) {
			members = append(members, id)
		}
	}
	if o.votes || len(members) < membersRemembered {
		return members
	}
	from, _ := slices.BinarySearch(members, self)
	turned := slices.Concat(members[from:], members[:from])
	others := byHash(self, turned[membersNear:])
	const kept = membersRemembered - membersNear
	o.crowded, o.near, o.least = true, turned[membersNear-1], weight(self, others[kept-1])
	for _, id := range others[kept:] {
		if _, invited := k.access.Invited(id); invited && !k.net.connected(id) {
			k.access.Dismiss(id)
			k.book.Forget(id)
			members = slices.DeleteFunc(members, func(p peer.ID) bool { return p == id })
		}
	}
	return members
}

// spares says whether this node would forget again a member that it is told of.
func (k *Keeper) spares(id peer.ID) bool {
	k.mu.Lock()
	o := k.seen
	k.mu.Unlock()
	if o == nil || !o.crowded || k.net.connected(id) {
		return false
	}
	self := k.net.self()
	near := self < id && id <= o.near
	if o.near < self { // beyond the last in the order begins the first
		near = self < id || id <= o.near
	}
	return !near && weight(self, id) > o.least
}

// ring gives the members that a node holds connections to: the one that follows it in the order
// of IDs, so that members are a ring even where no voter can be reached, and others further and
// further around the ring, so that it is a small world.
func ring(self peer.ID, members []peer.ID) []peer.ID {
	from, _ := slices.BinarySearch(members, self)
	kept := make([]peer.ID, 0, membersKept)
	for i := range min(len(members), membersKept) {
		further := max(i, i*len(members)/(2*membersKept-1))
		kept = append(kept, members[(from+further)%len(members)])
	}
	return kept
}

// byHash orders peers by a hash over both ends (rendezvous hashing): as good as random from node
// to node, and the same at this node as long as they are the same.
func byHash[T ~string](self peer.ID, ids []T) []T {
	weights := make(map[T]uint64, len(ids))
	for _, p := range ids {
		weights[p] = weight(self, p)
	}
	slices.SortStableFunc(ids, func(x, y T) int { return cmp.Compare(weights[x], weights[y]) })
	return ids
}

func weight[T ~string](self peer.ID, id T) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	_, _ = h.Write([]byte(self))
	x := h.Sum64() // of which the last bytes move the high bits little
	return (x ^ x>>33) * 0xff51afd7ed558ccd
}

// ranked orders another region's voters as this node turns to them. The voters of two regions are
// matched: the first of either turn to each other, and so on, by an offset that is drawn from
// the regions' names, so that a connection serves both ends and none has more of them than others.
// Who does not vote turns to them by a hash.
func (k *Keeper) ranked(region string, own []peer.ID) []peer.ID {
	self, home := k.net.self(), k.access.Region()
	ids := slices.DeleteFunc(k.access.ForeignVoters(region), func(p peer.ID) bool { return p == self })
	at, votes := slices.BinarySearch(own, self)
	if !votes || len(ids) == 0 {
		return byHash(self, ids)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(min(home, region)))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(max(home, region)))
	offset, n := int(h.Sum64()%uint64(len(ids))), len(ids) //nolint:gosec // less than their number
	ranked := make([]peer.ID, 0, n)
	for i := range n {
		step := at + offset + i
		if region < home {
			step = at - offset - i
		}
		ranked = append(ranked, ids[(step%n+n)%n])
	}
	return ranked
}

// reachesOut says whether this node keeps connections to other regions.
func (k *Keeper) reachesOut() bool {
	return k.cfg.ForeignPerRegion > -1 && k.access.Role(k.net.self()) == Voter
}

// foreignWanted is how many connections to each other region are.
func (k *Keeper) foreignWanted(o *outlook) int {
	switch {
	case o.stands:
		return foreignFew
	case k.cfg.ForeignPerRegion != 0:
		return k.cfg.ForeignPerRegion
	case len(o.foreign) > foreignManyRegions:
		return foreignFew
	default:
		return foreignPerRegion
	}
}

// wanted gives whom the keeper may hold connections to, and says which of them are wanted now.
// Under mu.
func (k *Keeper) wanted(now time.Time) map[peer.ID]bool {
	o := k.outlookAt(now)
	wanted := make(map[peer.ID]bool)
	for _, ids := range o.foreign {
		k.choose(wanted, ids, k.foreignWanted(o), now)
	}
	most := votersKept
	if o.votes {
		most = len(o.voters)
	}
	k.choose(wanted, o.voters, most, now)
	for _, id := range o.voters {
		wanted[id] = wanted[id] || k.net.connected(id) // a leader was asked; it must be greeted
	}
	for _, id := range o.members {
		wanted[id] = true
	}
	for id := range k.bootstrap {
		wanted[id] = true
	}
	return wanted
}

// choose says of these who are wanted: those that are connected or being dialled, up to so many, and
// to make up the number those whose wait after a failure is over, in their order. One that cannot be
// reached is thus stood in for by another. Under mu.
func (k *Keeper) choose(wanted map[peer.ID]bool, ids []peer.ID, most int, now time.Time) {
	left := most
	want := func(ready func(id peer.ID, kp *keptPeer) bool) {
		for _, id := range ids {
			if left > 0 && !wanted[id] && ready(id, k.peers[id]) {
				wanted[id] = true
				left--
			}
		}
	}
	for _, id := range ids {
		wanted[id] = false
	}
	want(func(id peer.ID, kp *keptPeer) bool { return k.net.connected(id) || kp != nil && kp.busy })
	want(func(_ peer.ID, kp *keptPeer) bool { return kp == nil || !now.Before(kp.next) })
}

// lacks says whether this node is without a connection that it wants to have.
func (k *Keeper) lacks(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.outlookAt(now)
	short := func(ids []peer.ID, most int) bool {
		connected := 0
		for _, p := range ids {
			if k.net.connected(p) {
				connected++
			}
		}
		return connected < min(most, len(ids))
	}
	most := votersKept
	if o.votes {
		most = len(o.voters)
	}
	return short(o.voters, most) || slices.ContainsFunc(o.foreign, func(ids []peer.ID) bool { return short(ids, k.foreignWanted(o)) })
}
