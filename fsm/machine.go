package fsm

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/pci"
)

// pendingMax is how many changed state keys may wait for a seal before they are
// folded into the commitment anyway. When they are folded does not show: the
// tree's root depends on what the state holds alone.
const pendingMax = 16 << 10

// Config is what a machine must be told.
type Config struct {
	Region string // origin, whose ledger this is
	// Document gives the federation document of a digest, if it is at hand and to be believed.
	// A machine that follows entries needs it, or Own and [Machine.OfferDocument]: entries
	// only name documents.
	Document func(digest [32]byte) ([]byte, bool)
	// Own is the document that this node was given. The ledger must go by it, by an earlier
	// version that leads to it or by a later one that came of it; else the machine stops.
	// Nil: the ledger is believed.
	Own *federation.Document
	// Observer, if any, is told when a proof enters and leaves a layer: the machine itself has no clock to
	// say what a layer costs.
	Observer Observer
}

// Machine is the state machine of one region over one store. Apply, ApplyEntries
// and ApplySeal are called from one goroutine at a time, which owns every field;
// other goroutines use [Machine.View], which touches only the store.
type Machine struct {
	cfg         Config
	st          store.Store
	enc         encoding
	log         *ledger.Log
	txn         *store.Txn // what the call under way has changed
	scratch     *store.Txn // child of txn: what the proof under way has changed
	meta        meta
	head        head
	headWritten head   // as it is in txn or in the store
	second      second // of log time, whose record is not in txn yet
	oldest      oldest
	recent      recent
	lawSince    int64                // log time since which the constitution's windows are in force; 0: since genesis
	hot         *hot                 // records as the store has them
	doc         *federation.Document // in force; nil before genesis
	region      *federation.Region
	policy      *constitution.Policy // of the document, compiled once
	fate        fate.Policy
	law         *constitution.Constitution
	limits      pci.Thresholds
	docKeys     map[[32]byte]struct{} // every key of the document, none of which may be an agent's
	pending     map[string]struct{}   // state keys that the commitment does not cover yet
	written     []byte                // the entry appended last
	sealed      sealed
	// certified is set by a certificate to the number of seals that it covers, until that is committed.
	certified int64
	inForce   atomic.Pointer[documentInForce] // the document for views of any goroutine
	standing  atomic.Pointer[marketAt]        // the market for views of any goroutine, as last committed

	carried       []byte // the document that came with the command under way, or is at hand for the entry
	offered       []byte // the document that came before the entry that names it
	offeredDigest [32]byte
	adopting      *federation.Document // by the proof under way
	market        *market.Market       // over the records of scratch; nil until it is needed
	stopped       error                // why this replica must not go on, once it must not
}

// Open takes up the state that the store holds, or an empty one.
func Open(st store.Store, cfg Config) (*Machine, error) {
	enc, err := newEncoding()
	if err != nil {
		return nil, err
	}
	m := &Machine{cfg: cfg, st: st, enc: enc, hot: newHot(st)}
	m.txn = store.NewTxn(m.hot)
	m.scratch = m.txn.Child()
	if err := m.reload(); err != nil {
		return nil, fmt.Errorf("open state of region %q: %w", cfg.Region, err)
	}
	if err := m.resumeSealed(); err != nil {
		return nil, fmt.Errorf("open the sealed state of region %q: %w", cfg.Region, err)
	}
	return m, nil
}

// reload sets every field from the store: at start, and after a call was undone.
func (m *Machine) reload() (err error) {
	m.txn.Reset()
	m.scratch.Reset()
	m.hot.clear()
	m.second, m.oldest = second{}, oldest{}
	m.meta, m.head, m.pending, m.adopting, m.market = meta{}, head{}, map[string]struct{}{}, nil, nil
	m.doc, m.region, m.policy, m.law, m.limits, m.docKeys = nil, nil, nil, nil, pci.Thresholds{}, nil
	if m.log, err = ledger.Open(m.st); err != nil {
		return err
	}
	if _, err := load(m.enc, m.st, []byte{keyMeta}, &m.meta); err != nil {
		return err
	}
	found, err := load(m.enc, m.st, stateKeyOf(stateHead, ""), &m.head)
	if err != nil {
		return err
	}
	m.headWritten = m.head
	m.recent = newRecent(m.head.NonceNext)
	if found != (m.log.Size() > 0) {
		return fmt.Errorf("%w: the ledger has %d entries, but the state is %s", ErrStop, m.log.Size(), map[bool]string{true: "there", false: "missing"}[found])
	}
	if found {
		if err := m.loadDocument(); err != nil {
			return err
		}
	}
	return errors.Join(m.findLawSince(), m.loadPending())
}

// knownState refuses rules that this program does not know.
func knownState(version int64) error {
	switch {
	case version < StateVersion:
		return fmt.Errorf("%w: state version %d is in force, which was never released, and this program knows version %d: found the region anew", ErrStop, version, StateVersion)
	case version > StateVersion:
		return fmt.Errorf("%w: state version %d is in force, and this program knows version %d: install the newer bizra that knows it", ErrStop, version, StateVersion)
	default:
		return nil
	}
}

func (m *Machine) loadDocument() error {
	if err := knownState(m.head.StateVersion); err != nil {
		return err
	}
	if was := m.inForce.Load(); was != nil && was.digest == m.head.DocumentDigest {
		return m.adopt(was.doc)
	}
	b, err := m.st.Get(documentKey(m.head.DocumentDigest))
	if err != nil {
		return fmt.Errorf("read the federation document in force: %w", err)
	}
	doc, err := m.parseDocument(b)
	if err != nil {
		return err
	}
	if err := m.goesBy(doc); err != nil {
		return fmt.Errorf("%w: %w", ErrStop, err)
	}
	return m.adopt(doc)
}

// parseDocument reads a document, or finds that it is this node's own: a node has many machines
// by one document, and parsed, its rules compiled, it is large.
func (m *Machine) parseDocument(text []byte) (*federation.Document, error) {
	if own := m.cfg.Own; own != nil && own.Is(text) {
		return own, nil
	}
	return federation.Parse(text)
}

// documentInForce spares readers the time that parsing a document takes, most of which
// goes into its rules.
type documentInForce struct {
	digest [32]byte
	doc    *federation.Document
}

func documentKey(digest [32]byte) []byte { return append([]byte{keyDocument}, digest[:]...) }

// adopt puts a document in force in memory; the state's head says which one it is.
func (m *Machine) adopt(doc *federation.Document) error {
	region, ok := doc.Region(m.cfg.Region)
	if !ok {
		return fmt.Errorf("the federation document has no region %q", m.cfg.Region)
	}
	policy, err := doc.Policy()
	if err != nil {
		return err
	}
	law := policy.Constitution()
	if m.fate, err = FatePolicy(&law); err != nil {
		return err
	}
	m.doc, m.region, m.policy, m.law, m.limits = doc, region, policy, &law, law.PCI()
	m.inForce.Store(&documentInForce{doc.Digest(), doc})
	m.docKeys = map[[32]byte]struct{}{}
	for i := range doc.Regions {
		r := &doc.Regions[i]
		m.docKeys[r.LogKey], m.docKeys[r.CosignKey] = struct{}{}, struct{}{}
		for _, k := range r.Operators {
			m.docKeys[k] = struct{}{}
		}
		for _, v := range r.Voters {
			m.docKeys[v.NodeKey] = struct{}{}
		}
	}
	return nil
}

func (m *Machine) loadPending() error {
	it, err := m.st.Iter([]byte{keyPending}, []byte{keyPending + 1})
	if err != nil {
		return fmt.Errorf("read pending changes: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		m.pending[string(it.Key()[1:])] = struct{}{}
	}
	return errors.Join(it.Err(), it.Close())
}

// AppliedIndex is the Raft index and term that the store holds.
func (m *Machine) AppliedIndex() (index, term uint64) { return m.meta.Index, m.meta.Term }

// Size is the number of entries of the ledger.
func (m *Machine) Size() int64 { return m.log.Size() }

// Result is what one command led to.
type Result struct {
	Skipped       bool      // the store held it already
	Size          int64     // entries of the ledger after it
	Receipts      []Receipt // one for each proof, in order
	Seal          *Seal     // of a seal that had something to seal
	VotersChanged bool      // what the region's voters should be has changed
	Transfer      *[32]byte // node key of the voter that an operator wants to lead
	Attested      *Attested // of a vote, a certificate or evidence
	BreakersMoved bool      // an agent's breaker took a step
}

// Apply applies Raft commands in order and commits them, up to a seal or the end of
// the call, in one atomic write with the applied index in it. An error means that
// this replica must stop; what the store then holds is the state at its applied index.
func (m *Machine) Apply(cmds []Command) ([]Result, error) {
	if m.stopped != nil {
		return nil, m.stopped
	}
	results := make([]Result, len(cmds))
	for i := range cmds {
		results[i].Size = m.log.Size()
		if cmds[i].Index <= m.meta.Index {
			results[i].Skipped = true
			continue
		}
		if err := m.command(&cmds[i], &results[i]); err != nil {
			return nil, m.stop(fmt.Errorf("apply Raft entry %d: %w", cmds[i].Index, err))
		}
		results[i].Size = m.log.Size()
		m.meta.Index, m.meta.Term = cmds[i].Index, cmds[i].Term
		if seal := results[i].Seal; seal != nil {
			if err := m.commitSeal(seal); err != nil {
				return nil, m.stop(err)
			}
		}
	}
	if err := errors.Join(m.commit(), m.noteCertified()); err != nil {
		return nil, m.stop(err)
	}
	return results, nil
}

// commitSeal commits at once, so that the view kept shows just what was sealed.
func (m *Machine) commitSeal(seal *Seal) error {
	if err := m.commit(); err != nil {
		return err
	}
	return m.keepSealed(seal)
}

func (m *Machine) stop(err error) error {
	if !errors.Is(err, ErrStop) {
		err = fmt.Errorf("%w: %w", ErrStop, err)
	}
	m.stopped = err
	return err
}

func (m *Machine) command(c *Command, res *Result) error {
	cmd, err := m.enc.decodeCommand(c.Data)
	if err != nil {
		return err
	}
	switch cmd.Kind {
	case kindProofs, kindAdopt:
		if cmd.Kind == kindAdopt {
			m.carried = cmd.Payload
			defer func() { m.carried = nil }()
		}
		res.Receipts = make([]Receipt, len(cmd.Proofs))
		for i, b := range cmd.Proofs {
			env, err := pci.DecodeCanonical(b)
			if err != nil {
				// The leader decodes strictly before it proposes, so this is a leader's fault;
				// it is refused alike on every replica.
				res.Receipts[i] = Receipt{Code: pci.CodeOf(err), Reason: err.Error(), Region: m.cfg.Region}
				continue
			}
			if res.Receipts[i], err = m.proof(env, cmd.StampMillis, res); err != nil {
				return err
			}
		}
		return nil
	case kindGenesis:
		return m.genesis(cmd.StampMillis, cmd.Payload)
	case kindSeal:
		res.Seal, err = m.seal()
		return err
	case kindVote, kindCertify, kindEvidence:
		res.Attested, err = m.attest(&cmd)
		return err
	default:
		return fmt.Errorf("%w: command kind %d is not known to this program: install the newer bizra that wrote it", ErrStop, cmd.Kind)
	}
}

// commit writes what the call has changed, with the pending set, atomically.
func (m *Machine) commit() error {
	if err := errors.Join(m.writeMoved(), save(m.enc, m.txn, []byte{keyMeta}, &m.meta)); err != nil {
		return err
	}
	writes := m.txn.Writes()
	for i := range writes {
		if k := writes[i].Key; k[0] == keyState {
			if _, known := m.pending[string(k)]; !known {
				m.pending[string(k)] = struct{}{}
				writes = append(writes, store.Write{Key: append([]byte{keyPending}, k...)})
			}
		}
	}
	if err := m.st.Commit(writes); err != nil {
		return fmt.Errorf("commit to the store: %w", err)
	}
	m.hot.committed(writes)
	m.txn.Reset()
	m.showMarket()
	if len(m.pending) <= pendingMax {
		return nil
	}
	if _, err := m.fold(); err != nil {
		return err
	}
	writes = m.txn.Writes()
	if err := m.st.Commit(writes); err != nil {
		return fmt.Errorf("commit to the store: %w", err)
	}
	m.hot.committed(writes)
	m.txn.Reset()
	return nil
}

// fold brings the state commitment up to date and returns its root.
func (m *Machine) fold() ([32]byte, error) {
	if err := m.writeMoved(); err != nil {
		return [32]byte{}, err
	}
	m.txn.Each(func(w *store.Write) {
		if w.Key[0] == keyState {
			m.pending[string(w.Key)] = struct{}{}
		}
	})
	keys := make([]string, 0, len(m.pending))
	for k := range m.pending { //detlint:allow maprange the keys are sorted below
		keys = append(keys, k)
	}
	slices.Sort(keys)
	changes := make([]prefixtree.Change, 0, len(keys))
	for _, k := range keys {
		c := prefixtree.Change{Key: prefixtree.KeyHash([]byte(k))}
		b, err := m.txn.Get([]byte(k))
		if err == nil {
			v := prefixtree.ValueHash(b)
			c.Value = &v
		} else if !errors.Is(err, store.ErrNotFound) {
			return [32]byte{}, fmt.Errorf("fold state %q: %w", k, err)
		}
		changes = append(changes, c)
		m.txn.Delete(append([]byte{keyPending}, k...))
	}
	root, err := m.updateTree(changes)
	if err != nil {
		return root, fmt.Errorf("update the state commitment: %w", err)
	}
	clear(m.pending)
	return root, nil
}
