package fsm_test

import (
	"fmt"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// metered counts what is read from a store and written to it.
type metered struct {
	store.Store
	reads, steps, writes, bytes int // keys asked for, keys passed by iterators, keys and bytes written
}

func (m *metered) Get(key []byte) ([]byte, error) {
	m.reads++
	return m.Store.Get(key)
}

func (m *metered) Iter(lower, upper []byte) (store.Iterator, error) {
	it, err := m.Store.Iter(lower, upper)
	return &meteredIterator{it, m}, err
}

func (m *metered) Snapshot() (store.Snapshot, error) {
	s, err := m.Store.Snapshot()
	return &meteredSnapshot{s, m}, err
}

func (m *metered) Commit(writes []store.Write) error {
	m.writes += len(writes)
	for i := range writes {
		m.bytes += len(writes[i].Key) + len(writes[i].Value)
	}
	return m.Store.Commit(writes)
}

type meteredIterator struct {
	store.Iterator
	m *metered
}

func (i *meteredIterator) First() bool            { i.m.steps++; return i.Iterator.First() }
func (i *meteredIterator) Last() bool             { i.m.steps++; return i.Iterator.Last() }
func (i *meteredIterator) Next() bool             { i.m.steps++; return i.Iterator.Next() }
func (i *meteredIterator) Prev() bool             { i.m.steps++; return i.Iterator.Prev() }
func (i *meteredIterator) SeekGE(key []byte) bool { i.m.steps++; return i.Iterator.SeekGE(key) }

type meteredSnapshot struct {
	store.Snapshot
	m *metered
}

func (s *meteredSnapshot) Get(key []byte) ([]byte, error) {
	s.m.reads++
	return s.Snapshot.Get(key)
}

func (s *meteredSnapshot) Iter(lower, upper []byte) (store.Iterator, error) {
	it, err := s.Snapshot.Iter(lower, upper)
	return &meteredIterator{it, s.m}, err
}

// cost is what something took of a store.
type cost struct{ reads, steps, writes, bytes int }

func (m *metered) cost(of func()) cost {
	m.reads, m.steps, m.writes, m.bytes = 0, 0, 0, 0
	of()
	return cost{m.reads, m.steps, m.writes, m.bytes}
}

// growing is a ledger that is filled with proofs a second of log time apart, each of a session of its own.
type growing struct {
	*rig
	st     *metered
	agents []*testfed.Signer
	opened int
}

func (g *growing) open() *pci.Envelope {
	a := g.agents[g.opened%len(g.agents)]
	a.NowMillis = g.now
	g.opened++
	return a.Sign("session.open", open(fmt.Sprintf("s%d", g.opened)), "")
}

func (g *growing) fill(until int64) {
	for g.size() < until {
		g.now += 1000
		g.want(pci.Success, g.open())
		if g.size()%100 == 0 {
			g.sealed()
		}
	}
	g.sealed()
}

// costs is what the things that happen all the time take with the ledger as it is.
func (g *growing) costs() map[string]cost {
	proofs := func() {
		for range 16 {
			g.now += 1000
			g.want(pci.Success, g.open())
		}
	}
	costs := map[string]cost{"proofs": g.st.cost(proofs), "a seal and its certificate": g.st.cost(g.sealed)}
	if err := g.m.Close(); err != nil {
		g.t.Fatal(err)
	}
	costs["to start"] = g.st.cost(g.rig.open)
	costs["a receipt and a session"] = g.st.cost(func() {
		v := g.view()
		e, err := v.Entry(g.size() / 2)
		if err != nil || e.Envelope == nil {
			g.t.Fatalf("%+v, %v", e, err)
		}
		if _, err := v.Receipt(e.Envelope.Digest()); err != nil {
			g.t.Fatal(err)
		}
		if _, err := v.Session(fmt.Sprintf("s%d", g.opened)); err != nil {
			g.t.Fatal(err)
		}
	})
	return costs
}

// TestCostsDoNotGrowWithTheLedger: with ten times as many entries and sessions nothing that happens all the time reads or writes
// ten times as much. What it may take more is the depth of two trees: three levels more, where a path had four of its own.
func TestCostsDoNotGrowWithTheLedger(t *testing.T) {
	const small, large, levels = 600, 6000, 2.0
	g := &growing{st: &metered{Store: store.NewMemory()}}
	g.rig = &rig{t: t, fed: testfed.New(1, 1, testfed.Open), st: g.st, now: start}
	g.rig.open()
	g.apply(fsm.EncodeGenesis(g.now, g.fed.Document.Canonical()))
	for i := range 8 {
		g.agents = append(g.agents, g.fed.Agent(fmt.Sprintf("agent-%d", i), g.now))
	}
	g.fill(small)
	before := g.costs()
	g.fill(large)
	after := g.costs()
	for what, b := range before {
		a := after[what]
		t.Logf("%s: %+v with %d entries, %+v with %d", what, b, small, a, large)
		for _, n := range [][2]int{{b.reads, a.reads}, {b.steps, a.steps}, {b.writes, a.writes}, {b.bytes, a.bytes}} {
			if float64(n[1]) > levels*float64(n[0])+8 {
				t.Errorf("%s: %+v with %d entries, %+v with %d", what, b, small, a, large)
			}
		}
		if a.reads == 0 {
			t.Errorf("%s: nothing was read: the test does not test", what)
		}
	}
}
