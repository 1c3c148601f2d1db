package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// NoteBytesMax bounds a certificate: a body, and as many signature lines as the note
// format allows, 100. It is what 149 regions need.
const NoteBytesMax = checkpoint.BodyBytesMax + 1 + signaturesMax*LineBytesMax

const signaturesMax = 100

var (
	// ErrCertificate is returned, wrapped, for a note that is no certificate in its one form.
	ErrCertificate = errors.New("not a certificate")
	// ErrOtherDocument is returned, wrapped, for a statement under another federation
	// document than the one at hand: it may hold under that.
	ErrOtherDocument = errors.New("made under another federation document")
	// ErrTooFew is returned, wrapped, by [Assemble] where too few cosignatures hold.
	ErrTooFew = errors.New("too few cosignatures for a quorum")
)

// goesBy refuses a checkpoint of another federation or another version of its document.
func goesBy(c *checkpoint.Checkpoint, doc *federation.Document) error {
	if c.Federation() != doc.Name {
		return fmt.Errorf("%w: it is of federation %q, and the document at hand is of %q", ErrOtherDocument, c.Federation(), doc.Name)
	}
	if c.Document != doc.Version || c.DocumentDigest != doc.Digest() {
		return fmt.Errorf("%w: it names version %d with digest %x, and the one at hand is version %d with digest %x",
			ErrOtherDocument, c.Document, c.DocumentDigest, doc.Version, doc.Digest())
	}
	return nil
}

// Policy is the rule by which certificates of a region hold: its origin line, its log
// key's signature, and the quorum less one of the other regions' cosignatures. It is a
// policy of torchwood's, to be handed to torchwood.VerifyCheckpoint; [Verify] asks
// for more than it.
func Policy(doc *federation.Document, region string) (torchwood.Policy, error) {
	origin, known := doc.Region(region)
	if !known {
		return nil, fmt.Errorf("%w: the document has no region %q", ErrCertificate, region)
	}
	log, err := checkpoint.Verifier(checkpoint.Origin(doc.Name, region), origin.LogKey)
	if err != nil {
		return nil, err
	}
	others := make([]torchwood.Policy, 0, len(doc.Regions))
	for i := range doc.Regions {
		if r := &doc.Regions[i]; r.Name != region {
			v, err := CosignVerifier(checkpoint.Origin(doc.Name, r.Name), r.CosignKey)
			if err != nil {
				return nil, err
			}
			others = append(others, torchwood.SingleVerifierPolicy(v))
		}
	}
	needed := federation.Quorum(len(doc.Regions)) - 1
	// torchwood panics on a count that cannot be.
	if needed < 0 || needed > len(others) || needed+1 > signaturesMax {
		return nil, fmt.Errorf("%w: a quorum of %d of %d regions cannot be", ErrCertificate, needed+1, len(doc.Regions))
	}
	return torchwood.ThresholdPolicy(3, torchwood.OriginPolicy(log.Name()), torchwood.SingleVerifierPolicy(log),
		torchwood.ThresholdPolicy(needed, others...)), nil
}

// Assemble makes a certificate of an origin's checkpoint note and other regions'
// cosignature lines, by region. Each is checked before it goes in, since one bad line
// voids a note; what does not hold is left out. Exactly a quorum's signatures go in,
// those of the regions first by name. It returns [ErrTooFew] where they are not enough.
func Assemble(checkpointNote []byte, lines map[string][]byte, doc *federation.Document) ([]byte, error) {
	c, body, err := readBody(checkpointNote, doc)
	if err != nil {
		return nil, fmt.Errorf("assemble a certificate: %w", err)
	}
	origin, known := doc.Region(c.Region())
	if !known {
		return nil, fmt.Errorf("assemble a certificate: the document has no region %q", c.Region())
	}
	if _, err := checkpoint.Open(checkpointNote, c.Origin, origin.LogKey); err != nil {
		return nil, fmt.Errorf("assemble a certificate: %w", err)
	}
	needed := federation.Quorum(len(doc.Regions)) - 1
	made := bytes.Clone(checkpointNote)
	var faults []error
	for i := range doc.Regions {
		line, given := lines[doc.Regions[i].Name]
		if !given || needed == 0 {
			continue
		}
		if _, err := checkLine(c, body, line, doc, doc.Regions[i].Name); err != nil {
			faults = append(faults, err)
			continue
		}
		made = append(made, line...)
		needed--
	}
	if needed > 0 {
		return nil, errors.Join(append([]error{fmt.Errorf("assemble a certificate of %q at size %d: %w: %d more needed", c.Origin, c.Size, ErrTooFew, needed)}, faults...)...)
	}
	if _, _, err := Verify(made, doc); err != nil {
		return nil, fmt.Errorf("assemble a certificate: %w", err)
	}
	return made, nil
}

// readBody reads the body of a note whose signatures nobody has checked yet.
func readBody(text []byte, doc *federation.Document) (*checkpoint.Checkpoint, []byte, error) {
	body, _, signed := bytes.Cut(text, []byte("\n\n"))
	if !signed {
		return nil, nil, fmt.Errorf("%w: it has no signature", ErrCertificate)
	}
	body = text[:len(body)+1]
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return c, body, goesBy(c, doc)
}

// Verify checks a certificate against the federation document: the origin's signature,
// exactly a quorum less one of cosignatures of distinct other regions in the order of
// their names, no other line, and the one form of each. It returns the checkpoint and
// the names of the regions that cosigned. An error wraps [ErrCertificate], or
// [ErrOtherDocument] where only another document could tell.
func Verify(certificate []byte, doc *federation.Document) (*checkpoint.Checkpoint, []string, error) {
	if len(certificate) > NoteBytesMax {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCertificate, len(certificate), NoteBytesMax)
	}
	c, _, err := readBody(certificate, doc)
	if err != nil {
		return nil, nil, err
	}
	n, err := open(certificate, c, doc)
	if err != nil {
		return nil, nil, err
	}
	if err := checkpoint.CheckForm(certificate, n); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if want := federation.Quorum(len(doc.Regions)); len(n.Sigs) != want {
		return nil, nil, fmt.Errorf("%w: it has %d signatures, and there must be exactly %d", ErrCertificate, len(n.Sigs), want)
	}
	cosigners, err := names(n.Sigs, c)
	if err != nil {
		return nil, nil, err
	}
	return c, cosigners, nil
}

// open checks a note against the policy of its origin.
func open(text []byte, c *checkpoint.Checkpoint, doc *federation.Document) (*note.Note, error) {
	policy, err := Policy(doc, c.Region())
	if err != nil {
		return nil, err
	}
	_, n, err := torchwood.VerifyCheckpoint(text, policy)
	if err != nil {
		return nil, fmt.Errorf("%w of %q at size %d: %w", ErrCertificate, c.Origin, c.Size, err)
	}
	if n.Text != string(c.Body()) {
		return nil, fmt.Errorf("%w: its text is not the checkpoint's body alone", ErrCertificate)
	}
	return n, nil
}

// names gives the regions behind the signatures after the first, which must be the
// origin's; the others must be sorted.
func names(sigs []note.Signature, c *checkpoint.Checkpoint) ([]string, error) {
	regions := make([]string, 0, len(sigs))
	for _, s := range sigs {
		_, region, _ := strings.Cut(s.Name, "/")
		regions = append(regions, region)
	}
	if regions[0] != c.Region() || !slices.IsSorted(regions[1:]) {
		return nil, fmt.Errorf("%w: the origin's signature comes first, then the others in the order of their names", ErrCertificate)
	}
	return regions[1:], nil
}
