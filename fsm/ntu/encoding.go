package ntu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrFormat is returned by [Unit.UnmarshalBinary] for bytes that no unit has.
var ErrFormat = errors.New("ntu: not an encoded unit")

// encodingVersion is the first byte of an encoded unit.
const encodingVersion = 1

const (
	headerBytes = 3 + 4*8
	valueBytes  = 8
	// EncodedBytesMax is the size of the largest encoded unit.
	EncodedBytesMax = headerBytes + WindowMax*valueBytes
)

// AppendBinary appends the encoding of the unit, of 35 + 8·[Unit.Count] bytes: the version (1), the window's
// size, the count, then as big-endian IEEE 754 doubles α, β, γ, belief and the observations, the
// oldest first. Entropy and potential follow from these. Two units that behave alike have one encoding, on
// every processor. The error is [ErrZero].
func (u *Unit) AppendBinary(dst []byte) ([]byte, error) {
	if u.window == 0 {
		return dst, ErrZero
	}
	dst = append(dst, encodingVersion, u.window, u.count)
	for _, f := range [...]float64{u.alpha, u.beta, u.gamma, u.state.Belief} {
		dst = appendFloat(dst, f)
	}
	for i := range u.count {
		dst = appendFloat(dst, u.at(i))
	}
	return dst, nil
}

// MarshalBinary returns what [Unit.AppendBinary] appends.
func (u *Unit) MarshalBinary() ([]byte, error) {
	return u.AppendBinary(make([]byte, 0, headerBytes+int(u.count)*valueBytes))
}

// UnmarshalBinary sets the unit to the one that b encodes. The error is [ErrFormat] if b is not
// exactly what [Unit.AppendBinary] writes for some unit; the unit is unchanged then.
func (u *Unit) UnmarshalBinary(b []byte) error {
	if len(b) < headerBytes || b[0] != encodingVersion {
		return fmt.Errorf("%w: %d bytes without the head of version %d", ErrFormat, len(b), encodingVersion)
	}
	window, count := b[1], b[2]
	if window < 1 || window > WindowMax || count > window || len(b) != headerBytes+int(count)*valueBytes {
		return fmt.Errorf("%w: %d bytes for %d observations in a window of %d", ErrFormat, len(b), count, window)
	}
	var head [4]float64
	for i := range head {
		head[i] = readFloat(b[3+i*8:])
	}
	r := Unit{alpha: head[0], beta: head[1], gamma: head[2], window: window}
	belief := head[3]
	switch {
	case !r.weighted():
		return fmt.Errorf("%w: weights %v, %v, %v", ErrFormat, r.alpha, r.beta, r.gamma)
	case !inUnit(belief) || count == 0 && belief != beliefStart:
		return fmt.Errorf("%w: belief %v after %d observations", ErrFormat, belief, count)
	}
	for at := headerBytes; at < len(b); at += valueBytes {
		v := readFloat(b[at:])
		if !inUnit(v) {
			return fmt.Errorf("%w: observation %v", ErrFormat, v)
		}
		r.push(v)
	}
	r.settle(belief)
	*u = r
	return nil
}

// inUnit reports whether f is in [0, 1] and not −0, which is how observations and beliefs are kept.
func inUnit(f float64) bool { return f >= 0 && f <= 1 && !math.Signbit(f) }

func appendFloat(dst []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
}

func readFloat(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }
