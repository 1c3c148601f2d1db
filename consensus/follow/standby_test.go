package follow

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// standingBy is a voter of region b whose copies stand by, beside one whose copies follow.
type standingBy struct {
	o         *origin
	told      *abroad
	leading   *Copies
	copies    *Copies
	disks     *disks
	certified atomic.Int64
	lying     atomic.Bool // the fellow shifts log times
	lies      int
	server    *Server // of the fellow
}

func peerOf(t *testing.T, fed *testfed.Federation, region string, voter int) peer.ID {
	t.Helper()
	id, err := p2p.PeerID(fed.Nodes[region][voter].Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newStanding(t *testing.T, n *mesh) *standingBy {
	t.Helper()
	fed := openFed()
	s := &standingBy{o: presentOrigin(t, fed).grow(20).seal(), told: &abroad{}, disks: newDisks(fed)}
	n.add("a1", serves(s.o.server()))
	s.leading = startCopies(t, newDisks(fed), s.told, n, map[string][]peer.ID{"a": {"a1"}})
	access, err := p2p.NewAccess(p2p.AccessConfig{Region: "b", Logger: quiet()})
	if err == nil {
		err = access.SetDocument(fed.Document)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := newOrigin(t, fed, "b")
	cfg := b.serverConfig()
	cfg.Access, cfg.Copy = access, s.leading.Source
	if s.server, err = newServer(cfg); err != nil {
		t.Fatal(err)
	}
	self := peerOf(t, fed, "b", 1)
	honest := func(ctx context.Context, stream Stream) error { return s.server.handle(ctx, self, stream) }
	liar := relay(honest, func(f *frame, _ io.Writer) bool {
		if len(f.Entries) > 0 && shift(t, f, s.o.m.Size()-1, 1) {
			s.lies++
		}
		return true
	})
	n.add("fellow", func(ctx context.Context, stream Stream) error {
		if s.lying.Load() {
			return liar(ctx, stream)
		}
		return honest(ctx, stream)
	})
	s.copies = startCopies(t, s.disks, s.told, n, map[string][]peer.ID{"a": {"a1"}}, func(c *CopiesConfig) {
		c.Standby, c.Fellows, c.Certified = true, func() []peer.ID { return []peer.ID{"fellow"} }, func(string) int64 { return s.certified.Load() }
	})
	synctest.Wait()
	return s
}

func (s *standingBy) close(t *testing.T) {
	t.Helper()
	closeCopies(t, s.copies)
	closeCopies(t, s.leading)
	if told := s.told.told(); len(told) != 0 {
		t.Errorf("somebody was blamed: %+v", told[0])
	}
}

// TestCopiesThatStandBy are opened when there is something for them, brought up by a fellow voter
// to what is certified, and in the long run whatever is certified; and follow once they attend.
func TestCopiesThatStandBy(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		s := newStanding(t, n)
		a := s.copies.Of("a")
		pass(time.Minute)
		if opened, _ := s.disks.count("a"); opened != 0 || a.Status().Open || !a.Status().Standby || s.leading.Of("a").Status().Standby {
			t.Fatalf("opened %d times though nothing is certified: %+v", opened, a.Status())
		}
		s.certified.Store(s.o.m.Size())
		pass(time.Second)
		copied(t, s.o, a)
		s.o.grow(5).seal()
		pass(time.Minute)
		if got := a.Status().Size; got == s.o.m.Size() {
			t.Fatalf("it follows, though it stands by: %+v, fellow %d, a1 %d", a.Status(), n.opened("fellow"), n.opened("a1"))
		}
		pass(2 * time.Minute)
		copied(t, s.o, a)
		if n.opened("a1") != 1 || n.opened("fellow") < 2 {
			t.Fatalf("%d streams from the region, %d from the fellow", n.opened("a1"), n.opened("fellow"))
		}

		s.copies.Attend(true)
		pass(time.Second)
		s.o.grow(5).seal()
		synctest.Wait()
		copied(t, s.o, a)
		if st := a.Status(); st.Standby || !st.Following || n.opened("a1") != 2 {
			t.Fatalf("%d streams from the region, and it is %+v", n.opened("a1"), st)
		}
		s.copies.Attend(false)
		pass(time.Second)
		s.o.grow(5).seal()
		pass(time.Second)
		if st := a.Status(); st.Size == s.o.m.Size() || st.Following {
			t.Fatalf("it goes on following: %+v", st)
		}
		s.certified.Store(s.o.m.Size())
		pass(time.Second)
		copied(t, s.o, a)
		if opened, discarded := s.disks.count("a"); opened != 3 || discarded != 0 {
			t.Errorf("opened %d times, discarded %d times", opened, discarded)
		}
		s.close(t)
	})
}

// TestAFellowThatLies costs a copy that stands by nothing but the way to its region, which is not blamed.
func TestAFellowThatLies(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		s := newStanding(t, n)
		s.certified.Store(s.o.m.Size())
		pass(time.Second)
		s.lying.Store(true)
		s.o.grow(5).seal()
		s.certified.Store(s.o.m.Size())
		pass(time.Minute)
		if s.lies == 0 {
			t.Fatal("nothing was altered")
		}
		copied(t, s.o, s.copies.Of("a"))
		if n.opened("a1") < 2 {
			t.Error("the region was not asked")
		}
		s.close(t)
	})
}

// TestACopyThatCannotBeRead while it stands by is checked, and goes on.
func TestACopyThatCannotBeReadStandingBy(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		s := newStanding(t, n)
		s.certified.Store(s.o.m.Size())
		pass(time.Second)
		s.copies.Of("a").Suspect(errors.New("a bad block"))
		s.o.grow(5).seal()
		s.certified.Store(s.o.m.Size())
		pass(2 * time.Second)
		copied(t, s.o, s.copies.Of("a"))
		if opened, discarded := s.disks.count("a"); opened != 2 || discarded != 0 {
			t.Errorf("opened %d times, discarded %d times", opened, discarded)
		}
		s.close(t)
	})
}

// TestCopiesAreServedToFellowsAlone names who may have another region's ledger of this node.
func TestCopiesAreServedToFellowsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		s := newStanding(t, n)
		fed := s.disks.fed
		for _, c := range []struct {
			from   peer.ID
			region string
			ok     bool
		}{
			{peerOf(t, fed, "b", 1), "a", true}, {peerOf(t, fed, "b", 1), "b", true}, {peerOf(t, fed, "b", 1), "c", false},
			{peerOf(t, fed, "a", 0), "a", false}, {peerOf(t, fed, "a", 0), "b", true}, {"stranger", "a", false},
		} {
			_, err := s.server.source(c.from, c.region)
			var no *refusal
			if (err == nil) != c.ok || !c.ok && (!errors.As(err, &no) || no.code != refusedRegion) {
				t.Errorf("the ledger of %s for %v: %v", c.region, c.from, err)
			}
		}
		s.close(t)
	})
}
