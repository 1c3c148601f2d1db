package p2p

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ownRegion is who belonged to the own region when it was looked up, and what that was found out by.
type ownRegion struct {
	all, voters, members []peer.ID // sorted

	listed     *Directory
	raft       RaftPeers
	known      bool // a Raft configuration was
	admissions uint64
	until      time.Time // the first invitation among them ends; zero: none does
}

// holds says whether it is still so. Under the access's mu.
func (o *ownRegion) holds(a *Access, listed *Directory, raft RaftPeers, known bool, now time.Time) bool {
	return o != nil && o.listed == listed && o.known == known && o.admissions == a.admissions && (o.until.IsZero() || now.Before(o.until)) &&
		maps.Equal(o.raft.Voters, raft.Voters) && maps.Equal(o.raft.NonVoters, raft.NonVoters)
}

// OwnRegion lists the peers that belong to the own region now and whom a node should
// know, sorted: Raft's voters and non-voters, the document's voters, the admitted members. It must not be changed.
func (a *Access) OwnRegion() []peer.ID { return a.ownRegion().all }

// ownRegion is looked up again where something of what it stands on has changed.
func (a *Access) ownRegion() *ownRegion {
	raft, known := a.cfg.Raft()
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	listed := a.listed.Load()
	if a.own.holds(a, listed, raft, known, now) {
		return a.own
	}
	o := &ownRegion{listed: listed, raft: raft, known: known, admissions: a.admissions}
	o.all = make([]peer.ID, 0, len(raft.Voters)+len(raft.NonVoters)+len(a.admitted))
	for id, ad := range a.admitted {
		if !now.Before(ad.expires) {
			continue
		}
		o.all = append(o.all, id)
		if o.until.IsZero() || ad.expires.Before(o.until) {
			o.until = ad.expires
		}
	}
	if listed != nil {
		o.all = append(o.all, listed.voters[a.cfg.Region]...)
	}
	o.all = slices.AppendSeq(slices.AppendSeq(o.all, maps.Keys(raft.Voters)), maps.Keys(raft.NonVoters))
	slices.Sort(o.all)
	o.all = slices.Compact(o.all)
	for _, id := range o.all {
		switch a.roleOf(id, listed, raft, known) {
		case Voter:
			o.voters = append(o.voters, id)
		case Foreign: // invited once, and now a voter of another region by the document
		default:
			o.members = append(o.members, id)
		}
	}
	a.own = o
	return o
}

// roleOf is a peer's role by Raft's configuration and the document, [Stranger] where neither names it.
func (a *Access) roleOf(p peer.ID, listed *Directory, raft RaftPeers, known bool) Role {
	if known {
		if _, ok := raft.Voters[p]; ok {
			return Voter
		}
		if _, ok := raft.NonVoters[p]; ok {
			return Member
		}
	}
	if listed == nil {
		return Stranger
	}
	lp, ok := listed.roles[p]
	switch {
	case !ok:
		return Stranger
	case lp.region != a.cfg.Region:
		return Foreign
	case known:
		return Member
	default:
		return Voter
	}
}
