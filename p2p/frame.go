package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// The frame of a message: 4 bytes of length (big endian, counting what follows), one
// byte of version, then CBOR in core deterministic encoding.
const (
	FrameVersion       = 1
	FrameHeaderBytes   = 4
	frameChunkBytes    = 64 << 10 // read at a time, so that a length alone reserves nothing
	messageNestedMax   = 16
	messageElementsMax = 1 << 16
	messagePairsMax    = 256
)

// Errors of frames; test with errors.Is.
var (
	// ErrFrameTooLong is returned where a frame's length, or a message to be sent, is
	// above the limit of its protocol.
	ErrFrameTooLong = errors.New("message is longer than its protocol allows")
	// ErrFrameMalformed is returned for a frame that is empty, or whose CBOR is not what
	// the message wants: duplicate keys, unknown fields, tags, indefinite lengths, depth.
	ErrFrameMalformed = errors.New("message is malformed")
	// ErrFrameVersion is returned for a frame of a version that this program does not know.
	ErrFrameVersion = errors.New("message is of an unknown version")

	errEncode = errors.New("encode message")
)

// The modes never change once they are made, and are made once.
//
//nolint:gochecknoglobals // so they are as good as constants
var (
	encoding = sync.OnceValues(func() (cbor.UserBufferEncMode, error) { return cbor.CoreDetEncOptions().UserBufferEncMode() })
	decoding = sync.OnceValues(func() (cbor.DecMode, error) { return decodingOptions().DecMode() })
)

func decodingOptions() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   messageNestedMax,
		MaxArrayElements:  messageElementsMax,
		MaxMapPairs:       messagePairsMax,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}
}

// Marshal writes a message in core deterministic CBOR, without a frame.
func Marshal(message any) ([]byte, error) {
	mode, err := encoding()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncode, err)
	}
	b, err := mode.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEncode, err)
	}
	return b, nil
}

// Unmarshal reads a message strictly; the error wraps [ErrFrameMalformed].
func Unmarshal(b []byte, message any) error {
	mode, err := decoding()
	if err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	if err := mode.Unmarshal(b, message); err != nil {
		return fmt.Errorf("%w: %w", ErrFrameMalformed, err)
	}
	return nil
}

// WriteMessage writes one framed message of at most bytesMax bytes, version byte
// included, with a single call of Write. Deadlines are the caller's, on the stream.
func WriteMessage(w io.Writer, bytesMax int, message any) error {
	mode, err := encoding()
	if err != nil {
		return fmt.Errorf("%w: %w", errEncode, err)
	}
	var frame bytes.Buffer
	frame.Write([]byte{0, 0, 0, 0, FrameVersion})
	if err := mode.MarshalToBuffer(message, &frame); err != nil {
		return fmt.Errorf("%w: %w", errEncode, err)
	}
	n := frame.Len() - FrameHeaderBytes
	if n > min(bytesMax, math.MaxInt32) {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLong, n, bytesMax)
	}
	binary.BigEndian.PutUint32(frame.Bytes(), uint32(n)) //nolint:gosec // at most MaxInt32
	if _, err := w.Write(frame.Bytes()); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

// ReadMessage reads one framed message of at most bytesMax bytes, version byte
// included. An io.EOF before the first byte is returned as it is; a stream that ends
// within a frame gives io.ErrUnexpectedEOF.
func ReadMessage(r io.Reader, bytesMax int, message any) error {
	return readMessage(r, bytesMax, message, nil)
}

// readMessage asks reserve, where there is one, for the memory of a frame before it
// reads it.
func readMessage(r io.Reader, bytesMax int, message any, reserve func(bytes int) error) error {
	var header [FrameHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read message: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(header[:]))
	if n > int64(bytesMax) {
		return fmt.Errorf("%w: %d bytes announced, at most %d", ErrFrameTooLong, n, bytesMax)
	}
	if n == 0 {
		return fmt.Errorf("%w: a frame of no bytes", ErrFrameMalformed)
	}
	if reserve != nil {
		if err := reserve(int(n)); err != nil {
			return fmt.Errorf("read message of %d bytes: %w", n, err)
		}
	}
	var frame []byte
	for int64(len(frame)) < n {
		chunk := int(min(n-int64(len(frame)), frameChunkBytes))
		frame = slices.Grow(frame, chunk)
		got, err := io.ReadFull(r, frame[len(frame):len(frame)+chunk])
		frame = frame[:len(frame)+got]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read message: %d of %d bytes came: %w", len(frame), n, err)
		}
	}
	if frame[0] != FrameVersion {
		return fmt.Errorf("%w: %d, this program knows %d", ErrFrameVersion, frame[0], FrameVersion)
	}
	return Unmarshal(frame[1:], message)
}
