package certificate

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

const (
	// LineBytesMax bounds one signature line of a region: two names and 76 bytes in base64.
	LineBytesMax = 256
	// unixSecondsMax is about the year 36800; a time beyond it is nobody's clock.
	unixSecondsMax = 1 << 40
)

// ErrCosignature is returned, wrapped, for a line that is not this region's cosignature
// of this body.
var ErrCosignature = errors.New("not a cosignature")

// CosignVerifier checks cosignatures of a region's cosign key; the key's name is
// <federation>/<region>.
func CosignVerifier(name string, key [32]byte) (*torchwood.CosignatureVerifier, error) {
	s, err := torchwood.NewCosignatureSigner(name, publicOnly(key))
	if err != nil {
		return nil, fmt.Errorf("cosign key of %q: %w", name, err)
	}
	return s.Verifier(), nil
}

// publicOnly is a key that signs nothing: torchwood derives a key's hash from a signer.
type publicOnly [32]byte

func (k publicOnly) Public() crypto.PublicKey { return ed25519.PublicKey(k[:]) }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key only verifies")
}

// cosigner makes cosignatures at a time that it is given; torchwood's signer reads the clock.
type cosigner struct {
	note.Verifier
	key         checkpoint.Signer
	unixSeconds int64
}

func (s cosigner) Sign(body []byte) ([]byte, error) {
	signed := s.key.Sign(append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", s.unixSeconds), body...))
	return append(binary.BigEndian.AppendUint64(nil, uint64(s.unixSeconds)), signed[:]...), nil //nolint:gosec // positive, see Cosign
}

// Cosign makes a region's cosignature of a checkpoint's body: one signature line of a
// note, its newline included. The time is when the region signs, in seconds since
// 1970. It refuses a region's own checkpoint.
func Cosign(body []byte, region string, key checkpoint.Signer, unixSeconds int64) ([]byte, error) {
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if c.Region() == region {
		return nil, fmt.Errorf("cosign: the checkpoint is region %q's own", region)
	}
	if unixSeconds < 1 || unixSeconds > unixSecondsMax {
		return nil, fmt.Errorf("cosign: time %d is not from 1 to %d seconds", unixSeconds, int64(unixSecondsMax))
	}
	v, err := CosignVerifier(checkpoint.Origin(c.Federation(), region), key.Public())
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: string(body)}, cosigner{v, key, unixSeconds})
	if err != nil {
		return nil, fmt.Errorf("cosign a checkpoint of %q: %w", c.Origin, err)
	}
	return signed[len(body)+1:], nil
}

// CheckCosignature checks that the line is the region's cosignature of the body, under
// the document that the body names, and returns when it was made in seconds since
// 1970. An error wraps [ErrCosignature], or [ErrOtherDocument] where only another
// document could tell.
func CheckCosignature(body, line []byte, doc *federation.Document, region string) (unixSeconds int64, err error) {
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCosignature, err)
	}
	if err := goesBy(c, doc); err != nil {
		return 0, err
	}
	return checkLine(c, body, line, doc, region)
}

// checkLine is CheckCosignature for a body that was read and names the document.
func checkLine(c *checkpoint.Checkpoint, body, line []byte, doc *federation.Document, region string) (int64, error) {
	if len(line) > LineBytesMax || bytes.Count(line, []byte("\n")) != 1 {
		return 0, fmt.Errorf("%w: it must be one line of at most %d bytes", ErrCosignature, LineBytesMax)
	}
	r, known := doc.Region(region)
	if !known || region == c.Region() {
		return 0, fmt.Errorf("%w: %q is no other region of the document", ErrCosignature, region)
	}
	v, err := CosignVerifier(checkpoint.Origin(doc.Name, region), r.CosignKey)
	if err != nil {
		return 0, err
	}
	signed := append(append(append(make([]byte, 0, len(body)+1+len(line)), body...), '\n'), line...)
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return 0, fmt.Errorf("%w of region %q: %w", ErrCosignature, region, err)
	}
	if err := checkpoint.CheckForm(signed, n); err != nil {
		return 0, fmt.Errorf("%w of region %q: %w", ErrCosignature, region, err)
	}
	at, err := torchwood.CosignatureTimestamp(n.Sigs[0])
	if err != nil || at < 1 || at > unixSecondsMax {
		return 0, fmt.Errorf("%w of region %q: its time is not from 1 to %d seconds", ErrCosignature, region, int64(unixSecondsMax))
	}
	return at, nil
}
