package members

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

// Messages are a version byte and CBOR of [body, signature]; the signature is the node's,
// Ed25519 over a domain and the body.
const (
	wireVersion  = 2
	beatDomain   = "bizra-heartbeat-v2:"
	digestDomain = "bizra-members-digest-v1:"
	rosterDomain = "bizra-members-roster-v1:"

	nameBytesMax    = 63
	versionBytesMax = 64
	// DigestMembersMax bounds the nodes that a digest names; voters come first.
	DigestMembersMax = 256
)

var (
	errVersion = errors.New("message is of a version that this program does not know")
	errInvalid = errors.New("message is invalid")
)

// beat is what a node says of itself.
type beat struct {
	Federation string         `cbor:"federation"`
	Region     string         `cbor:"region"`
	Node       federation.Key `cbor:"node"`
	// Seq is the node's clock in Unix milliseconds, raised by one where the clock stands.
	Seq     uint64 `cbor:"seq"`
	Leaving bool   `cbor:"leaving"`
	Version string `cbor:"version"` // of its program
	Entries uint64 `cbor:"entries"` // of its region's ledger that it holds
	// EveryMillis is when the next beat is to be expected.
	EveryMillis uint32 `cbor:"every"`
}

// every is the time between two beats of the node that sent this one.
func (b *beat) every() time.Duration { return time.Duration(b.EveryMillis) * time.Millisecond }

// digest is what a voter says of its region.
type digest struct {
	Federation string         `cbor:"federation"`
	Region     string         `cbor:"region"`
	Node       federation.Key `cbor:"node"` // who says it
	Seq        uint64         `cbor:"seq"`
	Alive      uint32         `cbor:"alive"`
	Suspect    uint32         `cbor:"suspect"`
	Left       uint32         `cbor:"left"`
	Members    []digestMember `cbor:"members"`
}

// roster is what a voter tells the nodes of its own region: what its digest says, and what the
// digests of the others have told it.
type roster struct {
	digest
	World []worldRegion `cbor:"world"`
}

type worldRegion struct {
	_          struct{} `cbor:",toarray"`
	Name       string
	Alive      uint32
	Suspect    uint32
	Left       uint32
	AgeSeconds uint32 // since its digest was heard
}

type digestMember struct {
	_     struct{}       `cbor:",toarray"`
	Node  federation.Key // its key
	Voter bool
	State State
}

type signed struct {
	_         struct{} `cbor:",toarray"`
	Body      []byte
	Signature []byte
}

func seal(domain string, body any, key crypto.PrivKey) ([]byte, error) {
	b, err := p2p.Marshal(body)
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(append([]byte(domain), b...))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	outer, err := p2p.Marshal(signed{Body: b, Signature: signature})
	if err != nil {
		return nil, err
	}
	return append([]byte{wireVersion}, outer...), nil
}

// Verify checks an Ed25519 signature.
type Verify func(public [32]byte, message, signature []byte) bool

// open decodes a message and checks its signature by the key that author reads from the body.
func (v Verify) open(domain string, payload []byte, body any, author func() federation.Key) (peer.ID, error) {
	if len(payload) == 0 {
		return "", errInvalid
	}
	if payload[0] != wireVersion {
		return "", errVersion
	}
	var outer signed
	if err := p2p.Unmarshal(payload[1:], &outer); err != nil {
		return "", fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := p2p.Unmarshal(outer.Body, body); err != nil {
		return "", fmt.Errorf("%w: %w", errInvalid, err)
	}
	id, err := p2p.PeerID(author())
	if err != nil {
		return "", fmt.Errorf("%w: %w", errInvalid, err)
	}
	if !v(author(), append([]byte(domain), outer.Body...), outer.Signature) {
		return "", fmt.Errorf("%w: its signature is not that of the node that it names", errInvalid)
	}
	return id, nil
}

// openBeat reads a beat for a topic of a region.
func (v Verify) openBeat(payload []byte, fed, region string) (*beat, peer.ID, error) {
	var b beat
	id, err := v.open(beatDomain, payload, &b, func() federation.Key { return b.Node })
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("heartbeat: %w", err)
	case b.Federation != fed || b.Region != region:
		return nil, "", fmt.Errorf("heartbeat: %w: it is for another region or federation", errInvalid)
	case len(b.Version) > versionBytesMax:
		return nil, "", fmt.Errorf("heartbeat: %w: its version has more than %d bytes", errInvalid, versionBytesMax)
	case b.every() < beatLeast || b.every() > beatMost:
		return nil, "", fmt.Errorf("heartbeat: %w: the next is to come after %v: from %v to %v", errInvalid, b.every(), beatLeast, beatMost)
	}
	return &b, id, nil
}

// openDigest reads a digest of any region.
func (v Verify) openDigest(payload []byte, fed string) (*digest, peer.ID, error) {
	var d digest
	id, err := v.open(digestDomain, payload, &d, func() federation.Key { return d.Node })
	if err == nil {
		err = d.check(fed)
	}
	if err != nil {
		return nil, "", fmt.Errorf("digest: %w", err)
	}
	return &d, id, nil
}

// openRoster reads a roster for a topic of a region.
func (v Verify) openRoster(payload []byte, fed, region string) (*roster, peer.ID, error) {
	var r roster
	id, err := v.open(rosterDomain, payload, &r, func() federation.Key { return r.Node })
	if err == nil {
		err = r.check(fed)
	}
	switch {
	case err != nil:
	case r.Region != region:
		err = fmt.Errorf("%w: it is for another region", errInvalid)
	case len(r.World) > RegionsMax:
		err = fmt.Errorf("%w: it counts %d regions, at most %d", errInvalid, len(r.World), RegionsMax)
	case slices.ContainsFunc(r.World, func(w worldRegion) bool { return w.Name == "" || len(w.Name) > nameBytesMax }):
		err = fmt.Errorf("%w: a region without a name, or with one of more than %d bytes", errInvalid, nameBytesMax)
	}
	if err != nil {
		return nil, "", fmt.Errorf("roster: %w", err)
	}
	return &r, id, nil
}

func (d *digest) check(fed string) error {
	switch {
	case d.Federation != fed || d.Region == "" || len(d.Region) > nameBytesMax:
		return fmt.Errorf("%w: it is for another federation, or of no region", errInvalid)
	case len(d.Members) > DigestMembersMax:
		return fmt.Errorf("%w: it names %d nodes, at most %d", errInvalid, len(d.Members), DigestMembersMax)
	}
	for _, m := range d.Members {
		if m.State > Left {
			return fmt.Errorf("%w: there is no state %d", errInvalid, m.State)
		}
	}
	return nil
}

// freshFor is how far a sequence number, which is a clock, may be off this node's.
const freshFor = 2 * time.Minute

func fresh(seq uint64, now time.Time) bool {
	off := time.UnixMilli(int64(min(seq, 1<<50))).Sub(now)
	return off.Abs() <= freshFor
}
