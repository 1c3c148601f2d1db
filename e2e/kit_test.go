package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// built are the programs that the tests run, built once.
var built struct{ bizra, demo, hook string }

func TestMain(m *testing.M) {
	os.Exit(run(m)) //nolint:forbidigo // TestMain has nobody to return an error to
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bizra-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		built.bizra, err = proctest.Build(dir, "./cmd/bizra")
	}
	if err == nil {
		built.demo, err = proctest.Build(dir, "./deploy/demo")
	}
	if err == nil {
		built.hook, err = proctest.Build(dir, "./cmd/bizra-hook")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// found makes a region of three voters and waits until all can serve.
func found(t *testing.T, flags ...string) *proctest.Region {
	t.Helper()
	return proctest.Found(t, proctest.Options{Binary: built.bizra, Flags: flags})
}

// disk is what a home's ledger holds.
type disk struct {
	size    int64
	root    ledger.Hash
	digests map[[32]byte]int // how many entries hold the proof of this digest
}

// readDisk reads the ledger of a voter that does not run.
func readDisk(t *testing.T, home string) disk {
	t.Helper()
	st, err := pebblestore.Open(filepath.Join(home, "state"), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	l := ledger.View{Reader: st}
	d := disk{digests: map[[32]byte]int{}}
	if d.size, err = l.Size(); err != nil {
		t.Fatal(err)
	}
	if d.root, err = l.Root(d.size); err != nil {
		t.Fatal(err)
	}
	for i := range d.size {
		raw, err := l.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		e, err := fsm.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		if e.Envelope != nil {
			d.digests[e.Envelope.Digest()]++
		}
	}
	return d
}

// checkVoters has every voter prove every acknowledged proof from its own ledger and
// compares their roots. All must be running and as far as each other.
func checkVoters(t *testing.T, voters []*proctest.Node, acked []workload.Acked) {
	t.Helper()
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged, so nothing would be checked")
	}
	awaitEqual(t, voters)
	roots := map[int64]string{}
	for _, v := range voters {
		in, err := workload.CheckIncluded(t.Context(), v.Stale(), acked)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if in.Proofs != len(acked) {
			t.Errorf("%s proved %d of %d", v.Name, in.Proofs, len(acked))
		}
		for size, root := range in.Roots {
			if other, known := roots[size]; known && other != root {
				t.Errorf("%s has root %s for %d entries, another voter %s", v.Name, root, size, other)
			}
			roots[size] = root
		}
	}
	if len(roots) != 1 {
		t.Errorf("the voters answered for %d sizes, so that not all could be compared: %v", len(roots), roots)
	}
}

// awaitEqual waits until all nodes have equally many entries and the same root.
func awaitEqual(t *testing.T, nodes []*proctest.Node) {
	t.Helper()
	proctest.Await(t, "wait until all have the same ledger", func(ctx context.Context) error {
		var first client.LedgerStatus
		for i, n := range nodes {
			s, err := n.Status(ctx)
			if err != nil {
				return err
			}
			if i == 0 {
				first = s.Ledger
			}
			if s.Ledger.Size != first.Size || s.Ledger.Root != first.Root {
				return fmt.Errorf("%s has %d entries, %s %d", nodes[0].Name, first.Size, n.Name, s.Ledger.Size)
			}
		}
		return nil
	})
}

// checkDisks stops the voters and looks at what they hold: every acknowledged proof
// once, nothing twice, and sound under fsck.
func checkDisks(t *testing.T, r *proctest.Region, voters []*proctest.Node, acked []workload.Acked) {
	t.Helper()
	awaitEqual(t, voters)
	for _, v := range voters {
		v.Stop()
	}
	var first disk
	for i, v := range voters {
		d := readDisk(t, v.Home)
		for digest, n := range d.digests {
			if n != 1 {
				t.Errorf("%s: the proof %x stands in %d entries", v.Name, digest, n)
			}
		}
		for _, a := range acked {
			if d.digests[a.Envelope.Digest()] != 1 {
				t.Errorf("%s lacks the acknowledged proof %x, entry %d", v.Name, a.Envelope.Digest(), *a.Receipt.Index)
			}
		}
		if i == 0 {
			first = d
		}
		if d.size < int64(len(acked)) || d.size != first.size || d.root != first.root {
			t.Errorf("%s has %d entries with root %v, %s %d with %v", v.Name, d.size, d.root, voters[0].Name, first.size, first.root)
		}
		r.MustBizra("fsck", "--home", v.Home)
	}
}

// spin calls try without a pause until it returns true: for moments that pass in
// milliseconds. It reports whether the moment came within the limit.
func spin(limit time.Duration, try func() bool) bool {
	for from := time.Now(); time.Since(from) < limit; {
		if try() {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// mustAck submits a step that must be accepted.
func mustAck(t *testing.T, a *workload.Agent, s workload.Step) workload.Acked {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	acked, err := a.Submit(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return acked
}

// load has agents lead a session each, named after them, round and round until stop is called, which waits for
// the receipts that they still wait for.
func load(t *testing.T, name string, agents ...*workload.Agent) (stop func()) {
	t.Helper()
	enough := make(chan struct{})
	done := make(chan error, len(agents))
	for _, a := range agents {
		go func() {
			w, err := a.Open(t.Context(), name+"-"+a.Signer.AgentID)
			for err == nil {
				select {
				case <-enough:
					done <- nil
					return
				default:
					_, err = w.Step(t.Context())
				}
			}
			done <- err
		}()
	}
	return func() {
		t.Helper()
		close(enough)
		for range agents {
			if err := <-done; err != nil {
				t.Errorf("a submitter failed: %v", err)
			}
		}
	}
}

// reach waits until so many proofs are acknowledged.
func reach(t *testing.T, record *workload.Record, count int) {
	t.Helper()
	proctest.Await(t, fmt.Sprintf("wait for %d acknowledgements", count), func(context.Context) error {
		if got := record.Len(); got < count {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}
