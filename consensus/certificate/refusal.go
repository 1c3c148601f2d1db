package certificate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/zeebo/blake3"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// Limits of a refusal.
const (
	RefusalBytesMax = 1024
	DetailBytesMax  = 512
	refusalVersion  = 1
	refusalDomain   = "bizra-refusal-v1:"
)

// Codes of refusals: why a region does not cosign. A reader takes any code of this form.
const (
	RefusedDiverged     = "diverged"      // the entries, executed again, give another outcome, root or state
	RefusedNotExtending = "not-extending" // it does not extend what this region voted for before
	RefusedEvidence     = "evidence"      // the origin signed two things that cannot both be true
	RefusedEntry        = "entry"         // an entry is malformed, or its signature does not hold
	RefusedTime         = "time"          // log time goes back
)

var codePattern = regexp.MustCompile(`^[a-z-]{1,32}$`)

// ErrRefusal is returned, wrapped, for a refusal that is malformed or not signed by the
// region that it names.
var ErrRefusal = errors.New("not a refusal")

// Refusal is a region's signed statement that it does not cosign a checkpoint, and why.
// It accuses nobody; it tells an operator where to look.
type Refusal struct {
	Region     string   // that refuses
	Origin     string   // <federation>/<region> of the checkpoint
	Document   int64    // version of the federation document whose cosign key signs
	Size       int64    // of the checkpoint
	BodyDigest [32]byte // of the checkpoint, see [BodyDigest]
	Code       string   // matches [a-z-]{1,32}
	Detail     string   // one line for people
}

// BodyDigest names a checkpoint's body where the body itself does not travel: SHA-256.
func BodyDigest(body []byte) [32]byte { return sha256.Sum256(body) }

// refusalForm is what is signed; the signature stands behind it.
type refusalForm struct {
	_          struct{} `cbor:",toarray"`
	Region     string
	Origin     string
	Document   int64
	Size       int64
	BodyDigest [32]byte
	Code       string
	Detail     string
}

func (r *Refusal) check() error {
	name, origin, _ := strings.Cut(r.Origin, "/")
	detailOK := len(r.Detail) <= DetailBytesMax && utf8.ValidString(r.Detail) && strings.IndexFunc(r.Detail, unicode.IsControl) < 0
	switch {
	case !federation.IsName(r.Region) || !federation.IsName(name) || !federation.IsName(origin):
		return fmt.Errorf("%w: region %.70q of origin %.140q", ErrRefusal, r.Region, r.Origin)
	case r.Region == origin:
		return fmt.Errorf("%w: region %q refuses its own checkpoint", ErrRefusal, r.Region)
	case r.Document < 1 || r.Size < 1:
		return fmt.Errorf("%w: document %d, size %d", ErrRefusal, r.Document, r.Size)
	case !codePattern.MatchString(r.Code):
		return fmt.Errorf("%w: code %.40q does not match %s", ErrRefusal, r.Code, codePattern)
	case !detailOK:
		return fmt.Errorf("%w: the detail must be at most %d bytes without control characters", ErrRefusal, DetailBytesMax)
	}
	return nil
}

// signed gives the refusal's CBOR, in core deterministic encoding, and the digest that
// is signed: BLAKE3-256("bizra-refusal-v1:" ‖ CBOR).
func (r *Refusal) signed() (content []byte, digest [32]byte, err error) {
	if err := r.check(); err != nil {
		return nil, digest, err
	}
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, digest, fmt.Errorf("encode a refusal: %w", err)
	}
	content, err = enc.Marshal(refusalForm{Region: r.Region, Origin: r.Origin, Document: r.Document, Size: r.Size,
		BodyDigest: r.BodyDigest, Code: r.Code, Detail: r.Detail})
	if err != nil {
		return nil, digest, fmt.Errorf("encode a refusal: %w", err)
	}
	return content, blake3.Sum256(append([]byte(refusalDomain), content...)), nil
}

// Sign makes the refusal's one form under the region's cosign key: a version byte, 64
// bytes of signature, CBOR.
func (r *Refusal) Sign(cosign checkpoint.Signer) ([]byte, error) {
	content, digest, err := r.signed()
	if err != nil {
		return nil, err
	}
	sig := cosign.Sign(digest[:])
	return append(append([]byte{refusalVersion}, sig[:]...), content...), nil
}

// OpenRefusal reads a refusal in its one form and checks its signature under the
// document, which must be the one that it names. An error wraps [ErrRefusal], or
// [ErrOtherDocument] where only another document could tell.
func OpenRefusal(data []byte, doc *federation.Document) (*Refusal, error) {
	const head = 1 + ed25519.SignatureSize
	if len(data) <= head || len(data) > RefusalBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, there must be %d to %d", ErrRefusal, len(data), head+1, RefusalBytesMax)
	}
	if data[0] != refusalVersion {
		return nil, fmt.Errorf("%w: version %d is not known to this program, which knows version %d", ErrRefusal, data[0], refusalVersion)
	}
	dec, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4, UTF8: cbor.UTF8RejectInvalid}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("decode a refusal: %w", err)
	}
	var f refusalForm
	if err := dec.Unmarshal(data[head:], &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefusal, err)
	}
	r := &Refusal{Region: f.Region, Origin: f.Origin, Document: f.Document, Size: f.Size, BodyDigest: f.BodyDigest, Code: f.Code, Detail: f.Detail}
	content, digest, err := r.signed()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(content, data[head:]) {
		return nil, fmt.Errorf("%w: not written in its one form", ErrRefusal)
	}
	if name, _, _ := strings.Cut(r.Origin, "/"); name != doc.Name || r.Document != doc.Version {
		return nil, fmt.Errorf("refusal of %q: %w: version %d of %q", r.Origin, ErrOtherDocument, r.Document, name)
	}
	region, known := doc.Region(r.Region)
	if !known || !ed25519.Verify(region.CosignKey[:], digest[:], data[1:head]) {
		return nil, fmt.Errorf("%w: it is not signed by region %q", ErrRefusal, r.Region)
	}
	return r, nil
}
