package follow

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// peersMax is how many candidates are looked at.
const peersMax = 1024

// nobodyWait is how soon to ask again whom there is to follow.
const nobodyWait = time.Second

// Reasons for leaving a peer.
const (
	leftNetwork   = "network"   // could not be reached, or the stream broke
	leftSilent    = "silent"    // no frame for too long
	leftBehind    = "behind"    // it has less than the replica
	leftStale     = "stale"     // it has not heard from its region for too long
	leftRefused   = "refused"   // it does not serve this node, or not this region
	leftMalformed = "malformed" // what it sent is not of the protocol
	leftOrder     = "order"     // what it sent was not due
	leftEntry     = "entry"     // the replica refuses an entry or a seal that it sent
	leftFork      = "fork"      // its ledger is not one that leads on from the replica's
	leftEarly     = "early"     // its next entry is too far ahead of this node's clock
)

// fault is why a peer was left.
type fault struct {
	reason string
	err    error
	claim  *claim // what it sent that the replica refuses
	code   string // of [Refused]
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// lie says whether no honest peer does that.
func (f *fault) lie() bool {
	return f.reason == leftMalformed || f.reason == leftOrder || f.reason == leftEntry || f.reason == leftFork
}

// claim is the digest of something that the replica refuses where it stands.
type claim [sha256.Size]byte

func newClaim(kind string, data []byte) *claim {
	h := sha256.New()
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write(data)
	c := claim(h.Sum(nil))
	return &c
}

// candidate is what is remembered of a peer.
type candidate struct {
	failures  int // in a row
	notBefore time.Time
	claim     *claim // at the replica's present standing
}

// book remembers the peers that failed or lied, as long as they are candidates.
type book struct {
	retryMin, retryMax, asideFor time.Duration
	known                        map[peer.ID]*candidate
}

func newBook(retryMin, retryMax, asideFor time.Duration) *book {
	return &book{retryMin: retryMin, retryMax: retryMax, asideFor: asideFor, known: make(map[peer.ID]*candidate)}
}

// choose gives the first peer that may be asked now, or says how long to wait.
func (b *book) choose(peers []peer.ID, now time.Time) (p peer.ID, wait time.Duration) {
	b.keep(peers)
	for _, p := range peers {
		c := b.known[p]
		if c == nil || !now.Before(c.notBefore) {
			return p, 0
		}
		if until := c.notBefore.Sub(now); wait == 0 || until < wait {
			wait = until
		}
	}
	// Somebody new may turn up meanwhile.
	if wait == 0 || wait > nobodyWait {
		wait = nobodyWait
	}
	return "", wait
}

// keep forgets who is no candidate any more.
func (b *book) keep(peers []peer.ID) {
	wanted := make(map[peer.ID]struct{}, len(peers))
	for _, p := range peers {
		wanted[p] = struct{}{}
	}
	for p := range b.known {
		if _, ok := wanted[p]; !ok {
			delete(b.known, p)
		}
	}
}

// left notes why a peer was left, and says whether it failed before without success between.
func (b *book) left(p peer.ID, why *fault, now time.Time) (repeated bool) {
	c := b.known[p]
	if c == nil {
		c = &candidate{}
		b.known[p] = c
	}
	var e *early
	if errors.As(why.err, &e) { // no fault of the peer
		c.notBefore = now.Add(min(max(e.until.Sub(now), b.retryMin), earlyMax))
		return false
	}
	c.failures++
	if why.claim != nil {
		c.claim = why.claim
	}
	wait := b.asideFor
	if !why.lie() {
		wait = min(b.retryMax, b.retryMin<<min(c.failures-1, 16))
	}
	// Half of it by chance, so that followers who lost the same peer do not come back together.
	wait = wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load; nothing secret
	c.notBefore = now.Add(wait)
	return c.failures > 1
}

// failing says whether the peer failed since it last served.
func (b *book) failing(p peer.ID) bool { return b.known[p] != nil && b.known[p].failures > 0 }

// served notes that a peer brought the replica forward or kept it company: what it and
// others claimed before is of no account any more if the replica moved.
func (b *book) served(p peer.ID, advanced bool) {
	if c := b.known[p]; c != nil {
		c.failures, c.claim = 0, nil
	}
	if advanced {
		for _, c := range b.known {
			c.claim = nil
		}
	}
}

// claimants counts the peers that made a claim.
func (b *book) claimants(what claim, peers []peer.ID) int {
	n := 0
	for _, p := range peers {
		if c := b.known[p]; c != nil && c.claim != nil && *c.claim == what {
			n++
		}
	}
	return n
}
