package link

import (
	"context"
	"slices"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm/federation"
)

// Stage is where a node stands between the wish and Raft's configuration.
type Stage string

// The stages, in the order in which a node goes through them.
const (
	StageToAdd      Stage = "to add"      // the entry names it; it gets the region's keys, then Raft's log
	StageCatchingUp Stage = "catching up" // it receives the log and does not vote yet
	StageVoter      Stage = "voter"
	StageToRemove   Stage = "to remove"
)

// VoterProgress is how far the work on one node is. Detail, Failures and AppliedIndex
// are known to the leader alone.
type VoterProgress struct {
	Name         string // "" where no entry names the node any more
	NodeKey      federation.Key
	Peer         peer.ID
	Stage        Stage
	Detail       string // what the last try ended with
	Failures     int    // in a row
	AppliedIndex uint64 // of a node that catches up, as last heard
}

// VotersStatus is how far Raft's configuration follows the wish, as this node sees it.
type VotersStatus struct {
	Leading  bool
	Settled  bool // nothing is left to do
	Nodes    []VoterProgress
	Transfer string // how the last hand-over of leadership that an operator asked for ended; "" if there was none
}

// Progress reports how far the changes of voters are, from what this node has applied.
func (v *Voters) Progress(ctx context.Context) (VotersStatus, error) {
	var ws []wanted
	err := v.cfg.Stale(ctx, func(s StateView) error {
		voters, err := s.Voters()
		if err != nil {
			return err
		}
		ws, err = wish(voters)
		return err
	})
	if err != nil {
		return VotersStatus{}, err
	}
	config := v.cfg.Region.Configuration().Servers
	v.mu.Lock()
	defer v.mu.Unlock()
	st := VotersStatus{Leading: v.cfg.Region.IsLeader(), Settled: true, Transfer: v.transfer}
	for _, w := range ws {
		st.add(v.progress(w.id, VoterProgress{Name: w.Name, NodeKey: w.NodeKey, Peer: w.peer, Stage: stageOf(config, w.id)}))
	}
	for _, s := range config {
		if slices.ContainsFunc(ws, func(w wanted) bool { return w.id == s.ID }) {
			continue
		}
		id, err := peer.Decode(string(s.ID))
		if err != nil {
			continue // its owner is nobody that could be named
		}
		st.add(v.progress(s.ID, VoterProgress{Peer: id, Stage: StageToRemove}))
	}
	return st, nil
}

func (s *VotersStatus) add(p VoterProgress) {
	s.Settled = s.Settled && p.Stage == StageVoter
	s.Nodes = append(s.Nodes, p)
}

// progress adds what the leader knows of the work on a node. Under mu.
func (v *Voters) progress(id raft.ServerID, p VoterProgress) VoterProgress {
	if n := v.notes[id]; n != nil {
		p.Detail, p.Failures, p.AppliedIndex = n.detail, n.failures, n.applied
	}
	return p
}

func stageOf(config []raft.Server, id raft.ServerID) Stage {
	i := slices.IndexFunc(config, func(s raft.Server) bool { return s.ID == id })
	switch {
	case i < 0:
		return StageToAdd
	case config[i].Suffrage == raft.Voter:
		return StageVoter
	default:
		return StageCatchingUp
	}
}
