package members

import (
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/internal/tally"
	"github.com/bizra/bizra/p2p"
)

// PeersMax bounds a list of peers.
const PeersMax = 8192

// Peer is what a node can say of another, for `bizra peers`.
type Peer struct {
	ID            string   `json:"id"`
	Region        string   `json:"region,omitempty"`
	Role          string   `json:"role"`              // seen from this node, a [p2p.Role]'s name
	State         string   `json:"state"`             // a [State]'s name
	SeenMillis    int64    `json:"seen_ms,omitempty"` // Unix time at which it, or its region's digest, was heard last
	Version       string   `json:"version,omitempty"` // its program's, by its own word
	Entries       uint64   `json:"entries,omitempty"` // of its ledger, by its own word
	Connected     bool     `json:"connected"`
	LatencyMillis float64  `json:"latency_ms,omitempty"`
	Score         float64  `json:"score"`
	Muted         bool     `json:"muted,omitempty"`
	Probation     bool     `json:"probation,omitempty"`
	Why           []string `json:"why,omitempty"` // what is held against it, worst first
}

// Region is what a node heard of a region's members.
type Region struct {
	Name       string `json:"region"`
	Alive      int    `json:"alive"`
	Suspect    int    `json:"suspect"`
	Left       int    `json:"left"`
	SeenMillis int64  `json:"seen_ms,omitempty"` // when its digest was heard last; 0 for the own region
}

// Regions lists the own region and those that digests were heard of, by name.
func (s *Service) Regions() []Region {
	now, votes := time.Now(), s.votes()
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.table.count(now, votes)
	list := []Region{{Name: s.cfg.Access.Region(), Alive: counts[Alive], Suspect: counts[Suspect], Left: counts[Left]}}
	for _, d := range s.table.digests {
		list = append(list, Region{Name: d.digest.Region, Alive: int(d.digest.Alive), Suspect: int(d.digest.Suspect), Left: int(d.digest.Left), SeenMillis: d.heard.UnixMilli()})
	}
	if r := s.table.toldOf(now); r != nil && !votes {
		for _, w := range r.roster.World {
			list = append(list, Region{Name: w.Name, Alive: int(w.Alive), Suspect: int(w.Suspect), Left: int(w.Left),
				SeenMillis: r.heard.Add(-time.Duration(w.AgeSeconds) * time.Second).UnixMilli()})
		}
	}
	slices.SortFunc(list, func(a, b Region) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Peers lists the nodes of the own region, those that digests name, and whoever else is
// connected: by region, role and ID, at most [PeersMax], without this node.
func (s *Service) Peers() []Peer {
	seen := map[peer.ID]bool{s.cfg.Host.ID(): true}
	var ids []peer.ID
	add := func(id peer.ID) {
		if !seen[id] && len(ids) < PeersMax {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, id := range s.cfg.Access.OwnRegion() {
		add(id)
	}
	for _, id := range s.cfg.Host.Network().Peers() {
		add(id)
	}
	named := make(map[peer.ID]string)
	s.mu.Lock()
	for id := range s.table.members {
		add(id)
	}
	name := func(d *digest) {
		for _, m := range d.Members {
			if id, err := p2p.PeerID(m.Node); err == nil {
				named[id] = d.Region
				add(id)
			}
		}
	}
	if r := s.table.toldOf(time.Now()); r != nil {
		name(&r.roster.digest)
	}
	for _, d := range s.table.digests {
		name(&d.digest)
	}
	s.mu.Unlock()
	list := make([]Peer, 0, len(ids))
	for _, id := range ids {
		list = append(list, s.peer(id, named[id]))
	}
	slices.SortFunc(list, func(a, b Peer) int {
		for _, c := range []int{strings.Compare(a.Region, b.Region), strings.Compare(b.Role, a.Role)} {
			if c != 0 {
				return c
			}
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// peer tells of one; named is the region that a digest says it is of.
func (s *Service) peer(id peer.ID, named string) Peer {
	standing := s.cfg.Gossip.Standing(id)
	p := Peer{ID: id.String(), Region: s.cfg.Access.RegionOf(id), Role: s.cfg.Access.Role(id).String(),
		Connected:     s.cfg.Host.Network().Connectedness(id) == network.Connected,
		LatencyMillis: float64(s.cfg.Host.Peerstore().LatencyEWMA(id)) / float64(time.Millisecond),
		Score:         standing.Score, Muted: standing.Muted, Probation: standing.Probation, Why: standing.Why}
	if p.Region == "" && named != "" {
		p.Region, p.Role = named, p2p.Member.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state, at := s.table.state(id, p.Region, p.Region == s.cfg.Access.Region(), time.Now())
	p.State = state.String()
	if !at.IsZero() {
		p.SeenMillis = at.UnixMilli()
	}
	if m := s.table.members[id]; m != nil {
		p.Version, p.Entries = m.beat.Version, m.beat.Entries
	}
	return p
}

func (s *Service) figures(sheet *tally.Sheet) {
	for state := Alive; state < Unknown; state++ {
		sheet.GaugeOf("members", "Nodes of the own region by state, as heard by heartbeats.", prometheus.Labels{"state": state.String()}, func() float64 {
			votes := s.votes()
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(s.table.count(time.Now(), votes)[state])
		})
	}
}
