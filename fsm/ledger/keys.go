package ledger

import (
	"encoding/binary"
	"fmt"
)

// The ledger's part of the key space: each key begins with one of these bytes. Numbers are big-endian, so that the order of
// keys is the order of numbers.
const (
	prefixDigest     = 'D' // digest (32 bytes) → index
	prefixEntry      = 'E' // index → the entry
	prefixHash       = 'H' // stored hash index of tlog → hash
	prefixEnvelopeID = 'I' // id, 0x00, index → empty
	prefixSize       = 'L' // → number of entries
)

const (
	numberBytes    = 8
	numberKeyBytes = 1 + numberBytes
	digestKeyBytes = 1 + 32
)

func appendNumberKey(dst []byte, prefix byte, n int64) []byte {
	return appendNumber(append(dst, prefix), n)
}

// appendNumber and readNumber store what is never negative.
func appendNumber(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)) // #nosec G115 -- n ≥ 0 everywhere in this package
}

func readNumber(b []byte) (int64, error) {
	if len(b) != numberBytes {
		return 0, fmt.Errorf("number of %d bytes, want %d", len(b), numberBytes)
	}
	n := binary.BigEndian.Uint64(b)
	if n > 1<<63-1 {
		return 0, fmt.Errorf("number %d is out of range", n)
	}
	return int64(n), nil // #nosec G115 -- checked above
}

func appendDigestKey(dst []byte, digest *[32]byte) []byte {
	return append(append(dst, prefixDigest), digest[:]...)
}

// appendEnvelopeIDKey gives the bound of all keys of an id for separator 0x00 (lower) and 0x01 (upper).
func appendEnvelopeIDKey(dst []byte, id string, separator byte) []byte {
	return append(append(append(dst, prefixEnvelopeID), id...), separator)
}
