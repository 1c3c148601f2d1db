package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
)

// region starts the voters of a region, each with a keeper, and connects none.
type regionKit struct {
	fed      *testfed.Federation
	hosts    []host.Host
	accesses []*Access
	keepers  []*Keeper
}

func newRegion(t *testing.T, name string, fed *testfed.Federation, listen string) *regionKit {
	t.Helper()
	r := &regionKit{fed: fed}
	for _, key := range fed.Nodes[name] {
		h := newHost(t, key, listen)
		a := newAccess(t, name, fed.Document)
		r.hosts, r.accesses = append(r.hosts, h), append(r.accesses, a)
		r.keepers = append(r.keepers, newKeeperFor(t, h, a, KeeperConfig{}))
	}
	return r
}

func newKeeperFor(t *testing.T, h host.Host, a *Access, cfg KeeperConfig) *Keeper {
	t.Helper()
	cfg.TickEvery, cfg.RedialBase, cfg.Logger = 20*time.Millisecond, 20*time.Millisecond, quiet()
	if cfg.RedialMax == 0 {
		cfg.RedialMax = 200 * time.Millisecond
	}
	k, err := NewKeeper(h, a, cfg)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, k)
	return k
}

// deadAddress is one where nobody listens, with a proper identity.
func deadAddress(t *testing.T) string {
	t.Helper()
	h := newHost(t, testfed.Key("dead"))
	address := multiaddr(h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// silentAddress is one where somebody accepts and never says a word.
func silentAddress(t *testing.T, accepted *atomic.Int32) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range held {
					_ = c.Close()
				}
				return
			}
			accepted.Add(1)
			held = append(held, c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	port := l.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", port, idOf(t, testfed.Key("silent")))
}

func TestJoinWithTheFirstPeersDown(t *testing.T) {
	for name, listen := range map[string]string{"tcp": onTCP, "quic": onQUIC} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			fed := testfed.New(2, 3)
			r := newRegion(t, "a", fed, listen)
			r.keepers[0].Learn([]PeerRecord{{ID: []byte(r.hosts[1].ID()), Region: "a", Addresses: ownAddresses(r.hosts[1])}})
			var silent atomic.Int32
			member := newHostWith(t, Config{Key: testfed.Key("member"), Listen: []string{onTCP, onQUIC}})
			pin := fed.Document.Digest()
			began := time.Now()
			joined, err := Join(t.Context(), member, JoinConfig{
				Addresses: []string{deadAddress(t), silentAddress(t, &silent), multiaddr(r.hosts[0])},
				Region:    "a", Pin: &pin, Invitation: invite(t, fed, "a", testfed.Key("member")), Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			if silent.Load() == 0 {
				t.Error("the silent peer was never tried: the test shows nothing")
			}
			if d := time.Since(began); d > 4*time.Second {
				t.Errorf("took %v: one silent peer held up the others", d)
			}
			if joined.From != r.hosts[0].ID() || joined.Document.Digest() != pin || joined.Role != "member" {
				t.Errorf("from %v, role %q", joined.From, joined.Role)
			}
			known := map[peer.ID]PeerRecord{}
			for _, p := range joined.Peers {
				known[peer.ID(p.ID)] = p
			}
			for i := range 2 {
				if p := known[r.hosts[i].ID()]; p.Role != "voter" || len(p.Addresses) == 0 {
					t.Errorf("voter %d was told as %+v", i+1, p)
				}
			}
			if got := r.keepers[0].Book().Addresses(member.ID()); len(got) == 0 {
				t.Error("the joiner's addresses were not remembered")
			}
		})
	}
}

func TestJoinSurvivesUntilAPeerComesUp(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 1)
	key := fed.Nodes["a"][0]
	first := newHost(t, key)
	address := multiaddr(first)
	listen := first.Network().ListenAddresses()[0].String()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	member := newHost(t, testfed.Key("member"))
	type result struct {
		joined *Joined
		err    error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		joined, err := Join(ctx, member, JoinConfig{Addresses: []string{address}, Region: "a", RetryBase: 50 * time.Millisecond, RetryMax: 100 * time.Millisecond, Logger: quiet()})
		done <- result{joined, err}
	}()
	stays(t, "joining goes on while the peer is down", 400*time.Millisecond, func() bool { return len(done) == 0 })
	up := newHost(t, key, listen)
	newKeeperFor(t, up, newAccess(t, "a", fed.Document), KeeperConfig{})
	if r := <-done; r.err != nil || r.joined.Role != "stranger" || len(r.joined.Peers) != 0 {
		t.Errorf("%+v, %v: a stranger must get the document and no peers", r.joined, r.err)
	}
}

func TestJoinGivesUpWithItsContext(t *testing.T) {
	noLeaks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Join(ctx, newHost(t, testfed.Key("member")), JoinConfig{Addresses: []string{deadAddress(t)}, Region: "a", Logger: quiet()})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "after 1 rounds") {
		t.Errorf("%v", err)
	}
}

func TestJoinRefused(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(2, 1)
	other := testfed.New(1, 1, func(d *federation.Document) { d.Name = "other" })
	r := newRegion(t, "a", fed, onTCP)
	memberKey := testfed.Key("member")
	member := newHost(t, memberKey)
	wrong := [32]byte{1}
	expired := invite(t, fed, "a", memberKey, func(inv *Invitation) { inv.ExpiresMillis = 1 })
	byOther, err := SignInvitation(Invitation{Federation: "test", Region: "a", Node: memberKey.Public(), ExpiresMillis: time.Now().Add(time.Hour).UnixMilli()}, fed.Operators["b"])
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		cfg  JoinConfig
		is   error
		says string
	}{
		"another document than pinned":        {JoinConfig{Region: "a", Pin: &wrong}, ErrPin, "wanted 01"},
		"a region that the document lacks":    {JoinConfig{Region: "z"}, ErrDocument, `no region "z"`},
		"an expired invitation":               {JoinConfig{Region: "a", Invitation: expired}, nil, "ended at"},
		"an invitation by another region":     {JoinConfig{Region: "a", Invitation: byOther.Canonical()}, nil, "not an operator"},
		"an invitation of another federation": {JoinConfig{Region: "a", Invitation: invite(t, other, "a", memberKey)}, nil, "federation"},
		"an invitation of another node":       {JoinConfig{Region: "a", Invitation: invite(t, fed, "a", testfed.Key("else"))}, nil, "names node"},
		"garbage for an invitation":           {JoinConfig{Region: "a", Invitation: []byte("{")}, nil, "invitation"},
	}
	for name, c := range cases {
		c.cfg.Addresses, c.cfg.Logger = []string{multiaddr(r.hosts[0])}, quiet()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := Join(ctx, member, c.cfg)
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an end at once that says %q", name, err, c.says)
		}
		if r.accesses[0].Role(member.ID()) != Stranger {
			t.Errorf("%s: it was admitted", name)
		}
	}
}

func TestJoinByAPeerOfAnotherRegion(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(2, 1)
	r := newRegion(t, "b", fed, onTCP)
	// Invited by a, asking b: gets the document, and no more than a stranger.
	joined, err := Join(t.Context(), newHost(t, testfed.Key("member")), JoinConfig{Addresses: []string{multiaddr(r.hosts[0])}, Region: "a",
		Invitation: invite(t, fed, "a", testfed.Key("member")), Logger: quiet()})
	if err != nil || joined.Role != "stranger" || len(joined.Peers) != 0 {
		t.Errorf("%+v, %v", joined, err)
	}
	// A listed voter of a asking b learns b's voters.
	joined, err = Join(t.Context(), newHost(t, fed.Nodes["a"][0]), JoinConfig{Addresses: []string{multiaddr(r.hosts[0])}, Region: "a", Logger: quiet()})
	if err != nil || joined.Role != "foreign" || len(joined.Peers) != 1 || peer.ID(joined.Peers[0].ID) != r.hosts[0].ID() {
		t.Errorf("%+v, %v", joined, err)
	}
}

// One address is enough for a whole federation: the node at it tells voters of the same region
// and of different ones of each other.
func TestRegionsFindEachOtherByOneAddress(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(3, 3)
	regions := map[string][]host.Host{}
	var known string
	for _, name := range []string{"a", "b", "c"} {
		for _, key := range fed.Nodes[name] {
			h := newHost(t, key, onTCP)
			cfg := KeeperConfig{}
			if known == "" {
				known = multiaddr(h)
			} else {
				cfg.Bootstrap = []string{known}
			}
			newKeeperFor(t, h, newAccess(t, name, fed.Document), cfg)
			regions[name] = append(regions[name], h)
		}
	}
	connected := func(from host.Host, region string) (n int) {
		for _, to := range regions[region] {
			if from.Network().Connectedness(to.ID()) == network.Connected {
				n++
			}
		}
		return n
	}
	for i, h := range regions["b"] {
		eventually(t, fmt.Sprintf("voter %d of b is connected to the others of b", i), func() bool { return connected(h, "b") == 2 })
		eventually(t, fmt.Sprintf("voter %d of b is connected to two of c", i), func() bool { return connected(h, "c") >= foreignPerRegion })
	}
}

func TestJoinAddressesAreChecked(t *testing.T) {
	h := newHost(t, testfed.Key("member"))
	for name, c := range map[string]struct {
		addresses []string
		says      string
	}{
		"none":        {nil, "/p2p/12D3KooW"},
		"malformed":   {[]string{multiaddr(h), "node.example.org:4001"}, "/p2p/12D3KooW"},
		"only itself": {[]string{multiaddr(h)}, "own"},
	} {
		if _, err := Join(t.Context(), h, JoinConfig{Addresses: c.addresses, Region: "a", Logger: quiet()}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if _, err := Join(t.Context(), h, JoinConfig{Addresses: []string{deadAddress(t)}, Logger: quiet()}); err == nil {
		t.Error("no region was taken")
	}
	if _, err := Join(t.Context(), h, JoinConfig{Addresses: []string{deadAddress(t)}, Region: "a", Stagger: -1, Logger: quiet()}); err == nil {
		t.Error("a negative time was taken")
	}
}

func fakeTargets(n int) []peer.AddrInfo {
	targets := make([]peer.AddrInfo, n)
	for i := range targets {
		targets[i].ID = peer.ID(fmt.Sprint("peer-", i))
	}
	return targets
}

func TestJoinRoundsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []time.Duration
		cfg := JoinConfig{Region: "a", Logger: quiet()}.withDefaults()
		ask := func(context.Context, peer.AddrInfo) (*Joined, error) {
			asked = append(asked, time.Since(began))
			if len(asked) == 8 {
				return &Joined{Role: "voter"}, nil
			}
			return nil, errors.New("connection refused")
		}
		if _, err := join(t.Context(), cfg, fakeTargets(1), ask); err != nil {
			t.Fatal(err)
		}
		want := 500 * time.Millisecond
		for i := 1; i < len(asked); i++ {
			pause := asked[i] - asked[i-1]
			if pause < want*3/4 || pause > want*5/4 {
				t.Errorf("pause %d is %v, want %v give or take a quarter", i, pause, want)
			}
			want = min(2*want, 15*time.Second)
		}
	})
}

func TestJoinStaggersInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		cfg := JoinConfig{Region: "a", Logger: quiet()}.withDefaults()
		started := make(chan string, 10)
		ended := make(chan string, 10)
		ask := func(ctx context.Context, target peer.AddrInfo) (*Joined, error) {
			started <- fmt.Sprint(string(target.ID), " ", time.Since(began))
			defer func() { ended <- string(target.ID) }()
			if target.ID == "peer-3" {
				return &Joined{From: target.ID}, nil
			}
			<-ctx.Done() // silent
			return nil, ctx.Err()
		}
		joined, err := join(t.Context(), cfg, fakeTargets(6), ask)
		if err != nil || joined.From != "peer-3" {
			t.Fatalf("%+v, %v", joined, err)
		}
		close(started)
		var got []string
		for s := range started {
			got = append(got, s)
		}
		if fmt.Sprint(got) != "[peer-0 0s peer-1 500ms peer-2 1s peer-3 1.5s]" {
			t.Errorf("started %v", got)
		}
		if len(ended) != 4 {
			t.Errorf("%d of 4 attempts ended before join returned", len(ended))
		}
	})
}

func TestJoinHopelessOnlyIfEveryAnswerIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := JoinConfig{Region: "a", Logger: quiet()}.withDefaults()
		final := fmt.Errorf("call: %w", &Fault{Code: FaultInvitation, Detail: "no"})
		var asked atomic.Int32
		_, err := join(t.Context(), cfg, fakeTargets(2), func(context.Context, peer.AddrInfo) (*Joined, error) {
			asked.Add(1)
			return nil, final
		})
		if err == nil || asked.Load() != 2 {
			t.Errorf("%v after %d attempts, want an end after 2", err, asked.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		asked.Store(0)
		_, err = join(ctx, cfg, fakeTargets(2), func(_ context.Context, target peer.AddrInfo) (*Joined, error) {
			asked.Add(1)
			if target.ID == "peer-0" {
				return nil, final
			}
			return nil, errors.New("connection refused") // may come up and have another document
		})
		if !errors.Is(err, context.DeadlineExceeded) || asked.Load() < 8 {
			t.Errorf("%v after %d attempts, want to go on for the minute", err, asked.Load())
		}
	})
}

func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := backoff{time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "base")), time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "max"))}
		n := rapid.IntRange(1, 1000).Draw(t, "failures")
		want := b.base
		for range n - 1 {
			if want < b.max {
				want *= 2
			}
		}
		want = min(want, b.max)
		if got := b.wait(n); got < want*3/4 || got > want*5/4+1 {
			t.Fatalf("wait %v after %d failures, want %v give or take a quarter", got, n, want)
		}
	})
}
