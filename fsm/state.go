package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
)

// Every key of the machine starts with one byte that says what it is. The ledger
// owns D, E, H, I and L, the prefix tree T.
const (
	keyState    = 'S' // the state proper, which the commitment covers
	keyPending  = 'P' // state keys changed since the commitment was last brought up to date
	keyNode     = 'N' // session nodes by hash: entry index, canonical form; bound by the tips
	keyHistory  = 'G' // session ‖ 0 ‖ number of the node: its hash
	keyNonce    = 'X' // nonces within the window: sequence number, log time; bound by the window's chains
	keyExpiry   = 'Y' // sequence number: nonce, log time
	keyDocument = 'B' // federation documents by digest
	keyInForce  = 'F' // index of the entry that put a document in force: its digest
	keySeal     = 'Z' // seals by number
	keyEpoch    = 'K' // number of an epoch that a market settled last: index of the entry that says so
	keyMeta     = 'M' // Raft index applied; not a function of the ledger

	// What the region has said about itself and others. Not functions of the ledger, so not in the
	// commitment; in every snapshot.
	keyAttest      = 'A' // what is certified
	keyCertificate = 'C' // certificates by number of the seal
	keyLock        = 'V' // ‖ region: the checkpoints that this region voted for
	keyEvidence    = 'Q' // ‖ region: the evidence that it lied
)

// Names under keyState.
const (
	stateHead    = "head"
	stateAgent   = "agent/"   // ‖ agent_id
	stateKey     = "key/"     // ‖ public key: the agent_id that it belongs to
	stateSession = "session/" // ‖ session id
	stateConduct = "conduct/" // ‖ agent_id: how its proofs came out
	stateLimited = "limited/" // ‖ agent_id of one whose breaker is not clear: its state
	stateLimit   = "limit/"   // ‖ public key
	stateVoters  = "voters"
	stateSpent   = "spent/" // ‖ node key of a voter that was removed
	stateMarket  = "market/head"
	stateHolder  = "market/holder/"  // ‖ owner
	stateLicence = "market/licence/" // ‖ number, 8 bytes big-endian
	stateWindow  = "window/"         // ‖ second of log time: chain over the nonces of that second
)

func stateKeyOf(name, id string) []byte {
	b := make([]byte, 0, 1+len(name)+len(id))
	return append(append(append(b, keyState), name...), id...)
}

func numbered(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

// StateVersion is the version of the rules that this program knows. A ledger says
// in its genesis entry, and later in entries that raise it, which one is in force.
const StateVersion = 2

// head is the part of the state that every entry moves.
type head struct {
	_              struct{} `cbor:",toarray"`
	StateVersion   int64
	TimeMillis     int64 // log time: that of the last entry
	Document       int64
	DocumentDigest [32]byte
	NonceFirst     uint64 // sequence number of the oldest nonce remembered
	NonceNext      uint64
}

// Agent is what the registry holds of an agent.
type Agent struct {
	_                struct{} `cbor:",toarray"`
	ID               string
	PublicKey        [32]byte
	Type             string // PAT or SAT
	Owner            string
	RegisteredMillis int64 // log time
	RevokedMillis    int64 // 0 while it is in force
}

// Voter is what the state holds of a node that is to vote in the region's Raft.
type Voter struct {
	_         struct{} `cbor:",toarray"`
	Name      string
	NodeKey   [32]byte
	Addresses []string
	Index     int64 // of the entry that made it one
}

// voters are those that are to vote now, in the order in which they became voters.
type voters struct {
	_      struct{} `cbor:",toarray"`
	Active []Voter
}

const votersMax = federation.VotersMax

// limit counts an agent's refusals in one minute of log time.
type limit struct {
	_          struct{} `cbor:",toarray"`
	Minute     int64
	Refusals   int64
	Mismatches int64
}

// window binds the nonces of one second of log time into the state commitment.
type window struct {
	_     struct{} `cbor:",toarray"`
	Count int64
	Chain [32]byte // SHA-256 chain over sequence number, log time and nonce
}

type meta struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Term  uint64
	Seals int64 // made so far
}

// Errors of the machine.
var (
	// ErrStop is returned when this replica must not go on: a command of an unknown
	// version, or storage that failed. The state on disk is as of the applied index.
	ErrStop = errors.New("this replica must stop")
	// ErrDiverged is returned when re-executing an entry gives another outcome, or a
	// seal another state, than the one recorded.
	ErrDiverged = errors.New("re-execution differs from the record")
	// ErrNotFound is returned for something that the state does not hold.
	ErrNotFound = store.ErrNotFound
)

// load reads one record of the state; found is false where there is none.
func load[T any](e encoding, g store.Getter, key []byte, into *T) (found bool, err error) {
	b, err := g.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state %q: %w", key, err)
	}
	if err := e.dec.Unmarshal(b, into); err != nil {
		return false, fmt.Errorf("decode state %q: %w", key, err)
	}
	return true, nil
}

func save(e encoding, t *store.Txn, key []byte, v any) error {
	b, err := e.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode state %q: %w", key, err)
	}
	t.Set(key, b)
	return nil
}

// nodes looks session nodes up in one reader.
type nodes struct{ g store.Getter }

func nodeKey(h session.Hash) []byte { return append([]byte{keyNode}, h[:]...) }

// HasNode implements [session.Nodes].
func (n nodes) HasNode(h session.Hash) (bool, error) {
	return has(n.g, nodeKey(h))
}

// Node implements [session.Nodes].
func (n nodes) Node(h session.Hash) (*session.Node, error) {
	node, _, err := n.at(h)
	return node, err
}

// Lineage implements [session.Nodes].
func (n nodes) Lineage(h session.Hash) (clock uint64, parents []session.Hash, err error) {
	b, err := n.g.Get(nodeKey(h))
	if err != nil {
		return 0, nil, fmt.Errorf("read session node %v: %w", h, err)
	}
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("session node %v: record of %d bytes is too short", h, len(b))
	}
	return session.ParseLineage(b[8:])
}

// at also gives the index of the entry that made the node.
func (n nodes) at(h session.Hash) (*session.Node, int64, error) {
	b, err := n.g.Get(nodeKey(h))
	if err != nil {
		return nil, 0, fmt.Errorf("read session node %v: %w", h, err)
	}
	if len(b) < 8 {
		return nil, 0, fmt.Errorf("session node %v: record of %d bytes is too short", h, len(b))
	}
	node, err := session.ParseNode(b[8:])
	if err != nil {
		return nil, 0, err
	}
	return node, int64(binary.BigEndian.Uint64(b)), nil //nolint:gosec // written from an int64
}
