package pci

import (
	"bytes"

	"github.com/zeebo/blake3"
)

// DigestPrefix separates the digests of envelopes from all other BLAKE3 digests.
const DigestPrefix = "bizra-pci-v1:"

// Envelope is a decoded envelope that satisfies the schema. Its fields are for
// reading: changing one does not change the canonical form or the digest.
type Envelope struct {
	Version    string // "1.0.0"
	EnvelopeID string // a UUID, as received
	Timestamp  string // RFC 3339 with Z, as received
	Nonce      [32]byte
	Sender     Sender
	Payload    Payload
	Metadata   Metadata
	Signature  *Signature // nil only from Inspect

	canonical []byte
	digest    [32]byte
	micros    int64
}

// Sender names the agent and the key it signs with.
type Sender struct {
	AgentType string // PAT or SAT
	AgentID   string // at most 256 bytes, without control characters and ':'
	PublicKey [32]byte
}

// Payload is what the agent did.
type Payload struct {
	Action     string
	Data       Value  // an object; its members depend on the action
	PolicyHash string // the policy that the agent acted under, at most 128 bytes
	StateHash  string // the head that the agent acted on, 64 hex digits or empty
}

// Metadata holds the sender's own claims about its work.
type Metadata struct {
	IhsanScore float64 // in [0,1]
	SNRScore   float64 // in [0,1]
	IhsanText  string  // the number token as received
	SNRText    string  // the number token as received
	Urgency    string  // REAL_TIME or BATCH
}

// Signature is the sender's Ed25519 signature over the digest.
type Signature struct {
	Value [64]byte
}

// Decode reads an envelope as received: any spacing, order and escapes, but
// otherwise strictly. A fault of form is a [*Reject] with [RejectSchema]; a
// signature that is null, missing or not 128 lower-case hex digits, one with
// [RejectSignature]. It does not verify the signature, see [Envelope.Verify].
func Decode(wire []byte) (*Envelope, error) {
	e, err := Inspect(wire)
	if err != nil {
		return nil, err
	}
	return e.signed()
}

// DecodeCanonical is [Decode] for text that must be in canonical form already; any
// other is a [*Reject] with [RejectSchema].
func DecodeCanonical(b []byte) (*Envelope, error) {
	canonical, kind, err := canonicalise(b, Limits{})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, canonical) {
		return nil, Rejectf(RejectSchema, "the envelope must be in canonical form; it differs at byte %d", difference(b, canonical))
	}
	e, err := newEnvelope(canonical, kind)
	if err != nil {
		return nil, err
	}
	return e.signed()
}

// Inspect is [Decode] without the demand for a signature: where that is null,
// missing or cannot be decoded, the envelope has a nil Signature. It serves to show
// an envelope, or its digest, before it is signed or after it was refused.
func Inspect(wire []byte) (*Envelope, error) {
	canonical, kind, err := canonicalise(wire, Limits{})
	if err != nil {
		return nil, err
	}
	return newEnvelope(canonical, kind)
}

func (e *Envelope) signed() (*Envelope, error) {
	if e.Signature == nil {
		return nil, e.unsigned()
	}
	return e, nil
}

func (e *Envelope) unsigned() error {
	return Rejectf(RejectSignature, "signature must be an object whose value is 128 lower-case hex digits")
}

// Canonical returns the canonical form, signature included. It must not be modified.
func (e *Envelope) Canonical() []byte { return e.canonical }

// Digest returns what is signed: BLAKE3-256 over [DigestPrefix] and the canonical
// form without its signature member.
func (e *Envelope) Digest() [32]byte { return e.digest }

// TimestampMicros returns the timestamp in microseconds since 1970, without leap seconds.
func (e *Envelope) TimestampMicros() int64 { return e.micros }

// MarshalJSON returns the canonical form.
func (e *Envelope) MarshalJSON() ([]byte, error) { return bytes.Clone(e.canonical), nil }

// difference returns the index of the first byte in which two texts differ.
func difference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// digestOf hashes the canonical form of an envelope, given as the parts before and
// after its signature member.
func digestOf(before, after []byte) [32]byte {
	// The usual envelope fits; a longer one moves to the heap.
	var room [2048]byte
	text := append(room[:0], DigestPrefix...)
	text = append(text, before...)
	text = append(text, after...)
	return blake3.Sum256(text)
}
