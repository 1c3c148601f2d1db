package prefixtree

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// keyBits is the length of a key, and so of a leaf's label, in bits.
const keyBits = 256

// label is a prefix of a key: the first len bits of bits, the rest being zero.
type label struct {
	len  uint16
	bits [32]byte
}

func keyLabel(key [32]byte) label { return label{keyBits, key} }

// String is for errors: bytes in hexadecimal and the number of bits.
func (l label) String() string {
	return fmt.Sprintf("%x/%d", l.bits[:(l.len+7)/8], l.len)
}

// prefixOf returns the label made of the first n bits of key.
func prefixOf(key [32]byte, n uint16) label {
	l := label{len: n}
	full := copy(l.bits[:n/8], key[:])
	if rest := n % 8; rest != 0 {
		l.bits[full] = key[full] &^ (0xff >> rest)
	}
	return l
}

// bitAt returns bit i of key, 0 or 1; i is below keyBits.
func bitAt(key *[32]byte, i uint16) byte {
	return key[i/8] >> (7 - i%8) & 1
}

// sharedBits counts the leading bits in which a and b agree, 0 to 256.
func sharedBits(a, b *[32]byte) uint16 {
	for i := 0; i < 32; i += 8 {
		differ := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:])
		if differ != 0 {
			return uint16(i*8 + bits.LeadingZeros64(differ)) // #nosec G115 -- at most 255
		}
	}
	return keyBits
}

// isPrefixOf reports whether key starts with l.
func (l *label) isPrefixOf(key *[32]byte) bool {
	return sharedBits(&l.bits, key) >= l.len
}

// append writes the label as its length in bits (uint16, big endian) and the bytes that the bits fill.
func (l *label) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, l.len)
	return append(dst, l.bits[:(l.len+7)/8]...)
}

// cut reads what append wrote and returns what follows. It accepts one spelling only: bits after the last are zero.
func (l *label) cut(b []byte) (rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, false
	}
	l.len = binary.BigEndian.Uint16(b)
	size := (int(l.len) + 7) / 8
	if l.len > keyBits || len(b) < 2+size {
		return nil, false
	}
	l.bits = [32]byte{}
	copy(l.bits[:], b[2:2+size])
	if spare := l.len % 8; spare != 0 && l.bits[size-1]&(0xff>>spare) != 0 {
		return nil, false
	}
	return b[2+size:], true
}
