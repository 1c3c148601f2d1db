package hook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bizra/bizra/pci"
)

// What is recorded of a text by default is HMAC-SHA-256 under a salt of its own, so that nobody
// can find the text by trying likely ones. The salt of a digest is derived from the home's secret
// and from a random reference that stands beside the digest in the proof: so every salt is kept
// as soon as the secret is, and giving one away opens one digest and no other.

const (
	secretBytes = 32
	refBytes    = 16
	saltDomain  = "bizra-hook-salt-v1:"
	fileSecret  = "salt.key"
)

// Sealed is what a proof says of a text.
type Sealed struct {
	Digest string `json:"digest"` // HMAC-SHA-256 of the text under the salt, 64 hexadecimal digits
	Ref    string `json:"ref"`    // by which the owner finds the salt, 32 hexadecimal digits
}

// Opened is a text's digest with the salt by which anybody can compute it again.
type Opened struct {
	Sealed
	Salt string `json:"salt"` // 64 hexadecimal digits
}

// ErrDigest is returned, wrapped, where a text is not the one that was recorded.
var ErrDigest = errors.New("the text is not the one that was digested")

// secret reads the home's secret, which the first caller makes.
func (h *Home) secret() ([]byte, error) {
	path := h.path(fileSecret)
	text, err := readOwn(path)
	if errors.Is(err, fs.ErrNotExist) {
		fresh := make([]byte, secretBytes)
		_, _ = rand.Read(fresh) // it never fails
		if err := writeOnce(path, []byte(hex.EncodeToString(fresh)+"\n")); err != nil {
			return nil, err
		}
		text, err = readOwn(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret of the salts: %w", err)
	}
	if len(text) < 2*secretBytes {
		return nil, fmt.Errorf("the secret of the salts, %s, is damaged: it must have %d hexadecimal digits", path, 2*secretBytes)
	}
	secret, err := hex.DecodeString(string(text[:2*secretBytes]))
	if err != nil {
		return nil, fmt.Errorf("the secret of the salts, %s, is damaged: %w", path, err)
	}
	return secret, nil
}

// writeOnce makes a file durably, unless another process was quicker.
func writeOnce(path string, text []byte) error {
	temporary := path + "." + rand.Text()
	if err := writeDurably(temporary, text); err != nil {
		return err
	}
	err := os.Link(temporary, path)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, removeDurably(temporary))
}

func saltOf(secret []byte, ref string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(saltDomain + ref))
	return m.Sum(nil)
}

func digestOf(salt, text []byte) string {
	m := hmac.New(sha256.New, salt)
	m.Write(text)
	return hex.EncodeToString(m.Sum(nil))
}

// seal digests a text under a salt of its own.
func (h *Home) seal(text []byte) (Sealed, error) {
	secret, err := h.secret()
	if err != nil {
		return Sealed{}, err
	}
	ref := make([]byte, refBytes)
	_, _ = rand.Read(ref) // it never fails
	s := Sealed{Ref: hex.EncodeToString(ref)}
	s.Digest = digestOf(saltOf(secret, s.Ref), oneForm(text))
	return s, nil
}

// Open shows that a text is the one that a proof digested, by its salt. digest may be left out.
// The error wraps [ErrDigest] for another text.
func (h *Home) Open(ref, digest string, text []byte) (*Opened, error) {
	if raw, err := hex.DecodeString(ref); err != nil || len(raw) != refBytes {
		return nil, fmt.Errorf("%.80q is no reference of a digest: it has %d hexadecimal digits and stands beside the digest in the proof", ref, 2*refBytes)
	}
	secret, err := h.secret()
	if err != nil {
		return nil, err
	}
	salt := saltOf(secret, ref)
	o := &Opened{Sealed: Sealed{Digest: digestOf(salt, oneForm(text)), Ref: ref}, Salt: hex.EncodeToString(salt)}
	if digest != "" && subtle.ConstantTimeCompare([]byte(digest), []byte(o.Digest)) != 1 {
		return nil, fmt.Errorf("%w: its digest is %s, not %.64s", ErrDigest, o.Digest, digest)
	}
	return o, nil
}

// oneForm is JSON in canonical form, so that spacing does not matter, and anything else as it is.
func oneForm(text []byte) []byte {
	if v, err := pci.Parse(text, pci.Limits{BytesMax: EventBytesMax}); err == nil {
		return v.AppendCanonical(nil)
	}
	return text
}
