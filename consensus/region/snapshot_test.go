package region

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// smallSnapshots makes snapshots frequent and the log behind them short.
func smallSnapshots(_ raft.ServerID, cfg *Config) {
	cfg.SnapshotEntries = 20
	cfg.TrailingEntries = 5
	cfg.SealInterval = 100 * time.Millisecond
}

// fill commits proofs one by one until a node has taken a snapshot beyond index.
func (c *cluster) fill(n *node, name string, beyond uint64) {
	c.t.Helper()
	for i := 0; n.current().Status().SnapshotIndex <= beyond; i++ {
		if i > 1000 {
			c.t.Fatalf("no snapshot after %d proofs", i)
		}
		if err := n.propose(time.Second, fmt.Sprintf("%s %d", name, i)); err != nil {
			c.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestSnapshotBringsAFollowerUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, smallSnapshots)
		c.start()
		l := c.leader(10 * time.Second)
		behind := c.others(l)[0]
		last := behind.current().Status().LastIndex
		c.crash(behind)
		c.fill(l, "while away", last+30)
		opened := behind.opens()
		c.restart(behind)
		c.leader(10 * time.Second)
		c.agree(20 * time.Second)
		if behind.opens() < opened+2 {
			t.Errorf("the state was opened %d times: no snapshot was received", behind.opens()-opened)
		}
		if s := behind.current().Status(); s.SnapshotIndex == 0 {
			t.Error("it has no snapshot pointer")
		}
		c.crash(behind)
		c.restart(behind)
		c.leader(10 * time.Second)
		c.agree(20 * time.Second)
		c.stop()
		for _, n := range c.nodes {
			left, err := os.ReadDir(filepath.Join(n.home, snapshotsName))
			if err != nil || len(left) != 1 {
				t.Errorf("%s has %v in its snapshot directory (%v), want the pointer alone", n.id, left, err)
			}
		}
	})
}

// hashicorp/raft #697: a follower whose log differs from the snapshot that it needs. Without the boundary of logstore.go the
// leader sends it the snapshot for ever. With raft-wal it is not the boundary alone: see logStore.
func TestDivergedFollowerIsBroughtUpOnce(t *testing.T) {
	for _, kind := range []LogKind{LogInBolt, LogInWAL} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { divergedFollower(t, kind) })
		})
	}
}

func divergedFollower(t *testing.T, kind LogKind) {
	c := newCluster(t, 3, func(id raft.ServerID, cfg *Config) {
		smallSnapshots(id, cfg)
		cfg.InFlightMax = 500
		if kind == LogInWAL {
			cfg.OpenLog, cfg.LogKind = nil, kind
		}
	})
	c.net.resets = true // else what was sent before the heal sets the follower right
	c.start()
	old := c.leader(10 * time.Second)
	first := old.current().Status().LastIndex
	c.net.isolate(old.id, c.ids, true)
	// Entries that only the isolated leader has, many enough to reach beyond the snapshot to come.
	for i := range 200 {
		go func() { _ = old.propose(5*time.Second, fmt.Sprintf("never committed %d", i)) }()
		<-time.After(2 * time.Millisecond)
	}
	own := old.current().Status().LastIndex
	l := c.leader(10 * time.Second)
	c.fill(l, "committed", first+25)
	at := l.current().Status().SnapshotIndex
	if own <= at {
		t.Fatalf("the isolated leader's log goes to %d, the snapshot to %d: the test does not test", own, at)
	}
	opened := old.opens()
	c.net.heal()
	entries := c.agree(30 * time.Second)
	if slices.ContainsFunc(entries, func(e string) bool { return strings.HasPrefix(e, "never") }) {
		t.Error("an entry that was never committed is in the ledger")
	}
	if old.opens() == opened {
		t.Errorf("it received no snapshot (its own log went to %d, the snapshot to %d): the test does not test", own, at)
	}
	for i := range 10 {
		if err := l.propose(time.Second, fmt.Sprintf("after %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	c.agree(5 * time.Second)
	<-time.After(3 * time.Second)
	if got := old.opens() - opened; got > 2 {
		t.Errorf("it was sent the snapshot %d times", got)
	}
	c.stop()
}

// lab is a snapshot store with a fake state beside it, without Raft.
type lab struct {
	t     *testing.T
	home  string
	snaps *snapshots
	state *fakeState
	steps []string
	stop  int // the step that fails; 0 for none
}

var errCrash = errors.New("crashed by the test")

func newLab(t *testing.T, home string, entries ...string) *lab {
	t.Helper()
	l := &lab{t: t, home: home}
	state, err := openFake(filepath.Join(home, stateName))
	if err != nil {
		t.Fatal(err)
	}
	l.state = state
	for _, e := range entries {
		l.add(e)
	}
	return l
}

func (l *lab) add(e string) {
	l.state.s.Index++
	l.state.s.Term = 1
	l.state.s.Entries = append(l.state.s.Entries, []byte(e))
}

// open does what a start does.
func (l *lab) open() error {
	l.snaps = &snapshots{dir: filepath.Join(l.home, snapshotsName), stateDir: filepath.Join(l.home, stateName), verify: verifyFake,
		freeBytes: func(string) (int64, error) { return 1 << 40, nil }, disk: &disk{hook: func(step string) error {
			l.steps = append(l.steps, step)
			if l.stop > 0 && len(l.steps) >= l.stop {
				return errCrash
			}
			return nil
		}}}
	l.snaps.checkpoint = func(dir string) (uint64, error) { return l.state.s.Index, l.state.Checkpoint(dir) }
	if err := openSnapshots(l.snaps); err != nil {
		return err
	}
	state, err := openFake(filepath.Join(l.home, stateName))
	if err != nil {
		return err
	}
	if l.state == nil {
		l.state = state
	}
	return nil
}

// restart forgets what is in memory only and starts anew.
func (l *lab) restart() {
	l.t.Helper()
	l.state, l.stop, l.steps = nil, 0, nil
	if err := l.open(); err != nil {
		l.t.Fatalf("start after the crash: %v", err)
	}
	if p := l.snaps.newest(); p != nil && l.state.s.Index < p.Applied {
		l.t.Fatalf("start after the crash: state at %d, pointer at %d", l.state.s.Index, p.Applied)
	}
	names, err := os.ReadDir(l.snaps.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() != pointerName {
			l.t.Errorf("start after the crash leaves %s", n.Name())
		}
	}
}

func (l *lab) create(index uint64) *sink {
	s, err := l.snaps.Create(1, index, 1, raft.Configuration{Servers: []raft.Server{{ID: "node-1", Address: "node-1"}}}, 1, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return s.(*sink)
}

// persist takes a snapshot of the lab's own state.
func (l *lab) persist() error {
	s := l.create(l.state.s.Index)
	if err := s.persist(l.state.s.Index, l.state.Sync); err != nil {
		return err
	}
	return s.Close()
}

// stream is a snapshot of the lab's state as it goes over the wire.
func (l *lab) stream() []byte {
	l.t.Helper()
	meta, r, err := l.snaps.Open("any")
	if err != nil {
		l.t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		l.t.Fatal(err)
	}
	if int64(len(b)) != meta.Size {
		l.t.Fatalf("a stream of %d bytes announced as %d", len(b), meta.Size)
	}
	return b
}

// receive takes a stream and puts it in place.
func (l *lab) receive(index uint64, stream []byte) error {
	s := l.create(index)
	if _, err := io.Copy(s, bytes.NewReader(stream)); err != nil {
		return errors.Join(err, s.Cancel())
	}
	if err := s.Close(); err != nil {
		return err
	}
	return l.snaps.swap(s.id)
}

func sender(t *testing.T) (stream []byte, index uint64, entries []string) {
	t.Helper()
	l := newLab(t, t.TempDir(), "a", "b", "c", "d", "e")
	if err := errors.Join(l.open(), l.persist()); err != nil {
		t.Fatal(err)
	}
	index = l.state.s.Index
	l.add("f") // the state is ahead of the pointer
	return l.stream(), index, l.state.entries()
}

// Every step of receiving and swapping is interrupted once; start-up then finds the old state or the new one, whole, with the
// pointer that belongs to it.
func TestCrashWhileReceiving(t *testing.T) {
	stream, index, sent := sender(t)
	crashed, before, after := 0, 0, 0
	for stop := 1; ; stop++ {
		home := t.TempDir()
		l := newLab(t, home, "a", "b")
		if err := errors.Join(l.open(), l.persist()); err != nil {
			t.Fatal(err)
		}
		first := *l.snaps.newest()
		own := l.state.entries()
		l.steps, l.stop = nil, stop
		err := l.receive(index, stream)
		at := strings.Join(l.steps, ", ")
		if err == nil {
			t.Logf("%d steps: %s", len(l.steps), at)
			break
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("step %d: %v", stop, err)
		}
		crashed++
		l.restart()
		switch got, p := l.state.entries(), l.snaps.newest(); {
		case slices.Equal(got, own) && p.Index == first.Index:
			before++
			if after > 0 {
				t.Errorf("crash at %s: the old state is back", at)
			}
		case slices.Equal(got, sent) && p.Index == index:
			after++
		default:
			t.Errorf("crash at %s: entries %q, pointer %+v", at, got, p)
		}
		// And it goes on as if nothing had been.
		if err := l.receive(index, stream); err != nil {
			t.Errorf("crash at %s: receive again: %v", at, err)
		}
	}
	if crashed < 15 || before == 0 || after == 0 {
		t.Errorf("%d crashes led to %d old and %d new states: the test does not test", crashed, before, after)
	}
}

// The same for a crash during the start-up that finishes an interrupted swap.
func TestCrashWhileFinishingASwap(t *testing.T) {
	stream, index, sent := sender(t)
	crashed := 0
	for first := 1; ; first++ {
		for second := 1; ; second++ {
			l := newLab(t, t.TempDir(), "a", "b")
			if err := errors.Join(l.open(), l.persist()); err != nil {
				t.Fatal(err)
			}
			l.steps, l.stop = nil, first
			if l.receive(index, stream) == nil {
				if crashed < 50 {
					t.Errorf("%d crashes: the test does not test", crashed)
				}
				return
			}
			l.state, l.steps, l.stop = nil, nil, second
			if l.open() == nil {
				break
			}
			crashed++
			l.restart()
			if got := l.state.entries(); len(got) != 2 && !slices.Equal(got, sent) {
				t.Fatalf("crashes at steps %d and %d: entries %q", first, second, got)
			}
		}
	}
}

func TestCrashWhilePersisting(t *testing.T) {
	crashed := 0
	for stop := 1; ; stop++ {
		l := newLab(t, t.TempDir(), "a", "b")
		if err := errors.Join(l.open(), l.persist()); err != nil {
			t.Fatal(err)
		}
		l.add("c")
		l.steps, l.stop = nil, stop
		err := l.persist()
		if err == nil {
			if l.steps[0] != "sync the state" || !strings.HasPrefix(l.steps[1], "write pointer") {
				t.Errorf("steps %q: the state must be durable before the pointer is written", l.steps)
			}
			break
		}
		crashed++
		l.restart()
		if p := l.snaps.newest(); p.Applied > l.state.s.Index || p.Index < 2 {
			t.Errorf("crash at step %d: pointer %+v, state at %d", stop, p, l.state.s.Index)
		}
	}
	if crashed < 4 {
		t.Errorf("%d crashes: the test does not test", crashed)
	}
}

func TestStartRefusesAStateBehindItsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, smallSnapshots)
		c.start()
		l := c.leader(10 * time.Second)
		c.fill(l, "proof", 25)
		n := c.others(l)[0]
		until(t, 10*time.Second, "a snapshot", func() bool { return n.current().Status().SnapshotIndex > 0 })
		c.crash(n)
		// The state of an older backup.
		if err := os.Remove(filepath.Join(n.home, stateName, fakeFile)); err != nil {
			t.Fatal(err)
		}
		if err := c.prepare(n).Start(t.Context()); !errors.Is(err, ErrBehindSnapshot) {
			t.Errorf("start says %v", err)
		}
		n.region = nil
		c.stop()
	})
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	stream, index, _ := sender(t)
	poisoned := newLab(t, t.TempDir(), "poison")
	if err := errors.Join(poisoned.open(), poisoned.persist()); err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(stream)
	flipped[len(flipped)-40] ^= 1
	for name, bad := range map[string][]byte{
		"short":           stream[:len(stream)-1],
		"half":            stream[:len(stream)/2],
		"long":            append(slices.Clone(stream), 0),
		"bit flipped":     flipped,
		"not a snapshot":  []byte("GET / HTTP/1.1\r\n\r\n                                  "),
		"wrong state":     poisoned.stream(),
		"nothing of it":   nil,
		"no files":        stream[:streamHeaderBytes],
		"claims too much": append([]byte(streamMagic), append([]byte{0, 0, 0, 0, 0, 0, 1, 0}, stream[streamHeaderBytes:]...)...),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, t.TempDir(), "a", "b")
			if err := l.open(); err != nil {
				t.Fatal(err)
			}
			if err := l.receive(index, bad); err == nil {
				t.Error("it was taken")
			}
			if left, err := os.ReadDir(l.snaps.dir); err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
}

// A disk that fails in the middle of a swap stops the replica; the next start finishes it.
func TestSwapThatFailsIsFinishedAtTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, smallSnapshots)
		c.start()
		l := c.leader(10 * time.Second)
		behind := c.others(l)[0]
		last := behind.current().Status().LastIndex
		c.crash(behind)
		c.fill(l, "while away", last+30)
		r := c.prepare(behind)
		failed := 0
		r.disk.hook = func(step string) error {
			if strings.HasPrefix(step, "rename incoming") && strings.HasSuffix(step, "to "+stateName) {
				failed++
				return errCrash
			}
			return nil
		}
		c.net.heal()
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "the replica to stop", func() bool { return errors.Is(r.Failed(), errCrash) })
		if failed != 1 {
			t.Errorf("the swap failed %d times", failed)
		}
		if err := l.propose(time.Second, "goes on"); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		c.restart(behind)
		c.leader(10 * time.Second)
		c.agree(20 * time.Second)
		c.stop()
	})
}
