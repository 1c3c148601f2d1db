package fsm

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a command.
const (
	BatchProofsMax  = 512
	BatchBytesMax   = 512 << 10 // canonical forms together; one proof alone is always below it
	commandBytesMax = 2 << 20
	commandVersion  = 1
)

// Kinds of commands. A number once given is never given another meaning.
const (
	kindProofs   = 1
	kindGenesis  = 2
	kindSeal     = 3
	kindAdopt    = 4
	kindVote     = 5
	kindCertify  = 6
	kindEvidence = 7
)

// Command is one Raft log entry, as the machine takes it.
type Command struct {
	Index uint64 // Raft index
	Term  uint64
	Data  []byte // a version byte, then CBOR
}

type command struct {
	_           struct{} `cbor:",toarray"`
	Kind        uint8
	StampMillis int64    // the leader's clock, Unix milliseconds; 0 for a seal
	Proofs      [][]byte // canonical forms, for kindProofs
	Payload     []byte   // canonical form of a federation document, for kindGenesis and kindAdopt; a command of attestation with its own version
}

// encoding is CBOR's core deterministic encoding, and a decoder with limits that
// takes nothing else. Both are immutable.
type encoding struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newEncoding() (encoding, error) {
	enc, err := newEncMode()
	if err != nil {
		return encoding{}, err
	}
	dec, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, MaxNestedLevels: 8, MaxArrayElements: 1 << 16, MaxMapPairs: 1 << 10,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid}.DecMode()
	if err != nil {
		return encoding{}, fmt.Errorf("set up CBOR decoding: %w", err)
	}
	return encoding{enc, dec}, nil
}

func newEncMode() (cbor.EncMode, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("set up CBOR encoding: %w", err)
	}
	return enc, nil
}

func mustEncode(c command) []byte {
	enc, err := newEncMode()
	if err != nil {
		panic(err) // the options are constants of this package
	}
	b, err := enc.Marshal(c)
	if err != nil {
		panic(err) // the struct has no type that CBOR cannot hold
	}
	return append([]byte{commandVersion}, b...)
}

// EncodeProofs makes the command that submits proofs, each in canonical form with
// its signature, at most [BatchProofsMax] and [BatchBytesMax] together.
func EncodeProofs(stampMillis int64, canonical [][]byte) []byte {
	return mustEncode(command{Kind: kindProofs, StampMillis: stampMillis, Proofs: canonical})
}

// EncodeGenesis makes the command that founds the ledger under a federation document.
func EncodeGenesis(stampMillis int64, document []byte) []byte {
	return mustEncode(command{Kind: kindGenesis, StampMillis: stampMillis, Payload: document})
}

// EncodeAdopt makes the command that submits the one proof by which an operator adopts a
// federation document, with the document in canonical form.
func EncodeAdopt(stampMillis int64, canonical, document []byte) []byte {
	return mustEncode(command{Kind: kindAdopt, StampMillis: stampMillis, Proofs: [][]byte{canonical}, Payload: document})
}

// EncodeSeal makes the command that seals the ledger. It carries no values: what
// a seal says, every replica works out for itself.
func EncodeSeal() []byte { return mustEncode(command{Kind: kindSeal}) }

func (e encoding) decodeCommand(data []byte) (command, error) {
	var c command
	if len(data) == 0 || len(data) > commandBytesMax {
		return c, fmt.Errorf("%w: a command of %d bytes: it must have 1 to %d", ErrStop, len(data), commandBytesMax)
	}
	if data[0] != commandVersion {
		return c, fmt.Errorf("%w: command version %d is not known to this program, which knows version %d: install the newer bizra that wrote it",
			ErrStop, data[0], commandVersion)
	}
	if err := e.dec.Unmarshal(data[1:], &c); err != nil {
		return c, fmt.Errorf("%w: decode a command: %w", ErrStop, err)
	}
	if len(c.Proofs) > BatchProofsMax {
		return c, fmt.Errorf("%w: a command with %d proofs: at most %d", ErrStop, len(c.Proofs), BatchProofsMax)
	}
	return c, nil
}
