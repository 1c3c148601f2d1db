package gossip

import (
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
)

// Kind is what a topic is for. Votes, Members and Roster are one topic for each region.
type Kind uint8

// The kinds of topics.
const (
	Checkpoints  Kind = iota // signed checkpoints, among voters
	Votes                    // cosignatures for one origin, to its voters
	Certificates             // checkpoints with a quorum, to every node
	Patterns                 // elevated patterns, to every node
	Members                  // heartbeats inside one region, to its voters
	Roster                   // what a region's leader tells its members of each other, and of the world
	Digests                  // what leaders tell other regions' voters of their members
	Evidence                 // two statements of a region that contradict each other
	kinds
)

// Kinds lists them all.
func Kinds() []Kind {
	list := make([]Kind, kinds)
	for k := range kinds {
		list[k] = k
	}
	return list
}

// rule is what is known of a kind before any message of it is understood.
type rule struct {
	name      string
	perRegion bool
	// bytesMax bounds a payload.
	bytesMax int
	// regionalMesh keeps the mesh inside each region: from region to region goes only what
	// its author sends itself, so that each long link carries a message once.
	regionalMesh bool
	// why stands in docs/network.md.
	subscribers, why string
}

// Sizes of payloads. The longest of each kind that can be valid is well below.
const (
	checkpointBytesMax  = 4 << 10  // a note of six lines and a signature
	voteBytesMax        = 4 << 10  // one cosignature line and what it is for
	certificateBytesMax = 32 << 10 // a note with 149 signature lines of at most 200 bytes
	patternBytesMax     = 48 << 10 // an envelope (rules of the state machine, section 1)
	memberBytesMax      = 1 << 10
	digestBytesMax      = 32 << 10
	rosterBytesMax      = 48 << 10
	evidenceBytesMax    = 16 << 10 // two notes and a consistency proof
)

func (k Kind) rule() rule {
	switch k {
	case Checkpoints:
		return rule{name: "checkpoints", bytesMax: checkpointBytesMax, regionalMesh: true, subscribers: "voters of all regions", why: "checkpoints that want cosignatures"}
	case Votes:
		return rule{name: "votes", perRegion: true, bytesMax: voteBytesMax, subscribers: "voters of that region; voters of all regions may send", why: "cosignatures, to their origin only"}
	case Certificates:
		return rule{name: "certificates", bytesMax: certificateBytesMax, regionalMesh: true, subscribers: "every node", why: "checkpoints with a quorum"}
	case Patterns:
		return rule{name: "patterns", bytesMax: patternBytesMax, subscribers: "every node", why: "what agents elevated, after it was committed"}
	case Members:
		return rule{name: "members", perRegion: true, bytesMax: memberBytesMax, subscribers: "voters of that region; its nodes may send", why: "heartbeats"}
	case Roster:
		return rule{name: "roster", perRegion: true, bytesMax: rosterBytesMax, subscribers: "nodes of that region", why: "what a leader tells its region's nodes of each other and of the world"}
	case Digests:
		return rule{name: "digests", bytesMax: digestBytesMax, regionalMesh: true, subscribers: "voters of all regions", why: "what leaders tell of their region's members"}
	case Evidence:
		return rule{name: "evidence", bytesMax: evidenceBytesMax, subscribers: "every node", why: "contradicting statements of one region"}
	default:
		return rule{name: "unknown"}
	}
}

// String is the kind's name in topics, metrics and docs/network.md.
func (k Kind) String() string { return k.rule().name }

// Topic names one topic of a federation.
type Topic struct {
	Kind   Kind
	Region string // of Votes, Members and Roster; else ""
}

// String is the topic's name without the federation's.
func (t Topic) String() string {
	if t.Kind.rule().perRegion {
		return t.Kind.String() + "/" + t.Region
	}
	return t.Kind.String()
}

const topicPrefix = "/bizra/"

func (t Topic) name(federation string) string { return topicPrefix + federation + "/" + t.String() }

// parseTopic reads a topic's name; whether there is a region of that name it does not say.
func parseTopic(federation, name string) (Topic, bool) {
	rest, ok := strings.CutPrefix(name, topicPrefix+federation+"/")
	if !ok {
		return Topic{}, false
	}
	kind, region, split := strings.Cut(rest, "/")
	for _, k := range Kinds() {
		if r := k.rule(); r.name == kind && r.perRegion == split {
			return Topic{Kind: k, Region: region}, !split || region != "" && len(region) <= regionBytesMax
		}
	}
	return Topic{}, false
}

const regionBytesMax = 63

// place is what decides about a peer's rights: where it belongs and what it is there.
type place struct {
	region string // "" for strangers
	voter  bool
}

// place asks where a peer belongs. A foreign peer that this node knows is a listed voter. A
// member knows where it belongs, though it shows its invitation to others alone.
func (r *Router) place(p peer.ID) place {
	role := r.access.Role(p)
	at := place{region: r.access.RegionOf(p), voter: role == p2p.Voter || role == p2p.Foreign}
	if p == r.host.ID() {
		at.region = r.access.Region()
	}
	return at
}

// subscribes says whether such a node may subscribe to a topic, and does itself if it is one.
func (s place) subscribes(t Topic) bool {
	switch {
	case s.region == "":
		return false
	case t.Kind == Checkpoints || t.Kind == Digests:
		return s.voter
	case t.Kind == Votes || t.Kind == Members:
		return s.voter && s.region == t.Region
	case t.Kind == Roster:
		return s.region == t.Region
	default:
		return true
	}
}

// sends says whether such a node may send messages of a topic, its own or others'.
func (s place) sends(t Topic) bool {
	switch t.Kind {
	case Votes:
		return s.voter
	case Members:
		return s.region != "" && s.region == t.Region
	default:
		return s.subscribes(t)
	}
}

// expected is how many distinct messages a topic carries a second in a federation that
// works at its limit; rates and scores are derived from it.
func (c *Config) expected(k Kind) float64 {
	each := func(count int, every time.Duration) float64 { return float64(count) / every.Seconds() }
	switch k {
	case Checkpoints, Certificates:
		return each(c.Regions, c.CheckpointEvery)
	case Votes:
		return each(c.Regions-1, c.CheckpointEvery)
	case Patterns:
		return c.PatternsPerSecond
	case Members:
		return each(c.RegionNodes, c.BeatEvery)
	case Digests:
		return each(c.Regions, c.DigestEvery)
	case Roster:
		return each(1, c.DigestEvery)
	default:
		return 0
	}
}
