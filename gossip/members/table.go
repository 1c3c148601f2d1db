package members

import (
	"bytes"
	"slices"
	"strings"
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

	// A region's heartbeats together are at most as many as beatShare nodes send each BeatEvery: in a larger one
	// each node sends fewer, but one each beatMost at least.
	beatShare = 25
	beatLeast = 100 * time.Millisecond
	beatMost  = 2 * time.Minute

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
	digestEvery time.Duration
	members     map[peer.ID]*member     // heard themselves; on a node that is no voter, itself
	roster      *heardRoster            // of the own region, nil before the first
	digests     map[string]*heardDigest // by region; on voters
}

type member struct {
	beat  beat
	heard time.Time
}

type heardRoster struct {
	roster roster
	heard  time.Time
}

type heardDigest struct {
	digest digest
	heard  time.Time
}

func newTable(digestEvery time.Duration) *table {
	return &table{digestEvery: digestEvery, members: make(map[peer.ID]*member), digests: make(map[string]*heardDigest)}
}

// beatEvery is how often a node of a region of so many says that it is there.
func beatEvery(every time.Duration, nodes int) time.Duration {
	shares := (max(nodes, 1) + beatShare - 1) / beatShare
	return max(every, min(time.Duration(shares)*every, beatMost))
}

func (m *member) state(now time.Time) State {
	switch silent := now.Sub(m.heard); {
	case m.beat.Leaving || silent >= leftAfterBeats*m.beat.every():
		return Left
	case silent >= suspectAfterBeats*m.beat.every():
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

func (t *table) newerRoster(seq uint64) bool { return t.roster == nil || seq > t.roster.roster.Seq }

func (t *table) takeRoster(r *roster, now time.Time) {
	if t.newerRoster(r.Seq) {
		t.roster = &heardRoster{roster: *r, heard: now}
	}
}

// toldOf is the roster by which a node goes that is no voter, nil where it is too old.
func (t *table) toldOf(now time.Time) *heardRoster {
	if t.roster == nil || now.Sub(t.roster.heard) >= digestsMissedMax*t.digestEvery {
		return nil
	}
	return t.roster
}

// nodes is how many there are in the own region, as far as this node knows.
func (t *table) nodes(now time.Time) int {
	n := len(t.members)
	if r := t.toldOf(now); r != nil {
		n = max(n, int(r.roster.Alive)+int(r.roster.Suspect))
	}
	return n
}

// forget drops who has been gone for long, and digests that are old.
func (t *table) forget(now time.Time) {
	for id, m := range t.members {
		gone := leftAfterBeats * m.beat.every()
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

// count says how many nodes of the own region are in each state: by their heartbeats on a voter,
// else by the roster.
func (t *table) count(now time.Time, votes bool) (counts [Unknown]int) {
	if r := t.toldOf(now); r != nil && !votes {
		counts[Alive], counts[Suspect], counts[Left] = int(r.roster.Alive), int(r.roster.Suspect), int(r.roster.Left)
		return counts
	}
	for _, m := range t.members {
		counts[m.state(now)]++
	}
	return counts
}

// summary is the digest of the table, without who says it. Voters come first, then by key.
func (t *table) summary(now time.Time, voter func(peer.ID) bool) digest {
	counts := t.count(now, true)
	d := digest{Alive: uint32(counts[Alive]), Suspect: uint32(counts[Suspect]), Left: uint32(counts[Left])} //nolint:gosec // at most MembersMax
	for id, m := range t.members {
		d.Members = append(d.Members, digestMember{Node: m.beat.Node, Voter: voter(id), State: m.state(now)})
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

// world counts the nodes of the regions whose digests were heard, for the roster.
func (t *table) world(now time.Time) []worldRegion {
	var list []worldRegion
	for _, d := range t.digests {
		list = append(list, worldRegion{Name: d.digest.Region, Alive: d.digest.Alive, Suspect: d.digest.Suspect, Left: d.digest.Left,
			AgeSeconds: uint32(max(0, now.Sub(d.heard)) / time.Second)}) //nolint:gosec // it is forgotten after minutes
	}
	slices.SortFunc(list, func(a, b worldRegion) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// state is what the table knows of any node; own says that it is of the own region.
func (t *table) state(id peer.ID, region string, own bool, now time.Time) (State, time.Time) {
	if m := t.members[id]; m != nil {
		return m.state(now), m.heard
	}
	var told *digest
	var heard time.Time
	if r := t.toldOf(now); own && r != nil {
		told, heard = &r.roster.digest, r.heard
	} else if d := t.digests[region]; d != nil && now.Sub(d.heard) < digestsMissedMax*t.digestEvery {
		told, heard = &d.digest, d.heard
	}
	key, err := p2p.NodeKey(id)
	if err != nil || told == nil {
		return Unknown, time.Time{}
	}
	for _, m := range told.Members {
		if m.Node == key {
			return m.State, heard
		}
	}
	return Unknown, time.Time{}
}
