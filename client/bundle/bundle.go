// Package bundle checks bundles offline, for programs that got one by package client or from
// anybody else: with the federation document alone, and no node.
//
// It is apart from package client, since checking needs the state machine's forms and the
// signatures of transparency logs, which a program that only submits does without. It promises
// that it takes any input, asks nobody, and says of a bundle that holds what a quorum of regions
// stands behind. It does not decide which document to trust: its digest has to come from a
// source of the caller's.
package bundle

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/federation"
)

// ErrDocument is returned, wrapped, for a document that cannot be read or is not the one expected.
var ErrDocument = errors.New("not the federation document that is trusted")

// ErrNotValid is returned, wrapped, for a bundle that does not hold.
var ErrNotValid = certificate.ErrNotValid

// Verdict is what was found of a bundle, step by step.
type Verdict = certificate.Verdict

// Trust is the federation document that bundles are held against.
type Trust struct{ document *federation.Document }

// Digest is the document's, 64 hexadecimal digits.
func (t *Trust) Digest() string {
	d := t.document.Digest()
	return hex.EncodeToString(d[:])
}

// NewTrust reads a federation document. digest, 64 hexadecimal digits, is what it must have;
// "" trusts the text as it is, which is right for a file that came from a source of one's own.
func NewTrust(document []byte, digest string) (*Trust, error) {
	doc, err := federation.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	t := &Trust{doc}
	if digest != "" && subtle.ConstantTimeCompare([]byte(t.Digest()), []byte(digest)) != 1 {
		return nil, fmt.Errorf("%w: its digest is %s, not %.64s", ErrDocument, t.Digest(), digest)
	}
	return t, nil
}

// Verify checks a bundle. The verdict is given in any case and says how far the bundle holds;
// the error wraps [ErrNotValid] where it does not.
func (t *Trust) Verify(text []byte) (*Verdict, error) {
	v := certificate.VerifyBundle(text, t.document)
	err := v.Err()
	return v, err
}
