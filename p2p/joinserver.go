package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/bizra/bizra/fsm/federation"
)

// Limits of the join protocol.
const (
	JoinRequestBytesMax  = 8 << 10
	JoinPeersMax         = 256       // that one answer tells
	JoinPeersBytesMax    = 512 << 10 // together
	JoinResponseBytesMax = federation.DocumentBytesMax + JoinPeersBytesMax + 4<<10
	faultNoDocument      = "no-document" // the peer is joining itself

	membersTold = 8 // of a region's members, to one of them,
	membersNear = 4 // of these, that follow it in the order of IDs; the others by chance
)

// joinRequest is what a node says of itself to one that it asks for document and
// peers, when it joins and from then on every now and then.
type joinRequest struct {
	Region     string   `cbor:"1,keyasint"`           // the caller's
	Invitation []byte   `cbor:"2,keyasint,omitempty"` // that names the caller
	Addresses  []string `cbor:"3,keyasint,omitempty"` // where the caller listens
	NoDocument bool     `cbor:"4,keyasint,omitempty"` // the caller wants only peers
}

type joinResponse struct {
	Document []byte       `cbor:"1,keyasint,omitempty"` // canonical JSON
	Region   string       `cbor:"2,keyasint"`           // the answerer's
	Role     string       `cbor:"3,keyasint"`           // what the caller is to it
	Peers    []PeerRecord `cbor:"4,keyasint,omitempty"`
}

// PeerRecord is what one node tells another of a third.
type PeerRecord struct {
	ID         []byte   `cbor:"1,keyasint"` // a peer.ID's
	Region     string   `cbor:"2,keyasint"`
	Role       string   `cbor:"3,keyasint"` // a [Role]'s name
	Addresses  []string `cbor:"4,keyasint,omitempty"`
	Invitation []byte   `cbor:"5,keyasint,omitempty"` // by which it is a member, for the other to check itself
}

// joinServer answers the join protocol.
type joinServer struct {
	host    host.Host
	access  *Access
	book    *Book
	learned func(p peer.ID) // told of every peer whose addresses changed

	mu        sync.Mutex
	canonical []byte // of document; a document is large and does not change often
	document  *federation.Document
}

func (j *joinServer) limits() Limits {
	return Limits{RequestBytesMax: JoinRequestBytesMax, ResponseBytesMax: JoinResponseBytesMax, ConcurrentMax: 32, PerPeerMax: 2,
		PerPeerPerSecond: 1, PerPeerBurst: 10, StrangerPerSec: 16, StrangerBurst: 64}
}

func (j *joinServer) handle(_ context.Context, from peer.ID, request *joinRequest) (*joinResponse, error) {
	document := j.access.Document()
	if document == nil {
		return nil, &Fault{Code: faultNoDocument, Detail: "this node is joining itself and has no federation document yet"}
	}
	// An invitation to another region is for the nodes of that region to judge; here
	// its bearer gets what a stranger gets.
	if len(request.Invitation) > 0 && request.Region == j.access.Region() {
		inv, err := j.access.Admit(from, request.Invitation)
		switch {
		case errors.Is(err, ErrAdmissionsFull):
			return nil, fmt.Errorf("admit %v: %w", from, err)
		case err != nil:
			return nil, &Fault{Code: FaultInvitation, Detail: err.Error()}
		}
		j.book.Invited(from, inv.Canonical())
	}
	role := j.access.Role(from)
	response := &joinResponse{Region: j.access.Region(), Role: role.String()}
	if !request.NoDocument {
		response.Document = j.text(document)
	}
	if role >= Foreign && !j.book.toldAgain(from, request.Addresses) {
		if addrs := dialable(request.Addresses); len(addrs) > 0 && j.book.Told(from, addrs) {
			j.learned(from)
		}
	}
	switch role {
	case Member:
		response.Peers = j.peers(from, Member, nil, membersTold)
	case Voter:
		response.Peers = j.peers(from, Member, j.abroad(from), JoinPeersMax)
	case Foreign:
		response.Peers = j.peers(from, Voter, j.abroad(from), JoinPeersMax)
	}
	return response, nil
}

// abroad lists the voters of the other regions that are reached elsewhere than the document says,
// which the caller has: those of the caller's region first, who may
// have nobody else to find each other by, and then the others by chance, since not all may fit.
func (j *joinServer) abroad(caller peer.ID) []peer.ID {
	var home, others []peer.ID
	for _, region := range j.access.ForeignRegions() {
		ids := slices.DeleteFunc(j.access.ForeignVoters(region), func(id peer.ID) bool { return id == caller || !j.news(id) })
		if region == j.access.RegionOf(caller) {
			home = ids
			continue
		}
		others = append(others, ids...)
	}
	rand.Shuffle(len(others), func(x, y int) { others[x], others[y] = others[y], others[x] }) //nolint:gosec // spreads hints; nothing secret
	return append(home, others...)
}

// news says whether a peer is known to be reached at an address that the document does not list.
func (j *joinServer) news(id peer.ID) bool {
	listed := j.access.inDocument(id)
	unlisted := func(a string) bool { return !slices.Contains(listed, a) }
	return slices.ContainsFunc(j.book.told(id), unlisted) || slices.ContainsFunc(j.access.Listed(id), unlisted)
}

func (j *joinServer) text(document *federation.Document) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.document != document {
		j.document, j.canonical = document, document.Canonical()
	}
	return j.canonical
}

// peers tells of this node itself, of the own region's nodes whose role is least or more,
// voters first and so many members, and of those abroad, each where it is known how it can be reached.
func (j *joinServer) peers(caller peer.ID, least Role, abroad []peer.ID, most int) []PeerRecord {
	own := j.access.ownRegion()
	others := func(ids []peer.ID) []peer.ID {
		return slices.DeleteFunc(slices.Clone(ids), func(id peer.ID) bool { return id == caller || id == j.host.ID() })
	}
	voters := others(own.voters)
	var members []peer.ID
	if least <= Member {
		members = some(others(own.members), caller, most)
	}
	records := make([]PeerRecord, 0, min(1+len(voters)+len(members)+len(abroad), JoinPeersMax))
	size := 0
	add := func(r PeerRecord) {
		n := 64 + len(r.ID) + len(r.Region) + len(r.Invitation)
		for _, a := range r.Addresses {
			n += 4 + len(a)
		}
		if len(r.Addresses) > 0 && len(records) < JoinPeersMax && size+n <= JoinPeersBytesMax {
			records = append(records, r)
			size += n
		}
	}
	add(j.self())
	for _, id := range slices.Concat(voters, members, abroad) {
		add(j.record(id))
	}
	return records
}

// some gives so many of a region's members, sorted: for a member, those that it wants to hold
// connections to, and others by chance, so that it comes to know all without being told of all each time.
func some(members []peer.ID, caller peer.ID, most int) []peer.ID {
	if len(members) <= most {
		return members
	}
	from, _ := slices.BinarySearch(members, caller)
	turned := slices.Concat(members[from:], members[:from])
	rest := turned[membersNear:]
	rand.Shuffle(len(rest), func(x, y int) { rest[x], rest[y] = rest[y], rest[x] }) //nolint:gosec // spreads hints; nothing secret
	return turned[:most]
}

func (j *joinServer) self() PeerRecord {
	return PeerRecord{ID: []byte(j.host.ID()), Region: j.access.Region(), Role: j.access.Role(j.host.ID()).String(), Addresses: ownAddresses(j.host)}
}

func (j *joinServer) record(id peer.ID) PeerRecord {
	addresses := j.book.told(id)
	for _, a := range j.access.dialableTexts(id) {
		if len(addresses) < AddressesMax && !slices.Contains(addresses, a) {
			addresses = append(slices.Clip(addresses), a)
		}
	}
	r := PeerRecord{ID: []byte(id), Region: j.access.RegionOf(id), Role: j.access.Role(id).String(), Addresses: addresses}
	if inv, ok := j.access.Invited(id); ok {
		r.Invitation = inv.Canonical()
	}
	return r
}

// ownAddresses is where others can reach this host, those that reach furthest first.
func ownAddresses(h host.Host) []string {
	addrs := h.Addrs()
	reach := func(a ma.Multiaddr) int {
		switch {
		case manet.IsIPLoopback(a):
			return 2
		case manet.IsPrivateAddr(a):
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(addrs, func(x, y ma.Multiaddr) int { return reach(x) - reach(y) })
	var own []ma.Multiaddr
	for _, a := range addrs {
		if len(own) < AddressesMax {
			own = appendDialable(own, a)
		}
	}
	return texts(own)
}
