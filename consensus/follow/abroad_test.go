package follow

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// copiesOn copies region a's ledger on a host, on disk.
func copiesOn(t testing.TB, fed *testfed.Federation, h host.Host, dir string, onRefused func(*Refused), peers ...peer.ID) *Copies {
	t.Helper()
	path := filepath.Join(dir, "a")
	s, err := NewCopies(CopiesConfig{Host: h, Regions: []string{"a"}, Peers: func(string) []peer.ID { return peers }, OnRefused: onRefused, Logger: quiet(),
		Open: func(region string) (CopyReplica, error) {
			st, err := pebblestore.Open(path, pebblestore.Options{Logger: quiet()})
			if err != nil {
				return nil, errors.Join(ErrCopyUnusable, err)
			}
			return OpenCopy(st, fsm.Config{Region: region, Document: documentOf(fed.Document)})
		},
		Discard: func(string) error { return os.RemoveAll(path) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *Copy) reaches(t testing.TB, o *origin) {
	t.Helper()
	eventually(t, "the copy has all of its origin", func() bool { return c.Status().Size == o.m.Size() })
	eventually(t, "the copy has the newest seal", func() bool {
		_, err := c.BodyAt(o.m.Size())
		return err == nil
	})
	copied(t, o, c)
}

// TestCopiesOverLibp2p has a voter of region b copy region a, over the rules of access: the
// origin restarts, the copy restarts from its disk and from a damaged one, a voter that only
// a's ledger names is let in, and in the end the origin lies.
func TestCopiesOverLibp2p(t *testing.T) {
	fed := openFed()
	o := newOriginAt(t, fed, "a", time.Now().UnixMilli()).grow(700).seal()
	listed, copying := newHost(t, fed.Nodes["a"][0], overTCP), newHost(t, fed.Nodes["b"][0], overTCP)
	knows(copying, listed)
	srv := serveOn(t, o, listed)
	var blamed atomic.Pointer[Refused]
	onRefused := func(r *Refused) { blamed.Store(r) }
	dir := t.TempDir()
	s := copiesOn(t, fed, copying, dir, onRefused, listed.ID())
	s.Of("a").reaches(t, o)

	// The origin restarts.
	if err := errors.Join(srv.Close(), listed.Close()); err != nil {
		t.Fatal(err)
	}
	o.grow(10).seal()
	eventually(t, "the copy misses its peer", func() bool { return !s.Of("a").Status().Following })
	listed = newHost(t, fed.Nodes["a"][0], overTCP)
	knows(copying, listed)
	serveOn(t, o, listed)
	s.Of("a").reaches(t, o)

	// Its voters change. The new one may follow b as soon as b's copy of a has come to know it.
	b := newOriginAt(t, fed, "b", time.Now().UnixMilli()).grow(5).seal()
	serveOn(t, b, copying, func(c *ServerConfig) {
		access, err := p2p.NewAccess(p2p.AccessConfig{Region: "b", Foreign: s.Voters, Logger: quiet()})
		if err == nil {
			err = access.SetDocument(fed.Document)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Access = access
	})
	added := testfed.Key("a-4")
	fresh := newHost(t, added, overTCP)
	knows(fresh, copying)
	f := followRegionOn(t, fed, fresh, "b", copying.ID())
	eventually(t, "a node that no ledger names is refused", func() bool { return f.f.metrics.left.With(leftRefused).Value() > 0 })
	if f.replica.Size() != 0 {
		t.Fatal("it learned something")
	}
	o.addVoter("a-4", added.Public())
	s.Of("a").reaches(t, o.seal())
	f.reaches(t, b)
	f.stop(t)

	// The copy restarts, once from its disk and once from a damaged one.
	closeCopies(t, s)
	s = copiesOn(t, fed, copying, dir, onRefused, listed.ID())
	eventually(t, "the copy is open again", func() bool { return s.Of("a").Status().Open })
	if st := s.Of("a").Status(); st.Size != o.m.Size() || st.Seal == nil || st.Rebuilt != 0 {
		t.Fatalf("from its disk it has %+v", st)
	}
	closeCopies(t, s)
	damage(t, filepath.Join(dir, "a"))
	s = copiesOn(t, fed, copying, dir, onRefused, listed.ID())
	s.Of("a").reaches(t, o)
	if st := s.Of("a").Status(); st.Rebuilt != 1 {
		t.Fatalf("from a damaged disk: %+v", st)
	}

	// The origin's leader lets a bad signature pass.
	honest := o.m.Size()
	o.grow(1).badlySigned().grow(1).seal()
	eventually(t, "the origin is blamed", func() bool { return s.Of("a").Status().Blame != nil })
	if r := blamed.Load(); r == nil || r.Code != RefusedSignature || r.Index != honest+1 || s.Of("a").Status().Size != honest+1 {
		t.Fatalf("blamed for %+v; %+v", r, s.Of("a").Status())
	}
	closeCopies(t, s)
	noGoroutines(t)
}

// damage overwrites the middle of every table and log of a store.
func damage(t *testing.T, dir string) {
	t.Helper()
	spoiled := 0
	for _, pattern := range []string{"*.sst", "*.log", "MANIFEST-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(b) / 4; i < len(b)*3/4; i++ {
				b[i] ^= 0x5a
				spoiled++
			}
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if spoiled == 0 {
		t.Fatal("nothing was damaged")
	}
}

// When a region was founded is signed by nobody, and no later entry hangs on it: a voter that
// alters it is found out by the next seal and by the others, whose ledger is another then.
func TestACopyThatTookAnAlteredLogTimeIsBuiltAnew(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50)
		altered := 0
		n.add("a1", relay(serves(o.server()), func(f *frame, _ io.Writer) bool {
			if shift(t, f, 0, 1) {
				altered++
			}
			return true
		}))
		n.add("a2", serves(o.server()))
		n.add("a3", serves(o.server()))
		d := newDisks(fed)
		s := startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1", "a2", "a3"}})
		synctest.Wait()
		if st := s.Of("a").Status(); altered != 1 || st.Size != 51 || st.Refused != "" {
			t.Fatalf("%d log times were altered and taken: %+v", altered, st)
		}
		n.add("a1", serves(o.server()))
		o.grow(1).seal()
		pass(time.Minute)
		copied(t, o, s.Of("a"))
		if _, discarded := d.count("a"); discarded != 1 {
			t.Errorf("discarded %d times", discarded)
		}
		for _, r := range told.told() {
			if r.Most() {
				t.Errorf("the region was blamed: %+v", r)
			}
		}
		closeCopies(t, s)
	})
}
