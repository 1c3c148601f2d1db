package fsm

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/store"
)

// genesis founds the ledger: its first entry names the federation document and the
// state version, and the voters are those of the document. A second one is ignored,
// since two leaders may both have seen an empty ledger.
func (m *Machine) genesis(stamp int64, document []byte) error {
	if m.log.Size() > 0 {
		return nil
	}
	doc, err := m.parseDocument(document)
	if err != nil {
		return err
	}
	if err := m.goesBy(doc); err != nil {
		return err
	}
	if err := m.adopt(doc); err != nil {
		return err
	}
	m.head = head{StateVersion: StateVersion, TimeMillis: max(stamp, 0), Document: doc.Version, DocumentDigest: doc.Digest()}
	m.txn.Set(documentKey(m.head.DocumentDigest), doc.Canonical())
	m.noteDocument()
	var vs voters
	for _, v := range m.region.Voters {
		vs.Active = append(vs.Active, Voter{Name: v.Name, NodeKey: v.NodeKey, Addresses: v.Addresses})
	}
	if err := save(m.enc, m.txn, stateKeyOf(stateVoters, ""), &vs); err != nil {
		return err
	}
	if err := m.adoptMarket(m.head.TimeMillis); err != nil {
		return err
	}
	_, err = m.append(&Entry{Kind: EntryGenesis, Region: m.cfg.Region, TimeMillis: m.head.TimeMillis, Outcome: Outcome{
		Document: doc.Version, DocumentDigest: hexOf(m.head.DocumentDigest[:]), StateVersion: StateVersion}})
	return err
}

// Seal is the replicated decision to make a checkpoint at this point: what the
// region says about its ledger there. Every replica works it out for itself.
type Seal struct {
	_              struct{} `cbor:",toarray"`
	Number         int64    // from 0
	Origin         string   // <federation>/<region>
	Size           int64    // entries sealed
	Root           [32]byte // RFC 6962 root over them
	State          [32]byte // state commitment after them
	TimeMillis     int64    // log time
	Document       int64    // version of the federation document in force
	DocumentDigest [32]byte
}

// Checkpoint is what the region says by the seal, once it signs it.
func (s *Seal) Checkpoint() *checkpoint.Checkpoint {
	return &checkpoint.Checkpoint{Origin: s.Origin, Size: s.Size, Root: s.Root, State: s.State, TimeMillis: s.TimeMillis,
		Document: s.Document, DocumentDigest: s.DocumentDigest}
}

// Body is the text of that checkpoint, as it is signed.
func (s *Seal) Body() []byte { return s.Checkpoint().Body() }

func sealKey(number int64) []byte {
	return numbered(keySeal, uint64(number)) //nolint:gosec // never negative
}

// seal folds in what has changed and records what the ledger and the state are.
// Where nothing was appended since the last seal, or too many seals wait for their
// certificates, it does nothing.
func (m *Machine) seal() (*Seal, error) {
	if m.doc == nil {
		return nil, nil
	}
	if full, err := m.sealsWaiting(); err != nil || full {
		return nil, err
	}
	if last, err := sealAt(m.enc, m.txn, m.meta.Seals-1); err == nil && last.Size == m.log.Size() {
		return nil, nil
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	s, err := m.sealNow()
	if err != nil {
		return nil, err
	}
	return s, m.putSeal(s)
}

func (m *Machine) sealNow() (*Seal, error) {
	state, err := m.fold()
	if err != nil {
		return nil, err
	}
	root, err := m.log.Root()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Seal{Number: m.meta.Seals, Origin: checkpoint.Origin(m.doc.Name, m.cfg.Region), Size: m.log.Size(), Root: root, State: state,
		TimeMillis: m.head.TimeMillis, Document: m.head.Document, DocumentDigest: m.head.DocumentDigest}, nil
}

func (m *Machine) putSeal(s *Seal) error {
	m.meta.Seals = s.Number + 1
	return save(m.enc, m.txn, sealKey(s.Number), s)
}

func sealAt(e encoding, g store.Getter, number int64) (*Seal, error) {
	if number < 0 {
		return nil, fmt.Errorf("seal %d: %w", number, ErrNotFound)
	}
	var s Seal
	found, err := load(e, g, sealKey(number), &s)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("seal %d: %w", number, ErrNotFound)
	}
	return &s, nil
}

// ApplyEntries re-executes entries of this region's ledger, in order, and commits
// them together. It returns [ErrDiverged], and changes nothing, if one of them is
// not exactly what this machine makes of it. It does not verify signatures.
func (m *Machine) ApplyEntries(entries [][]byte) error {
	parsed := make([]*Entry, len(entries))
	for i, data := range entries {
		var err error
		if parsed[i], err = ParseEntry(data); err != nil {
			return err
		}
	}
	return m.ApplyParsed(parsed, entries)
}

// ApplyParsed is [Machine.ApplyEntries] of entries that the caller has parsed: parsed[i] is
// what [ParseEntry] gives for entries[i].
func (m *Machine) ApplyParsed(parsed []*Entry, entries [][]byte) error {
	if m.stopped != nil {
		return m.stopped
	}
	for i, e := range parsed {
		if err := m.reexecute(e, entries[i]); err != nil {
			return errors.Join(err, m.undo())
		}
	}
	if err := m.commit(); err != nil {
		return m.stop(err)
	}
	return nil
}

func (m *Machine) undo() error {
	if err := m.reload(); err != nil {
		return m.stop(err)
	}
	return nil
}

func (m *Machine) reexecute(e *Entry, data []byte) (err error) {
	index := m.log.Size()
	if e.Index != index || e.Region != m.cfg.Region {
		return fmt.Errorf("%w: entry %d of region %q where entry %d of region %q was due", ErrDiverged, e.Index, e.Region, index, m.cfg.Region)
	}
	if e.TimeMillis < m.head.TimeMillis {
		return fmt.Errorf("%w: entry %d: log time goes back from %d to %d", ErrDiverged, index, m.head.TimeMillis, e.TimeMillis)
	}
	switch {
	case e.Kind == EntryGenesis:
		err = m.regenesis(e)
	case e.Kind == EntryBreaker:
		err = m.rebreak(e)
	case e.Kind == EntryEpoch:
		err = m.resettle(e)
	case e.adopts():
		err = m.readopt(e)
	default:
		_, err = m.proof(e.Envelope, e.TimeMillis, &Result{})
	}
	if err != nil {
		return fmt.Errorf("re-execute entry %d: %w", index, err)
	}
	if m.log.Size() != index+1 || string(m.written) != string(data) {
		return fmt.Errorf("%w: entry %d: recorded %.300s, here it gives %.300s", ErrDiverged, index, data, m.written)
	}
	return nil
}

func (m *Machine) regenesis(e *Entry) error {
	var digest [32]byte
	if _, err := hex.Decode(digest[:], []byte(e.Outcome.DocumentDigest)); err != nil {
		return fmt.Errorf("document digest: %w", err)
	}
	if err := knownState(e.Outcome.StateVersion); err != nil {
		return err
	}
	doc, ok := m.documentAtHand(digest)
	if !ok {
		return fmt.Errorf("%w: the ledger is founded on document %s, which is not at hand", ErrDocument, e.Outcome.DocumentDigest)
	}
	return m.genesis(e.TimeMillis, doc)
}

// ApplySeal takes up a seal of the region that was made at the size reached here,
// and returns [ErrDiverged] if the state is another one.
func (m *Machine) ApplySeal(s *Seal) error {
	if m.stopped != nil {
		return m.stopped
	}
	if s.Size != m.log.Size() || m.doc == nil {
		return fmt.Errorf("seal %d covers %d entries, and there are %d here", s.Number, s.Size, m.log.Size())
	}
	own, err := m.sealNow()
	if err != nil {
		return m.stop(err)
	}
	own.Number = s.Number
	if string(own.Body()) != string(s.Body()) {
		return errors.Join(fmt.Errorf("%w: seal %d of size %d: recorded %q, here it is %q", ErrDiverged, s.Number, s.Size, s.Body(), own.Body()), m.undo())
	}
	if err := m.putSeal(own); err != nil {
		return m.stop(err)
	}
	if err := m.commitSeal(own); err != nil {
		return m.stop(err)
	}
	return nil
}

// StateRoot is the state commitment of what the store holds now. It is what a seal
// made at this point would say.
func (m *Machine) StateRoot() ([32]byte, error) {
	if m.stopped != nil {
		return [32]byte{}, m.stopped
	}
	root, err := m.fold()
	if err != nil {
		return root, m.stop(err)
	}
	if err := m.commit(); err != nil {
		return root, m.stop(err)
	}
	return root, nil
}
