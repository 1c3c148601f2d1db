package fsm

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Limits of the commands of attestation.
const (
	// CertificateBytesMax is the longest certificate: 100 signature lines of at most 250 bytes.
	CertificateBytesMax = 32 << 10

	attestVersion = 1 // of the payload of the commands below
)

// The payloads of the commands of attestation. Each stands in a command behind a version
// byte of its own, since attestation may change while proofs stay as they are.
type voteCommand struct {
	_        struct{} `cbor:",toarray"`
	Origin   string   // name of the region voted for
	Document int64    // version of the federation document under which the vote is given
	Note     []byte   // the origin's signed checkpoint
	Proof    tlog.TreeProof
}

type certifyCommand struct {
	_      struct{} `cbor:",toarray"`
	Number int64    // of the own seal
	Note   []byte
}

type evidenceCommand struct {
	_        struct{} `cbor:",toarray"`
	Origin   string
	Evidence []byte
}

// EncodeVote makes the command that binds this region to a signed checkpoint of another: under
// a version of the federation document, with the proof that leads there from what it was bound to.
func EncodeVote(origin string, document int64, note []byte, proof tlog.TreeProof) []byte {
	return encodeAttest(kindVote, &voteCommand{Origin: origin, Document: document, Note: note, Proof: proof})
}

// EncodeCertify makes the command that records the certificate of one of the own seals. Whoever
// proposes it has verified the certificate.
func EncodeCertify(number int64, note []byte) []byte {
	return encodeAttest(kindCertify, &certifyCommand{Number: number, Note: note})
}

// EncodeEvidence makes the command that records evidence (of package checkpoint) that a region lied.
func EncodeEvidence(origin string, evidence []byte) []byte {
	return encodeAttest(kindEvidence, &evidenceCommand{Origin: origin, Evidence: evidence})
}

func encodeAttest(kind uint8, payload any) []byte {
	enc, err := newEncMode()
	if err != nil {
		panic(err) // the options are constants of this package
	}
	b, err := enc.Marshal(payload)
	if err != nil {
		panic(err) // the structs have no type that CBOR cannot hold
	}
	return mustEncode(command{Kind: kind, Payload: append([]byte{attestVersion}, b...)})
}

// decodeAttest reads a payload; what it cannot read was written by another program, or is damaged.
func (e encoding) decodeAttest(payload []byte, into any) error {
	if len(payload) == 0 {
		return fmt.Errorf("%w: a command of attestation without content", ErrStop)
	}
	if payload[0] != attestVersion {
		return fmt.Errorf("%w: version %d of the commands of attestation is not known to this program, which knows version %d: install the newer bizra that wrote it",
			ErrStop, payload[0], attestVersion)
	}
	if err := e.dec.Unmarshal(payload[1:], into); err != nil {
		return fmt.Errorf("%w: decode a command of attestation: %w", ErrStop, err)
	}
	return nil
}

// attest applies a command of attestation.
func (m *Machine) attest(cmd *command) (*Attested, error) {
	switch cmd.Kind {
	case kindVote:
		var c voteCommand
		if err := m.enc.decodeAttest(cmd.Payload, &c); err != nil {
			return nil, err
		}
		return m.vote(&c)
	case kindCertify:
		var c certifyCommand
		if err := m.enc.decodeAttest(cmd.Payload, &c); err != nil {
			return nil, err
		}
		return m.certify(c.Number, c.Note)
	default:
		var c evidenceCommand
		if err := m.enc.decodeAttest(cmd.Payload, &c); err != nil {
			return nil, err
		}
		return m.convict(&c)
	}
}
