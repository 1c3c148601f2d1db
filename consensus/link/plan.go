package link

import (
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// operation is one step towards the wished voters.
type operation uint8

const (
	opRemove   operation = iota + 1 // from Raft's configuration
	opHandOver                      // leadership, since this node is to be removed
	opPromote                       // a non-voter, once it has caught up
	opAdd                           // as a non-voter, with the region's keys
)

func (o operation) String() string {
	switch o {
	case opRemove:
		return "remove"
	case opHandOver:
		return "hand over leadership"
	case opPromote:
		return "promote"
	case opAdd:
		return "add"
	default:
		return fmt.Sprintf("operation %d", uint8(o))
	}
}

// change is one operation on one node.
type change struct {
	op     operation
	id     raft.ServerID
	wanted wanted // of opPromote and opAdd
}

// wanted is a voter that the state names, with its ID.
type wanted struct {
	fsm.Voter
	peer peer.ID
	id   raft.ServerID
}

func wish(voters []fsm.Voter) ([]wanted, error) {
	ws := make([]wanted, len(voters))
	for i, v := range voters {
		id, err := p2p.PeerID(v.NodeKey)
		if err != nil {
			return nil, fmt.Errorf("voter %q: %w", v.Name, err)
		}
		ws[i] = wanted{v, id, raft.ServerID(id.String())}
	}
	return ws, nil
}

// plan lists what leads from Raft's configuration to the wish, in the order in which it
// is to be tried: removals come before additions, since a `replace` names a node that
// is gone, and every voter more makes the majority harder to reach. But as many vote at any
// time as are a majority of the wish: or else replacing two of three in a row would leave
// what is acknowledged meanwhile on the disk of one. Nothing is planned for an empty
// wish: no region has no voters, so the state was not there yet.
func plan(ws []wanted, config []raft.Server, self raft.ServerID) []change {
	if len(ws) == 0 || len(config) == 0 {
		return nil
	}
	isWanted := func(id raft.ServerID) bool {
		return slices.ContainsFunc(ws, func(w wanted) bool { return w.id == id })
	}
	var nonVoters, voters, handOver, promote, add []change
	for _, s := range config {
		switch {
		case isWanted(s.ID):
		case s.Suffrage != raft.Voter:
			nonVoters = append(nonVoters, change{op: opRemove, id: s.ID})
		case len(votersAfter(config, s.ID, "")) < len(ws)/2+1:
			// It votes until another does.
		case s.ID == self:
			handOver = append(handOver, change{op: opHandOver, id: s.ID})
		default:
			voters = append(voters, change{op: opRemove, id: s.ID})
		}
	}
	for _, w := range ws {
		i := slices.IndexFunc(config, func(s raft.Server) bool { return s.ID == w.id })
		switch {
		case i < 0:
			add = append(add, change{op: opAdd, id: w.id, wanted: w})
		case config[i].Suffrage != raft.Voter:
			promote = append(promote, change{op: opPromote, id: w.id, wanted: w})
		}
	}
	return slices.Concat(nonVoters, voters, handOver, promote, add)
}

// votersAfter lists those who vote once one was removed and another promoted; "" is none.
func votersAfter(config []raft.Server, removed, promoted raft.ServerID) []raft.ServerID {
	var ids []raft.ServerID
	for _, s := range config {
		if s.ID != removed && (s.Suffrage == raft.Voter || s.ID == promoted) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// successor is a voter that may lead when this node is to go: one that stays.
func successors(ws []wanted, config []raft.Server, self raft.ServerID) []raft.ServerID {
	var ids []raft.ServerID
	for _, w := range ws {
		if w.id != self && slices.ContainsFunc(config, func(s raft.Server) bool { return s.ID == w.id && s.Suffrage == raft.Voter }) {
			ids = append(ids, w.id)
		}
	}
	return ids
}
