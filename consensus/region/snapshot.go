package region

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Names in a home.
const (
	stateName      = "state"
	snapshotsName  = "snapshots"
	pointerName    = "pointer"  // in snapshots/, as all that follow
	swapName       = "swap"     // names the incoming snapshot that is being put in place
	replacedName   = "replaced" // the state that it replaces
	incomingPrefix = "incoming-"
	outgoingPrefix = "outgoing-"
	outgoingMax    = 8 // copies on their way out at once
)

// snapshots is a raft.SnapshotStore in which a snapshot is a pointer, never a copy: the state store itself is durable at least
// up to it. Only what is on its way to or from another voter takes space.
//
// The state may be ahead of the pointer; the state machine skips what it has already applied.
type snapshots struct {
	dir, stateDir string
	disk          *disk
	logger        *slog.Logger
	// checkpoint copies the current state into a new directory, and tells the index that the copy holds at least.
	checkpoint func(dir string) (applied uint64, err error)
	verify     func(dir string) (applied uint64, err error)
	freeBytes  func(dir string) (int64, error)

	mu       sync.Mutex // guards what follows
	current  *pointer   // nil before the first snapshot
	incoming map[string]*pointer
	serial   int
	outgoing int
	sending  []*outgoingSnapshot // being sent, or sent so lately that the receiver still needs the log after them
}

var _ raft.SnapshotStore = (*snapshots)(nil)

func snapshotID(p *pointer) string { return fmt.Sprintf("%d-%d", p.Term, p.Index) }

func (s *snapshots) path(name string) string { return filepath.Join(s.dir, name) }

// Create implements raft.SnapshotStore, for a snapshot of our own (the sink's persist) and for one that is received (its Write).
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("snapshot version %d is not known", version)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	p := pointer{Index: index, Term: term, Configuration: configuration.Clone(), ConfigurationIndex: configurationIndex}
	return &sink{store: s, pointer: p, id: fmt.Sprintf("%s-%d", snapshotID(&p), s.serial)}, nil
}

// List implements raft.SnapshotStore.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{s.current.meta(snapshotID(s.current), s.current.StateBytes)}, nil
}

// Open implements raft.SnapshotStore. For a received snapshot it returns an *incomingSnapshot, which Restore puts in place. For
// any other it returns a copy of the state as it is now, under the newest pointer, which need not be the one asked for.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.incoming[id]; ok {
		return p.meta(id, 0), &incomingSnapshot{id: id}, nil
	}
	if s.current == nil {
		return nil, nil, fmt.Errorf("open snapshot %s: there is none", id)
	}
	if s.outgoing >= outgoingMax {
		return nil, nil, fmt.Errorf("open snapshot %s: %d are being sent already", id, s.outgoing)
	}
	s.serial++
	dir := s.path(fmt.Sprintf("%s%d", outgoingPrefix, s.serial))
	p := *s.current
	out, err := s.openOutgoing(dir, &p)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open snapshot %s: %w", id, err), os.RemoveAll(dir))
	}
	s.outgoing++
	s.sending = append(s.sending, out)
	return p.meta(snapshotID(&p), out.size), out, nil
}

func (s *snapshots) openOutgoing(dir string, p *pointer) (*outgoingSnapshot, error) {
	applied, err := s.checkpoint(dir)
	if err != nil {
		return nil, fmt.Errorf("copy the state: %w", err)
	}
	if applied < p.Applied {
		return nil, fmt.Errorf("%w: state at %d, snapshot at %d", ErrBehindSnapshot, applied, p.Applied)
	}
	packed, err := newPacker(dir, p.Applied)
	if err != nil {
		return nil, err
	}
	return &outgoingSnapshot{packer: packed, store: s, dir: dir, index: p.Index}, nil
}

// outgoingSnapshot is a copy of the state on its way to another voter; Close removes the copy.
type outgoingSnapshot struct {
	*packer
	store *snapshots
	dir   string
	index uint64 // of its pointer
	once  sync.Once
	sent  time.Time // under the store's lock; zero while it is being sent
}

func (o *outgoingSnapshot) Close() error {
	err := o.packer.Close()
	o.once.Do(func() {
		o.store.mu.Lock()
		o.store.outgoing--
		o.sent = time.Now()
		o.store.mu.Unlock()
		err = errors.Join(err, os.RemoveAll(o.dir))
	})
	return err
}

// incomingSnapshot stands for a received snapshot where Raft passes a reader of its bytes to Restore.
type incomingSnapshot struct{ id string }

func (*incomingSnapshot) Read([]byte) (int, error) { return 0, io.EOF }
func (*incomingSnapshot) Close() error             { return nil }

// sentGrace is how long after a snapshot was sent, and put in place by who got it, the log after it is kept for it to catch up.
const sentGrace = time.Minute

// needed is the first index of the log that the receiver of a snapshot needs, 0 if there is none.
func (s *snapshots) needed() (first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = slices.DeleteFunc(s.sending, func(o *outgoingSnapshot) bool { return !o.sent.IsZero() && time.Since(o.sent) > sentGrace })
	for _, o := range s.sending {
		if first == 0 || o.index < first {
			first = o.index
		}
	}
	return first
}

// sink makes one snapshot. Raft uses it from one goroutine.
type sink struct {
	store   *snapshots
	pointer pointer
	id      string

	unpack *unpacker // of a received snapshot
	done   bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.id }

// persist makes this a snapshot of our own state: after sync has made the state durable at least up to applied, the pointer is
// written. Raft may truncate its log when this has returned nil.
func (s *sink) persist(applied uint64, sync func() error) error {
	if err := s.store.disk.step("sync the state"); err != nil {
		return err
	}
	if err := sync(); err != nil {
		return fmt.Errorf("make the state durable: %w", err)
	}
	size, err := sizeOf(s.store.stateDir)
	if err != nil {
		return err
	}
	s.pointer.Applied, s.pointer.StateBytes = applied, size
	if err := s.store.point(&s.pointer); err != nil {
		return err
	}
	s.done = true
	return nil
}

// point makes p the current pointer, durably.
func (s *snapshots) point(p *pointer) error {
	if err := p.validate(); err != nil {
		return err
	}
	b, err := p.encode()
	if err != nil {
		return err
	}
	if err := s.disk.write(s.path(pointerName), b); err != nil {
		return fmt.Errorf("write the snapshot pointer: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = p
	return nil
}

// Write implements raft.SnapshotSink: the next bytes of a snapshot that another voter sends.
func (s *sink) Write(b []byte) (int, error) {
	if s.unpack == nil {
		dir := s.incomingDir()
		if err := s.store.disk.step("make %s", filepath.Base(dir)); err != nil {
			return 0, err
		}
		if err := os.Mkdir(dir, dirMode); err != nil {
			return 0, fmt.Errorf("make room for a snapshot: %w", err)
		}
		free, err := s.store.freeBytes(dir)
		if err != nil {
			return 0, err
		}
		s.unpack = newUnpacker(dir, s.store.disk, free-freeBytesKept)
	}
	return s.unpack.Write(b)
}

func (s *sink) incomingDir() string { return s.store.path(incomingPrefix + s.id) }

// Close implements raft.SnapshotSink: a received snapshot is complete, durable and verified when it returns nil.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	if s.unpack == nil {
		return errors.New("close a snapshot that was neither persisted nor received")
	}
	if err := s.complete(); err != nil {
		return errors.Join(fmt.Errorf("receive snapshot %s: %w", s.id, err), s.Cancel())
	}
	s.done = true
	return nil
}

func (s *sink) complete() error {
	if err := s.unpack.finish(); err != nil {
		return err
	}
	dir := s.incomingDir()
	applied, err := s.store.verify(dir)
	if err != nil {
		return fmt.Errorf("verify it: %w", err)
	}
	if applied < s.unpack.applied {
		return fmt.Errorf("%w: it says that it is at index %d and is at %d", ErrSnapshotStream, s.unpack.applied, applied)
	}
	// Opening the store to verify it may have changed its files.
	if err := s.store.disk.sync(dir); err != nil {
		return err
	}
	size, err := sizeOf(dir)
	if err != nil {
		return err
	}
	s.pointer.Applied, s.pointer.StateBytes = min(s.unpack.applied, s.pointer.Index), size
	if err := s.pointer.validate(); err != nil {
		return err
	}
	b, err := s.pointer.encode()
	if err != nil {
		return err
	}
	if err := s.store.disk.write(dir+"."+pointerName, b); err != nil {
		return err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.incoming[s.id] = &s.pointer
	return nil
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	if s.unpack == nil || s.done {
		return nil
	}
	s.unpack.close()
	s.store.logger.Warn("gave up a snapshot that was being received", "id", s.id)
	dir := s.incomingDir()
	return errors.Join(os.RemoveAll(dir+"."+pointerName), os.RemoveAll(dir))
}

// sizeOf adds up the files of a flat directory.
func sizeOf(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // a state machine that keeps nothing on disk
	}
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // a file that is gone by now counts for nothing
			total += info.Size()
		}
	}
	return total, nil
}

// leftover says whether a name in snapshots/ is of no use after a restart.
func leftover(name string) bool {
	return strings.HasPrefix(name, incomingPrefix) || strings.HasPrefix(name, outgoingPrefix) ||
		strings.HasSuffix(name, tempSuffix) || name == replacedName
}

// newest is the current pointer, nil if there is none.
func (s *snapshots) newest() *pointer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}
