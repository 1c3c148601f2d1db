package fsm

import (
	"errors"
	"fmt"
	"sort"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
)

// PageMax is the most items that one read of a list gives.
const PageMax = 1000

// View reads the state as it was at one moment. It must be closed.
type View struct {
	snap   store.Snapshot
	enc    encoding
	region string
	head   head
	meta   meta
	doc    *documentInForce // when the view was opened; nil before genesis
	market *marketAt        // when the view was opened; nil where it was not computed
	done   func()           // told once the view is closed
}

// View opens a view on the state as it is now. Any goroutine may call it.
func (m *Machine) View() (*View, error) { return m.Viewer()(m.st) }

// Viewer views stores that hold the state as the machine has it now, whatever becomes of the
// machine. Any goroutine may call it, and what it returns.
func (m *Machine) Viewer() func(st store.Store) (*View, error) {
	v := View{enc: m.enc, region: m.cfg.Region, doc: m.inForce.Load(), market: m.standing.Load()}
	return v.on
}

// on opens the view v on a store.
func (v View) on(st store.Store) (*View, error) {
	snap, err := st.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	v.snap = snap
	_, err1 := load(v.enc, snap, stateKeyOf(stateHead, ""), &v.head)
	_, err2 := load(v.enc, snap, []byte{keyMeta}, &v.meta)
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.Join(err, snap.Close())
	}
	return &v, nil
}

// Close releases the view.
func (v *View) Close() error {
	err := v.snap.Close()
	if v.done != nil {
		v.done()
		v.done = nil
	}
	return err
}

// OnClose has Close call a function, for whoever must keep the store open until then.
func (v *View) OnClose(done func()) { v.done = done }

// Ledger is the ledger's read side.
func (v *View) Ledger() ledger.View { return ledger.View{Reader: v.snap} }

// AppliedIndex is the last Raft index in this view.
func (v *View) AppliedIndex() uint64 { return v.meta.Index }

// LogTimeMillis is the log time of the last entry, 0 before genesis.
func (v *View) LogTimeMillis() int64 { return v.head.TimeMillis }

// Document is the federation document in force, not to be changed; [ErrNotFound] before genesis.
func (v *View) Document() (*federation.Document, error) {
	if v.doc != nil && v.doc.digest == v.head.DocumentDigest {
		return v.doc.doc, nil
	}
	b, err := v.snap.Get(documentKey(v.head.DocumentDigest))
	if err != nil {
		return nil, fmt.Errorf("federation document: %w", err)
	}
	return federation.Parse(b)
}

// law is the constitution in force, nil before genesis.
func (v *View) law() *constitution.Constitution {
	if v.doc == nil {
		return nil
	}
	return &v.doc.doc.Constitution
}

// Receipt is the receipt of the entry that records the proof of this digest, or [ErrNotFound].
func (v *View) Receipt(digest [32]byte) (Receipt, error) {
	r, found, err := receiptOf(v.snap, digest, v.law())
	if err == nil && !found {
		err = fmt.Errorf("proof %s: %w", hexOf(digest[:]), ErrNotFound)
	}
	return r, err
}

// ReceiptAt is the receipt of the entry at an index; recorded is false where that records no proof.
func (v *View) ReceiptAt(index int64) (r Receipt, recorded bool, err error) {
	e, err := v.Entry(index)
	if err != nil || e.Envelope == nil {
		return Receipt{}, false, err
	}
	return e.receipt(v.law()), true, nil
}

// ReceiptByEnvelopeID is [View.Receipt] for the newest entry whose envelope has this id.
func (v *View) ReceiptByEnvelopeID(id string) (Receipt, error) {
	index, err := v.Ledger().IndexByEnvelopeID(id)
	if err != nil {
		return Receipt{}, fmt.Errorf("envelope %q: %w", id, err)
	}
	e, err := v.Entry(index)
	if err != nil {
		return Receipt{}, err
	}
	return e.receiptFor(v.law())
}

// Entry decodes the entry at an index.
func (v *View) Entry(index int64) (*Entry, error) {
	b, err := v.Ledger().Entry(index)
	if err != nil {
		return nil, err
	}
	return ParseEntry(b)
}

// Session finds a session by its id, or [ErrNotFound].
func (v *View) Session(id string) (*session.Session, error) {
	r, err := v.sessionRecord(id)
	if err != nil {
		return nil, err
	}
	return &r.Session, nil
}

func (v *View) sessionRecord(id string) (*sessionRecord, error) {
	var r sessionRecord
	found, err := load(v.enc, v.snap, stateKeyOf(stateSession, id), &r)
	if err == nil && !found {
		err = fmt.Errorf("session %q: %w", id, ErrNotFound)
	}
	return &r, err
}

// Sessions lists sessions with ids after the one given, sorted by id, at most PageMax.
func (v *View) Sessions(after string, countMax int) ([]session.Session, error) {
	records, err := list[sessionRecord](v, stateSession, after, countMax)
	sessions := make([]session.Session, len(records))
	for i := range records {
		sessions[i] = records[i].Session
	}
	return sessions, err
}

// Agents lists agents with ids after the one given, sorted by id, at most PageMax.
func (v *View) Agents(after string, countMax int) ([]Agent, error) {
	return list[Agent](v, stateAgent, after, countMax)
}

func list[T any](v *View, name, after string, countMax int) ([]T, error) {
	_, upper := stateRange(name)
	it, err := v.snap.Iter(append(stateKeyOf(name, after), 0), upper)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	return decodeAll[T](v.enc, it, countMax)
}

// Agent finds an agent by its id, or [ErrNotFound].
func (v *View) Agent(id string) (*Agent, error) {
	var a Agent
	found, err := load(v.enc, v.snap, stateKeyOf(stateAgent, id), &a)
	if err == nil && !found {
		err = fmt.Errorf("agent %q: %w", id, ErrNotFound)
	}
	return &a, err
}

// AgentByKey finds the agent that a public key belongs to, or [ErrNotFound].
func (v *View) AgentByKey(key [32]byte) (*Agent, error) {
	id, err := v.snap.Get(stateKeyOf(stateKey, string(key[:])))
	if err != nil {
		return nil, fmt.Errorf("agent of key %s: %w", hexOf(key[:]), err)
	}
	return v.Agent(string(id))
}

// Voters are the nodes that are to vote in the region's Raft.
func (v *View) Voters() ([]Voter, error) {
	var vs voters
	_, err := load(v.enc, v.snap, stateKeyOf(stateVoters, ""), &vs)
	return vs.Active, err
}

// Step is one node of a session's history.
type Step struct {
	Number int64 // in the order in which the nodes were made, from 0
	Hash   session.Hash
	Node   *session.Node
	Index  int64 // of the entry that made it
}

// History lists a session's nodes from a number on, at most PageMax.
func (v *View) History(id string, from int64, countMax int) ([]Step, error) {
	s, err := v.Session(id)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for n := max(from, 0); n < int64(s.Nodes) && len(steps) < min(countMax, PageMax); n++ { //nolint:gosec // nodes are counted one by one
		b, err := v.snap.Get(historyKey(id, uint64(n)))
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("history of session %q, node %d: %d bytes: %w", id, n, len(b), err)
		}
		st := Step{Number: n, Hash: session.Hash(b)}
		if st.Node, st.Index, err = (nodes{v.snap}).at(st.Hash); err != nil {
			return nil, err
		}
		steps = append(steps, st)
	}
	return steps, nil
}

// Seals is how many seals were made.
func (v *View) Seals() int64 { return v.meta.Seals }

// SealAt is a seal by its number, or [ErrNotFound].
func (v *View) SealAt(number int64) (*Seal, error) { return sealAt(v.enc, v.snap, number) }

// SealFrom is the number of the first seal of at least so many entries, the number of
// seals where there is none.
func (v *View) SealFrom(size int64) (int64, error) {
	return sealFrom(v.enc, v.snap, v.meta.Seals, size)
}

func sealFrom(e encoding, g store.Getter, seals, size int64) (int64, error) {
	var failed error
	n := sort.Search(int(seals), func(i int) bool {
		s, err := sealAt(e, g, int64(i))
		if err != nil {
			failed = err
			return true
		}
		return s.Size >= size
	})
	return int64(n), failed
}
