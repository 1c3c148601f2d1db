package fsm

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
)

const (
	// UncertifiedSealsMax is how many seals may wait for their certificates. While so many do,
	// no further one is made; proofs never wait for them.
	UncertifiedSealsMax = 4
	// LockNotesMax is how many checkpoints of an origin, the newest that this region voted for,
	// are kept, so that each can be cosigned again.
	LockNotesMax = 8

	recordVersion = 1 // of the records of attestation
)

// Statement is what a command of attestation states.
type Statement string

// The statements.
const (
	StatedVote        Statement = "vote"
	StatedCertificate Statement = "certificate"
	StatedEvidence    Statement = "evidence"
)

// Refusal is why a command of attestation changed nothing; "" is none.
type Refusal string

// The refusals.
const (
	RefusedUnfounded   Refusal = "unfounded"   // the region has no ledger yet
	RefusedDocument    Refusal = "document"    // another version of the federation document is in force
	RefusedOrigin      Refusal = "origin"      // the document has no such region, or it is this one
	RefusedEvidence    Refusal = "evidence"    // the origin lied: it gets no votes
	RefusedNote        Refusal = "note"        // it is no checkpoint that the origin signed
	RefusedSmaller     Refusal = "smaller"     // the region is bound to more entries
	RefusedOther       Refusal = "other"       // the region is bound to another body of that size
	RefusedConsistency Refusal = "consistency" // the proof does not lead there from what the region is bound to
	RefusedTime        Refusal = "time"        // log time goes back
	RefusedSeal        Refusal = "seal"        // the region has no such seal, or its body is another
	RefusedNoEvidence  Refusal = "no-evidence" // it does not show that the origin lied
)

// Attested is what became of a command of attestation.
type Attested struct {
	Statement Statement
	Origin    string // whom it is about
	Size      int64  // entries voted for, or certified
	Number    int64  // of the seal certified
	Refusal   Refusal
	Repeated  bool // it was on record already, word for word; nothing changed
}

// Accepted reports whether what the command states is on record now.
func (a *Attested) Accepted() bool { return a.Refusal == "" }

// Lock is what this region has bound itself to about an origin: it never signs anything that
// does not extend it.
type Lock struct {
	Notes [][]byte // signed checkpoints voted for, oldest first, at most [LockNotesMax]
	Last  checkpoint.Checkpoint
}

type lockRecord struct {
	_     struct{} `cbor:",toarray"`
	Notes [][]byte
}

type attestRecord struct {
	_    struct{} `cbor:",toarray"`
	Next int64    // the seals below it are certified, or covered by a certificate
}

func lockKey(origin string) []byte     { return append([]byte{keyLock}, origin...) }
func evidenceKey(origin string) []byte { return append([]byte{keyEvidence}, origin...) }
func certificateKey(number int64) []byte {
	return numbered(keyCertificate, uint64(number)) //nolint:gosec // never negative
}

// loadVersioned reads a record that begins with its version.
func loadVersioned[T any](e encoding, g store.Getter, key []byte, into *T) (found bool, err error) {
	b, err := g.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read record %q: %w", key, err)
	}
	if len(b) == 0 || b[0] != recordVersion {
		return false, fmt.Errorf("%w: record %q is of a version that this program does not know: install the newer bizra that wrote it", ErrStop, key)
	}
	if err := e.dec.Unmarshal(b[1:], into); err != nil {
		return false, fmt.Errorf("decode record %q: %w", key, err)
	}
	return true, nil
}

func saveVersioned(e encoding, t *store.Txn, key []byte, v any) error {
	b, err := e.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode record %q: %w", key, err)
	}
	t.Set(key, append([]byte{recordVersion}, b...))
	return nil
}

// vote binds the region to a checkpoint of another, if it extends what the region is bound to.
func (m *Machine) vote(c *voteCommand) (*Attested, error) {
	res := &Attested{Statement: StatedVote, Origin: c.Origin}
	origin, refusal, err := m.votable(c)
	if err != nil || refusal != "" {
		res.Refusal = refusal
		return res, err
	}
	next, err := checkpoint.Open(c.Note, checkpoint.Origin(m.doc.Name, c.Origin), origin.LogKey)
	if err != nil {
		res.Refusal = RefusedNote
		return res, nil //nolint:nilerr // a note that does not open is a refusal, not a fault of this replica
	}
	res.Size = next.Size
	if next.Document != m.head.Document || next.DocumentDigest != m.head.DocumentDigest {
		res.Refusal = RefusedDocument
		return res, nil
	}
	lock, err := lockOf(m.enc, m.txn, c.Origin)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if res.Refusal, res.Repeated = extends(lock, next, c); res.Refusal != "" || res.Repeated {
		return res, nil
	}
	notes := append(lock.notes(), c.Note)
	return res, saveVersioned(m.enc, m.txn, lockKey(c.Origin), &lockRecord{Notes: notes[max(0, len(notes)-LockNotesMax):]})
}

// votable finds whom a vote is for, or says why no vote for it can be given.
func (m *Machine) votable(c *voteCommand) (*federation.Region, Refusal, error) {
	if m.doc == nil {
		return nil, RefusedUnfounded, nil
	}
	if c.Document != m.head.Document {
		return nil, RefusedDocument, nil
	}
	origin, ok := m.doc.Region(c.Origin)
	if !ok || c.Origin == m.cfg.Region {
		return nil, RefusedOrigin, nil
	}
	lied, err := has(m.txn, evidenceKey(c.Origin))
	if lied {
		return nil, RefusedEvidence, err
	}
	return origin, "", err
}

// extends tells whether a vote follows from what the region is bound to; nil binds to nothing.
func extends(lock *Lock, next *checkpoint.Checkpoint, c *voteCommand) (refusal Refusal, repeated bool) {
	switch {
	case lock == nil && len(c.Proof) > 0:
		return RefusedConsistency, false
	case lock == nil:
		return "", false
	case next.Size < lock.Last.Size:
		return RefusedSmaller, false
	case next.Size == lock.Last.Size && *next != lock.Last:
		return RefusedOther, false
	case next.Size == lock.Last.Size:
		return "", true
	case len(c.Proof) > checkpoint.ProofHashesMax:
		return RefusedConsistency, false
	}
	if ledger.CheckConsistency(c.Proof, next.Size, next.Root, lock.Last.Size, lock.Last.Root) != nil {
		return RefusedConsistency, false
	}
	if next.TimeMillis < lock.Last.TimeMillis {
		return RefusedTime, false
	}
	return "", false
}

func (l *Lock) notes() [][]byte {
	if l == nil {
		return nil
	}
	return l.Notes
}

// certify records the certificate of an own seal. It covers all seals before it.
func (m *Machine) certify(number int64, signed []byte) (*Attested, error) {
	res := &Attested{Statement: StatedCertificate, Origin: m.cfg.Region, Number: number}
	if m.doc == nil {
		res.Refusal = RefusedUnfounded
		return res, nil
	}
	s, err := sealAt(m.enc, m.txn, number)
	if errors.Is(err, ErrNotFound) {
		res.Refusal = RefusedSeal
		return res, nil
	}
	if err != nil {
		return nil, err
	}
	if body, err := CertificateBody(signed); err != nil || string(body) != string(s.Body()) {
		res.Refusal = RefusedSeal
		return res, nil //nolint:nilerr // a note that is none is a refusal, not a fault of this replica
	}
	res.Size = s.Size
	var at attestRecord
	if _, err := loadVersioned(m.enc, m.txn, []byte{keyAttest}, &at); err != nil {
		return nil, err
	}
	if number < at.Next {
		res.Repeated = true
		return res, nil
	}
	m.txn.Set(certificateKey(number), signed)
	m.certified = number + 1
	return res, saveVersioned(m.enc, m.txn, []byte{keyAttest}, &attestRecord{Next: number + 1})
}

// CertificateBody is the text that a certificate's signatures are about. It checks none of them.
func CertificateBody(signed []byte) ([]byte, error) {
	if len(signed) > CertificateBytesMax {
		return nil, fmt.Errorf("certificate of %d bytes, at most %d", len(signed), CertificateBytesMax)
	}
	_, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	return []byte(unverified.Note.Text), nil
}

// ApplyCertificate records the certificate of one of the region's seals on a replica that follows,
// where no Raft brings it. It is called as [Machine.ApplySeal] is, by whoever has verified the
// certificate; one whose seal is not here yet, or is another, is refused, as in Raft.
func (m *Machine) ApplyCertificate(signed []byte) (*Attested, error) {
	if m.stopped != nil {
		return nil, m.stopped
	}
	res := &Attested{Statement: StatedCertificate, Origin: m.cfg.Region, Refusal: RefusedSeal}
	body, err := CertificateBody(signed)
	if err != nil {
		return res, nil //nolint:nilerr // as in certify
	}
	c, err := checkpoint.ParseBody(body)
	if err != nil {
		return res, nil //nolint:nilerr // as in certify
	}
	number, err := sealFrom(m.enc, m.txn, m.meta.Seals, c.Size)
	if err == nil {
		res, err = m.certify(number, signed)
	}
	if err == nil {
		err = errors.Join(m.commit(), m.noteCertified())
	}
	if err != nil {
		return nil, m.stop(err)
	}
	return res, nil
}

// sealsWaiting reports whether as many seals wait for their certificates as may. Those made under
// an earlier document wait for nothing any more: the next certificate covers them.
func (m *Machine) sealsWaiting() (bool, error) {
	var at attestRecord
	_, err := loadVersioned(m.enc, m.txn, []byte{keyAttest}, &at)
	if err != nil || m.meta.Seals-at.Next < UncertifiedSealsMax {
		return false, err
	}
	oldest, err := sealAt(m.enc, m.txn, m.meta.Seals-UncertifiedSealsMax)
	if err != nil {
		return false, err
	}
	return oldest.Document == m.head.Document, nil
}

// convict records evidence that a region lied.
func (m *Machine) convict(c *evidenceCommand) (*Attested, error) {
	res := &Attested{Statement: StatedEvidence, Origin: c.Origin}
	if m.doc == nil {
		res.Refusal = RefusedUnfounded
		return res, nil
	}
	origin, ok := m.doc.Region(c.Origin)
	if !ok {
		res.Refusal = RefusedOrigin
		return res, nil
	}
	known, err := has(m.txn, evidenceKey(c.Origin))
	if err != nil || known {
		res.Repeated = known
		return res, err
	}
	e, err := checkpoint.ParseEvidence(c.Evidence)
	if err == nil {
		err = e.Check(checkpoint.Origin(m.doc.Name, c.Origin), origin.LogKey)
	}
	if err != nil {
		res.Refusal = RefusedNoEvidence
		return res, nil //nolint:nilerr // evidence that shows nothing is a refusal, not a fault of this replica
	}
	m.txn.Set(evidenceKey(c.Origin), append([]byte{recordVersion}, c.Evidence...))
	return res, nil
}
