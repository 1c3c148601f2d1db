package prefixtree

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// ProofDepthMax bounds the steps of a proof: one for each bit of a key.
	ProofDepthMax = keyBits
	// ProofBytesMax bounds a marshalled proof: header, steps of 33 bytes, the longest end.
	ProofBytesMax = 4 + ProofDepthMax*stepBytes + (2 + 32 + 32 + 32)
)

// proofFormat is the first byte of a marshalled proof.
const proofFormat = 1

// stepBytes is the size of a marshalled step: depth and hash.
const stepBytes = 1 + 32

// ErrProof is returned, wrapped, by Verify for a proof that does not show what is asked of it.
var ErrProof = errors.New("state proof does not hold")

// ErrProofFormat is returned, wrapped, for bytes or text that are no proof.
var ErrProofFormat = errors.New("malformed state proof")

// end says what stands where the way down to a key ends.
type end byte

const (
	endNone  end = iota // the zero Proof: shows nothing
	endEmpty            // the tree is empty
	endKey              // the key's own leaf
	endLeaf             // the leaf of another key
	endInner            // an inner node whose label is no prefix of the key
)

// step is one inner node on the way down: the bit at which it parts, and the hash of the child beside the way.
type step struct {
	depth   byte
	sibling [32]byte
}

// Proof shows against a root that a key has a value, or that it is absent. It is made by [Prove] or unmarshalled, and
// is immutable; the zero Proof shows nothing.
type Proof struct {
	end   end
	steps []step // from the top down, depths rise
	// at is, for endLeaf, the other leaf's key and, for endInner, the label of the node where the way ends.
	at label
	// hashes are, for endLeaf, {value, unused} and, for endInner, the hashes of left and right child.
	hashes [2][32]byte
}

// Prove returns the proof for key in the tree in r: of its value where it is present, of its absence where it is not.
func Prove(r Reader, key [32]byte) (Proof, error) {
	at, err := readTop(r)
	if err != nil {
		return Proof{}, err
	}
	if !at.present {
		return Proof{end: endEmpty}, nil
	}
	var p Proof
	for !at.isLeaf() {
		var n inner
		if err := load(r, &at, &n); err != nil {
			return Proof{}, err
		}
		if !at.label.isPrefixOf(&key) {
			p.end, p.at, p.hashes = endInner, at.label, [2][32]byte{n[0].hash(), n[1].hash()}
			return p, nil
		}
		depth := at.label.len
		side := bitAt(&key, depth)
		p.steps = append(p.steps, step{byte(depth), n[1-side].hash()}) // #nosec G115 -- an inner label has at most 255 bits
		at = n[side]
	}
	if at.label.bits == key {
		p.end = endKey
		return p, nil
	}
	p.end, p.at, p.hashes[0] = endLeaf, at.label, at.sum
	return p, nil
}

// Member reports whether the proof is one of presence; it says nothing until Verify accepted the proof.
func (p Proof) Member() bool { return p.end == endKey }

// Verify checks that in the tree of root, key has value, or is absent where value is nil. An error wraps [ErrProof].
func (p Proof) Verify(root, key [32]byte, value *[32]byte) error {
	if p.end == endKey && value == nil {
		return fmt.Errorf("%w: it is for a key that is present", ErrProof)
	}
	if p.end != endKey && value != nil {
		return fmt.Errorf("%w: it is for a key that is absent", ErrProof)
	}
	hash, err := p.endHash(&key, value)
	if err != nil {
		return err
	}
	for i := len(p.steps) - 1; i >= 0; i-- {
		depth := uint16(p.steps[i].depth)
		l := prefixOf(key, depth)
		if bitAt(&key, depth) == 0 {
			hash = innerHash(&l, &hash, &p.steps[i].sibling)
		} else {
			hash = innerHash(&l, &p.steps[i].sibling, &hash)
		}
	}
	if hash != root {
		return fmt.Errorf("%w: it leads to root %x, not %x", ErrProof, hash, root)
	}
	return nil
}

// endHash returns the hash of the node where the way ends, after checking that it answers for key.
func (p *Proof) endHash(key, value *[32]byte) ([32]byte, error) {
	// above is how many bits the way fixes: one more than the depth of the last step. The node at its end shares them
	// with key, or it would stand elsewhere.
	above := uint16(0)
	if n := len(p.steps); n > 0 {
		above = uint16(p.steps[n-1].depth) + 1
	}
	shared := sharedBits(&p.at.bits, key)
	switch p.end {
	case endEmpty:
		return EmptyRoot(), nil
	case endKey:
		return leafHash(key, value), nil
	case endLeaf, endInner:
		if shared < above {
			return [32]byte{}, fmt.Errorf("%w: it ends beside the key's way, at bit %d", ErrProof, shared)
		}
		if shared >= p.at.len {
			return [32]byte{}, fmt.Errorf("%w: the key may be below the node where it ends", ErrProof)
		}
		if p.end == endLeaf {
			return leafHash(&p.at.bits, &p.hashes[0]), nil
		}
		return innerHash(&p.at, &p.hashes[0], &p.hashes[1]), nil
	}
	return [32]byte{}, fmt.Errorf("%w: it is empty", ErrProof)
}

// MarshalBinary returns the one encoding of the proof, at most ProofBytesMax bytes.
func (p Proof) MarshalBinary() ([]byte, error) {
	if p.end == endNone {
		return nil, fmt.Errorf("%w: it is empty", ErrProofFormat)
	}
	b := append(make([]byte, 0, 4+len(p.steps)*stepBytes+98), proofFormat, byte(p.end))
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.steps))) // #nosec G115 -- at most 256 steps
	for i := range p.steps {
		b = append(b, p.steps[i].depth)
		b = append(b, p.steps[i].sibling[:]...)
	}
	switch p.end {
	case endLeaf:
		b = append(b, p.at.bits[:]...)
		b = append(b, p.hashes[0][:]...)
	case endInner:
		b = p.at.append(b)
		b = append(b, p.hashes[0][:]...)
		b = append(b, p.hashes[1][:]...)
	}
	return b, nil
}

// UnmarshalBinary accepts exactly what MarshalBinary writes. An error wraps [ErrProofFormat] and leaves p as it was.
func (p *Proof) UnmarshalBinary(b []byte) error {
	if len(b) > ProofBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrProofFormat, len(b), ProofBytesMax)
	}
	if len(b) < 4 || b[0] != proofFormat {
		return fmt.Errorf("%w: unknown format", ErrProofFormat)
	}
	read := Proof{end: end(b[1])}
	count := int(binary.BigEndian.Uint16(b[2:]))
	b = b[4:]
	if count > ProofDepthMax || len(b) < count*stepBytes {
		return fmt.Errorf("%w: %d steps do not fit", ErrProofFormat, count)
	}
	if count > 0 {
		read.steps = make([]step, count)
	}
	for i := range read.steps {
		read.steps[i] = step{b[0], [32]byte(b[1:stepBytes])}
		if i > 0 && b[0] <= read.steps[i-1].depth {
			return fmt.Errorf("%w: step %d does not lead down", ErrProofFormat, i)
		}
		b = b[stepBytes:]
	}
	if !read.cutEnd(b) {
		return fmt.Errorf("%w: its end", ErrProofFormat)
	}
	*p = read
	return nil
}

// cutEnd reads what follows the steps, to the last byte of b.
func (p *Proof) cutEnd(b []byte) bool {
	switch p.end {
	case endEmpty:
		return len(b) == 0 && len(p.steps) == 0
	case endKey:
		return len(b) == 0
	case endLeaf:
		if len(b) != 64 || len(p.steps) == ProofDepthMax {
			return false
		}
		p.at, p.hashes[0] = keyLabel([32]byte(b)), [32]byte(b[32:])
		return true
	case endInner:
		var l label
		rest, ok := l.cut(b)
		if !ok || len(rest) != 64 || l.len == keyBits {
			return false
		}
		if n := len(p.steps); n > 0 && l.len <= uint16(p.steps[n-1].depth)+1 {
			return false
		}
		p.at, p.hashes = l, [2][32]byte{[32]byte(rest), [32]byte(rest[32:])}
		return l.len > 0
	}
	return false
}

// MarshalText returns the binary form in standard padded base64; it is also the proof's JSON form, as a string.
func (p Proof) MarshalText() ([]byte, error) {
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText accepts exactly what MarshalText writes.
func (p *Proof) UnmarshalText(text []byte) error {
	if len(text) > base64.StdEncoding.EncodedLen(ProofBytesMax) {
		return fmt.Errorf("%w: %d characters, at most %d are allowed", ErrProofFormat, len(text), base64.StdEncoding.EncodedLen(ProofBytesMax))
	}
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	// Even strict decoding passes over line breaks; counting what the bytes would take excludes them.
	if err != nil || len(text) != base64.StdEncoding.EncodedLen(len(b)) {
		return fmt.Errorf("%w: not standard padded base64", ErrProofFormat)
	}
	return p.UnmarshalBinary(b)
}
