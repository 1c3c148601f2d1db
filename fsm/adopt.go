package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// ErrDocument is returned where a ledger goes by a federation document that is not at hand,
// or that is no version of this node's own one.
var ErrDocument = errors.New("federation document of the ledger")

// adoption is payload.data of federation.adopt.
type adoption struct {
	version int64
	digest  [32]byte
}

func (a *action) readAdopt(o *pci.Object) {
	a.adopt.version = o.Int("version")
	digest, err := hex.DecodeString(o.Text("digest", 64))
	if err != nil || len(digest) != len(a.adopt.digest) {
		o.Fault("data.digest must be the document's digest in 64 hexadecimal digits")
		return
	}
	copy(a.adopt.digest[:], digest)
}

// withoutEntry is a refusal that makes no entry, since who re-executes the ledger would need
// the document that was refused. It is no *pci.Reject, which would become one.
type withoutEntry struct{ reject *pci.Reject }

func (w withoutEntry) Error() string { return w.reject.Error() }

// adoptDocument judges whether the document that a proof names comes in force. What the
// proof and the state decide is an entry; what the document itself decides is none.
func (m *Machine) adoptDocument(a *adoption) error {
	if len(m.doc.Regions) > 1 {
		return refuse(pci.RejectQuorumFailed, reasonNeedsQuorum)
	}
	if a.version != m.head.Document+1 {
		return refuse(pci.RejectInvariantFailed, reasonVersionNotNext)
	}
	if m.carried == nil || federation.DigestOf(m.carried) != a.digest {
		return withoutEntry{pci.Rejectf(pci.RejectSchema, "the federation document with digest %x did not come with the proof: submit both together, with `bizra federation adopt` or POST /v1/federation/adoptions", a.digest)}
	}
	next, err := m.successor(m.carried)
	if err == nil {
		err = m.checkSupply(next)
	}
	var rej *pci.Reject
	switch {
	case errors.As(err, &rej):
		return withoutEntry{rej}
	case err != nil:
		return err
	}
	if err := m.goesBy(next); err != nil {
		return err
	}
	m.scratch.Set(documentKey(a.digest), m.carried)
	m.adopting = next
	return nil
}

// documentAtHand finds a document for an entry that is re-executed: what was offered, or what
// the machine was told where to find. A command brings its document itself, or else
// replicas that were given different ones would part.
func (m *Machine) documentAtHand(digest [32]byte) ([]byte, bool) {
	if m.offered != nil && m.offeredDigest == digest {
		return m.offered, true
	}
	if m.cfg.Document != nil {
		if text, ok := m.cfg.Document(digest); ok {
			return text, true
		}
	}
	if own := m.cfg.Own; own != nil && own.Digest() == digest {
		return own.Canonical(), true
	}
	return nil, false
}

// successor reads the document that is to follow the one in force. A fault of it is a *pci.Reject.
func (m *Machine) successor(text []byte) (*federation.Document, error) {
	next, err := federation.Parse(text)
	if err != nil {
		return nil, pci.Rejectf(pci.RejectSchema, "the document that is to be adopted cannot be read: %.400s", err)
	}
	if !bytes.Equal(next.Canonical(), text) {
		return nil, pci.Rejectf(pci.RejectSchema, "the document that is to be adopted must come in its canonical form")
	}
	if err := m.doc.CheckSuccessor(next); err != nil {
		return nil, pci.Rejectf(pci.RejectSchema, "the document cannot be adopted: %.400s", err)
	}
	for i := range next.Regions {
		for _, key := range next.Regions[i].Operators {
			if m.doc.Regions[i].IsOperator(key) {
				continue
			}
			if err := m.keyFree(m.scratch, key); pci.CodeOf(err) == pci.RejectInvariantFailed {
				return nil, pci.Rejectf(pci.RejectSchema, "the document cannot be adopted: operator key %v belongs to an agent, a node or a region", key)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return next, nil
}

// putInForce makes the document that a proof has adopted the one in force, from the proof's entry on.
func (m *Machine) putInForce(t int64) error {
	next := m.adopting
	m.adopting = nil
	if next == nil {
		return nil
	}
	if err := m.forgetWhatIsForgotten(); err != nil {
		return err
	}
	m.head.Document, m.head.DocumentDigest = next.Version, next.Digest()
	m.noteDocument()
	m.lawSince = t
	if err := m.adopt(next); err != nil {
		return err
	}
	return m.adoptMarket(t)
}

// findLawSince says since when, at the earliest, no document can have changed the constitution's windows: since genesis if it is
// still in force, else since now.
func (m *Machine) findLawSince() error {
	m.lawSince = 0
	it, err := m.st.Iter(numbered(keyInForce, 1), []byte{keyInForce + 1})
	if err != nil {
		return fmt.Errorf("read which documents were in force: %w", err)
	}
	if it.First() {
		m.lawSince = m.head.TimeMillis
	}
	return errors.Join(it.Err(), it.Close())
}

// forgetWhatIsForgotten drops the nonces that are left of a second whose record has gone
// already, so that a longer replay window does not begin with half a second.
func (m *Machine) forgetWhatIsForgotten() error {
	if err := m.writeSecond(); err != nil {
		return err
	}
	for m.head.NonceFirst < m.head.NonceNext {
		b, err := m.txn.Get(numbered(keyExpiry, m.head.NonceFirst))
		if err != nil || len(b) != expiryBytes {
			return fmt.Errorf("read nonce number %d of the replay window: %d bytes: %w", m.head.NonceFirst, len(b), err)
		}
		_, t := splitExpiry(b)
		if recorded, err := has(m.txn, windowKey(t/secondMillis)); recorded || err != nil {
			return err
		}
		if err := m.forgetFirst(b); err != nil {
			return err
		}
	}
	return nil
}

// noteDocument remembers from which entry on the document in force is that.
func (m *Machine) noteDocument() {
	m.txn.Set(numbered(keyInForce, uint64(m.log.Size())), m.head.DocumentDigest[:]) //nolint:gosec // a size is never negative
}

// goesBy refuses a document that is no version of this node's own one. A later one must
// have come by way of it.
func (m *Machine) goesBy(doc *federation.Document) error {
	own := m.cfg.Own
	if own == nil {
		return nil
	}
	err := own.CheckKin(doc, m.cfg.Region)
	if err == nil && doc.Version > own.Version {
		var came bool
		if came, err = has(m.txn, documentKey(own.Digest())); err == nil && !came {
			err = fmt.Errorf("it has version %d, and the ledger never went by this node's own document, version %d with digest %x", doc.Version, own.Version, own.Digest())
		}
	}
	if err != nil {
		return fmt.Errorf("%w, version %d with digest %x: %w", ErrDocument, doc.Version, doc.Digest(), err)
	}
	return nil
}

// OfferDocument hands the machine the canonical form of a document that an entry to come
// will name, from whoever sends the entry. It is looked at only then, and taken only if
// [Config.Own] vouches for it; without one it is not kept. The one offered before is forgotten.
func (m *Machine) OfferDocument(canonical []byte) error {
	if len(canonical) > federation.DocumentBytesMax {
		return fmt.Errorf("%w: %d bytes were offered, it has at most %d", ErrDocument, len(canonical), federation.DocumentBytesMax)
	}
	if m.cfg.Own != nil {
		m.offered, m.offeredDigest = canonical, federation.DigestOf(canonical)
	}
	return nil
}

// Holds is the digest of the document that the machine was given and need not be offered; ok is
// false where it was given none.
func (m *Machine) Holds() (digest [32]byte, ok bool) {
	if m.cfg.Own == nil {
		return digest, false
	}
	return m.cfg.Own.Digest(), true
}

// InForce is the federation document in force, nil before genesis. Any goroutine may call
// it; what an entry under way adopts may show before it is committed.
func (m *Machine) InForce() *federation.Document {
	if d := m.inForce.Load(); d != nil {
		return d.doc
	}
	return nil
}

// NextDocument is the first entry from an index on that puts a document in force: its
// index and the document's digest; found is false where none does.
func (v *View) NextDocument(from int64) (index int64, digest [32]byte, found bool, err error) {
	it, err := v.snap.Iter(numbered(keyInForce, uint64(from)), []byte{keyInForce + 1}) //nolint:gosec // an index is never negative
	if err != nil {
		return 0, digest, false, fmt.Errorf("look for documents: %w", err)
	}
	if it.First() {
		index, digest, err = inForceRecord(it.Key(), it.Value())
		found = err == nil
	}
	return index, digest, found, errors.Join(err, it.Err(), it.Close())
}

func inForceRecord(key, value []byte) (index int64, digest [32]byte, err error) {
	if len(key) != 9 || len(value) != len(digest) {
		return 0, digest, fmt.Errorf("record %q of a document has %d bytes", key, len(value))
	}
	return int64(binary.BigEndian.Uint64(key[1:])), [32]byte(value), nil //nolint:gosec // written from an int64
}

// DocumentText is the canonical form of a document that is or was in force, or [ErrNotFound].
func (v *View) DocumentText(digest [32]byte) ([]byte, error) {
	b, err := v.snap.Get(documentKey(digest))
	if err != nil {
		return nil, fmt.Errorf("federation document %x: %w", digest, err)
	}
	return b, nil
}

// DocumentAt is the document by which the entry at an index was judged; an entry that
// adopts one was judged by the one before it.
func (v *View) DocumentAt(index int64) (*federation.Document, error) {
	it, err := v.snap.Iter([]byte{keyInForce}, numbered(keyInForce, uint64(max(index, 1))))
	if err != nil {
		return nil, fmt.Errorf("look for documents: %w", err)
	}
	var digest [32]byte
	found := false
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		_, digest, err = inForceRecord(it.Key(), it.Value())
		found = true
	}
	switch err = errors.Join(err, it.Err(), it.Close()); {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("federation document at entry %d: %w", index, ErrNotFound)
	case digest == v.head.DocumentDigest:
		return v.Document()
	}
	text, err := v.DocumentText(digest)
	if err != nil {
		return nil, err
	}
	return federation.Parse(text)
}

// adopts reports whether the entry puts a document in force.
func (e *Entry) adopts() bool {
	return e.Kind == EntryProof && e.Envelope.Payload.Action == ActionFederationAdopt && e.Outcome.Code == pci.Success
}

// readopt re-executes an entry that puts a document in force.
func (m *Machine) readopt(e *Entry) error {
	named, _ := e.Envelope.Payload.Data.Get("digest")
	digest, err := hex.DecodeString(named.String())
	if err == nil && len(digest) == 32 { // else no such entry was ever made, and re-executing it says so
		var ok bool
		if m.carried, ok = m.documentAtHand([32]byte(digest)); !ok {
			return fmt.Errorf("%w: the entry adopts document %s, which is not at hand", ErrDocument, named.String())
		}
	}
	defer func() { m.carried = nil }()
	_, err = m.proof(e.Envelope, e.TimeMillis, &Result{})
	return err
}

// checkDocuments holds every document that the ledger went by against its digest, and the
// last of them against the one in force.
func (m *Machine) checkDocuments(ctx context.Context, v *View) error {
	last := [32]byte{}
	err := scan(ctx, v.snap, keyInForce, func(key, value []byte) (err error) {
		if _, last, err = inForceRecord(key, value); err != nil {
			return err
		}
		text, err := v.DocumentText(last)
		if err == nil && federation.DigestOf(text) != last {
			err = fmt.Errorf("%w: the document with digest %x is not what its digest says", ErrDiverged, last)
		}
		return err
	})
	if err == nil && last != v.head.DocumentDigest {
		err = fmt.Errorf("%w: the last document put in force has digest %x, the state goes by %x", ErrDiverged, last, v.head.DocumentDigest)
	}
	return err
}
