package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/fsm/store/pebblestore"
)

// viewWait is how long closing the state waits for reads that are under way.
const viewWait = 30 * time.Second

// stateMemTableBytes is what a memtable of the region's own state grows to: a busy region fills 16 MiB in a second, and most of
// what a seal removes or writes again comes within seconds. Copies of other regions, of which there may be many, make do with less.
const stateMemTableBytes = 64 << 20

// state is the machine that stands now. Raft replaces it when a snapshot comes in;
// views of the old one are waited for, since a store is not closed under a reader.
type state struct {
	openStore    func(dir string, o pebblestore.Options) (store.Store, error)
	openFollowed func(dir string, o pebblestore.Options, cfg fsm.Config) (Followed, error)
	onFatal      func(error)         // told that a store does not know any more what is on its disk
	onApply      func(time.Duration) // told how long each call of Apply took
	watch        func() fsm.Observer // makes what watches one machine's layers
	// onDocument is told which federation document is in force, when the state is opened and
	// whenever that has changed, on the goroutine that applies.
	onDocument func(*federation.Document)
	mu         sync.Mutex
	current    *opened
}

// opened is one machine with its store.
type opened struct {
	region.StateMachine // of a voter
	machine             viewed
	end                 func() error // closes the machine
	owner               *state
	told                *federation.Document // in force; of the goroutine that applies

	mu     sync.Mutex
	views  int
	closed bool
	idle   chan struct{} // closed once it is closed and has no views
}

// viewed is what is read of a machine.
type viewed interface {
	View() (*fsm.View, error)
	InForce() *federation.Document
	ProveCertified(key []byte) (*fsm.StateProof, error)
}

// errNoState is returned while there is no state to read.
var errNoState = errors.New("the state is being replaced or is closed")

// open opens the machine in a directory and makes it the one that is read.
func (s *state) open(dir, regionName string, log *slog.Logger, own *federation.Document) (*opened, error) {
	st, err := s.openStore(dir, pebblestore.Options{MemTableBytes: stateMemTableBytes, Logger: log, OnFatal: s.onFatal})
	if err != nil {
		return nil, err
	}
	m, err := fsm.Open(st, fsm.Config{Region: regionName, Own: own, Observer: s.watch()})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	stored := region.StoredMachine(m, st)
	return s.read(&opened{StateMachine: stored, machine: m, end: stored.Close}), nil
}

// follow opens the state of a node that follows and makes it the one that is read.
func (s *state) follow(dir, regionName string, log *slog.Logger, own *federation.Document) (*opened, Followed, error) {
	f, err := s.openFollowed(dir, pebblestore.Options{Logger: log, OnFatal: s.onFatal}, fsm.Config{Region: regionName, Own: own, Observer: s.watch()})
	if err != nil {
		return nil, nil, err
	}
	return s.read(&opened{machine: f, end: f.Close}), f, nil
}

// read makes o the machine that is read.
func (s *state) read(o *opened) *opened {
	o.owner, o.idle = s, make(chan struct{})
	s.mu.Lock()
	s.current = o
	s.mu.Unlock()
	o.tellDocument()
	return o
}

// tellDocument says which document is in force, if that was not said yet.
func (o *opened) tellDocument() {
	if d := o.machine.InForce(); d != nil && d != o.told {
		o.told = d
		o.owner.onDocument(d)
	}
}

// Apply implements [region.StateMachine].
func (o *opened) Apply(cmds []fsm.Command) ([]fsm.Result, error) {
	start := time.Now()
	results, err := o.StateMachine.Apply(cmds)
	o.owner.onApply(time.Since(start))
	if err == nil {
		o.tellDocument()
	}
	return results, err
}

// Close implements [region.StateMachine].
func (o *opened) Close() error {
	o.owner.mu.Lock()
	if o.owner.current == o {
		o.owner.current = nil
	}
	o.owner.mu.Unlock()
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	if o.views == 0 {
		close(o.idle)
	}
	o.mu.Unlock()
	select {
	case <-o.idle:
	case <-time.After(viewWait):
		return fmt.Errorf("close the state: reads are still under way after %v", viewWait)
	}
	return o.end()
}

// View opens a view on the state that stands now.
func (s *state) View() (*fsm.View, error) {
	s.mu.Lock()
	o := s.current
	s.mu.Unlock()
	if o == nil {
		return nil, errNoState
	}
	return o.View()
}

// View opens a view that keeps the store open until it is closed.
func (o *opened) View() (*fsm.View, error) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil, errNoState
	}
	o.views++
	o.mu.Unlock()
	v, err := o.machine.View()
	if err != nil {
		o.release()
		return nil, err
	}
	v.OnClose(o.release)
	return v, nil
}

func (o *opened) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.views--; o.views == 0 && o.closed {
		close(o.idle)
	}
}

// verify checks a state that another voter has sent, before it is put in place.
func (s *state) verify(ctx context.Context, dir string, own *federation.Document, regionName string, log *slog.Logger) (applied uint64, err error) {
	st, err := s.openStore(dir, pebblestore.Options{Logger: log})
	if err != nil {
		return 0, err
	}
	err = fsm.Check(ctx, st, fsm.Config{Region: regionName, Own: own}, func(string, int64, int64) {})
	if err == nil {
		applied, err = appliedIndex(st, regionName)
	}
	return applied, errors.Join(err, st.Close())
}

func appliedIndex(st store.Store, regionName string) (uint64, error) {
	m, err := fsm.Open(st, fsm.Config{Region: regionName})
	if err != nil {
		return 0, err
	}
	index, _ := m.AppliedIndex()
	return index, m.Close()
}
