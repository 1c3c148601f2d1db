package fsm_test

import (
	"fmt"
	"testing"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// TestManyChangesAtOnce: a seal that covers many changes, which are made another way than few are, says what few at a time would
// have said, and what the state gives.
func TestManyChangesAtOnce(t *testing.T) {
	const agents = 2200 // each has at least two records
	fed := testfed.New(1, 3)
	rare, often := newRig(t, fed), newRig(t, fed)
	root := func(r *rig) [32]byte {
		s, err := r.m.StateRoot()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	both := func(envs []*pci.Envelope) {
		for from := 0; from < len(envs); from += 200 {
			for _, r := range []*rig{rare, often} {
				for _, rec := range r.submit(envs[from:min(from+200, len(envs))]...) {
					if rec.Code != pci.Success {
						t.Fatalf("%v: %s", rec.Code, rec.Reason)
					}
				}
			}
			root(often)
		}
		pending, err := rare.st.Iter([]byte("P"), []byte("Q"))
		if err != nil {
			t.Fatal(err)
		}
		waits := 0
		for ok := pending.First(); ok; ok = pending.Next() {
			waits++
		}
		if err := pending.Close(); err != nil || waits < 4096 {
			t.Fatalf("%d changes wait, too few to be many: %v", waits, err)
		}
		if a, b := root(rare), root(often); a != b {
			t.Fatalf("many at once give %x, few at a time %x", a, b)
		}
	}
	operator := fed.Operator("a", rare.now)
	var known []*testfed.Signer
	var register, opened []*pci.Envelope
	for i := range agents {
		known = append(known, fed.Agent(fmt.Sprintf("agent-%d", i), rare.now))
		register = append(register, operator.Register("a", known[i]))
	}
	both(register)
	for i, a := range known {
		opened = append(opened, a.Sign("session.open", open(fmt.Sprint("s", i)), ""))
	}
	both(opened)
	rare.sealed()
	rare.checked()
}
