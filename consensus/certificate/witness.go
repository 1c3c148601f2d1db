package certificate

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// ErrWitness is returned, wrapped, for a line that is not to be served behind a certificate.
var ErrWitness = errors.New("not an outside witness's line")

// CheckWitness checks that a line is the witness's signature of the certificate's body,
// in its one form, and that the witness is no region of the certificate's federation:
// under a region's name nobody else may sign, whatever the key.
func CheckWitness(certificate, line []byte, witness note.Verifier, doc *federation.Document) error {
	c, body, err := readBody(certificate, doc)
	if err != nil {
		return err
	}
	for i := range doc.Regions {
		if witness.Name() == checkpoint.Origin(c.Federation(), doc.Regions[i].Name) {
			return fmt.Errorf("%w: %q is the name of a region", ErrWitness, witness.Name())
		}
	}
	if bytes.Count(line, []byte("\n")) != 1 || len(line) > LineBytesMax {
		return fmt.Errorf("%w: it must be one line of at most %d bytes", ErrWitness, LineBytesMax)
	}
	signed := append(append(bytes.Clone(body), '\n'), line...)
	n, err := note.Open(signed, note.VerifierList(witness))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWitness, err)
	}
	if err := checkpoint.CheckForm(signed, n); err != nil {
		return fmt.Errorf("%w: %w", ErrWitness, err)
	}
	return nil
}

// WithWitnesses is what is served of a certificate: its lines, and behind them those of
// outside witnesses, of which [CheckWitness] has found each to hold, as far as a note
// has room for them.
func WithWitnesses(certificate []byte, lines ...[]byte) []byte {
	room := signaturesMax - bytes.Count(certificate, []byte("\n— "))
	return append(bytes.Clone(certificate), bytes.Join(lines[:max(0, min(room, len(lines)))], nil)...)
}

// WithoutWitnesses is the certificate in what was served: it drops the lines of keys that
// are not the document's, and verifies the rest as [Verify] does.
func WithoutWitnesses(served []byte, doc *federation.Document) (certificate []byte, c *checkpoint.Checkpoint, cosigners []string, err error) {
	if len(served) > NoteBytesMax {
		return nil, nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCertificate, len(served), NoteBytesMax)
	}
	c, _, err = readBody(served, doc)
	if err != nil {
		return nil, nil, nil, err
	}
	n, err := open(served, c, doc)
	if err != nil {
		return nil, nil, nil, err
	}
	n.UnverifiedSigs = nil
	if certificate, err = note.Sign(n); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	c, cosigners, err = Verify(certificate, doc)
	return certificate, c, cosigners, err
}
