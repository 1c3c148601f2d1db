package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"

	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/node"
)

// recentMax is how many moments of a history are kept for whoever comes after.
const recentMax = 8

// historyKey is all that a copy depends on besides what it is fed.
type historyKey struct {
	region string
	own    [32]byte // digest of the document
	member bool     // of the region itself: a machine of their own, since what they record beside it would make it change places
}

// momentKey is all that was fed: entries, seals and documents in their order, and certificates in
// theirs. The two do not mind each other's order, and no two nodes hear of a certificate between the same two entries.
type momentKey struct{ fed, certified [sha256.Size]byte }

// history is what the copies of one region's ledger have executed. Copies that were fed the same
// stand in one moment, and whoever comes first to the next works it out.
type history struct {
	memo *memo
	cfg  fsm.Config

	mu      sync.Mutex // guards what follows, and the uses of moments
	machine *fsm.Machine
	live    *store.Memory // the machine's
	at      *moment       // where the machine stands; nil if it failed
	moments map[momentKey]*moment
	recent  []*moment // oldest first
}

// moment is a state that copies stand in, known by all that was executed to come there.
type moment struct {
	key      momentKey
	st       *store.Memory // never changed
	view     func(store.Store) (*fsm.View, error)
	size     int64
	document *federation.Document // in force
	uses     int                  // copies that stand here or lie on a disk so, and 1 while it is recent
}

func (m *memo) history(cfg fsm.Config, member bool) (*history, error) {
	key := historyKey{cfg.Region, cfg.Own.Digest(), member}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.histories[key]; h != nil {
		return h, nil
	}
	h := &history{memo: m, cfg: cfg, moments: map[momentKey]*moment{}}
	empty := &moment{st: store.NewMemory(), uses: 1} // for good
	h.moments[empty.key] = empty
	if err := h.stand(empty); err != nil {
		return nil, err
	}
	empty.view = h.machine.Viewer()
	m.histories[key] = h
	return h, nil
}

// stand has a machine that stands in a moment. Under mu.
func (h *history) stand(at *moment) error {
	if h.at == at {
		return nil
	}
	live, err := at.st.Clone()
	if err != nil {
		return err
	}
	machine, err := fsm.Open(live, h.cfg)
	if err != nil {
		return err
	}
	if h.machine != nil {
		if err := h.machine.Close(); err != nil {
			return errors.Join(err, machine.Close())
		}
	}
	h.machine, h.live, h.at = machine, live, at
	return nil
}

// empty gives the moment where nothing is executed.
func (h *history) empty() *moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.moments[momentKey{}]
	at.uses++
	return at
}

// use counts one more that stands in a moment.
func (h *history) use(at *moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at.uses++
}

// leave counts one less.
func (h *history) leave(at *moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.release(at)
}

// release is called under mu.
func (h *history) release(at *moment) {
	if at.uses--; at.uses == 0 {
		delete(h.moments, at.key)
	}
}

// errStays is returned by what step executes where it has left the state as it was.
var errStays = errors.New("nothing to be recorded")

// step goes on from a moment to the one with a key, and works that out where nobody has. The
// copy that asks leaves the one for the other.
func (h *history) step(from *moment, key momentKey, kind string, count int, execute func(*fsm.Machine) error) (*moment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	to, known := h.moments[key]
	if !known {
		if err := h.stand(from); err != nil {
			return from, err
		}
		if err := execute(h.machine); errors.Is(err, errStays) {
			return from, nil
		} else if err != nil {
			h.at = nil // it is not asked again whether the machine is as it was
			return from, err
		}
		st, err := h.live.Clone()
		if err != nil {
			return from, err
		}
		to = &moment{key: key, st: st, view: h.machine.Viewer(), size: h.machine.Size(), document: h.machine.InForce(), uses: 1}
		h.moments[key], h.at, h.recent = to, to, append(h.recent, to)
		if len(h.recent) > recentMax {
			h.release(h.recent[0])
			h.recent = slices.Delete(h.recent, 0, 1)
		}
	}
	h.memo.mu.Lock()
	if known {
		h.memo.count(kind, 0, count)
	} else {
		h.memo.count(kind, count, 0)
	}
	h.memo.mu.Unlock()
	to.uses++
	h.release(from)
	return to, nil
}

// prove is [fsm.Machine.ProveCertified] at a moment.
func (h *history) prove(at *moment, key []byte) (*fsm.StateProof, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.stand(at); err != nil {
		return nil, err
	}
	return h.machine.ProveCertified(key)
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.machine.Close()
}

// close lets go of every machine.
func (m *memo) close() (err error) {
	for _, h := range m.histories {
		err = errors.Join(err, h.close())
	}
	return err
}

// sharedCopy is a copy of a region's ledger that shares what it holds with those of other nodes.
type sharedCopy struct {
	history *history
	mount   *mount
	dir     string

	mu      sync.Mutex
	at      *moment // nil once it is closed
	offered []byte
}

var _ follow.CopyReplica = (*sharedCopy)(nil)

// openCopy opens a copy where the disk has it.
func (m *memo) openCopy(on *mount, dir string, cfg fsm.Config) (follow.CopyReplica, error) {
	if err := on.check(); err != nil {
		return nil, err
	}
	h, err := m.history(cfg, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", follow.ErrCopyUnusable, err)
	}
	return openShared(on, dir, h)
}

func openShared(on *mount, dir string, h *history) (*sharedCopy, error) {
	on.disk.mu.Lock()
	durable, ok := on.disk.copies[dir]
	on.disk.mu.Unlock()
	c := &sharedCopy{history: h, mount: on, dir: dir}
	switch {
	case !ok:
		c.at = h.empty()
	case durable.history != h:
		return nil, fmt.Errorf("%w: it was executed by another document", follow.ErrCopyUnusable)
	default:
		h.use(durable.at)
		c.at = durable.at
	}
	return c, nil
}

// standing is where a copy on a disk stands.
type standing struct {
	history *history
	at      *moment
}

// stepper chains what is executed to a moment's key.
type stepper struct {
	key [sha256.Size]byte
	h   hash.Hash
}

func (s *stepper) add(what string, data ...[]byte) {
	s.h.Reset()
	s.h.Write(s.key[:])
	for _, b := range append([][]byte{[]byte(what)}, data...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		s.h.Write(n[:])
		s.h.Write(b)
	}
	s.h.Sum(s.key[:0])
}

// ApplyParsed implements [follow.Replica].
func (c *sharedCopy) ApplyParsed(parsed []*fsm.Entry, entries [][]byte) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.mount.check(); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	s := stepper{c.at.key.fed, sha256.New()}
	if c.offered != nil {
		s.add("document", c.offered)
	}
	for _, e := range entries {
		s.add("entry", e)
	}
	c.at, err = c.history.step(c.at, momentKey{s.key, c.at.key.certified}, MemoReexecution, len(entries), func(m *fsm.Machine) error {
		if c.offered != nil {
			if err := m.OfferDocument(c.offered); err != nil {
				return err
			}
		}
		return m.ApplyParsed(parsed, entries)
	})
	if err == nil {
		c.offered = nil
	}
	return err
}

// ApplySeal implements [follow.Replica].
func (c *sharedCopy) ApplySeal(seal *fsm.Seal) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.mount.check(); err != nil {
		return err
	}
	s := stepper{c.at.key.fed, sha256.New()}
	s.add("seal", binary.BigEndian.AppendUint64(nil, uint64(seal.Number)), seal.Body()) //nolint:gosec // never negative
	c.at, err = c.history.step(c.at, momentKey{s.key, c.at.key.certified}, MemoSeal, 1, func(m *fsm.Machine) error { return m.ApplySeal(seal) })
	return err
}

// OfferDocument implements [follow.Replica].
func (c *sharedCopy) OfferDocument(canonical []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offered = canonical
	return nil
}

// Holds implements [follow.Replica].
func (c *sharedCopy) Holds() (digest [32]byte, ok bool) { return c.history.cfg.Own.Digest(), true }

// Size implements [follow.Replica].
func (c *sharedCopy) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.size
}

// View implements [follow.Replica].
func (c *sharedCopy) View() (*fsm.View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.view(c.at.st)
}

// Check implements [follow.CopyReplica].
func (c *sharedCopy) Check(ctx context.Context) error {
	c.mu.Lock()
	at := c.at
	c.mu.Unlock()
	return fsm.Check(ctx, at.st, c.history.cfg, func(string, int64, int64) {})
}

// Close implements [follow.CopyReplica]. What was executed is written in the end, unless the node has crashed.
func (c *sharedCopy) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.mount.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.mount.dead.Load() {
		c.history.leave(c.at)
		return nil
	}
	if was, ok := d.copies[c.dir]; ok {
		was.history.leave(was.at)
	}
	d.copies[c.dir] = standing{c.history, c.at}
	return nil
}

// sharedState is the state of a member that shares what it holds with the others of its region. Where they
// are not at the same moment, it proves what a node proves that has just started: what was sealed since.
type sharedState struct {
	*sharedCopy
	newest []byte // certificate recorded, of the goroutine that changes the state
}

// openFollowed opens a member's state where the disk has it.
func (m *memo) openFollowed(on *mount, dir string, cfg fsm.Config) (node.Followed, error) {
	if err := on.check(); err != nil {
		return nil, err
	}
	cfg.Observer = nil // of one node; the machine is everybody's
	h, err := m.history(cfg, true)
	if err != nil {
		return nil, err
	}
	c, err := openShared(on, dir, h)
	if err != nil {
		return nil, err
	}
	return &sharedState{sharedCopy: c}, nil
}

// Certify implements [node.Followed].
func (s *sharedState) Certify(signed []byte) (err error) {
	if bytes.Equal(s.newest, signed) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mount.check(); err != nil {
		return err
	}
	chain := stepper{s.at.key.certified, sha256.New()}
	chain.add("certificate", signed)
	s.at, err = s.history.step(s.at, momentKey{s.at.key.fed, chain.key}, MemoCertified, 1, func(m *fsm.Machine) error {
		done, err := m.ApplyCertificate(signed)
		if err == nil && (!done.Accepted() || done.Repeated) {
			return errStays
		}
		return err
	})
	if err == nil && s.at.key.certified == chain.key {
		s.newest = signed
	}
	return err
}

// InForce implements [node.Followed].
func (s *sharedState) InForce() *federation.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at.document
}

// ProveCertified implements [node.Followed].
func (s *sharedState) ProveCertified(key []byte) (*fsm.StateProof, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.prove(s.at, key)
}
