package node

import (
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// directory tells nodes' names by their peer IDs.
type directory struct {
	keys  map[string]string
	names map[string]string
	addrs map[string][]string
}

// of gives node key and name of a peer ID; the name is "" for a node that is not a voter.
func (d directory) of(id string) (key, name string) {
	if key = d.keys[id]; key == "" {
		if p, err := peer.Decode(id); err == nil {
			if k, err := p2p.NodeKey(p); err == nil {
				key = k.String()
			}
		}
	}
	return key, d.names[id]
}

// names reads the voters from the document, and those that came later from the state.
func (n *Node) names() directory {
	d := directory{keys: map[string]string{}, names: map[string]string{}, addrs: map[string][]string{}}
	add := func(name string, key federation.Key, addrs []string) {
		id, err := p2p.PeerID(key)
		if err != nil {
			return // checked where the key came in
		}
		d.keys[id.String()], d.names[id.String()], d.addrs[id.String()] = key.String(), name, addrs
	}
	for _, r := range n.Document().Regions {
		for _, v := range r.Voters {
			add(v.Name, v.NodeKey, v.Addresses)
		}
	}
	voters, _ := n.desiredVoters() // before genesis there are none beside the document's
	for _, v := range voters {
		add(v.Name, v.NodeKey, v.Addresses)
	}
	return d
}

// desiredVoters are those that the ledger says are to vote.
func (n *Node) desiredVoters() (voters []fsm.Voter, err error) {
	v, err := n.state.View()
	if err != nil {
		return nil, err
	}
	voters, err = v.Voters()
	return voters, errors.Join(err, v.Close())
}

// Status is how the node stands, by its own view.
func (n *Node) Status() (*client.Status, error) {
	doc := n.inForce()
	digest := doc.Digest()
	key := federation.Key(n.home.NodeKey.Public())
	s := &client.Status{Program: n.cfg.Version, Federation: doc.Name, Region: n.home.Identity.Region, Node: n.home.Identity.Name,
		NodeKey: key.String(), PeerID: n.host.ID().String(), Role: client.RoleMember, Addresses: n.Addresses(), HTTP: n.HTTPAddress(),
		Reason: n.notReady(), Started: n.started.UTC().Format(time.RFC3339), Voters: []client.VoterStatus{},
		Document: client.DocumentStatus{Version: doc.Version, Digest: hex.EncodeToString(digest[:]), PolicyHash: doc.Constitution.PolicyHash()}}
	s.Ready = s.Reason == ""
	names := n.names()
	if r := n.region.Load(); r != nil {
		st := r.Status()
		s.Role = client.RoleVoter
		leader, _ := names.of(string(st.Leader))
		s.Raft = client.RaftStatus{State: strings.ToLower(st.Role), Term: st.Term, Leader: leader, LastIndex: st.LastIndex,
			CommitIndex: st.CommitIndex, AppliedIndex: st.AppliedIndex}
		s.Voters = n.voterStatus(names, st.Servers, string(st.Leader))
		s.Disk = &client.DiskStatus{FreeBytes: st.FreeBytes, MinBytes: st.DiskFreeMin, Low: st.DiskLow}
	} else {
		s.Raft.State = "none"
		voters, _ := n.desiredVoters() // none before the first entry
		for _, v := range voters {
			id, err := p2p.PeerID(v.NodeKey)
			if err != nil {
				return nil, err
			}
			s.Voters = append(s.Voters, client.VoterStatus{Name: v.Name, NodeKey: federation.Key(v.NodeKey).String(), PeerID: id.String(),
				Suffrage: client.RoleVoter, Addresses: append([]string{}, v.Addresses...)})
		}
	}
	s.Regions = n.regionStatus()
	return s, errors.Join(n.ledgerStatus(&s.Ledger), n.breakerStatus(&s.Breakers), n.attestationStatus(s))
}

// limitedAgentsMax is how many agents whose breakers are not clear a node counts and holds back itself.
const limitedAgentsMax = 10_000

func (n *Node) breakerStatus(c *client.BreakerCounts) error {
	limited, err := n.limitedAgents()
	for _, l := range limited {
		switch l.Breaker {
		case fsm.Throttled:
			c.Throttled++
		case fsm.Muted:
			c.Muted++
		case fsm.Probation:
			c.Probation++
		case fsm.Clear:
		}
	}
	return err
}

func (n *Node) limitedIn(b fsm.BreakerState) float64 {
	limited, err := n.limitedAgents()
	if err != nil {
		return -1
	}
	count := 0
	for _, l := range limited {
		if l.Breaker == b {
			count++
		}
	}
	return float64(count)
}

// limitedAgents are those whose breakers are not clear, none while there is no state.
func (n *Node) limitedAgents() ([]fsm.Limited, error) {
	v, err := n.state.View()
	if errors.Is(err, errNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	limited, err := v.Limited(limitedAgentsMax)
	return limited, errors.Join(err, v.Close())
}

func (n *Node) voterStatus(names directory, servers []raft.Server, leader string) []client.VoterStatus {
	list := []client.VoterStatus{}
	for _, srv := range servers {
		id := string(srv.ID)
		key, name := names.of(id)
		list = append(list, client.VoterStatus{Name: name, NodeKey: key, PeerID: id, Suffrage: strings.ToLower(srv.Suffrage.String()),
			Leader: id == leader, Addresses: append([]string{}, names.addrs[id]...)})
	}
	return list
}

func (n *Node) ledgerStatus(l *client.LedgerStatus) error {
	v, err := n.state.View()
	if errors.Is(err, errNoState) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.Size, err = v.Ledger().Size(); err == nil && l.Size > 0 {
		root, err1 := v.Ledger().Root(l.Size)
		l.Root, l.LogTime = hexText(root), timeText(v.LogTimeMillis())
		err = err1
	}
	if seal, err1 := v.SealAt(v.Seals() - 1); err1 == nil {
		l.Seal = sealStatus(seal)
	}
	return errors.Join(err, v.Close())
}

// inForce is the document by which this node's state goes, before genesis the node's own.
func (n *Node) inForce() *federation.Document {
	v, err := n.state.View()
	if err != nil {
		return n.Document()
	}
	defer func() { _ = v.Close() }() // a view of memory; nothing can be lost
	d, err := v.Document()
	if err != nil {
		return n.Document()
	}
	return d
}
