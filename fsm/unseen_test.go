package fsm_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// A new proof is known to be new without a look at the store, and one that is sent again is looked up.
func TestNewProofsAreNotLookedUp(t *testing.T) {
	r, counting := newCountingRig(t, testfed.New(1, 3, testfed.Open))
	a := r.fed.Agent("x", r.now)
	first := a.Sign("session.open", open("s0"), "")
	for _, prefix := range []string{"D", "X"} {
		counting.fail = prefix
		r.want(pci.Success, a.Sign("session.open", open("s"+prefix), ""))
	}
	counting.fail = ""
	r.want(pci.Success, first)
	if again := r.submit(first)[0]; !again.Repeated {
		t.Fatalf("sent again: %+v", again)
	}
	replay := a.Sign("session.open", open("other"), "", func(d *pci.Draft) { d.Nonce = first.Nonce })
	r.want(pci.RejectNonceReplay, replay)
	// The nonces of before are not in memory after a start.
	r.open()
	if again := r.submit(first)[0]; !again.Repeated {
		t.Fatalf("sent again after a start: %+v", again)
	}
	r.want(pci.RejectNonceReplay, replay)
	counting.fail = "D"
	if _, err := r.m.Apply([]fsm.Command{{Index: r.index + 1, Term: 1, Data: fsm.EncodeProofs(r.now, [][]byte{
		a.Sign("session.open", open("s3"), "").Canonical()})}}); !errors.Is(err, errDisk) {
		t.Fatalf("a new proof after a start was not looked up: %v", err)
	}
}

// Where an earlier constitution took proofs from further ahead, a proof may come again when its nonce is long
// forgotten though its timestamp is fresh: it still gets its first receipt.
func TestRetryAcrossNarrowerWindows(t *testing.T) {
	const minute = 60_000
	windows := func(timestamp, nonce int64) func(*federation.Document) {
		return func(d *federation.Document) {
			d.Constitution.Thresholds.TimestampWindowMillis, d.Constitution.Thresholds.NonceWindowMillis = timestamp, nonce
		}
	}
	r := newRig(t, testfed.New(1, 3, testfed.Open, windows(60*minute, 121*minute)))
	a := r.fed.Agent("x", r.now+55*minute)
	ahead := a.Sign("session.open", open("ahead"), "")
	first := r.want(pci.Success, ahead)
	r.adopt(r.fed.Next(windows(minute, 3*minute)))
	later := r.fed.Agent("y", r.now)
	for i := range 4 {
		r.now += 55 * minute / 4
		r.open() // what was remembered in memory would hide it
		later.NowMillis = r.now
		r.want(pci.Success, later.Sign("session.open", open(fmt.Sprint("s", i)), ""))
	}
	if n := r.count([]byte{'X'}); n > 1 {
		t.Fatalf("%d nonces are remembered: the first is not forgotten", n)
	}
	if again := r.submit(ahead)[0]; !again.Repeated || again.Index != first.Index {
		t.Fatalf("sent again: %+v", again)
	}
}
