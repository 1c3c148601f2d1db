package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm/federation"
)

// Limits of a world.
const (
	RegionsMax = 149 // of a federation document
	VotersMax  = 9
	MembersMax = 1000 // of one region

	// near and far are the latencies where none are given.
	near = time.Millisecond
	far  = 50 * time.Millisecond
)

// Config configures a [World]. A zero field takes the default named at it.
type Config struct {
	Regions int // 4; they are called a, b, c, …, of more than 26 r000, r001, …
	Voters  int // of each region, 3
	Members int // of each region, none
	// Nodes, if set, are all: those that do not vote are shared out among the regions as evenly
	// as may be, and Members is not read.
	Nodes int

	// Seed draws the keys of the federation, and so who is connected with whom; 0 is a seed too.
	Seed uint64

	// Latency is the time that bytes take one way between two regions, or inside of one where
	// they are the same; 50 ms, inside 1 ms.
	Latency func(from, to string) time.Duration
	// Change may alter the federation document, which lets agents register themselves.
	Change func(*federation.Document)
	// Raft's times; the node's defaults. SealInterval is how often there is a checkpoint.
	Raft region.Config
	// SealEvery, if set, is the SealInterval of each region, by its place in the document.
	SealEvery func(region int) time.Duration
	// Dir is an empty folder for the small files of the nodes' homes. Required.
	Dir string
	// NoMemo has every node work out for itself what others have worked out from the same bytes:
	// entries, signatures, certificates, and whole copies of ledgers, which else share their memory.
	NoMemo bool
	// Tap, if set, is shown what is written to the network; it must be quick and keep nothing.
	Tap func(from, to peer.ID, proto protocol.ID, data []byte)

	Logger *slog.Logger // of the nodes; nowhere

	started func()                        // called for each node that New has started
	said    func(n *Node, t attest.Topic) // what a node is about to say to everybody
}

func (c Config) withDefaults() Config {
	if c.Regions == 0 {
		c.Regions = 4
	}
	if c.Voters == 0 {
		c.Voters = 3
	}
	if c.SealEvery == nil {
		c.SealEvery = func(int) time.Duration { return c.Raft.SealInterval }
	}
	if c.Latency == nil {
		c.Latency = func(from, to string) time.Duration {
			if from == to {
				return near
			}
			return far
		}
	}
	if c.Change == nil {
		c.Change = func(*federation.Document) {}
	}
	if c.Tap == nil {
		c.Tap = func(peer.ID, peer.ID, protocol.ID, []byte) {}
	}
	if c.started == nil {
		c.started = func() {}
	}
	if c.said == nil {
		c.said = func(*Node, attest.Topic) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("sim: Dir is missing: name an empty folder")
	case c.Regions < 1 || c.Regions > RegionsMax:
		return fmt.Errorf("sim: Regions is %d: from 1 to %d", c.Regions, RegionsMax)
	case c.Voters < 1 || c.Voters > VotersMax:
		return fmt.Errorf("sim: Voters is %d: from 1 to %d", c.Voters, VotersMax)
	case c.Members < 0 || c.Members > MembersMax:
		return fmt.Errorf("sim: Members is %d: from 0 to %d", c.Members, MembersMax)
	case c.Nodes != 0 && (c.Nodes < c.Regions*c.Voters || c.Nodes > c.Regions*(c.Voters+MembersMax)):
		return fmt.Errorf("sim: Nodes is %d: with %d regions of %d voters from %d to %d", c.Nodes, c.Regions, c.Voters,
			c.Regions*c.Voters, c.Regions*(c.Voters+MembersMax))
	}
	return nil
}

// members is how many nodes of a region do not vote.
func (c Config) members(region int) int {
	if c.Nodes == 0 {
		return c.Members
	}
	rest := c.Nodes - c.Regions*c.Voters
	n := rest / c.Regions
	if region < rest%c.Regions {
		n++
	}
	return n
}

// draw is the label by which a key is drawn from the seed.
func (c Config) draw(label string) string { return fmt.Sprintf("seed-%d-%s", c.Seed, label) }
