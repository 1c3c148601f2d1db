package checkpoint

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/ledger"
)

const (
	// EvidenceBytesMax bounds evidence: two notes, a root, a proof.
	EvidenceBytesMax = 2*NoteBytesMax + 34*(ProofHashesMax+1) + 64
	// ProofHashesMax is more hashes than a consistency proof between two sizes of at most
	// ledger.SizeMax can have.
	ProofHashesMax  = 64
	evidenceVersion = 1
)

// ErrEvidence is returned, wrapped, for evidence that is malformed or shows nothing.
var ErrEvidence = errors.New("no evidence")

// Evidence shows that an origin signed two checkpoints that cannot both be true. Of
// two of equal size, different bodies do, since a body is a function of the entries;
// Root and Proof are then empty. Of two of sizes m < n, it takes a consistency proof
// (RFC 6962) that leads from size m and Root to the second's root, where Root is not
// what the first says: the second's ledger has another prefix than the first's.
type Evidence struct {
	First  []byte // checkpoint note of the smaller size
	Second []byte
	Root   tlog.Hash // what the second's ledger has at the first's size
	Proof  tlog.TreeProof
}

type evidenceForm struct {
	_      struct{} `cbor:",toarray"`
	First  []byte
	Second []byte
	Root   []byte // empty for the zero hash
	Proof  [][]byte
}

// Marshal is the evidence's one form: a version byte, then CBOR in core deterministic encoding.
func (e *Evidence) Marshal() ([]byte, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	f := evidenceForm{First: e.First, Second: e.Second, Root: []byte{}, Proof: make([][]byte, len(e.Proof))}
	if f.First == nil || f.Second == nil {
		return nil, fmt.Errorf("encode evidence: %w: a note is missing", ErrEvidence)
	}
	if e.Root != (tlog.Hash{}) {
		f.Root = e.Root[:]
	}
	for i := range e.Proof {
		f.Proof[i] = e.Proof[i][:]
	}
	b, err := enc.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return append([]byte{evidenceVersion}, b...), nil
}

// ParseEvidence reads what [Evidence.Marshal] writes and nothing else. It does not
// check what the evidence shows; [Evidence.Check] does. An error wraps [ErrEvidence].
func ParseEvidence(data []byte) (*Evidence, error) {
	if len(data) == 0 || len(data) > EvidenceBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, there must be 1 to %d", ErrEvidence, len(data), EvidenceBytesMax)
	}
	if data[0] != evidenceVersion {
		return nil, fmt.Errorf("%w: version %d is not known to this program, which knows version %d", ErrEvidence, data[0], evidenceVersion)
	}
	dec, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4,
		MaxArrayElements: ProofHashesMax}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("decode evidence: %w", err)
	}
	var f evidenceForm
	if err := dec.Unmarshal(data[1:], &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	e := &Evidence{First: f.First, Second: f.Second}
	if len(f.Root) > 0 {
		if len(f.Root) != len(e.Root) {
			return nil, fmt.Errorf("%w: a root of %d bytes", ErrEvidence, len(f.Root))
		}
		e.Root = tlog.Hash(f.Root)
	}
	for _, h := range f.Proof {
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("%w: a hash of %d bytes in the proof", ErrEvidence, len(h))
		}
		e.Proof = append(e.Proof, tlog.Hash(h))
	}
	if again, err := e.Marshal(); err != nil || !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%w: not written in its one form", ErrEvidence)
	}
	return e, nil
}

// Check returns nil if the evidence shows that who holds the origin's log key signed
// two checkpoints that cannot both be true. An error wraps [ErrEvidence]: the origin
// is accused of nothing.
func (e *Evidence) Check(origin string, logKey [32]byte) error {
	first, err := Open(e.First, origin, logKey)
	if err != nil {
		return fmt.Errorf("%w: first note: %w", ErrEvidence, err)
	}
	second, err := Open(e.Second, origin, logKey)
	if err != nil {
		return fmt.Errorf("%w: second note: %w", ErrEvidence, err)
	}
	switch {
	case first.Size > second.Size:
		return fmt.Errorf("%w: the first note has size %d, the second %d: the smaller comes first", ErrEvidence, first.Size, second.Size)
	case first.Size == second.Size:
		if len(e.Proof) > 0 || e.Root != (tlog.Hash{}) {
			return fmt.Errorf("%w: two notes of equal size need no proof", ErrEvidence)
		}
		if *first == *second {
			return fmt.Errorf("%w: both notes say the same", ErrEvidence)
		}
		return nil
	}
	if e.Root == tlog.Hash(first.Root) {
		return fmt.Errorf("%w: the proof leads from what the first note says", ErrEvidence)
	}
	if err := ledger.CheckConsistency(e.Proof, second.Size, second.Root, first.Size, e.Root); err != nil {
		return fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	return nil
}

// Contradiction makes the evidence from two checkpoint notes of one origin whose
// sizes are equal and whose bodies differ. The same two give the same evidence,
// whichever came first.
func Contradiction(a, b []byte) *Evidence {
	if bytes.Compare(a, b) > 0 {
		a, b = b, a
	}
	return &Evidence{First: a, Second: b}
}
