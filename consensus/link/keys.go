package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Limits of the messages of [p2p.ProtocolKeys].
const (
	keysRequestBytesMax  = 4 << 10
	keysResponseBytesMax = 1 << 10
	keysSendersMax       = 2 * federation.VotersMax // voters of a region while they are being replaced
	keysPeerIDBytesMax   = 128
	keysTimeout          = 15 * time.Second
	keysPerPeerPerSec    = 1
	keysPerPeerBurst     = 5
)

// ErrKeysRefused is in the chain of an error about keys that were not handed over, or
// not taken.
var ErrKeysRefused = errors.New("the region's keys were not handed over")

// RegionKeys are the secret keys that speak for a region. They print as nothing.
type RegionKeys struct {
	Log    *pci.PrivateKey // signs checkpoints
	Cosign *pci.PrivateKey // signs cosignatures
}

// fit says whether the keys are those of the region in the document.
func (k RegionKeys) fit(r *federation.Region) error {
	if k.Log == nil || k.Cosign == nil {
		return errors.New("a key is missing")
	}
	if federation.Key(k.Log.Public()) != r.LogKey {
		return fmt.Errorf("the log key is not the one that the federation document lists for region %q", r.Name)
	}
	if federation.Key(k.Cosign.Public()) != r.CosignKey {
		return fmt.Errorf("the cosign key is not the one that the federation document lists for region %q", r.Name)
	}
	return nil
}

// seed is the secret half of an Ed25519 key on the wire. It never prints.
type seed [32]byte

const redacted = "[secret]"

// Format implements fmt.Formatter, for every verb.
func (seed) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue implements slog.LogValuer.
func (seed) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the seed out of JSON; CBOR does not use it.
func (seed) MarshalText() ([]byte, error) { return []byte(redacted), nil }

type keysRequest struct {
	Region     string   `cbor:"1,keyasint"`
	Document   [32]byte `cbor:"2,keyasint"` // digest of the federation document that the sender goes by
	LogSeed    seed     `cbor:"3,keyasint"`
	CosignSeed seed     `cbor:"4,keyasint"`
	Entry      int64    `cbor:"5,keyasint"` // index of the entry that names the receiver
	Senders    []string `cbor:"6,keyasint"` // peer IDs of the region's voters now
}

// wipe clears the secrets of a request that is no longer needed.
func (r *keysRequest) wipe() { r.LogSeed, r.CosignSeed = seed{}, seed{} }

type keysResponse struct {
	Started bool `cbor:"1,keyasint,omitempty"` // now; false: it had been before
}

// namedBy finds the entry that makes a node a voter, and checks that an operator of the
// region signed it. It returns [ErrKeysRefused] where there is none.
func namedBy(v StateView, regionName string, node federation.Key, index int64) error {
	refused := func(format string, args ...any) error {
		return fmt.Errorf("%w: entry %d: %w", ErrKeysRefused, index, fmt.Errorf(format, args...))
	}
	e, err := v.Entry(index)
	if err != nil {
		return fmt.Errorf("read entry %d: %w", index, err)
	}
	if e.Kind != fsm.EntryProof || e.Envelope == nil || e.Outcome.Code != pci.Success || e.Region != regionName {
		return refused("it is no accepted proof of region %q", regionName)
	}
	text := func(name string) string {
		m, _ := e.Envelope.Payload.Data.Get(name)
		return m.String()
	}
	if op := text("op"); e.Envelope.Payload.Action != fsm.ActionRegionVoter || op != fsm.VoterAdd && op != fsm.VoterReplace {
		return refused("it makes nobody a voter")
	}
	if text("node") != node.String() {
		return refused("it names another node")
	}
	doc, err := v.DocumentAt(index) // its operators may have changed since
	if err != nil {
		return fmt.Errorf("read the federation document: %w", err)
	}
	r, ok := doc.Region(regionName)
	if !ok || !r.IsOperator(e.Envelope.Sender.PublicKey) {
		return refused("its signer is no operator of region %q", regionName)
	}
	if err := e.Envelope.Verify(); err != nil {
		return refused("%w", err)
	}
	return nil
}

// KeySenderConfig configures a [KeySender].
type KeySenderConfig struct {
	Host   host.Host
	Region string
	Read   Reader // linearizable
	Keys   RegionKeys
	// Configuration gives Raft's configuration: its voters are named to the new node.
	Configuration func() raft.Configuration
	Timeout       time.Duration // of one hand-over; 15 s
}

// KeySender hands the region's keys to nodes that are to vote.
type KeySender struct {
	cfg KeySenderConfig
}

// NewKeySender makes a KeySender.
func NewKeySender(cfg KeySenderConfig) (*KeySender, error) {
	set(&cfg.Timeout, keysTimeout)
	switch {
	case cfg.Host == nil || cfg.Region == "" || cfg.Read == nil || cfg.Configuration == nil:
		return nil, errors.New("keys: Host, Region, Read or Configuration is missing")
	case cfg.Keys.Log == nil || cfg.Keys.Cosign == nil:
		return nil, errors.New("keys: Keys is not complete")
	}
	if err := positive("keys", duration{"Timeout", cfg.Timeout}); err != nil {
		return nil, err
	}
	return &KeySender{cfg}, nil
}

// HandOver gives a node the region's keys and tells it to start Raft as one that was
// added. It does so only for a voter that the state names now, by an entry that an
// operator of the region signed, and over a connection that the node's own key has
// authenticated. Doing it again changes nothing.
func (k *KeySender) HandOver(ctx context.Context, node federation.Key) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	to, err := p2p.PeerID(node)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeysRefused, err)
	}
	request := keysRequest{Region: k.cfg.Region, LogSeed: k.cfg.Keys.Log.Seed(), CosignSeed: k.cfg.Keys.Cosign.Seed()}
	defer request.wipe()
	if err := k.cfg.Read(ctx, func(v StateView) error { return k.check(v, node, &request) }); err != nil {
		return fmt.Errorf("hand the region's keys to %v: %w", to, err)
	}
	for _, id := range RaftVoters(k.cfg.Configuration()) {
		request.Senders = append(request.Senders, id.String())
	}
	var response keysResponse
	if err := p2p.CallLimit(ctx, k.cfg.Host, to, p2p.ProtocolKeys, keysResponseBytesMax, &request, &response); err != nil {
		return fmt.Errorf("hand the region's keys to %v: %w", to, err)
	}
	return nil
}

// check looks the node up in the state and fills in what it is told.
func (k *KeySender) check(v StateView, node federation.Key, request *keysRequest) error {
	voters, err := v.Voters()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(voters, func(w fsm.Voter) bool { return w.NodeKey == node })
	if i < 0 {
		return fmt.Errorf("%w: no entry in force names it as a voter", ErrKeysRefused)
	}
	doc, err := v.Document()
	if err != nil {
		return err
	}
	r, ok := doc.Region(k.cfg.Region)
	if !ok {
		return fmt.Errorf("%w: the federation document has no region %q", ErrKeysRefused, k.cfg.Region)
	}
	if err := k.cfg.Keys.fit(r); err != nil {
		return fmt.Errorf("%w: %w", ErrKeysRefused, err)
	}
	request.Document, request.Entry = doc.Digest(), voters[i].Index
	return namedBy(v, k.cfg.Region, node, voters[i].Index)
}

// RaftHome is what this node's home holds of Raft.
type RaftHome uint8

// What a home may hold.
const (
	RaftNone    RaftHome = iota // nothing: it may be added
	RaftAdded                   // it was added and runs, or will; it has never voted
	RaftVoted                   // it is or was a voter
	RaftUnknown                 // it cannot be told
)

// KeysConfig configures [ServeKeys].
type KeysConfig struct {
	Region string
	// Read reads the own state, stale, where this node has some; nil where it never has.
	Read Reader
	// Entries says how many entries of the ledger the own state holds.
	Entries func() int64
	// IsVoter says whether a peer is one of the region's voters now. Default: whether the
	// access rules take it for one.
	IsVoter func(peer.ID) bool
	// Home says what this node's home holds of Raft.
	Home func() (RaftHome, error)
	// Store keeps the keys durably, readable by the owner alone. Storing the same keys
	// again must succeed.
	Store func(RegionKeys) error
	// StartAsAdded starts Raft as [region.Region.StartAsAdded] does. Its context ends with
	// the call.
	StartAsAdded func(ctx context.Context, senders []raft.ServerID) error
	Logger       *slog.Logger // default: nowhere
}

func (c KeysConfig) validate() error {
	if c.Region == "" || c.Home == nil || c.Store == nil || c.StartAsAdded == nil {
		return errors.New("keys: Region, Home, Store or StartAsAdded is missing")
	}
	if (c.Read == nil) != (c.Entries == nil) {
		return errors.New("keys: Read and Entries belong together")
	}
	return nil
}

// keyTaker takes keys, one sender at a time.
type keyTaker struct {
	cfg    KeysConfig
	access *p2p.Access
	self   federation.Key
	mu     sync.Mutex // held while keys are taken
}

// ServeKeys lets this node take its region's keys, and the word that it is to vote,
// from a voter of its region. It never gives keys to anybody who asks.
func ServeKeys(h host.Host, a *p2p.Access, cfg KeysConfig) (*p2p.Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.IsVoter == nil {
		cfg.IsVoter = func(p peer.ID) bool { return a.Role(p) == p2p.Voter }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	self, err := p2p.NodeKey(h.ID())
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	t := &keyTaker{cfg: cfg, access: a, self: self}
	s, err := p2p.Serve(h, a, p2p.ProtocolKeys, p2p.Limits{RequestBytesMax: keysRequestBytesMax, ResponseBytesMax: keysResponseBytesMax,
		ConcurrentMax: 8, PerPeerMax: 2, Timeout: keysTimeout, PerPeerPerSecond: keysPerPeerPerSec, PerPeerBurst: keysPerPeerBurst}, t.handle)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return s, nil
}

func (t *keyTaker) handle(ctx context.Context, from peer.ID, request *keysRequest) (*keysResponse, error) {
	defer request.wipe()
	t.mu.Lock()
	defer t.mu.Unlock()
	response, err := t.take(ctx, from, request)
	if err != nil {
		t.cfg.Logger.Warn("the region's keys were offered and not taken", "peer", from, "error", err)
		return nil, &p2p.Fault{Code: "refused", Detail: clip(err.Error())}
	}
	return response, nil
}

func (t *keyTaker) take(ctx context.Context, from peer.ID, request *keysRequest) (*keysResponse, error) {
	senders, err := t.checkSender(from, request)
	if err != nil {
		return nil, err
	}
	keys := RegionKeys{pci.NewKeyFromSeed(request.LogSeed), pci.NewKeyFromSeed(request.CosignSeed)}
	if err := t.checkKeys(keys, request); err != nil {
		return nil, err
	}
	if err := t.checkEntry(ctx, request.Entry); err != nil {
		return nil, err
	}
	home, err := t.cfg.Home()
	if err != nil {
		return nil, fmt.Errorf("look into this node's home: %w", err)
	}
	if home != RaftNone && home != RaftAdded {
		return nil, errors.New("this node's home holds a Raft store that voted under this ID: it must be added under a new one")
	}
	if err := t.cfg.Store(keys); err != nil {
		return nil, fmt.Errorf("store the region's keys: %w", err)
	}
	if home == RaftAdded {
		return &keysResponse{}, nil
	}
	if err := t.cfg.StartAsAdded(ctx, senders); err != nil {
		return nil, err
	}
	t.cfg.Logger.Info("this node has the region's keys and is to become a voter", "peer", from)
	return &keysResponse{Started: true}, nil
}

// checkSender takes a request from a voter of the own region only, who must name itself
// among the voters.
func (t *keyTaker) checkSender(from peer.ID, request *keysRequest) ([]raft.ServerID, error) {
	switch {
	case request.Region != t.cfg.Region:
		return nil, fmt.Errorf("this node is of region %q", t.cfg.Region)
	case !t.cfg.IsVoter(from):
		return nil, fmt.Errorf("%v is not one of the region's voters, as far as this node knows", from)
	case len(request.Senders) > keysSendersMax:
		return nil, fmt.Errorf("%d voters are named, at most %d", len(request.Senders), keysSendersMax)
	case !slices.Contains(request.Senders, from.String()):
		return nil, errors.New("the sender does not name itself among the region's voters")
	}
	ids := make([]raft.ServerID, 0, len(request.Senders))
	for _, text := range request.Senders {
		id, err := peer.Decode(text[:min(len(text), keysPeerIDBytesMax)])
		if err != nil {
			return nil, fmt.Errorf("a voter is named %.40q: %w", text, err)
		}
		ids = append(ids, raft.ServerID(id.String()))
	}
	return ids, nil
}

// checkKeys holds the keys against the federation document that this node trusts.
func (t *keyTaker) checkKeys(keys RegionKeys, request *keysRequest) error {
	doc := t.access.Document()
	if doc == nil {
		return errors.New("this node has no federation document yet")
	}
	r, ok := doc.Region(t.cfg.Region)
	if !ok {
		return fmt.Errorf("this node's federation document has no region %q", t.cfg.Region)
	}
	if doc.Digest() != request.Document {
		return errors.New("the sender goes by another federation document than this node")
	}
	return keys.fit(r)
}

// checkEntry looks for the entry that names this node, if it was followed that far.
func (t *keyTaker) checkEntry(ctx context.Context, index int64) error {
	if index < 0 {
		return fmt.Errorf("no entry has index %d", index)
	}
	if t.cfg.Read == nil || t.cfg.Entries() <= index {
		return nil // the sender has checked it, and is a voter
	}
	return t.cfg.Read(ctx, func(v StateView) error { return namedBy(v, t.cfg.Region, t.self, index) })
}
