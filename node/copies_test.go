package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/follow"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func startNode(t *testing.T, dir string, join ...string) *Node {
	t.Helper()
	n, err := Start(t.Context(), Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Join: join})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// awaitRegion polls until a node's copy of another region is as wanted.
func awaitRegion(t *testing.T, n *Node, what string, is func(client.RegionStatus) bool) client.RegionStatus {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last []client.RegionStatus
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && n.Failure() == nil; <-tick.C {
		if last = n.regionStatus(); len(last) == 1 && is(last[0]) {
			return last[0]
		}
	}
	t.Fatalf("waited in vain until %s: %+v, %v", what, last, n.Failure())
	return client.RegionStatus{}
}

// Two regions of one voter each copy each other, go on after a restart from what they have,
// and build anew what is damaged.
func TestVotersCopyTheOtherRegions(t *testing.T) {
	fed := testfed.New(2, 1, testfed.Open)
	homeA, homeB := newHomeIn(t, fed, "a"), newHomeIn(t, fed, "b")
	a := startNode(t, homeA)
	defer func() { closeNode(t, a) }()
	b := startNode(t, homeB, a.Addresses()...)
	awaitReady(t, a)
	awaitReady(t, b)
	agent, opened := fed.Agent("alice", 0), 0
	submit := func() int64 {
		t.Helper()
		opened++
		agent.NowMillis = time.Now().UnixMilli()
		proof := agent.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprint("s", opened)}, "")
		out, err := a.Submit(t.Context(), [][]byte{proof.Canonical()})
		if err != nil || out[0].Receipt.Code != pci.Success {
			t.Fatalf("%+v, %v", out, err)
		}
		return out[0].Receipt.Index + 1
	}
	has := func(size int64) func(client.RegionStatus) bool {
		return func(r client.RegionStatus) bool { return r.Following && r.Size >= size && r.LagEntries == 0 }
	}
	size := submit()
	st := awaitRegion(t, b, "b has a's entries", has(size))
	if st.Region != "a" || st.Reason != "" || st.Blamed != "" || st.AgeMillis > 10_000 {
		t.Errorf("status: %+v", st)
	}
	awaitRegion(t, a, "a has b's entries, though b dialled", has(1))
	whole, err := b.Status()
	if err != nil || len(whole.Regions) != 1 {
		t.Fatalf("%+v, %v", whole, err)
	}

	closeNode(t, b)
	size = submit()
	b = startNode(t, homeB, a.Addresses()...)
	awaitRegion(t, b, "b has caught up", has(size))
	if st := b.regionStatus()[0]; st.Rebuilt != 0 {
		t.Errorf("a sound copy was begun anew: %+v", st)
	}
	closeNode(t, b)
	report, err := FsckCopy(t.Context(), homeB, "a", t.TempDir(), func(string, int64, int64) {})
	if err != nil || report.Entries != size {
		t.Errorf("fsck of the copy: %+v, %v", report, err)
	}
	for _, region := range []string{"b", "../state", "zz"} {
		if _, err := FsckCopy(t.Context(), homeB, region, t.TempDir(), func(string, int64, int64) {}); err == nil {
			t.Errorf("fsck of a copy of %q", region)
		}
	}

	folder := filepath.Join(homeB, folderCopies, "a"+copySuffix)
	tables, err := filepath.Glob(filepath.Join(folder, "MANIFEST-*"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%s holds no store: %v", folder, err)
	}
	for _, name := range tables {
		if err := os.WriteFile(name, []byte("not what was written here"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b = startNode(t, homeB, a.Addresses()...)
	if st := awaitRegion(t, b, "b has copied a anew", has(size)); st.Rebuilt != 1 {
		t.Errorf("a damaged copy was used: %+v", st)
	}

	// Attestation finds a fault in reading: it is the copy's, which is looked through, and not the node's.
	reading := views{b}.Copy("a", func(*fsm.View) error { return errors.New("checksum mismatch") })
	size = submit()
	if st := awaitRegion(t, b, "b follows on", has(size)); reading != nil || st.Rebuilt != 1 || b.Failure() != nil {
		t.Errorf("%v, %v: %+v", reading, b.Failure(), st)
	}
	closeNode(t, b)
}

func TestAFederationOfOneRegionCopiesNothing(t *testing.T) {
	dir, _ := newHome(t)
	n := startNode(t, dir)
	awaitReady(t, n)
	if n.copies.Load() != nil || n.regionStatus() != nil || n.foreignVoters() != nil {
		t.Error("there are copies of no region")
	}
	closeNode(t, n)
	if _, err := os.Stat(filepath.Join(dir, folderCopies)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder for copies: %v", err)
	}
}

// A disk that is full or taken passes; a store that is not one is begun anew.
func TestWhichCopiesAreDiscarded(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		discard bool
	}{
		"full":    {&fs.PathError{Op: "write", Err: syscall.ENOSPC}, false},
		"locked":  {fmt.Errorf("open: %w", pebblestore.ErrLocked), false},
		"missing": {&fs.PathError{Op: "open", Err: syscall.ENOENT}, true},
		"foreign": {pebblestore.ErrFormat, true},
		"corrupt": {errors.New("pebble: corruption"), true},
	} {
		if got := errors.Is(copyOpenError(c.err), follow.ErrCopyUnusable); got != c.discard || !errors.Is(copyOpenError(c.err), c.err) {
			t.Errorf("%s: discarded %v", name, got)
		}
	}
}

// A region's name is no path, whatever its dots.
func TestCopiesStayInTheirFolder(t *testing.T) {
	for _, region := range []string{".", "..", "...", "eu"} {
		if got := filepath.Dir(copyFolder(region)); got != folderCopies {
			t.Errorf("the copy of %q is in %q", region, got)
		}
	}
}

// A member that never joined has no document that could name another region.
func TestFsckOfACopyBeforeJoining(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(write(dir, FileNode, `{"v":1,"name":"m","region":"a","role":"member"}`),
		testfed.Key("member").Save(filepath.Join(dir, FileNodeKey))); err != nil {
		t.Fatal(err)
	}
	_, err := FsckCopy(t.Context(), dir, "b", t.TempDir(), func(string, int64, int64) {})
	if err == nil || !strings.Contains(err.Error(), "--join") {
		t.Errorf("got %v, want an error that says how to join", err)
	}
}
