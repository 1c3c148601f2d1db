package members

import (
	"bytes"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
)

// Limits of the table.
const (
	// MembersMax bounds the nodes of the own region that are remembered.
	MembersMax = 4096
	// RegionsMax bounds the regions whose digests are remembered; a document has at most 149.
	RegionsMax = 149

	suspectAfterBeats = 3
	leftAfterBeats    = 12
	forgetAfter       = 10 * time.Minute
	digestsMissedMax  = 4
)

// State says what is known of a node's being there.
type State uint8

// The states of a node.
const (
	Alive   State = iota
	Suspect       // missed some heartbeats
	Left          // said so, or missed many
	Unknown       // not heard of, or not for long
)

// String is the state's name in `bizra peers` and metrics.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Suspect:
		return "suspect"
	case Left:
		return "left"
	default:
		return "unknown"
	}
}

// table is what was heard. Times are this node's.
type table struct {
	beatEvery, digestEvery time.Duration
	members                map[peer.ID]*member
	digests                map[string]*heardDigest
}

type member struct {
	beat  beat
	heard time.Time
}

type heardDigest struct {
	digest digest
	heard  time.Time
}

func newTable(beatEvery, digestEvery time.Duration) *table {
	return &table{beatEvery: beatEvery, digestEvery: digestEvery, members: make(map[peer.ID]*member), digests: make(map[string]*heardDigest)}
}

func (m *member) state(now time.Time, beatEvery time.Duration) State {
	switch silent := now.Sub(m.heard); {
	case m.beat.Leaving || silent >= leftAfterBeats*beatEvery:
		return Left
	case silent >= suspectAfterBeats*beatEvery:
		return Suspect
	default:
		return Alive
	}
}

// newer says whether a beat is one that the table has not seen.
func (t *table) newer(id peer.ID, seq uint64) bool {
	m := t.members[id]
	return m == nil || seq > m.beat.Seq
}

func (t *table) newerDigest(region string, seq uint64) bool {
	d := t.digests[region]
	return d == nil || seq > d.digest.Seq
}

// take notes a beat; where the table is full, one of a new node is dropped.
func (t *table) take(id peer.ID, b *beat, now time.Time) bool {
	if !t.newer(id, b.Seq) || t.members[id] == nil && len(t.members) >= MembersMax {
		return false
	}
	t.members[id] = &member{beat: *b, heard: now}
	return true
}

func (t *table) takeDigest(d *digest, now time.Time) bool {
	if !t.newerDigest(d.Region, d.Seq) || t.digests[d.Region] == nil && len(t.digests) >= RegionsMax {
		return false
	}
	t.digests[d.Region] = &heardDigest{digest: *d, heard: now}
	return true
}

// forget drops who has been gone for long, and digests that are old.
func (t *table) forget(now time.Time) {
	for id, m := range t.members {
		gone := leftAfterBeats * t.beatEvery
		if m.beat.Leaving {
			gone = 0
		}
		if now.Sub(m.heard) >= gone+forgetAfter {
			delete(t.members, id)
		}
	}
	for region, d := range t.digests {
		if now.Sub(d.heard) >= forgetAfter {
			delete(t.digests, region)
		}
	}
}

// count says how many nodes of the own region are in each state.
func (t *table) count(now time.Time) (counts [Unknown]int) {
	for _, m := range t.members {
		counts[m.state(now, t.beatEvery)]++
	}
	return counts
}

// summary is the digest of the table, without who says it. Voters come first, then by key.
func (t *table) summary(now time.Time, voter func(peer.ID) bool) digest {
	counts := t.count(now)
	d := digest{Alive: uint32(counts[Alive]), Suspect: uint32(counts[Suspect]), Left: uint32(counts[Left])} //nolint:gosec // at most MembersMax
	for id, m := range t.members {
		d.Members = append(d.Members, digestMember{Node: m.beat.Node, Voter: voter(id), State: m.state(now, t.beatEvery)})
	}
	slices.SortFunc(d.Members, func(a, b digestMember) int {
		if a.Voter != b.Voter {
			if a.Voter {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.Node[:], b.Node[:])
	})
	d.Members = d.Members[:min(len(d.Members), DigestMembersMax)]
	return d
}

// state is what the table knows of any node.
func (t *table) state(id peer.ID, region string, now time.Time) (State, time.Time) {
	if m := t.members[id]; m != nil {
		return m.state(now, t.beatEvery), m.heard
	}
	d := t.digests[region]
	if d == nil || now.Sub(d.heard) >= digestsMissedMax*t.digestEvery {
		return Unknown, time.Time{}
	}
	key, err := p2p.NodeKey(id)
	if err != nil {
		return Unknown, time.Time{}
	}
	for _, m := range d.digest.Members {
		if m.Node == key {
			return m.State, d.heard
		}
	}
	return Unknown, time.Time{}
}
