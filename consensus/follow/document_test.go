package follow

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// adopt puts the next version of the origin's document in force.
func (o *origin) adopt(change func(*federation.Document)) *origin {
	o.t.Helper()
	next := o.fed.Next(change)
	proof := o.fed.Operator(o.region, o.now).Sign(fsm.ActionFederationAdopt, next.Adopts(), "", func(d *pci.Draft) {
		d.Nonce = testfed.Key(fmt.Sprintf("adopt %d", next.Document.Version)).Seed()
	})
	if r := o.apply(fsm.EncodeAdopt(o.now, proof.Canonical(), next.Document.Canonical())).Receipts[0]; !r.Accepted() {
		o.t.Fatalf("adoption: %v %s", r.Code, r.Reason)
	}
	o.fed, o.agent.PolicyHash = next, next.Document.Constitution.PolicyHash()
	return o
}

// long makes a document that needs more than one frame.
func long(d *federation.Document) {
	for i := range 40 {
		d.Constitution.Rules = append(d.Constitution.Rules, constitution.Rule{Name: fmt.Sprintf("r%d", i), Dimension: constitution.Ethics,
			Deny: "action == '" + strings.Repeat("x", 4000) + "'", Message: strings.Repeat("m", 300)})
	}
}

func oneRegion() *testfed.Federation { return testfed.New(1, 1, testfed.Open) }

// replicaOwning is an empty replica of a node that was given a document.
func replicaOwning(t testing.TB, own *federation.Document) *fsm.Machine {
	t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: "a", Own: own})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A follower comes to the same state across adoptions, whichever version it was given, in
// the middle of a stream and from its beginning.
func TestFollowersGoThroughAdoptions(t *testing.T) {
	first := oneRegion()
	for _, own := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("given version %d", own), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				versions := map[int]*federation.Document{1: first.Document}
				o := newOrigin(t, first, "a").grow(20)
				o.adopt(testfed.Stricter).grow(5).seal()
				versions[2] = o.fed.Document
				o.adopt(long)
				versions[3] = o.fed.Document
				if size := len(o.fed.Document.Canonical()); size <= 2*documentPartBytes {
					t.Fatalf("a document of %d bytes goes in one frame: the test does not test", size)
				}
				o.grow(5)
				n.add("v1", serves(o.server()))
				r := startWith(t, replicaOwning(t, versions[own]), n)
				pass(time.Second)
				sameAs(t, o, r.replica)
				o.adopt(func(d *federation.Document) { d.Constitution.Rules = nil }).grow(3).seal()
				pass(time.Second)
				sameAs(t, o, r.replica)
				if d := r.replica.InForce(); d.Version != 4 || r.diverged.Load() != nil || n.opened("v1") != 1 {
					t.Fatalf("version %d is in force after %d streams: %+v", d.Version, n.opened("v1"), r.f.Status())
				}
				_ = r.stop()
				if held := versions[own].Digest(); !bytes.Equal(r.f.request().Holds, held[:]) {
					t.Fatal("the follower does not say which document it has")
				}
			})
		})
	}
}

// A replica whose own document the ledger never goes by does not take what is offered.
func TestFollowerOfAnotherDocument(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		first := oneRegion()
		o := newOrigin(t, first, "a").grow(5)
		at := o.m.Size()
		o.adopt(testfed.Stricter).grow(5)
		n.add("v1", serves(o.server()))
		n.add("v2", nil)
		n.add("v3", nil)
		other := first.Next(func(d *federation.Document) { d.Constitution.Thresholds.IhsanMin = 0.5 })
		r := startWith(t, replicaOwning(t, other.Document), n)
		pass(time.Minute)
		if s := r.f.Status(); r.replica.Size() != at || !strings.Contains(s.Refused, fsm.ErrDocument.Error()) || r.diverged.Load() != nil {
			t.Fatalf("%d entries were taken, %d were right: %+v", r.replica.Size(), at, s)
		}
		_ = r.stop()
	})
}

// Every way in which a peer may cheat with a document is found out, and the next peer asked.
func TestPeersThatCheatWithDocuments(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		tell         func(f *frame, parts int, out io.Writer) (forward, told bool)
	}{
		{"none is sent", leftEntry, func(*frame, int, io.Writer) (bool, bool) { return false, true }},
		{"another is sent", leftEntry, func(f *frame, _ int, _ io.Writer) (bool, bool) { f.Document[0] ^= 1; return true, true }},
		{"its first part is not sent", leftOrder, func(f *frame, _ int, _ io.Writer) (bool, bool) {
			return f.DocumentFrom > 0, f.DocumentFrom == 0
		}},
		{"its last part is not sent", leftOrder, func(f *frame, _ int, _ io.Writer) (bool, bool) {
			last := f.DocumentFrom+int64(len(f.Document)) == f.DocumentSize
			return !last, last
		}},
		{"a part twice", leftOrder, func(f *frame, parts int, out io.Writer) (bool, bool) {
			_ = p2p.WriteMessage(out, FrameBytesMax, f)
			return true, parts == 1
		}},
		{"it is sent twice", leftOrder, func(f *frame, _ int, out io.Writer) (bool, bool) {
			last := f.DocumentFrom+int64(len(f.Document)) == f.DocumentSize
			if last {
				_ = p2p.WriteMessage(out, FrameBytesMax, f)
				f.DocumentFrom, f.Document = 0, f.Document[:1]
			}
			return true, last
		}},
		{"longer than any", leftMalformed, func(f *frame, _ int, _ io.Writer) (bool, bool) {
			f.DocumentSize = federation.DocumentBytesMax + 1
			return true, true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				first := oneRegion()
				o := newOrigin(t, first, "a").grow(5)
				at := o.m.Size()
				o.adopt(long).grow(5)
				told, parts := 0, 0
				n.add("liar", relay(serves(o.server()), func(f *frame, out io.Writer) bool {
					if f.Kind != frameDocument || f.Size <= at || f.DocumentSize < 2*documentPartBytes {
						return true
					}
					parts++
					forward, lied := c.tell(f, parts, out)
					if lied {
						told++
					}
					return forward
				}))
				n.add("honest", nil)
				r := startWith(t, replicaOwning(t, first.Document), n)
				pass(time.Second)
				if told == 0 {
					t.Fatal("no lie was told")
				}
				if got := r.f.metrics.left.With(c.reason).Value(); got != 1 || r.replica.Size() != at || r.diverged.Load() != nil {
					t.Fatalf("the liar was left %v times for %q, with %d of %d entries: %+v", got, c.reason, r.replica.Size(), at, r.f.Status())
				}
				n.add("honest", serves(o.server()))
				pass(time.Minute)
				synctest.Wait()
				sameAs(t, o, r.replica)
				_ = r.stop()
			})
		})
	}
}
