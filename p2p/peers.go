package p2p

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// PeerStatus is what a node can say of one peer, for `bizra peers` and metrics.
type PeerStatus struct {
	ID            string   `json:"id"`
	Region        string   `json:"region,omitempty"` // "" for strangers
	Role          string   `json:"role"`             // a [Role]'s name
	Connected     bool     `json:"connected"`
	Direction     string   `json:"direction,omitempty"` // "inbound" or "outbound"
	Transport     string   `json:"transport,omitempty"` // "tcp" or "quic-v1"
	Remote        string   `json:"remote,omitempty"`    // the address of the connection
	Addresses     []string `json:"addresses"`           // that are known, best first
	LatencyMillis float64  `json:"latency_ms,omitempty"`
	Agent         string   `json:"agent,omitempty"` // what it says it runs
	Reason        string   `json:"reason,omitempty"`
}

const peersShownMax = 4096

// Peers lists the region's peers, on a voter those of the other regions, and whoever else is connected, at most peersShownMax,
// voters first and by ID within a role. Reason says why a wanted peer is not connected,
// or what ails its connection.
func (k *Keeper) Peers() []PeerStatus {
	seen := make(map[peer.ID]struct{})
	var ids []peer.ID
	var foreign []peer.ID
	if k.reachesOut() {
		for _, region := range k.access.ForeignRegions() {
			foreign = append(foreign, k.access.ForeignVoters(region)...)
		}
	}
	for _, list := range [][]peer.ID{slices.Collect(maps.Keys(k.bootstrap)), k.access.OwnRegion(), foreign, k.host.Network().Peers()} {
		for _, id := range list {
			if _, dup := seen[id]; !dup && id != k.host.ID() && len(ids) < peersShownMax {
				seen[id] = struct{}{}
				ids = append(ids, id)
			}
		}
	}
	roles := make(map[peer.ID]Role, len(ids))
	for _, id := range ids {
		roles[id] = k.access.Role(id)
	}
	slices.SortFunc(ids, func(x, y peer.ID) int {
		if roles[x] != roles[y] {
			return int(roles[y]) - int(roles[x])
		}
		return strings.Compare(string(x), string(y))
	})
	list := make([]PeerStatus, 0, len(ids))
	for _, id := range ids {
		list = append(list, k.status(id, roles[id]))
	}
	return list
}

// startsFor is how long a voter that was greeted may take until it has what others turn to it for.
const startsFor = 10 * time.Second

// Region lists the nodes of the own region that this node may turn to: the voters, those connected first,
// and the members that are connected. Those that it is about to greet for the first time are left out.
// So are the voters that it does not want connections to, while it has greeted nobody, since they would take it
// for a stranger, and while those that it has greeted may still be starting.
func (k *Keeper) Region() []peer.ID {
	self := k.net.self()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil {
		return nil // it has not looked around yet
	}
	var up, down, members []peer.ID
	pending, starting := false, false
	own := k.access.ownRegion()
	young := func(kp *keptPeer) bool { return kp != nil && !kp.greeted && kp.greetFails == 0 && kp.failures == 0 }
	for _, id := range own.voters {
		switch kp := k.peers[id]; {
		case id == self:
		case young(kp):
			pending = true
		case k.net.connected(id):
			up = append(up, id)
			starting = starting || kp != nil && kp.greeted && time.Since(kp.since) < startsFor
		default:
			down = append(down, id)
		}
	}
	for _, id := range own.members {
		switch {
		case id == self || !k.net.connected(id):
		case young(k.peers[id]):
			pending = true
		default:
			members = append(members, id)
		}
	}
	if pending && len(up) == 0 || starting {
		down = nil
	}
	return slices.Concat(byHash(self, up), byHash(self, down), byHash(self, members))
}

func (k *Keeper) status(id peer.ID, role Role) PeerStatus {
	st := PeerStatus{ID: id.String(), Region: k.access.RegionOf(id), Role: role.String(), Addresses: texts(k.addresses(id)),
		LatencyMillis: float64(k.host.Peerstore().LatencyEWMA(id)) / float64(time.Millisecond)}
	for _, c := range k.host.Network().ConnsToPeer(id) {
		if c.IsClosed() {
			continue
		}
		st.Connected = true
		st.Direction, st.Remote, st.Transport = direction(c), c.RemoteMultiaddr().String(), transportOf(c.RemoteMultiaddr())
		break
	}
	if agent, err := k.host.Peerstore().Get(id, "AgentVersion"); err == nil {
		if text, ok := agent.(string); ok {
			st.Agent = cut(text, faultCodeBytesMax)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if kp, ok := k.peers[id]; ok && st.Connected {
		st.Reason = kp.muteFor
	} else if ok {
		st.Reason = kp.lostFor
	}
	return st
}

func direction(c network.Conn) string {
	if c.Stat().Direction == network.DirInbound {
		return "inbound"
	}
	return "outbound"
}

func transportOf(m ma.Multiaddr) string {
	for _, c := range m {
		switch c.Protocol().Code {
		case ma.P_QUIC_V1:
			return "quic-v1"
		case ma.P_TCP:
			return "tcp"
		}
	}
	return ""
}
