package p2p

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

func linked(a, b host.Host) bool {
	return a.Network().Connectedness(b.ID()) == network.Connected && b.Network().Connectedness(a.ID()) == network.Connected
}

func TestKeepersFindEachOtherByOneAddress(t *testing.T) {
	for name, listen := range map[string]string{"tcp": onTCP, "quic": onQUIC} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			fed := testfed.New(1, 3) // the document has no addresses
			r := &regionKit{fed: fed}
			for i, key := range fed.Nodes["a"] {
				h := newHost(t, key, listen)
				cfg := KeeperConfig{PingEvery: time.Second}
				if i > 0 {
					cfg.Bootstrap = []string{multiaddr(r.hosts[0])}
				}
				r.hosts = append(r.hosts, h)
				r.keepers = append(r.keepers, newKeeperFor(t, h, newAccess(t, "a", fed.Document), cfg))
			}
			// The second and third are told of each other by the first.
			eventually(t, "the second and third voter are connected", func() bool { return linked(r.hosts[1], r.hosts[2]) })
			whole := func(p PeerStatus) bool {
				return p.Connected && p.Role == "voter" && p.Region == "a" && p.Direction != "" && strings.HasPrefix(p.Transport, name) &&
					len(p.Addresses) > 0 && p.LatencyMillis > 0 && p.Reason == "" && p.Agent == "bizra/dev"
			}
			eventually(t, "all is known of both", func() bool {
				peers := r.keepers[1].Peers()
				return len(peers) == 2 && whole(peers[0]) && whole(peers[1])
			})
			if n := len(r.keepers[1].Peers()); n != 2 {
				t.Errorf("%d peers, want 2", n)
			}
		})
	}
}

func TestKeeperFollowsAPeerToAnotherPort(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 3)
	a, b := newHost(t, fed.Nodes["a"][0]), newHost(t, fed.Nodes["a"][1])
	c := newHost(t, fed.Nodes["a"][2])
	// Nobody learns from the mover itself: a only hears from b, and only every now and then.
	ka := newKeeperFor(t, a, newAccess(t, "a", fed.Document), KeeperConfig{Bootstrap: []string{multiaddr(b)}, ExchangeEvery: 100 * time.Millisecond})
	newKeeperFor(t, b, newAccess(t, "a", fed.Document), KeeperConfig{})
	kc, err := NewKeeper(c, newAccess(t, "a", fed.Document), KeeperConfig{Bootstrap: []string{multiaddr(b)}, TickEvery: 20 * time.Millisecond, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a and c are connected", func() bool { return linked(a, c) })
	was := c.Network().ListenAddresses()[0].String()
	if err := errors.Join(kc.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees that c is gone", func() bool { return a.Network().Connectedness(c.ID()) != network.Connected })
	eventually(t, "a says why", func() bool {
		i := slices.IndexFunc(ka.Peers(), func(p PeerStatus) bool { return p.ID == c.ID().String() })
		return i >= 0 && ka.Peers()[i].Reason != ""
	})

	// It comes back elsewhere and has no keeper of its own: it only connects to b and says where it is.
	c = newHost(t, fed.Nodes["a"][2])
	if now := c.Network().ListenAddresses()[0].String(); now == was {
		t.Fatalf("it came back on the same port %s: the test shows nothing", now)
	}
	connect(t, c, b)
	var response joinResponse
	request := joinRequest{Region: "a", Addresses: ownAddresses(c), NoDocument: true}
	if err := Call(t.Context(), c, b.ID(), ProtocolJoin, &request, &response); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a finds c again", func() bool { return linked(a, c) })
	for _, conn := range a.Network().ConnsToPeer(c.ID()) {
		if conn.Stat().Direction != network.DirOutbound {
			t.Error("c dialled a: the test does not show that a found it")
		}
	}
}

func TestKeeperRemembersAcrossRestarts(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 2+1)
	path := filepath.Join(t.TempDir(), "peers.json")
	b := newHost(t, fed.Nodes["a"][1])
	memberKey := testfed.Key("member")
	m := newHost(t, memberKey)
	text := invite(t, fed, "a", memberKey)
	newKeeperFor(t, b, newAccess(t, "a", fed.Document), KeeperConfig{})
	newKeeperFor(t, m, newAccess(t, "a", fed.Document), KeeperConfig{Bootstrap: []string{multiaddr(b)}, Invitation: text})

	a := newHost(t, fed.Nodes["a"][0])
	ka, err := NewKeeper(a, newAccess(t, "a", fed.Document), KeeperConfig{BookPath: path, Bootstrap: []string{multiaddr(b)},
		TickEvery: 20 * time.Millisecond, ExchangeEvery: 50 * time.Millisecond, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a is connected to the voter, and by it to the member", func() bool { return linked(a, b) && linked(a, m) })
	eventually(t, "the member is one to a, and remembered", func() bool {
		return ka.access.Role(m.ID()) == Member && len(ka.Book().Invitations()) == 1 && len(ka.Book().Addresses(m.ID())) > 0
	})
	known := time.Now()
	eventually(t, "the file has both, for a node that is killed", func() bool {
		onDisk := OpenBook(path, quiet())
		return len(onDisk.Addresses(b.ID())) > 0 && len(onDisk.Addresses(m.ID())) > 0
	})
	if took := time.Since(known); took > 5*time.Second {
		t.Errorf("the book was written %v after the peers were known: a region that is killed by then does not find itself again", took)
	}
	if err := errors.Join(ka.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}

	a = newHost(t, fed.Nodes["a"][0])
	access := newAccess(t, "a", fed.Document)
	newKeeperFor(t, a, access, KeeperConfig{BookPath: path})
	eventually(t, "without --join a finds both again, and knows the member for one", func() bool {
		return linked(a, b) && linked(a, m) && access.Role(m.ID()) == Member
	})
}

func TestKeeperPassesOverHearsayAboutStrangers(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(2, 1)
	a := newHost(t, fed.Nodes["a"][0])
	k := newKeeperFor(t, a, newAccess(t, "a", fed.Document), KeeperConfig{})
	where := []string{"/ip4/127.0.0.1/tcp/1"}
	node := testfed.Key("node")
	id := idOf(t, node)
	for name, r := range map[string]PeerRecord{
		"a stranger that is called a voter": {ID: []byte(id), Region: "a", Role: "voter", Addresses: where},
		"a forged invitation":               {ID: []byte(id), Region: "a", Role: "member", Addresses: where, Invitation: invite(t, fed, "b", node)},
		"another's invitation":              {ID: []byte(id), Region: "a", Role: "member", Addresses: where, Invitation: invite(t, fed, "a", testfed.Key("else"))},
		"another region's voter as our own": {ID: []byte(idOf(t, fed.Nodes["b"][0])), Region: "a", Role: "voter", Addresses: where},
		"itself":                            {ID: []byte(a.ID()), Region: "a", Role: "voter", Addresses: where},
		"no identity":                       {ID: []byte("x"), Region: "a", Role: "voter", Addresses: where},
	} {
		k.Learn([]PeerRecord{r})
		if got := k.Book().Peers(); len(got) != 0 {
			t.Errorf("%s was remembered", name)
		}
	}
	k.Learn([]PeerRecord{{ID: []byte(id), Region: "a", Role: "member", Addresses: where, Invitation: invite(t, fed, "a", node)}})
	if got := k.Book().Peers(); len(got) != 1 {
		t.Error("a member with its invitation was not remembered")
	}
}

func TestJoinAnswerIsBounded(t *testing.T) {
	fed := testfed.New(1, 3)
	h := newHost(t, fed.Nodes["a"][0])
	access := newAccess(t, "a", fed.Document)
	book := OpenBook("", quiet())
	j := &joinServer{host: h, access: access, book: book, learned: func(peer.ID) {}}
	for i := range 2 * JoinPeersMax {
		key := testfed.Key(fmt.Sprint("member-", i))
		id := idOf(t, key)
		if _, err := access.Admit(id, invite(t, fed, "a", key)); err != nil {
			t.Fatal(err)
		}
		var addrs []ma.Multiaddr
		for n := range AddressesMax {
			addrs = append(addrs, ma.StringCast(fmt.Sprintf("/dns4/n%d.%s/tcp/%d", i, strings.Repeat("x", 200), n+1)))
		}
		book.Told(id, addrs)
	}
	caller, member := idOf(t, fed.Nodes["a"][1]), idOf(t, testfed.Key("member-0"))
	response, err := j.handle(t.Context(), caller, &joinRequest{Region: "a"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(response.Peers); n > JoinPeersMax || n < 100 {
		t.Errorf("%d peers told", n)
	}
	if len(b) > JoinPeersBytesMax+len(response.Document)+1024 || len(b) > JoinResponseBytesMax {
		t.Errorf("answer of %d bytes, document of %d", len(b), len(response.Document))
	}
	if peer.ID(response.Peers[0].ID) != h.ID() || slices.ContainsFunc(response.Peers, func(r PeerRecord) bool { return peer.ID(r.ID) == caller }) {
		t.Error("the answerer must come first, the caller not at all")
	}
	response, err = j.handle(t.Context(), member, &joinRequest{Region: "a"})
	if err != nil || len(response.Peers) > 3+membersTold || len(response.Peers) < membersTold {
		t.Errorf("a member was told of %d peers (%v), want its region's voters and %d others", len(response.Peers), err, membersTold)
	}
	if _, err := (&joinServer{host: h, access: newAccess(t, "a", nil), book: book}).handle(t.Context(), caller, &joinRequest{Region: "a"}); err == nil {
		t.Error("answered without a document")
	}
}

func TestKeeperConfigRefused(t *testing.T) {
	fed := testfed.New(1, 1)
	h := newHost(t, fed.Nodes["a"][0])
	for name, cfg := range map[string]KeeperConfig{
		"malformed bootstrap": {Bootstrap: []string{"localhost:1"}}, "negative time": {PingEvery: -1},
		"long invitation": {Invitation: make([]byte, InvitationBytesMax+1)},
	} {
		cfg.Logger = quiet()
		if k, err := NewKeeper(h, newAccess(t, "a", fed.Document), cfg); err == nil {
			_ = k.Close()
			t.Errorf("%s was taken", name)
		}
	}
}

// wire is a network in virtual time.
type wire struct {
	mu    sync.Mutex
	who   peer.ID
	up    map[peer.ID]bool // connected
	dial  func(p peer.ID) error
	talk  func(p peer.ID) (*joinResponse, error)
	pong  func(ctx context.Context, p peer.ID) error
	dials map[peer.ID][]time.Duration // when, since the start
	drops int
	asks  int
	began time.Time
	lost  func(peer.ID)
}

func newWire(self peer.ID) *wire {
	return &wire{who: self, up: map[peer.ID]bool{}, dials: map[peer.ID][]time.Duration{}, began: time.Now(),
		dial: func(peer.ID) error { return nil }, talk: func(peer.ID) (*joinResponse, error) { return &joinResponse{}, nil },
		pong: func(context.Context, peer.ID) error { return nil }}
}

func (w *wire) self() peer.ID                    { return w.who }
func (w *wire) addresses() []string              { return nil }
func (w *wire) protect(peer.ID, bool)            {}
func (w *wire) reachedAt(peer.ID) []ma.Multiaddr { return nil }

func (w *wire) ping(ctx context.Context, p peer.ID) error {
	w.mu.Lock()
	pong := w.pong
	w.mu.Unlock()
	return pong(ctx, p)
}

func (w *wire) connected(p peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up[p]
}

func (w *wire) connect(_ context.Context, target peer.AddrInfo) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials[target.ID] = append(w.dials[target.ID], time.Since(w.began))
	err := w.dial(target.ID)
	w.up[target.ID] = err == nil
	return err
}

func (w *wire) exchange(_ context.Context, p peer.ID, _ *joinRequest) (*joinResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks++
	return w.talk(p)
}

func (w *wire) drop(p peer.ID) {
	w.mu.Lock()
	w.up[p] = false
	w.drops++
	w.mu.Unlock()
	w.lost(p)
}

func (w *wire) dialled(p peer.ID) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dials[p])
}

// virtual runs a keeper of the first voter of a region of two (and one more) on a wire,
// which the preparation, if any, gives its faults before the keeper starts.
func virtual(t *testing.T, prepare func(w *wire, k *Keeper), test func(t *testing.T, k *Keeper, w *wire, other peer.ID)) {
	synctest.Test(t, func(t *testing.T) {
		fed := testfed.New(1, 3)
		self, other, third := idOf(t, fed.Nodes["a"][0]), idOf(t, fed.Nodes["a"][1]), idOf(t, fed.Nodes["a"][2])
		a := newAccessWith(t, AccessConfig{Region: "a", Raft: func() (RaftPeers, bool) {
			return NewRaftPeers([]peer.ID{self, other}, nil), true
		}}, fed.Document)
		w := newWire(self)
		cfg := KeeperConfig{Logger: quiet()}.withDefaults()
		if err := cfg.validate(); err != nil {
			t.Fatal(err)
		}
		k := newKeeper(a, cfg, w)
		w.lost = k.lost
		_ = third // a member without an address: not dialled
		if prepare != nil {
			prepare(w, k)
		}
		k.wg.Go(k.run)
		test(t, k, w, other)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		if n := len(w.dialled(third)) + len(w.dialled(self)); n != 0 {
			t.Errorf("%d dials to itself or to a member without address", n)
		}
	})
}

func TestKeeperBacksOffInVirtualTime(t *testing.T) {
	refuse := func(w *wire, _ *Keeper) { w.dial = func(peer.ID) error { return errors.New("connection refused") } }
	virtual(t, refuse, func(t *testing.T, k *Keeper, w *wire, other peer.ID) {
		elapse(10 * time.Minute)
		synctest.Wait() // for a dial at this very moment
		dials := w.dialled(other)
		// 0.5+1+2+4+8+16 s, then every 30 s: about 25 dials in ten minutes.
		if n := len(dials); n < 18 || n > 34 {
			t.Errorf("%d dials in ten minutes: %v", n, dials)
		}
		last := dials[len(dials)-1] - dials[len(dials)-2]
		if last < 22*time.Second || last > 38*time.Second+outlookFor {
			t.Errorf("the last pause is %v, want 30 s give or take a quarter, and until the keeper looks", last)
		}
		// News of it are tried at once.
		k.Learn([]PeerRecord{{ID: []byte(other), Region: "a", Addresses: []string{"/ip4/10.0.0.1/tcp/1"}}})
		synctest.Wait()
		if n := len(w.dialled(other)); n != len(dials)+1 {
			t.Errorf("%d dials after news, want %d", n, len(dials)+1)
		}
	})
}

func TestKeeperDialsALostPeerAtOnce(t *testing.T) {
	virtual(t, nil, func(t *testing.T, k *Keeper, w *wire, other peer.ID) {
		elapse(time.Minute)
		if n := len(w.dialled(other)); n != 1 {
			t.Fatalf("%d dials to a peer that stays", n)
		}
		w.drop(other)
		synctest.Wait()
		if n := len(w.dialled(other)); n != 2 || !w.connected(other) {
			t.Errorf("%d dials after the loss, connected %v", n, w.connected(other))
		}
		elapse(5 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.asks < 5 || w.asks > 8 {
			t.Errorf("%d exchanges in six minutes, want a greeting each time, and others further and further apart, since they bring nothing", w.asks)
		}
	})
}

func TestKeeperDoesNotHammerAPeerThatHangsUp(t *testing.T) {
	hangUp := func(w *wire, k *Keeper) {
		w.talk = func(p peer.ID) (*joinResponse, error) {
			w.up[p] = false
			go k.lost(p)
			return nil, errors.New("stream reset")
		}
	}
	virtual(t, hangUp, func(t *testing.T, _ *Keeper, w *wire, other peer.ID) {
		elapse(10 * time.Minute)
		if n := len(w.dialled(other)); n < 10 || n > 40 {
			t.Errorf("%d dials in ten minutes to a peer that hangs up", n)
		}
	})
}

func TestKeeperDropsADeadConnection(t *testing.T) {
	virtual(t, nil, func(t *testing.T, k *Keeper, w *wire, other peer.ID) {
		elapse(time.Minute)
		w.mu.Lock()
		dead := true
		w.pong = func(ctx context.Context, _ peer.ID) error {
			w.mu.Lock()
			silent := dead
			w.mu.Unlock()
			if !silent {
				return errors.New("protocols not supported") // an answer too
			}
			<-ctx.Done()
			return ctx.Err()
		}
		w.mu.Unlock()
		elapse(80 * time.Second)
		w.mu.Lock()
		drops := w.drops
		dead = false
		w.mu.Unlock()
		if drops < 1 {
			t.Error("a connection that answers no pings was kept")
		}
		elapse(2 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.drops > drops+1 || !w.up[other] {
			t.Errorf("%d drops after it lives again, connected %v", w.drops-drops, w.up[other])
		}
	})
}

func TestKeeperTargets(t *testing.T) {
	fed := testfed.New(1, 5)
	var members []peer.ID
	for i := range 20 {
		members = append(members, idOf(t, testfed.Key(fmt.Sprint("member-", i))))
	}
	slices.Sort(members)
	a := newAccess(t, "a", fed.Document)
	for i := range members {
		key := testfed.Key(fmt.Sprint("member-", i))
		if _, err := a.Admit(idOf(t, key), invite(t, fed, "a", key)); err != nil {
			t.Fatal(err)
		}
	}
	at, _ := slices.BinarySearch(members, members[7])
	for name, c := range map[string]struct {
		self   peer.ID
		voters int
	}{"a voter": {idOf(t, fed.Nodes["a"][0]), 4}, "a member": {members[at], votersKept}} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), newWire(c.self))
			defer k.cancel()
			for i, id := range members {
				k.book.Told(id, []ma.Multiaddr{addr(i)})
			}
			voters, kept := 0, []peer.ID{}
			for id, wanted := range k.wanted(time.Now()) {
				switch {
				case !wanted:
				case a.Role(id) == Voter:
					voters++
				default:
					kept = append(kept, id)
				}
			}
			if voters != c.voters || len(kept) != membersKept || slices.Contains(kept, c.self) {
				t.Errorf("%d voters and %d members are wanted, want %d and %d", voters, len(kept), c.voters, membersKept)
			}
			if follows := members[(at+1)%len(members)]; name == "a member" && !slices.Contains(kept, follows) {
				t.Errorf("the member that follows in the order of IDs is not wanted")
			}
		})
	}
	if err := a.SetDocument(testfed.New(1, 5, func(d *federation.Document) {
		d.Regions[0].Voters[1].Addresses = []string{"/ip4/10.9.9.9/tcp/1"}
	}).Document); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), newWire(members[0]))
	defer k.cancel()
	if got := fmt.Sprint(k.addresses(idOf(t, fed.Nodes["a"][1]))); got != "[/ip4/10.9.9.9/tcp/1]" {
		t.Errorf("addresses by the document: %s", got)
	}
}

// TestAMemberIsNotToldWhatItWouldForget holds that what a crowded member passes over unseen is
// exactly what it would forget, whoever it is.
func TestAMemberIsNotToldWhatItWouldForget(t *testing.T) {
	const crowd = 100
	fed := testfed.New(1, 3)
	ids := map[peer.ID][]byte{}
	for i := range crowd {
		key := testfed.Key(fmt.Sprint("member-", i))
		ids[idOf(t, key)] = invite(t, fed, "a", key)
	}
	for self := range ids {
		a := newAccess(t, "a", fed.Document)
		k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), newWire(self))
		tell := func() {
			var records []PeerRecord
			for id, invitation := range ids {
				records = append(records, PeerRecord{ID: []byte(id), Region: "a", Role: "member", Addresses: []string{"/ip4/10.0.0.1/tcp/1"}, Invitation: invitation})
			}
			k.Learn(records)
		}
		tell()
		k.wanted(time.Now())
		kept := k.book.Peers()
		if len(kept) != membersRemembered {
			t.Fatalf("%d members are remembered, want %d", len(kept), membersRemembered)
		}
		for id := range ids {
			if spared := k.spares(id); id != self && spared == slices.Contains(kept, id) {
				t.Errorf("a member that is remembered, or is not, is passed over: %v", spared)
			}
		}
		before := a.admissions
		tell()
		if now := k.book.Peers(); !slices.Equal(now, kept) || a.admissions != before {
			t.Errorf("told again of all, it remembers %d and has changed its mind %d times", len(now), a.admissions-before)
		}
		k.cancel()
	}
}

// TestConnectionsAbroadAreMatched holds that what a voter wants of another region wants it too.
func TestConnectionsAbroadAreMatched(t *testing.T) {
	const regions, voters = 4, 5
	fed := testfed.New(regions, voters)
	want := map[[2]peer.ID]bool{}
	for _, r := range fed.Document.Regions {
		a := newAccess(t, r.Name, fed.Document)
		for _, key := range fed.Nodes[r.Name] {
			self := idOf(t, key)
			k := newKeeper(a, KeeperConfig{Logger: quiet()}.withDefaults(), newWire(self))
			for id, wanted := range k.wanted(time.Now()) {
				if wanted && a.Role(id) == Foreign {
					want[[2]peer.ID{self, id}] = true
				}
			}
			k.cancel()
		}
	}
	if len(want) != regions*voters*(regions-1)*foreignPerRegion {
		t.Errorf("%d connections are wanted, want %d", len(want), regions*voters*(regions-1)*foreignPerRegion)
	}
	for pair := range want {
		if !want[[2]peer.ID{pair[1], pair[0]}] {
			t.Errorf("%v wants %v, and not the other way", pair[0], pair[1])
		}
	}
}
