package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

func nonceOf(n uint64) *[32]byte {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	return &h
}

// What was added and is not forgotten is never called unknown, and nearly all else is.
func TestRecent(t *testing.T) {
	const nonces, window = 400_000, 150_000
	r := newRecent(0)
	for seq := range uint64(nonces) {
		forgotten := uint64(0)
		if seq > window {
			forgotten = seq - window
		}
		r.add(nonceOf(seq), seq, forgotten)
		if seq%997 != 0 {
			continue
		}
		for back := uint64(0); back < window && back <= seq; back += 9_973 {
			if r.unknown(nonceOf(seq-back), forgotten) {
				t.Fatalf("nonce %d is called unknown after nonce %d", seq-back, seq)
			}
		}
	}
	if r.since == 0 || len(r.generations) > recentGenerations {
		t.Errorf("%d generations since nonce %d: nothing was dropped", len(r.generations), r.since)
	}
	wrong := 0
	for n := range uint64(100_000) {
		if !r.unknown(nonceOf(nonces+n), nonces-window) {
			wrong++
		}
	}
	if wrong > 1000 {
		t.Errorf("%d of 100,000 new nonces must be looked up", wrong)
	}
}

// What it has not seen come, it does not judge: nonces of before the machine was opened, and those of generations that it had
// to drop.
func TestRecentKnowsWhatItDoesNotKnow(t *testing.T) {
	r := newRecent(10)
	r.add(nonceOf(10), 10, 5)
	if r.unknown(nonceOf(3), 5) {
		t.Error("a nonce from before the start is called unknown")
	}
	if !r.unknown(nonceOf(3), 10) {
		t.Error("a nonce is not called unknown although all before the start are forgotten")
	}
	r = newRecent(0)
	for len(r.generations) < recentGenerations || r.since == 0 {
		seq := r.since
		if last := len(r.generations) - 1; last >= 0 { // as if it were full
			g := r.generations[last]
			g.next = g.first + g.capacity
			seq = g.next
		}
		r.add(nonceOf(seq), seq, 0)
		if len(r.generations) > recentGenerations {
			t.Fatalf("%d generations", len(r.generations))
		}
	}
	if r.unknown(nonceOf(0), 0) {
		t.Error("a nonce of a dropped generation is called unknown")
	}
}
