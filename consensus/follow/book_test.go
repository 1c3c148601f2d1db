package follow

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestBookWaitsLongerEachTimeAndNotForEver(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := newBook(200*time.Millisecond, 10*time.Second, 5*time.Minute)
	down := &fault{reason: leftNetwork, err: errors.New("down")}
	peers := []peer.ID{"p"}
	for i, millis := range []int{200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000} {
		most := time.Duration(millis) * time.Millisecond
		if repeated := b.left("p", down, now); repeated != (i > 0) {
			t.Fatalf("failure %d: repeated is %v", i, repeated)
		}
		wait := b.known["p"].notBefore.Sub(now)
		if wait < most/2 || wait > most {
			t.Fatalf("failure %d: wait %v, want %v to %v", i, wait, most/2, most)
		}
		if _, w := b.choose(peers, now); w <= 0 || w > min(wait, nobodyWait) {
			t.Fatalf("failure %d: choose waits %v", i, w)
		}
		now = now.Add(wait)
		if p, w := b.choose(peers, now); p != "p" || w != 0 {
			t.Fatalf("failure %d: after the wait choose gives %q and %v", i, p, w)
		}
	}
	for range 100 {
		b.left("p", down, now) // the shift must not overflow
	}
	if wait := b.known["p"].notBefore.Sub(now); wait < 5*time.Second || wait > 10*time.Second {
		t.Fatalf("after 100 failures the wait is %v", wait)
	}
	b.served("p", false)
	b.left("p", down, now)
	if wait := b.known["p"].notBefore.Sub(now); wait > 200*time.Millisecond {
		t.Fatalf("after it served, the wait is %v", wait)
	}
}

func TestBookTakesTheNearestThatMayBeAsked(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := newBook(time.Second, time.Second, time.Minute)
	peers := []peer.ID{"near", "far", "farther"}
	down := &fault{reason: leftNetwork, err: errors.New("down")}
	b.left("near", &fault{reason: leftOrder, err: errors.New("lie")}, now)
	b.left("far", down, now)
	if p, _ := b.choose(peers, now); p != "farther" {
		t.Fatalf("chose %q", p)
	}
	if p, _ := b.choose(peers, now.Add(time.Second)); p != "far" {
		t.Fatalf("chose %q", p)
	}
	if p, _ := b.choose(peers, now.Add(time.Minute)); p != "near" {
		t.Fatalf("chose %q", p)
	}
	if p, wait := b.choose(nil, now); p != "" || wait != nobodyWait || len(b.known) != 0 {
		t.Fatalf("with nobody to ask: %q, %v, %d remembered", p, wait, len(b.known))
	}
}

func TestClaimsCountByPeerAndOnlyWhereTheReplicaStands(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := newBook(time.Second, time.Second, time.Minute)
	peers := []peer.ID{"a", "b", "c"}
	x, y := newClaim("entry 5", []byte("x")), newClaim("entry 5", []byte("y"))
	says := func(p peer.ID, c *claim) { b.left(p, &fault{reason: leftEntry, err: errors.New("no"), claim: c}, now) }
	says("a", x)
	says("a", x)
	says("b", y)
	if n := b.claimants(*x, peers); n != 1 {
		t.Fatalf("one peer, twice, counts %d", n)
	}
	says("b", x)
	b.left("b", &fault{reason: leftNetwork, err: errors.New("down")}, now)
	if n := b.claimants(*x, peers); n != 2 {
		t.Fatalf("two peers, one of them down by now, count %d", n)
	}
	if n := b.claimants(*x, peers[1:]); n != 1 {
		t.Fatalf("a peer that is none of the candidates counts: %d", n)
	}
	b.served("b", false)
	if n := b.claimants(*x, peers); n != 1 {
		t.Fatalf("a peer that serves us well now still counts: %d", n)
	}
	b.served("c", true)
	if n := b.claimants(*x, peers); n != 0 {
		t.Fatalf("after the replica moved, %d claims are left", n)
	}
	if *newClaim("entry 5", []byte("x")) != *x || *newClaim("entry 6", []byte("x")) == *x || *newClaim("seal 5", []byte("x")) == *x {
		t.Fatal("claims are not told apart")
	}
}
