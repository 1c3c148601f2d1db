package attest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
)

// Kind says what a message carries. A number once given is never given another meaning.
type Kind uint8

// The kinds of messages.
const (
	KindCheckpoint  Kind = 1 // a checkpoint note
	KindCosignature Kind = 2 // a region's cosignature with the body that it is of
	KindCertificate Kind = 3 // a certificate
	KindRefusal     Kind = 4 // a region's refusal to cosign
	KindEvidence    Kind = 5 // evidence with the region against which it is
)

// Limits of messages.
const (
	// MessageBytesMax bounds a message; the longest is a certificate.
	MessageBytesMax = certificate.NoteBytesMax + 32
	// ExchangeMessagesMax and ExchangeBytesMax bound the messages of one [Exchange].
	ExchangeMessagesMax = 32
	ExchangeBytesMax    = 128 << 10

	messageVersion      = 1
	exchangeVersion     = 1
	regionBytesMax      = 63
	cosignatureBytesMax = checkpoint.BodyBytesMax + certificate.LineBytesMax + regionBytesMax + 16
	evidenceBytesMax    = checkpoint.EvidenceBytesMax + regionBytesMax + 16
)

var (
	// ErrMessage is returned, wrapped, for bytes that are no message under any federation
	// document or clock: whoever sent them is at fault.
	ErrMessage = errors.New("not a message of attestation")
	// ErrOtherDocument is returned, wrapped, for a message under another federation document
	// than the one at hand. It may hold under that, and nobody need be at fault.
	ErrOtherDocument = certificate.ErrOtherDocument
)

// Message is what regions send each other, by gossip or by stream. What it states is signed
// within; nothing depends on who hands it on.
type Message struct {
	Kind     Kind
	Document int64 // version of the federation document under which it is meant
	Payload  []byte
}

type messageForm struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint8
	Document int64
	Payload  []byte
}

type cosignatureForm struct {
	_      struct{} `cbor:",toarray"`
	Region string
	Body   []byte
	Line   []byte
}

type evidenceForm struct {
	_        struct{} `cbor:",toarray"`
	Origin   string
	Evidence []byte
}

// marshal writes core deterministic CBOR; the forms hold nothing that it cannot write.
func marshal(form any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err == nil {
		var b []byte
		if b, err = mode.Marshal(form); err == nil {
			return b
		}
	}
	panic(err) // the options and the types are constants of this package
}

// unmarshal reads what marshal writes of the same form and nothing else.
func unmarshal(b []byte, form any) error {
	mode, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 4,
		UTF8: cbor.UTF8RejectInvalid}.DecMode()
	if err != nil {
		return fmt.Errorf("set up CBOR decoding: %w", err)
	}
	if err := mode.Unmarshal(b, form); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if !bytes.Equal(marshal(form), b) {
		return fmt.Errorf("%w: not written in its one form", ErrMessage)
	}
	return nil
}

// Encode is the message's one form: a version byte, then CBOR in core deterministic encoding.
func (m *Message) Encode() []byte {
	payload := m.Payload
	if payload == nil {
		payload = []byte{}
	}
	return append([]byte{messageVersion}, marshal(&messageForm{Kind: uint8(m.Kind), Document: m.Document, Payload: payload})...)
}

// EncodeCosignature makes the message with a region's cosignature line of a body.
func EncodeCosignature(document int64, region string, body, line []byte) []byte {
	m := Message{Kind: KindCosignature, Document: document, Payload: marshal(&cosignatureForm{Region: region, Body: body, Line: line})}
	return m.Encode()
}

// EncodeEvidence makes the message with evidence, encoded, against a region.
func EncodeEvidence(document int64, origin string, evidence []byte) []byte {
	m := Message{Kind: KindEvidence, Document: document, Payload: marshal(&evidenceForm{Origin: origin, Evidence: evidence})}
	return m.Encode()
}

// DecodeMessage reads what [Message.Encode] writes and nothing else. It checks no signature;
// [Open] does. An error wraps [ErrMessage].
func DecodeMessage(data []byte) (*Message, error) {
	if len(data) == 0 || len(data) > MessageBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, there must be 1 to %d", ErrMessage, len(data), MessageBytesMax)
	}
	if data[0] != messageVersion {
		// A newer program's message may be good; it is passed over, not held against the sender.
		return nil, fmt.Errorf("%w: version %d of messages is not known to this program, which knows version %d", ErrOtherDocument, data[0], messageVersion)
	}
	var f messageForm
	if err := unmarshal(data[1:], &f); err != nil {
		return nil, err
	}
	m := &Message{Kind: Kind(f.Kind), Document: f.Document, Payload: f.Payload}
	most, ok := map[Kind]int{KindCheckpoint: checkpoint.NoteBytesMax, KindCosignature: cosignatureBytesMax, KindCertificate: certificate.NoteBytesMax,
		KindRefusal: certificate.RefusalBytesMax, KindEvidence: evidenceBytesMax}[m.Kind]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: kind %d is not known", ErrMessage, m.Kind)
	case len(m.Payload) > most:
		return nil, fmt.Errorf("%w: %d bytes of kind %d, at most %d", ErrMessage, len(m.Payload), m.Kind, most)
	case m.Document < 1:
		return nil, fmt.Errorf("%w: document version %d", ErrMessage, m.Document)
	}
	return m, nil
}

// Statement is what a message states, with every signature checked.
type Statement struct {
	Kind       Kind
	Region     string                 // who states it: the origin, the cosigner or refuser; "" for evidence
	Origin     string                 // region whom it is about
	Checkpoint *checkpoint.Checkpoint // of a checkpoint, cosignature or certificate
	Note       []byte                 // checkpoint note, or certificate
	Line       []byte                 // of a cosignature
	Refusal    *certificate.Refusal
	Evidence   *checkpoint.Evidence
}

// Open reads a message and checks what it states under a federation document. An error wraps
// [ErrMessage] where it holds under no document and by no clock, or [ErrOtherDocument]. Gossip's
// validators call it too.
func Open(data []byte, doc *federation.Document) (*Statement, error) {
	m, err := DecodeMessage(data)
	if err != nil {
		return nil, err
	}
	if m.Document != doc.Version {
		return nil, fmt.Errorf("%w: version %d, and the one at hand is version %d", ErrOtherDocument, m.Document, doc.Version)
	}
	s := &Statement{Kind: m.Kind, Note: m.Payload}
	switch m.Kind {
	case KindCheckpoint:
		err = s.openCheckpoint(doc)
	case KindCosignature:
		err = s.openCosignature(doc)
	case KindCertificate:
		s.Checkpoint, _, err = certificate.Verify(m.Payload, doc)
	case KindRefusal:
		if s.Refusal, err = certificate.OpenRefusal(m.Payload, doc); err == nil {
			s.Region, s.Origin = s.Refusal.Region, regionOf(s.Refusal.Origin)
		}
	default:
		err = s.openEvidence(doc)
	}
	if err != nil {
		if errors.Is(err, ErrOtherDocument) || errors.Is(err, ErrMessage) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if s.Checkpoint != nil {
		s.Origin = s.Checkpoint.Region()
	}
	if m.Kind == KindCheckpoint || m.Kind == KindCertificate {
		s.Region = s.Origin
	}
	return s, nil
}

func regionOf(origin string) string {
	c := checkpoint.Checkpoint{Origin: origin}
	return c.Region()
}

// bodyOf reads the body of a note without checking a signature.
func bodyOf(note []byte) (*checkpoint.Checkpoint, error) {
	body, _, _ := bytes.Cut(note, []byte("\n\n"))
	return checkpoint.ParseBody(append(slices.Clip(body), '\n'))
}

// goesBy refuses a checkpoint under another document.
func goesBy(c *checkpoint.Checkpoint, doc *federation.Document) error {
	if c.Federation() != doc.Name || c.Document != doc.Version || c.DocumentDigest != doc.Digest() {
		return fmt.Errorf("%w: checkpoint of %q under version %d", ErrOtherDocument, c.Origin, c.Document)
	}
	return nil
}

func (s *Statement) openCheckpoint(doc *federation.Document) error {
	c, err := bodyOf(s.Note)
	if err != nil {
		return err
	}
	if err := goesBy(c, doc); err != nil {
		return err
	}
	origin, known := doc.Region(c.Region())
	if !known {
		return fmt.Errorf("%w: checkpoint of %q, which is no region of the document", ErrMessage, c.Origin)
	}
	s.Checkpoint, err = checkpoint.Open(s.Note, c.Origin, origin.LogKey)
	return err
}

func (s *Statement) openCosignature(doc *federation.Document) error {
	var f cosignatureForm
	if err := unmarshal(s.Note, &f); err != nil {
		return err
	}
	c, err := checkpoint.ParseBody(f.Body)
	if err != nil {
		return err
	}
	if _, known := doc.Region(c.Region()); !known {
		return fmt.Errorf("%w: cosignature for %q, which is no region of the document", ErrMessage, c.Origin)
	}
	if _, err := certificate.CheckCosignature(f.Body, f.Line, doc, f.Region); err != nil {
		return err
	}
	s.Region, s.Checkpoint, s.Line, s.Note = f.Region, c, f.Line, nil
	return nil
}

func (s *Statement) openEvidence(doc *federation.Document) error {
	var f evidenceForm
	if err := unmarshal(s.Note, &f); err != nil {
		return err
	}
	origin, known := doc.Region(f.Origin)
	if !known {
		return fmt.Errorf("%w: evidence against %.70q, which is no region of the document", ErrMessage, f.Origin)
	}
	e, err := checkpoint.ParseEvidence(f.Evidence)
	if err != nil {
		return err
	}
	if err := e.Check(checkpoint.Origin(doc.Name, f.Origin), origin.LogKey); err != nil {
		return err
	}
	s.Origin, s.Evidence, s.Note = f.Origin, e, f.Evidence
	return nil
}

// Exchange is what one node tells another on a stream of /bizra/attest/1.0.0, as request and as
// response: what it has that the other region may lack, and enough of what it knows for the
// other to leave out the rest.
type Exchange struct {
	_         struct{} `cbor:",toarray"`
	Version   uint8
	Document  int64    // version of the sender's federation document
	Certified int64    // size of the newest certificate of the receiver's region that the sender has; 0: none
	Evidence  []string // regions against which the sender has evidence, sorted
	Messages  [][]byte // encoded
}

// Check refuses an exchange beyond the limits, or of an unknown version. The messages are
// looked at one by one later.
func (x *Exchange) Check() error {
	if x.Version != exchangeVersion {
		return fmt.Errorf("%w: version %d of the exchange is not known to this program, which knows version %d", ErrOtherDocument, x.Version, exchangeVersion)
	}
	total := 0
	for _, m := range x.Messages {
		total += len(m)
	}
	if len(x.Messages) > ExchangeMessagesMax || total > ExchangeBytesMax || len(x.Evidence) > federation.RegionsMax {
		return fmt.Errorf("%w: an exchange of %d messages with %d bytes and %d regions in evidence", ErrMessage, len(x.Messages), total, len(x.Evidence))
	}
	for _, r := range x.Evidence {
		if !federation.IsName(r) {
			return fmt.Errorf("%w: an exchange names region %.70q", ErrMessage, r)
		}
	}
	return nil
}
