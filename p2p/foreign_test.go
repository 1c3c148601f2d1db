package p2p

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/internal/testfed"
)

func TestForeignVotersByDocumentAndLedger(t *testing.T) {
	c := newCast(t)
	c.known = true
	a := c.access(t, nil)
	added := c.peers["voter by another's ledger"]
	want := []peer.ID{added}
	for _, key := range c.fed.Nodes["b"] {
		want = append(want, idOf(t, key))
	}
	slices.Sort(want)
	if got := a.ForeignVoters("b"); !slices.Equal(got, want) {
		t.Errorf("voters of b: %v, want %v: three listed and one of its ledger", got, want)
	}
	if got := a.ForeignRegions(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("foreign regions: %v", got)
	}
	if got := a.Listed(added); !slices.Equal(got, []string{"/ip4/10.1.1.1/tcp/1"}) {
		t.Errorf("addresses by the ledger: %v", got)
	}
	if a.ForeignVoters("a") != nil || newAccess(t, "a", nil).ForeignRegions() != nil {
		t.Error("the own region is not foreign, and without a document there is none")
	}
}

// Another region names a key of ours its voter: that may cost our agent nothing.
func TestAnotherRegionCannotShutAnAgentOut(t *testing.T) {
	fed, agent := testfed.New(2, 1), idOf(t, testfed.Key("agent"))
	a := newAccessWith(t, AccessConfig{Region: "a", Client: func(p peer.ID) bool { return p == agent },
		Foreign: func() map[peer.ID]ForeignVoter { return map[peer.ID]ForeignVoter{agent: {Region: "b"}} }}, fed.Document)
	if a.Role(agent) != Foreign {
		t.Fatalf("the agent is a %v: nothing was tried", a.Role(agent))
	}
	if err := a.Allow(agent, ProtocolSubmit); err != nil {
		t.Error(err)
	}
	if err := a.Allow(agent, ProtocolStatus); !errors.Is(err, ErrForeignRegion) {
		t.Errorf("status: %v", err)
	}
}

// abroad runs the keeper of one node in a federation of four regions on a wire.
func abroad(t *testing.T, cfg KeeperConfig, raft func(self peer.ID) []peer.ID, test func(t *testing.T, w *wire, voters func(region string) []peer.ID)) {
	synctest.Test(t, func(t *testing.T) {
		fed := testfed.New(4, 3)
		self := idOf(t, fed.Nodes["a"][0])
		a := newAccessWith(t, AccessConfig{Region: "a", Raft: func() (RaftPeers, bool) { return NewRaftPeers(raft(self), nil), true }}, fed.Document)
		w := newWire(self)
		cfg.Logger = quiet()
		k := newKeeper(a, cfg.withDefaults(), w)
		w.lost = k.lost
		k.wg.Go(k.run)
		test(t, w, a.ForeignVoters)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func onlyItself(self peer.ID) []peer.ID { return []peer.ID{self} }

func (w *wire) connectedOf(ids []peer.ID) (up []peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if w.up[id] {
			up = append(up, id)
		}
	}
	return up
}

func TestKeeperHoldsTwoOfEachRegionAndReplacesTheLost(t *testing.T) {
	abroad(t, KeeperConfig{}, onlyItself, func(t *testing.T, w *wire, voters func(string) []peer.ID) {
		elapse(time.Minute)
		for _, region := range []string{"b", "c", "d"} {
			if up := w.connectedOf(voters(region)); len(up) != 2 {
				t.Fatalf("connected to %d voters of %s", len(up), region)
			}
		}
		up := w.connectedOf(voters("b"))
		gone := up[0]
		w.mu.Lock()
		w.dial = func(p peer.ID) error {
			if p == gone {
				return errors.New("connection refused")
			}
			return nil
		}
		w.mu.Unlock()
		before := len(w.dialled(gone))
		w.drop(gone)
		elapse(2 * time.Second)
		if up := w.connectedOf(voters("b")); len(up) != 2 || slices.Contains(up, gone) {
			t.Fatalf("two seconds after a voter of b went: %v", up)
		}
		if len(w.dialled(gone)) == before {
			t.Fatal("the lost one was never tried: nothing failed")
		}
		elapse(10 * time.Minute)
		if n := len(w.dialled(gone)) - before; n > 2 {
			t.Errorf("%d dials to one that another stands in for", n)
		}
	})
}

func TestKeeperBacksOffFromARegionThatIsGone(t *testing.T) {
	abroad(t, KeeperConfig{}, onlyItself, func(t *testing.T, w *wire, voters func(string) []peer.ID) {
		elapse(time.Minute)
		gone := voters("c")
		w.mu.Lock()
		w.dial = func(p peer.ID) error {
			if slices.Contains(gone, p) {
				return errors.New("no route to host")
			}
			return nil
		}
		w.mu.Unlock()
		before := 0
		for _, id := range gone {
			before += len(w.dialled(id))
		}
		for _, id := range w.connectedOf(gone) {
			w.drop(id)
		}
		elapse(10 * time.Minute)
		dials := -before
		for _, id := range gone {
			if len(w.dialled(id)) < 5 {
				t.Errorf("%d dials to one voter of three", len(w.dialled(id)))
			}
			dials += len(w.dialled(id))
		}
		// About 25 each, as with any peer that cannot be reached.
		if dials < 40 || dials > 110 {
			t.Errorf("%d dials in ten minutes to a region of three that is gone", dials)
		}
		w.mu.Lock()
		w.dial = func(peer.ID) error { return nil }
		w.mu.Unlock()
		elapse(time.Minute)
		if up := w.connectedOf(gone); len(up) != 2 {
			t.Errorf("a minute after the region is back: %d connections", len(up))
		}
	})
}

// Those whom others dialled count: two nodes need one connection, not two.
func TestKeeperCountsWhoDialledIn(t *testing.T) {
	in := make(map[peer.ID]bool)
	synctest.Test(t, func(t *testing.T) {
		fed := testfed.New(2, 3)
		self := idOf(t, fed.Nodes["a"][0])
		a := newAccessWith(t, AccessConfig{Region: "a", Raft: func() (RaftPeers, bool) { return NewRaftPeers([]peer.ID{self}, nil), true }}, fed.Document)
		w := newWire(self)
		k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), w)
		for _, id := range k.ranked("b", k.ownVoters())[1:] { // not the one that it would turn to first
			in[id], w.up[id] = true, true
		}
		k.wg.Go(k.run)
		elapse(time.Minute)
		for _, id := range a.ForeignVoters("b") {
			if n := len(w.dialled(id)); n != 0 {
				t.Errorf("%d dials, though two dialled in", n)
			}
		}
		if got := k.Foreign("b"); len(got) != 3 || !in[got[0]] || !in[got[1]] {
			t.Errorf("those connected do not come first: %v", got)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoKeepsNoForeignConnections(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  KeeperConfig
		raft func(peer.ID) []peer.ID
	}{
		"a member":               {KeeperConfig{}, func(peer.ID) []peer.ID { return nil }},
		"a voter that is not to": {KeeperConfig{ForeignPerRegion: -1}, onlyItself},
	} {
		t.Run(name, func(t *testing.T) {
			abroad(t, c.cfg, c.raft, func(t *testing.T, w *wire, voters func(string) []peer.ID) {
				elapse(time.Minute)
				for _, region := range []string{"b", "c", "d"} {
					if up := w.connectedOf(voters(region)); len(up) != 0 {
						t.Errorf("connected to %d voters of %s", len(up), region)
					}
				}
			})
		})
	}
}

// TestForeignConnectionsSpread counts which voters of a region many nodes turn to.
func TestForeignConnectionsSpread(t *testing.T) {
	fed := testfed.New(2, 5)
	a := newAccess(t, "a", fed.Document)
	first := map[peer.ID]int{}
	const nodes = 500
	for i := range nodes {
		k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), newWire(idOf(t, testfed.Key(fmt.Sprint("node-", i)))))
		first[k.Foreign("b")[0]]++
		k.cancel()
	}
	for id, n := range first {
		if n < nodes/10 || n > nodes*3/10 {
			t.Errorf("%v is the first of %d among %d nodes, a fifth would be even", id, n, nodes)
		}
	}
	if len(first) != 5 {
		t.Errorf("%d of 5 voters are anybody's first", len(first))
	}
}

func TestForeignAddressesAreLearned(t *testing.T) {
	fed := testfed.New(2, 1)
	k := newKeeper(newAccess(t, "a", fed.Document), KeeperConfig{Logger: quiet()}.withDefaults(), newWire(idOf(t, fed.Nodes["a"][0])))
	defer k.cancel()
	other := idOf(t, fed.Nodes["b"][0])
	learn := func(region string) int {
		k.Learn([]PeerRecord{{ID: []byte(other), Region: region, Addresses: []string{"/ip4/10.0.0.1/tcp/1"}}})
		return len(k.book.Addresses(other))
	}
	if n := learn("a"); n != 0 {
		t.Errorf("an address was learned of a voter of b that was told to be of a")
	}
	if n := learn("b"); n != 1 {
		t.Errorf("%d addresses were learned", n)
	}
}

func TestForeignPerRegionIsBounded(t *testing.T) {
	for n, ok := range map[int]bool{-2: false, -1: true, 0: true, foreignMax: true, foreignMax + 1: false} {
		if err := (KeeperConfig{ForeignPerRegion: n}).withDefaults().validate(); (err == nil) != ok {
			t.Errorf("ForeignPerRegion %d: %v", n, err)
		}
	}
}
