package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// NoteBytesMax bounds a checkpoint note: its body and one signature line.
const NoteBytesMax = BodyBytesMax + 512

// ErrNote is returned, wrapped, for a note that is not the origin's checkpoint: another
// origin, a signature that does not hold, other lines beside it, or another form.
var ErrNote = errors.New("not a checkpoint note of the origin")

// Signer holds an Ed25519 key of a region; *pci.PrivateKey is one.
type Signer interface {
	Public() [32]byte
	Sign(msg []byte) [64]byte
}

// Verifier checks the signatures of an origin's log key (signature type 0x01). The
// key's name is the origin.
func Verifier(origin string, logKey [32]byte) (note.Verifier, error) {
	vkey, err := note.NewEd25519VerifierKey(origin, logKey[:])
	if err != nil {
		return nil, fmt.Errorf("log key of %q: %w", origin, err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("log key of %q: %w", origin, err)
	}
	return v, nil
}

// signer signs notes under the name and hash of a verifier.
type signer struct {
	note.Verifier
	key Signer
}

func (s signer) Sign(msg []byte) ([]byte, error) {
	sig := s.key.Sign(msg)
	return sig[:], nil
}

// Sign makes the checkpoint note: the body and one signature line of the region's log
// key. A checkpoint that [ParseBody] would refuse is not signed.
func Sign(c *Checkpoint, log Signer) ([]byte, error) {
	body := c.Body()
	if _, err := ParseBody(body); err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	v, err := Verifier(c.Origin, log.Public())
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: string(body)}, signer{v, log})
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint of %q: %w", c.Origin, err)
	}
	return signed, nil
}

// CheckForm refuses a note, opened from signed, that has other lines than those that
// were verified, or a signature in another form than the one of base64: opening a note
// passes over lines of unknown keys, a key's second line and bits past a signature's end.
func CheckForm(signed []byte, n *note.Note) error {
	if len(n.UnverifiedSigs) > 0 {
		return fmt.Errorf("a line of %q, which is none of the keys wanted", n.UnverifiedSigs[0].Name)
	}
	for _, s := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return fmt.Errorf("line of %q: %w", s.Name, err)
		}
	}
	if again, err := note.Sign(n); err != nil || !bytes.Equal(again, signed) {
		return errors.New("a signature line stands twice")
	}
	return nil
}

// Open reads a checkpoint note of an origin and checks its signature. An error wraps
// [ErrNote] or [ErrBody].
func Open(signed []byte, origin string, logKey [32]byte) (*Checkpoint, error) {
	if len(signed) > NoteBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrNote, len(signed), NoteBytesMax)
	}
	v, err := Verifier(origin, logKey)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrNote, origin, err)
	}
	if err := CheckForm(signed, n); err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrNote, origin, err)
	}
	c, err := ParseBody([]byte(n.Text))
	if err != nil {
		return nil, err
	}
	if c.Origin != origin {
		return nil, fmt.Errorf("%w %q: the body is of %q", ErrNote, origin, c.Origin)
	}
	return c, nil
}
