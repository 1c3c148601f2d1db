package region

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
)

// fakeState is a state machine of a few lines: a ledger of the proofs' bytes. What is applied is in memory until Sync writes it
// to disk, as with the real one, so a crash forgets it.
type fakeState struct {
	dir string

	mu     sync.Mutex
	s      fakeStored
	at     map[string]int           // place of each entry
	onCmd  func(index uint64) error // what Apply does before a command
	onSync func()                   // what Sync does first
	copies int                      // made by Checkpoint
}

type fakeStored struct {
	Index, Term uint64
	Entries     [][]byte
	Genesis     bool
	Sealed      int64
}

const fakeFile = "state.cbor"

func openFake(dir string) (*fakeState, error) {
	f := &fakeState{dir: dir, at: make(map[string]int)}
	b, err := os.ReadFile(filepath.Join(dir, fakeFile))
	if errors.Is(err, os.ErrNotExist) {
		return f, os.MkdirAll(dir, dirMode)
	}
	if err != nil {
		return nil, err
	}
	err = cbor.Unmarshal(b, &f.s)
	for i, e := range f.s.Entries {
		f.at[string(e)] = i
	}
	return f, err
}

// verifyFake refuses a state whose file was changed on its way: its last line is a hash of the rest.
func verifyFake(dir string) (uint64, error) {
	f, err := openFake(dir)
	if err != nil {
		return 0, err
	}
	if slices.ContainsFunc(f.s.Entries, func(e []byte) bool { return string(e) == "poison" }) {
		return 0, errors.New("the state root does not fit")
	}
	return f.s.Index, nil
}

// fakeCommand is fsm's command as it is on the wire.
type fakeCommand struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint8
	Stamp    int64
	Proofs   [][]byte
	Document []byte
}

func (f *fakeState) Apply(cmds []fsm.Command) ([]fsm.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	results := make([]fsm.Result, len(cmds))
	for i, c := range cmds {
		if c.Index <= f.s.Index {
			results[i].Skipped = true
			continue
		}
		if f.onCmd != nil {
			if err := f.onCmd(c.Index); err != nil {
				return nil, err
			}
		}
		var cmd fakeCommand
		if err := cbor.Unmarshal(c.Data[1:], &cmd); err != nil {
			return nil, err
		}
		switch cmd.Kind {
		case 1:
			for _, p := range cmd.Proofs {
				at, repeated := f.at[string(p)]
				if !repeated {
					at = len(f.s.Entries)
					f.at[string(p)] = at
					f.s.Entries = append(f.s.Entries, p)
				}
				results[i].Receipts = append(results[i].Receipts,
					fsm.Receipt{Digest: sha256.Sum256(p), HasEntry: true, Index: int64(at), TimeMillis: cmd.Stamp, Repeated: repeated})
			}
		case 2:
			if !f.s.Genesis {
				f.s.Genesis = true
				f.s.Entries = append(f.s.Entries, cmd.Document)
			}
		case 3:
			if size := int64(len(f.s.Entries)); size != f.s.Sealed {
				f.s.Sealed = size
				results[i].Seal = &fsm.Seal{Size: size}
			}
		default:
			return nil, fmt.Errorf("command kind %d", cmd.Kind)
		}
		f.s.Index, f.s.Term = c.Index, c.Term
	}
	return results, nil
}

func (f *fakeState) AppliedIndex() (index, term uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.s.Index, f.s.Term
}

func (f *fakeState) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.s.Entries))
}

// misses returns those that the ledger lacks.
func (f *fakeState) misses(proofs []string) (missed []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range proofs {
		if _, ok := f.at[p]; !ok {
			missed = append(missed, p)
		}
	}
	return missed
}

func (f *fakeState) entries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, e := range f.s.Entries {
		all = append(all, string(e))
	}
	return all
}

func (f *fakeState) Sync() error {
	f.mu.Lock()
	first := f.onSync
	f.mu.Unlock()
	if first != nil {
		first()
	}
	return f.writeTo(f.dir)
}

func (f *fakeState) writeTo(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := cbor.Marshal(f.s)
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(dir, fakeFile), b)
}

func (f *fakeState) Checkpoint(dir string) error {
	if err := os.Mkdir(dir, dirMode); err != nil {
		return err
	}
	f.mu.Lock()
	f.copies++
	f.mu.Unlock()
	return f.writeTo(dir)
}

func (f *fakeState) Close() error { return nil }

// fakeLog is a Raft log in memory that outlives its Region, as a file would, and can be slow, hang, fail or lose its power.
type fakeLog struct {
	*raft.InmemStore

	mu   sync.Mutex
	hang chan struct{} // while set, appends wait for it
	err  error
	hung int
	slow time.Duration // an append takes up to this long
	cut  bool          // appends under way are lost, and those that come
	lost int           // that were
}

// power is cut, or comes back.
func (l *fakeLog) power(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = !on
}

func newFakeLog() *fakeLog { return &fakeLog{InmemStore: raft.NewInmemStore()} }

func (l *fakeLog) before() error {
	l.mu.Lock()
	hang, err := l.hang, l.err
	if hang != nil {
		l.hung++
	}
	l.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func (l *fakeLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func (l *fakeLog) StoreLogs(logs []*raft.Log) error {
	if err := l.before(); err != nil {
		return err
	}
	if l.slow > 0 {
		<-time.After(rand.N(l.slow))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		l.lost++
		return errors.New("the power is cut")
	}
	copies := make([]*raft.Log, len(logs))
	for i, log := range logs {
		c := *log
		copies[i] = &c
	}
	return l.InmemStore.StoreLogs(copies)
}

func (l *fakeLog) SetUint64(key []byte, v uint64) error {
	if err := l.before(); err != nil {
		return err
	}
	return l.InmemStore.SetUint64(key, v)
}

func (l *fakeLog) Set(key, v []byte) error {
	if err := l.before(); err != nil {
		return err
	}
	return l.InmemStore.Set(key, v)
}

func (l *fakeLog) Close() error { return nil }

// DeleteRange keeps raft's in-memory store from counting below zero when Raft compacts an empty log.
func (l *fakeLog) DeleteRange(first, last uint64) error {
	return l.InmemStore.DeleteRange(max(first, 1), last)
}
