package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// disk is a store that outlives its copies' openings.
type disk struct{ store.Store }

func (disk) Close() error { return nil }

// disks keeps the stores of a node's copies, and counts what is done with them.
type disks struct {
	mu        sync.Mutex
	fed       *testfed.Federation
	stores    map[string]store.Store
	opened    map[string]int
	discarded map[string]int
	openErr   map[string]error
	wrap      func(store.Store) store.Store // what the next opening gives
}

func newDisks(fed *testfed.Federation) *disks {
	return &disks{fed: fed, stores: map[string]store.Store{}, opened: map[string]int{}, discarded: map[string]int{}, openErr: map[string]error{}}
}

func (d *disks) open(region string) (CopyReplica, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened[region]++
	if err := d.openErr[region]; err != nil {
		return nil, err
	}
	if d.stores[region] == nil {
		d.stores[region] = store.NewMemory()
	}
	st := store.Store(disk{d.stores[region]})
	if d.wrap != nil {
		st = d.wrap(st)
	}
	return OpenCopy(st, fsm.Config{Region: region, Document: documentOf(d.fed.Document)})
}

func (d *disks) discard(region string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.discarded[region]++
	delete(d.stores, region)
	return nil
}

func (d *disks) count(region string) (opened, discarded int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened[region], d.discarded[region]
}

func (d *disks) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// startCopies copies regions over a mesh in which each region has its own peers.
func startCopies(t testing.TB, d *disks, told *abroad, n *mesh, byRegion map[string][]peer.ID, change ...func(*CopiesConfig)) *Copies {
	t.Helper()
	regions := make([]string, 0, len(byRegion))
	for _, r := range []string{"a", "b", "c"} {
		if _, ok := byRegion[r]; ok {
			regions = append(regions, r)
		}
	}
	var follow Config
	told.config(&follow)
	cfg := CopiesConfig{Host: namedHost{id: "follower"}, Regions: regions, Open: d.open, Discard: d.discard, Logger: quiet(),
		Peers: func(region string) []peer.ID { return byRegion[region] }, OnExecuted: func(_ string, s *fsm.Seal) { follow.OnExecuted(s) },
		OnRefused: func(r *Refused) { _ = follow.OnRefused(r) }, Follow: Config{open: n.open}}
	for _, c := range change {
		c(&cfg)
	}
	s, err := NewCopies(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copied fails unless a copy holds just what the origin holds.
func copied(t testing.TB, o *origin, c *Copy) {
	t.Helper()
	want, err := o.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = want.Close() }()
	root, err := want.Ledger().Root(o.m.Size())
	if err != nil {
		t.Fatal(err)
	}
	err = c.Read(func(v *fsm.View) error {
		size, err := v.Ledger().Size()
		if err != nil || size != o.m.Size() {
			return fmt.Errorf("%d entries of %d: %w", size, o.m.Size(), err)
		}
		got, err := v.Ledger().Root(size)
		if err != nil || got != root {
			return fmt.Errorf("root %v, want %v: %w", got, root, err)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v; %+v", err, c.Status())
	}
}

func closeCopies(t testing.TB, s *Copies) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestCopiesFollowEachRegionAndGoOnAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		a := presentOrigin(t, fed).grow(100).seal().grow(5)
		b := newOriginAt(t, fed, "b", time.Now().UnixMilli()).grow(30)
		n.add("a1", serves(a.server()))
		n.add("b1", serves(b.server()))
		d, reg := newDisks(fed), prometheus.NewPedanticRegistry()
		regions := map[string][]peer.ID{"a": {"a1"}, "b": {"b1"}}
		s := startCopies(t, d, told, n, regions, func(c *CopiesConfig) { c.Metrics = reg })
		synctest.Wait()
		copied(t, a, s.Of("a"))
		copied(t, b, s.Of("b"))
		if s.Of("c") != nil {
			t.Error("a region that is not copied has a copy")
		}
		for i, st := range s.Status() {
			if st.Region != []string{"a", "b"}[i] || !st.Open || !st.Following || st.Error != "" || st.Rebuilt != 0 || st.Blame != nil || (st.Seal != nil) != (i == 0) {
				t.Errorf("status: %+v", st)
			}
		}
		if families, err := reg.Gather(); err != nil || len(families) < 12 {
			t.Errorf("%d metrics: %v", len(families), err)
		}
		closeCopies(t, s)
		if families, err := reg.Gather(); err != nil || len(families) != 0 {
			t.Errorf("%d metrics stayed: %v", len(families), err)
		}
		if err := s.Of("a").Read(func(*fsm.View) error { return nil }); !errors.Is(err, ErrNoCopy) {
			t.Errorf("a read after Close: %v", err)
		}
		a.grow(20).seal()
		var from int64 = -1
		n.add("a1", func(ctx context.Context, st Stream) error {
			return relayRequest(serves(a.server()), func(b *requestBody) { from = b.From })(ctx, st)
		})
		s = startCopies(t, d, told, n, regions)
		synctest.Wait()
		copied(t, a, s.Of("a"))
		if opened, discarded := d.count("a"); opened != 2 || discarded != 0 || from != 106 {
			t.Errorf("opened %d times, discarded %d, asked from entry %d on", opened, discarded, from)
		}
		if fmt.Sprint(told.executed) != fmt.Sprint(sealsOf(a)) {
			t.Errorf("executed %v, want %v", told.executed, sealsOf(a))
		}
		closeCopies(t, s)
	})
}

// relayRequest passes a stream on and shows what was asked for.
func relayRequest(inner handler, see func(*requestBody)) handler {
	return func(ctx context.Context, s Stream) error {
		var asked bytes.Buffer
		body, err := readRequest(teeStream{s, &asked})
		if err != nil {
			return err
		}
		see(body)
		return inner(ctx, replayed{s, &asked})
	}
}

type teeStream struct {
	Stream
	seen *bytes.Buffer
}

func (s teeStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	s.seen.Write(b[:n])
	return n, err
}

// replayed is a stream of which some was read before.
type replayed struct {
	Stream
	before *bytes.Buffer
}

func (s replayed) Read(b []byte) (int, error) {
	if s.before.Len() > 0 {
		return s.before.Read(b)
	}
	return s.Stream.Read(b)
}

func TestCopyAnswersForAVote(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(20).seal().grow(30).seal()
		n.add("a1", serves(o.server()))
		s := startCopies(t, newDisks(fed), told, n, map[string][]peer.ID{"a": {"a1"}})
		c := s.Of("a")
		synctest.Wait()
		want := sealsOf(o)
		for i, size := range []int64{21, 51} {
			if body, err := c.BodyAt(size); err != nil || string(body) != want[i] {
				t.Errorf("body at %d: %q, %v", size, body, err)
			}
		}
		for size, wants := range map[int64]error{20: ErrUnsealed, 22: ErrUnsealed, 52: ErrBehind, 1 << 40: ErrBehind} {
			if body, err := c.BodyAt(size); !errors.Is(err, wants) || body != nil {
				t.Errorf("body at %d: %q, %v, want %v", size, body, err, wants)
			}
		}
		v, err := o.m.View()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = v.Close() }()
		for _, old := range []int64{0, 1, 21, 51} {
			proof, err := c.ConsistencyProof(old, 51)
			if err != nil {
				t.Fatal(err)
			}
			before, err1 := v.Ledger().Root(old)
			after, err2 := v.Ledger().Root(51)
			if err := errors.Join(err1, err2, ledger.CheckConsistency(proof, 51, after, old, before)); err != nil {
				t.Errorf("consistency of %d with 51: %v", old, err)
			}
		}
		if _, err := c.ConsistencyProof(21, 52); !errors.Is(err, ErrBehind) {
			t.Errorf("a proof of more than there is: %v", err)
		}
		if _, err := c.ConsistencyProof(30, 21); err == nil {
			t.Error("a proof backwards")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan string, 1)
		go func() {
			body, err := c.AwaitBody(ctx, 55)
			got <- fmt.Sprint(string(body), err)
		}()
		pass(time.Second)
		o.grow(4)
		pass(time.Second)
		select {
		case early := <-got:
			t.Fatalf("a body before its seal: %s", early)
		default:
		}
		o.seal()
		if body := <-got; body != sealsOf(o)[2]+"<nil>" {
			t.Errorf("awaited %q", body)
		}
		if _, err := c.AwaitBody(ctx, 56); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrBehind) {
			t.Errorf("awaited in vain: %v", err)
		}
		closeCopies(t, s)
	})
}

// TestADamagedCopyBlamesItself changes a copy's state behind its back: what the origin sends
// then differs from what re-execution gives, and it is not the origin that lies.
func TestADamagedCopyBlamesItself(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50).seal()
		for _, p := range []peer.ID{"a1", "a2", "a3"} {
			n.add(p, serves(o.server()))
		}
		d := newDisks(fed)
		regions := map[string][]peer.ID{"a": {"a1", "a2", "a3"}}
		s := startCopies(t, d, told, n, regions)
		synctest.Wait()
		copied(t, o, s.Of("a"))
		closeCopies(t, s)
		forgetSession(t, d.stores["a"], "s50")
		// The origin's next proof opens the session again, which only the damaged copy allows.
		o.opened--
		o.apply(fsm.EncodeProofs(o.now, [][]byte{o.proof().Canonical()}))
		o.grow(5).seal()
		s = startCopies(t, d, told, n, regions)
		pass(2 * time.Minute)
		if _, discarded := d.count("a"); discarded != 1 {
			t.Fatalf("the copy was discarded %d times: %+v", discarded, s.Of("a").Status())
		}
		copied(t, o, s.Of("a"))
		claims := told.told()
		if len(claims) != 1 || claims[0].Most() {
			t.Errorf("refusals of an honest region: %v", claims)
		}
		if st := s.Of("a").Status(); st.Rebuilt != 1 || st.Blame != nil || !strings.Contains(st.Error, ErrCopyUnusable.Error()) {
			t.Errorf("status: %+v", st)
		}
		closeCopies(t, s)
	})
}

// forgetSession deletes a session's record.
func forgetSession(t testing.TB, st store.Store, id string) {
	t.Helper()
	key := fsm.SessionKey(id)
	if _, err := st.Get(key); err != nil {
		t.Fatalf("there is no session %q to forget: %v", id, err)
	}
	if err := st.Commit([]store.Write{{Key: key, Delete: true}}); err != nil {
		t.Fatal(err)
	}
}

func TestARegionThatLiesIsBlamed(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(50).badlySigned()
		n.add("a1", serves(o.server()))
		b := newOriginAt(t, fed, "b", time.Now().UnixMilli()).grow(10)
		n.add("b1", serves(b.server()))
		d := newDisks(fed)
		s := startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1"}, "b": {"b1"}})
		pass(time.Hour)
		st := s.Of("a").Status()
		if st.Size != 51 || !st.Open || st.Blame == nil || st.Blame.Code != RefusedSignature || st.Rebuilt != 0 {
			t.Fatalf("status: %+v", st)
		}
		if n := len(told.told()); n < 12 || n > 26 {
			t.Errorf("told of %d times in an hour", n)
		}
		b.grow(10)
		synctest.Wait()
		copied(t, b, s.Of("b"))
		closeCopies(t, s)
	})
}

func TestCopiesThatCannotBeUsedAreBuiltAnew(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, st store.Store)
	}{
		{"the ledger's last entry is gone", func(t *testing.T, st store.Store) { deleteLastWith(t, st, "session.open") }},
		{"the state is gone", func(t *testing.T, st store.Store) { deleteAll(t, st, 'S') }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *mesh) {
				fed, told := openFed(), &abroad{}
				o := presentOrigin(t, fed).grow(20).seal()
				n.add("a1", serves(o.server()))
				d := newDisks(fed)
				regions := map[string][]peer.ID{"a": {"a1"}}
				s := startCopies(t, d, told, n, regions)
				synctest.Wait()
				closeCopies(t, s)
				c.spoil(t, d.stores["a"])
				s = startCopies(t, d, told, n, regions)
				pass(time.Second)
				copied(t, o, s.Of("a"))
				if opened, discarded := d.count("a"); opened != 3 || discarded != 1 || len(told.told()) != 0 {
					t.Errorf("opened %d times, discarded %d, refusals %v", opened, discarded, told.told())
				}
				if st := s.Of("a").Status(); st.Rebuilt != 1 || st.Error == "" || !st.Open {
					t.Errorf("status: %+v", st)
				}
				closeCopies(t, s)
			})
		})
	}
}

// deleteLastWith deletes the last record whose value contains a text.
func deleteLastWith(t *testing.T, st store.Store, text string) {
	t.Helper()
	it, err := st.Iter(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var key []byte
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.Contains(it.Value(), []byte(text)) {
			key = append(key[:0], it.Key()...)
		}
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil || key == nil {
		t.Fatalf("no record has %q: %v", text, err)
	}
	if err := st.Commit([]store.Write{{Key: key, Delete: true}}); err != nil {
		t.Fatal(err)
	}
}

func deleteAll(t *testing.T, st store.Store, prefix byte) {
	t.Helper()
	it, err := st.Iter([]byte{prefix}, []byte{prefix + 1})
	if err != nil {
		t.Fatal(err)
	}
	var writes []store.Write
	for ok := it.First(); ok; ok = it.Next() {
		writes = append(writes, store.Write{Key: append([]byte(nil), it.Key()...), Delete: true})
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil || len(writes) == 0 {
		t.Fatalf("%d records: %v", len(writes), err)
	}
	if err := st.Commit(writes); err != nil {
		t.Fatal(err)
	}
}

// A copy whose disk fails is opened again with patience, checked, and holds nobody up.
func TestACopyWhoseDiskFails(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		a := presentOrigin(t, fed).grow(20)
		b := newOriginAt(t, fed, "b", time.Now().UnixMilli()).grow(20)
		n.add("a1", serves(a.server()))
		n.add("b1", serves(b.server()))
		d := newDisks(fed)
		var broken *brokenStore
		d.wrap = func(st store.Store) store.Store {
			broken, d.wrap = &brokenStore{Store: st}, nil
			return broken
		}
		s := startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1"}})
		synctest.Wait()
		other := startCopies(t, d, told, n, map[string][]peer.ID{"b": {"b1"}})
		synctest.Wait()
		copied(t, a, s.Of("a"))
		broken.broken = true
		d.set(func() { d.openErr["a"] = errDisk })
		a.grow(5)
		pass(10 * time.Minute)
		st := s.Of("a").Status()
		if opened, discarded := d.count("a"); opened < 10 || opened > 20 || discarded != 0 || st.Open || !strings.Contains(st.Error, errDisk.Error()) {
			t.Fatalf("opened %d times in ten minutes, discarded %d: %+v", opened, discarded, st)
		}
		if err := s.Of("a").Read(func(*fsm.View) error { return nil }); !errors.Is(err, ErrNoCopy) {
			t.Errorf("read: %v", err)
		}
		b.grow(5)
		synctest.Wait()
		copied(t, b, other.Of("b"))
		d.set(func() { d.openErr["a"] = nil })
		pass(2 * time.Minute)
		copied(t, a, s.Of("a"))
		if _, discarded := d.count("a"); discarded != 0 || len(told.told()) != 0 {
			t.Errorf("discarded %d times, refusals %v", discarded, told.told())
		}
		if s.Of("a").soundAt != 21 {
			t.Error("what a failed disk holds was not checked")
		}
		closeCopies(t, s)
		closeCopies(t, other)
	})
}

func TestACopyOfAForkIsBuiltAnewNotTooOften(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(20)
		forks := []*origin{o.fork(10).grow(30), o.fork(15).grow(50)}
		n.add("a1", serves(o.server()))
		d := newDisks(fed)
		s := startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1"}}, func(c *CopiesConfig) { c.Follow.AsideFor = time.Second })
		synctest.Wait()
		copied(t, o, s.Of("a"))
		// The region changes its mind each time that it is asked.
		turn := 0
		n.add("a1", func(ctx context.Context, st Stream) error {
			turn++
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return serves(forks[turn%2].server())(ctx, st)
		})
		closeCopies(t, s)
		s = startCopies(t, d, told, n, map[string][]peer.ID{"a": {"a1"}}, func(c *CopiesConfig) { c.Follow.AsideFor = time.Second })
		pass(10 * time.Hour)
		if _, discarded := d.count("a"); discarded < 5 || discarded > 17 {
			t.Errorf("discarded %d times in ten hours", discarded)
		}
		if len(told.told()) != 0 {
			t.Errorf("refusals: %v", told.told())
		}
		closeCopies(t, s)
	})
}

func TestVotersOfTheLedgerCount(t *testing.T) {
	bubble(t, func(t *testing.T, n *mesh) {
		fed, told := openFed(), &abroad{}
		o := presentOrigin(t, fed).grow(3)
		n.add("a1", serves(o.server()))
		s := startCopies(t, newDisks(fed), told, n, map[string][]peer.ID{"a": {"a1"}})
		access, err := p2p.NewAccess(p2p.AccessConfig{Region: "b", Foreign: s.Voters, Logger: quiet()})
		if err == nil {
			err = access.SetDocument(fed.Document)
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		added := testfed.Key("a-4")
		id, err := p2p.PeerID(added.Public())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Voters()) != 3 || access.Role(id) != p2p.Stranger {
			t.Fatalf("before: %v", s.Voters())
		}
		o.addVoter("a-4", added.Public(), "/ip4/10.0.0.9/tcp/4")
		synctest.Wait()
		if access.Role(id) != p2p.Foreign || access.RegionOf(id) != "a" || access.Allow(id, p2p.ProtocolEntries) != nil || len(access.ForeignVoters("a")) != 4 {
			t.Errorf("after: %v", s.Voters())
		}
		if got := access.Listed(id); len(got) != 1 || got[0] != "/ip4/10.0.0.9/tcp/4" {
			t.Errorf("its addresses: %v", got)
		}
		closeCopies(t, s)
	})
}

func TestCopiesConfig(t *testing.T) {
	d := newDisks(openFed())
	good := CopiesConfig{Host: namedHost{id: "x"}, Regions: []string{"a", "b"}, Open: d.open, Discard: d.discard, Peers: func(string) []peer.ID { return nil }}
	for name, change := range map[string]func(*CopiesConfig){
		"Host":       func(c *CopiesConfig) { c.Host = nil },
		"Open":       func(c *CopiesConfig) { c.Open = nil },
		"Discard":    func(c *CopiesConfig) { c.Discard = nil },
		"Peers":      func(c *CopiesConfig) { c.Peers = nil },
		"Regions":    func(c *CopiesConfig) { c.Regions = []string{"a", "a"} },
		"63 bytes":   func(c *CopiesConfig) { c.Regions = []string{strings.Repeat("a", 64)} },
		"RetryMax":   func(c *CopiesConfig) { c.RetryMin, c.RetryMax = time.Hour, time.Second },
		"RebuildMin": func(c *CopiesConfig) { c.RebuildMin = -1 },
	} {
		cfg := good
		change(&cfg)
		if s, err := NewCopies(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
			if s != nil {
				_ = s.Close()
			}
		}
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "bizra_copy_open", ConstLabels: prometheus.Labels{"region": "b"}}))
	good.Metrics = reg
	if _, err := NewCopies(good); err == nil {
		t.Error("metrics that are taken were taken again")
	}
	if families, err := reg.Gather(); err != nil || len(families) != 1 {
		t.Errorf("%d metrics stayed: %v", len(families), err)
	}
}
