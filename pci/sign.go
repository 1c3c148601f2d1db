package pci

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// timestampForm writes up to six decimals, without trailing zeros.
const timestampForm = "2006-01-02T15:04:05.999999Z07:00"

// Draft is what a signer fills in. AgentType, AgentID, Action and Data have no
// default; without a policy hash a region refuses the proof.
type Draft struct {
	EnvelopeID string    // a UUID; empty: a random one
	Timestamp  time.Time // cut to microseconds; zero: now
	Nonce      [32]byte  // never used before; zero: random
	AgentType  string    // AgentPAT or AgentSAT
	AgentID    string
	Action     string
	Data       Value // an object, see FromGo
	PolicyHash string
	StateHash  string
	IhsanScore float64 // in [0,1]
	SNRScore   float64 // in [0,1]
	Urgency    string  // empty: UrgencyRealTime
}

// withDefaults is where a signer's randomness and clock come in.
//
//detlint:allow rand an agent signs, not the state machine
//detlint:allow time an agent signs, not the state machine
func (d Draft) withDefaults() (Draft, error) {
	if d.EnvelopeID == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return d, fmt.Errorf("drawing an envelope id: %w", err)
		}
		d.EnvelopeID = id.String()
	}
	if d.Nonce == ([32]byte{}) {
		if _, err := rand.Read(d.Nonce[:]); err != nil {
			return d, fmt.Errorf("drawing a nonce: %w", err)
		}
	}
	if d.Timestamp.IsZero() {
		d.Timestamp = time.Now()
	}
	if d.Urgency == "" {
		d.Urgency = UrgencyRealTime
	}
	return d, nil
}

// Sign makes an envelope of a draft. It fills in a missing id, nonce, timestamp and
// urgency. A draft that does not satisfy the schema is a [*Reject] with
// [RejectSchema].
func Sign(d Draft, key *PrivateKey) (*Envelope, error) {
	d, err := d.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, s := range []string{d.EnvelopeID, d.AgentType, d.AgentID, d.Action, d.PolicyHash, d.StateHash, d.Urgency} {
		if !utf8.ValidString(s) {
			return nil, Rejectf(RejectSchema, "%s is not valid UTF-8", quote(s))
		}
	}
	before, after := d.canonical(key.Public())
	digest := digestOf(before, after)
	e, err := DecodeCanonical(assemble(before, key.Sign(digest[:]), after))
	if err != nil {
		return nil, fmt.Errorf("the draft makes no envelope: %w", err)
	}
	return e, nil
}

// assemble puts the signature member between the parts of a canonical form.
func assemble(before []byte, signature [64]byte, after []byte) []byte {
	const signatureBytesMax = 512 // of the whole member
	text := append(make([]byte, 0, len(before)+signatureBytesMax+len(after)), before...)
	text = append(text, `,"signature":{"algorithm":"`+SignatureAlgorithm+`","signed_fields":`+signedFields+`,"value":"`...)
	text = hex.AppendEncode(text, signature[:])
	text = append(text, `"}`...)
	return append(text, after...)
}

// canonical writes the canonical form in two parts, between which the signature
// member belongs.
func (d Draft) canonical(publicKey [32]byte) (before, after []byte) {
	b := make([]byte, 0, 1024+len(d.Data.text))
	b = AppendString(append(b, `{"envelope_id":`...), d.EnvelopeID)
	b = AppendFloat(append(b, `,"metadata":{"ihsan_score":`...), d.IhsanScore)
	b = AppendFloat(append(b, `,"snr_score":`...), d.SNRScore)
	b = AppendString(append(b, `,"urgency":`...), d.Urgency)
	b = hex.AppendEncode(append(b, `},"nonce":"`...), d.Nonce[:])
	b = AppendString(append(b, `","payload":{"action":`...), d.Action)
	b = d.Data.AppendCanonical(append(b, `,"data":`...))
	b = AppendString(append(b, `,"policy_hash":`...), d.PolicyHash)
	b = AppendString(append(b, `,"state_hash":`...), d.StateHash)
	b = AppendString(append(b, `},"sender":{"agent_id":`...), d.AgentID)
	b = AppendString(append(b, `,"agent_type":`...), d.AgentType)
	b = hex.AppendEncode(append(b, `,"public_key":"`...), publicKey[:])
	b = append(b, `"}`...)
	after = AppendString([]byte(`,"timestamp":`), d.Timestamp.UTC().Format(timestampForm))
	after = append(after, `,"version":"`+Version+`"}`...)
	return b, after
}
