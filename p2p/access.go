package p2p

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/fsm/federation"
)

// Role is what a peer is to this node, seen from this node's region.
type Role uint8

// The roles, from least to most.
const (
	Stranger Role = iota // neither listed in the document nor invited, or its invitation has run out
	Client               // an agent in the own region's registry, or one of its operators: it submits proofs and is no node
	Foreign              // a voter of another region, by the document or by that region's ledger
	Member               // a node of the own region that does not vote: invited, a Raft non-voter, or listed but not (or no longer) voting
	Voter                // votes in the own region's Raft now
)

// Roles lists every role.
func Roles() []Role { return []Role{Stranger, Client, Foreign, Member, Voter} }

// String is the role's name in logs, in `bizra peers` and in docs/network.md.
func (r Role) String() string {
	switch r {
	case Stranger:
		return "stranger"
	case Client:
		return "client"
	case Foreign:
		return "foreign"
	case Member:
		return "member"
	case Voter:
		return "voter"
	default:
		return fmt.Sprintf("role %d", uint8(r))
	}
}

// Why a peer may not speak a protocol. [Access.Allow] wraps them all in [ErrRefused].
var (
	ErrRefused           = errors.New("refused")
	ErrUnknownProtocol   = errors.New("protocol is not known here")
	ErrStranger          = errors.New("peer is neither listed in the federation document nor invited")
	ErrInvitationExpired = errors.New("peer's invitation has expired")
	ErrClient            = errors.New("an agent's key submits proofs and does nothing else")
	ErrForeignRegion     = errors.New("peer is of another region")
	ErrOwnRegion         = errors.New("peer is of this region, and the protocol is between regions")
	ErrNotVoter          = errors.New("peer is not a current voter of this region")
)

// Rule says who may open streams of one protocol towards a node.
type Rule struct {
	Protocol protocol.ID
	From     []Role
	Why      string // one phrase for docs/network.md
}

// Rules is the whole table; what is not in it is refused. A protocol's direction is
// from the one who opens the stream: a Raft non-voter receives RPCs and may send none,
// and a node takes its region's keys from a voter but gives them to nobody who asks.
func Rules() []Rule {
	region := []Role{Member, Voter}
	return []Rule{
		{ProtocolRaft, []Role{Voter}, "only those who vote may send Raft RPCs; a non-voter only receives them"},
		{ProtocolSubmit, []Role{Client, Member, Voter}, "registered agents submit proofs to any node of their region, which forwards them to the leader"},
		{ProtocolEntries, []Role{Foreign, Member, Voter}, "members follow the region's ledger, and the voters of the other regions re-execute it"},
		{ProtocolJoin, Roles(), "a newcomer needs the document; a stranger gets nothing else, and not often"},
		{ProtocolStatus, region, "clocks, progress and seals are compared inside the region"},
		{ProtocolRead, region, "a node asks its leader how far it must be to answer a read"},
		{ProtocolCertificates, region, "a member asks for certificates that gossip did not bring it"},
		{ProtocolGossip, []Role{Foreign, Member, Voter}, "checkpoints, certificates and what else every node should hear; package gossip says who may send what"},
		{ProtocolKeys, []Role{Voter}, "the region's keys are handed over by a voter, never given to one who asks"},
		{ProtocolAttest, []Role{Foreign}, "voters of different regions hand each other checkpoints, cosignatures and certificates"},
	}
}

// RaftPeers is a snapshot of a region's Raft configuration. It must not be changed
// after it was handed out.
type RaftPeers struct {
	Voters, NonVoters map[peer.ID]struct{}
}

// NewRaftPeers makes the snapshot.
func NewRaftPeers(voters, nonVoters []peer.ID) RaftPeers {
	set := func(ids []peer.ID) map[peer.ID]struct{} {
		m := make(map[peer.ID]struct{}, len(ids))
		for _, id := range ids {
			m[id] = struct{}{}
		}
		return m
	}
	return RaftPeers{Voters: set(voters), NonVoters: set(nonVoters)}
}

// AccessConfig configures an [Access].
type AccessConfig struct {
	// Region is the own region's name.
	Region string
	// Raft gives the region's current Raft configuration, ok = false while the node
	// knows none; then the document's voters count as the current ones. It is called for
	// every stream and every Raft RPC, so it must be quick and must not block.
	Raft func() (peers RaftPeers, ok bool)
	// Client says whether the key of a peer that is no node is a registered agent's or an
	// operator's of the own region. It is called as often as Raft. Default: nobody's is.
	Client func(p peer.ID) bool
	// Foreign gives the voters of other regions by those regions' ledgers, of which this node
	// holds copies; they count beside the document's, which may be older. It is called as
	// often as Raft, and what it gave must not be changed. Default: none are known.
	Foreign func() map[peer.ID]ForeignVoter
	// Directory gives what a document says of peers; [NewDirectory]. Nodes in one process that go
	// by one document may share it.
	Directory func(d *federation.Document) (*Directory, error)
	// Credential checks an invitation; [NewCredential].
	Credential func(text []byte, d *federation.Document) (*Credential, error)
	// Logger takes refusals; the default is slog.Default().
	Logger *slog.Logger
}

func (c AccessConfig) withDefaults() AccessConfig {
	if c.Raft == nil {
		c.Raft = func() (RaftPeers, bool) { return RaftPeers{}, false }
	}
	if c.Client == nil {
		c.Client = func(peer.ID) bool { return false }
	}
	if c.Foreign == nil {
		c.Foreign = func() map[peer.ID]ForeignVoter { return nil }
	}
	if c.Directory == nil {
		c.Directory = NewDirectory
	}
	if c.Credential == nil {
		c.Credential = NewCredential
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c AccessConfig) validate() error {
	if c.Region == "" {
		return errors.New("access: Region is empty: it must name the own region")
	}
	return nil
}

// Access decides who may speak which protocol with this node: by the federation
// document, by Raft's configuration, and, for nodes that neither lists, by an
// [Invitation]. Safe for concurrent use.
type Access struct {
	cfg    AccessConfig
	rules  []Rule
	listed atomic.Pointer[Directory] // nil until there is a document

	mu         sync.Mutex              // guards what follows
	admitted   map[peer.ID]*Credential // at most AdmissionsMax
	admissions uint64                  // how often admitted was changed
	own        *ownRegion              // as it was looked up last; nil: never

	refusals refusals
}

// NewAccess makes an Access without a document: until [Access.SetDocument] everybody
// but Raft's own peers is a stranger.
func NewAccess(cfg AccessConfig) (*Access, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Access{cfg: cfg, rules: Rules(), admitted: make(map[peer.ID]*Credential), refusals: newRefusals()}, nil
}

// Region is the own region's name.
func (a *Access) Region() string { return a.cfg.Region }

// SetDocument replaces the document. Admissions that its operator keys no longer
// vouch for are dropped. The document must list the own region and must not be changed
// afterwards.
func (a *Access) SetDocument(d *federation.Document) error {
	if _, ok := d.Region(a.cfg.Region); !ok {
		return fmt.Errorf("access: federation document %q version %d has no region %q", d.Name, d.Version, a.cfg.Region)
	}
	l, err := a.cfg.Directory(d)
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listed.Store(l)
	for id, ad := range a.admitted {
		if ad.Invitation.checkDocument(d) != nil {
			delete(a.admitted, id)
			a.admissions++
		}
	}
	return nil
}

// Document is the document in use, nil while there is none.
func (a *Access) Document() *federation.Document {
	if l := a.listed.Load(); l != nil {
		return l.document
	}
	return nil
}

// Role is what the peer is now.
func (a *Access) Role(p peer.ID) Role {
	role, _ := a.role(p)
	return role
}

// role also says whether a stranger is one because its invitation ran out.
func (a *Access) role(p peer.ID) (role Role, expired bool) {
	raft, known := a.cfg.Raft()
	if role := a.roleOf(p, a.listed.Load(), raft, known); role != Stranger {
		return role, false
	}
	a.mu.Lock()
	ad, ok := a.admitted[p]
	a.mu.Unlock()
	if ok && time.Now().Before(ad.expires) {
		return Member, false
	}
	if _, ok := a.cfg.Foreign()[p]; ok {
		return Foreign, false
	}
	if a.cfg.Client(p) {
		return Client, false
	}
	return Stranger, ok
}

// RegionOf names the region that a peer belongs to, "" for a stranger.
func (a *Access) RegionOf(p peer.ID) string {
	switch a.Role(p) {
	case Member, Voter:
		return a.cfg.Region
	case Foreign:
		if l := a.listed.Load(); l != nil && l.roles[p].region != "" {
			return l.roles[p].region
		}
		return a.cfg.Foreign()[p].Region
	}
	return ""
}

// Allow says whether the peer may open a stream of the protocol, or go on with one.
// The error wraps [ErrRefused] and the reason; it is counted and, at most once per peer
// and minute, logged. Use [Access.Role] to ask without leaving a trace.
func (a *Access) Allow(p peer.ID, proto protocol.ID) error {
	reason := a.judge(p, proto)
	if reason == nil {
		return nil
	}
	a.refusals.count(proto, reason)
	if a.refusals.shouldLog(p, time.Now()) {
		a.cfg.Logger.Warn("peer refused", "peer", p, "protocol", clip(string(proto)), "reason", reason.Error())
	}
	return fmt.Errorf("%w: protocol %s from peer %v: %w", ErrRefused, clip(string(proto)), p, reason)
}

func (a *Access) judge(p peer.ID, proto protocol.ID) error {
	i := slices.IndexFunc(a.rules, func(r Rule) bool { return r.Protocol == proto })
	if i < 0 {
		return ErrUnknownProtocol
	}
	role, expired := a.role(p)
	switch {
	case slices.Contains(a.rules[i].From, role):
		return nil
	case role == Foreign && slices.Contains(a.rules[i].From, Client) && a.cfg.Client(p):
		return nil // or another region could shut an agent out by naming its key a voter
	case expired:
		return ErrInvitationExpired
	case role == Stranger:
		return ErrStranger
	case role == Client:
		return ErrClient
	case role == Foreign:
		return ErrForeignRegion
	case !slices.Contains(a.rules[i].From, Voter):
		return ErrOwnRegion
	default:
		return ErrNotVoter
	}
}

// Listed gives the addresses that the document, or another region's ledger, lists for a
// peer, without /p2p.
func (a *Access) Listed(p peer.ID) []string {
	return append(slices.Clone(a.inDocument(p)), a.cfg.Foreign()[p].Addresses...)
}

// dialable gives those of Listed that can be tried; they must not be changed.
func (a *Access) dialable(p peer.ID) []ma.Multiaddr {
	var listed []ma.Multiaddr
	if l := a.listed.Load(); l != nil {
		listed = l.roles[p].dialable
	}
	more := a.cfg.Foreign()[p].Addresses
	if len(more) == 0 {
		return listed
	}
	return append(slices.Clone(listed), dialable(more)...)
}

// dialableTexts are those of dialable; they must not be changed.
func (a *Access) dialableTexts(p peer.ID) []string {
	var listed []string
	if l := a.listed.Load(); l != nil {
		listed = l.roles[p].texts
	}
	more := a.cfg.Foreign()[p].Addresses
	if len(more) == 0 {
		return listed
	}
	return append(slices.Clone(listed), texts(dialable(more))...)
}

// inDocument gives the addresses that the document lists for a peer.
func (a *Access) inDocument(p peer.ID) []string {
	if l := a.listed.Load(); l != nil {
		return l.roles[p].addresses
	}
	return nil
}
