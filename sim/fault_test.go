package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/bizra/bizra/fsm"
)

// submit has a region's leader acknowledge so many proofs, and gives the index of the last.
func (w *World) submit(t *testing.T, region string, n int) (last int64) {
	t.Helper()
	for range n {
		w.within(t, 30*time.Second, region+" to have a leader", func() bool { return w.Leader(region) != nil })
		rec, err := w.Submit(t.Context(), w.Leader(region))
		if err != nil {
			t.Fatal(err)
		}
		last = rec.Index
	}
	return last
}

func (w *World) within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	err := w.Within(t.Context(), limit, what, func() (bool, error) { return holds(), nil })
	if err == nil {
		return
	}
	for _, n := range w.All() {
		if n.Running() != nil {
			t.Logf("%s: %+v, local only %v", n.Name(), n.Attestation(), n.Running().LocalStatus().Local)
		}
	}
	t.Fatal(err)
}

func (w *World) attested(t *testing.T, limit time.Duration, region string, index int64) time.Duration {
	t.Helper()
	start := time.Now()
	w.within(t, limit, fmt.Sprintf("entry %d of %s to be attested", index, region), func() bool { return w.Attested(region, index) })
	return time.Since(start)
}

// attestedAt waits until every node of some regions has the certificate in its state.
func (w *World) attestedAt(t *testing.T, limit time.Duration, region string, index int64) {
	t.Helper()
	w.within(t, limit, fmt.Sprintf("every node of %s to know entry %d attested", region, index), func() bool {
		all := true
		for _, n := range w.Nodes(region) {
			_ = n.read(func(v *fsm.View) error {
				_, _, err := v.CertificateCovering(index)
				all = all && err == nil
				return nil
			})
		}
		return all
	})
}

// copied waits until every voter of other regions has re-executed a region's ledger to an entry.
func (w *World) copied(t *testing.T, limit time.Duration, region string, index int64) {
	t.Helper()
	w.within(t, limit, fmt.Sprintf("every copy of %s to have entry %d", region, index), func() bool {
		all := true
		for _, n := range w.All() {
			if n.Region == region || !n.Votes || n.Running() == nil {
				continue
			}
			size := int64(0)
			_ = n.Running().ReadCopy(region, func(v *fsm.View) (err error) { size, err = v.Ledger().Size(); return err })
			all = all && size > index
		}
		return all
	})
}

// quiet lets virtual time pass, in which the promises hold.
func (w *World) quiet(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.After(d)
	if err := w.Auditor.Audit(); err != nil {
		t.Fatal(err)
	}
}

func (w *World) local(region string) (local int) {
	for _, n := range w.Nodes(region) {
		if n.Running() != nil && n.Running().LocalStatus().Local {
			local++
		}
	}
	return local
}

// TestARegionCutOff goes on by itself, says so, and is attested once it is back; the others do
// not wait for it.
func TestARegionCutOff(t *testing.T) {
	bubble(t, func(c *Config) { c.Members = 1 }, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
		w.CutOff("a", true)
		var last int64
		for range 20 {
			last = w.submit(t, "a", 3)
			w.attested(t, 20*time.Second, "b", w.submit(t, "b", 1))
			w.quiet(t, 5*time.Second)
		}
		if got := w.local("a"); got != 4 {
			t.Fatalf("%d of the 4 nodes of the region that is cut off say that they are alone", got)
		}
		if got := w.local("b") + w.local("c") + w.local("d"); got != 0 {
			for _, n := range w.All() {
				t.Logf("%s: %+v", n.Name(), n.Running().LocalStatus())
			}
			t.Fatalf("%d nodes that hear others say that they are alone", got)
		}
		if w.Attested("a", last) {
			t.Fatal("the cut had no effect: what was committed behind it is attested")
		}
		w.CutOff("a", false)
		t.Logf("attested %v after the cut healed", w.attested(t, 90*time.Second, "a", last))
		w.attestedAt(t, 30*time.Second, "a", last)
		w.copied(t, 30*time.Second, "a", last)
		w.within(t, 30*time.Second, "the region to hear others", func() bool { return w.local("a") == 0 })
		w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
	})
}

// TestRegionsSplitInHalves attests nothing, loses nothing, and heals.
func TestRegionsSplitInHalves(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		for _, r := range w.Regions() {
			w.attested(t, 20*time.Second, r, w.submit(t, r, 1))
		}
		w.Split([]string{"a", "b"}, []string{"c", "d"}, true)
		last := map[string]int64{}
		for range 10 {
			for _, r := range w.Regions() {
				last[r] = w.submit(t, r, 2)
			}
			w.quiet(t, 6*time.Second)
		}
		for _, r := range w.Regions() {
			if w.Attested(r, last[r]) {
				t.Fatalf("%s was attested by two of four regions", r)
			}
			if w.local(r) != 0 {
				t.Fatalf("%s hears another region and says that it is alone", r)
			}
		}
		w.Split([]string{"a", "b"}, []string{"c", "d"}, false)
		for _, r := range w.Regions() {
			t.Logf("%s attested %v after that", r, w.attested(t, 90*time.Second, r, last[r]))
			w.attestedAt(t, 30*time.Second, r, last[r])
		}
	})
}

// TestASlowRegion is attested, late, and does not hold up the others.
func TestASlowRegion(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		const more = time.Second
		usual := w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
		w.Slow("d", more)
		w.quiet(t, 30*time.Second)
		var others, slow time.Duration
		for range 5 {
			others = max(others, w.attested(t, 20*time.Second, "a", w.submit(t, "a", 2)))
			slow = max(slow, w.attested(t, 30*time.Second, "d", w.submit(t, "d", 2)))
		}
		t.Logf("attested after %v as usual, %v beside the slow region, %v in it", usual, others, slow)
		if slow < 2*more {
			t.Fatalf("the region was not slow: attested after %v, with %v added one way", slow, more)
		}
		if others >= 2*more {
			t.Fatalf("the slow region held up another: attested after %v", others)
		}
	})
}

// TestARegionDownForLong loses what its disks had not synced, and catches up from the ledgers:
// its own from Raft's log, its copies from the origins. Then it is attested, and attests.
func TestARegionDownForLong(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		before := w.submit(t, "d", 3)
		w.attested(t, 20*time.Second, "d", before)
		for _, n := range w.Voters("d") {
			if err := n.Crash(); err != nil {
				t.Fatal(err)
			}
		}
		var last int64
		for range 20 {
			last = w.submit(t, "a", 5)
			w.quiet(t, 30*time.Second)
		}
		if !w.Attested("a", last) {
			t.Fatal("three regions of four do not attest each other")
		}
		for _, n := range w.Voters("d") {
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.copied(t, time.Minute, "a", last)
		w.attested(t, time.Minute, "d", w.submit(t, "d", 1))
		if err := w.Auditor.Audit(); err != nil {
			t.Fatal(err)
		}
		// Without c, nothing is attested that d does not vote for.
		w.CutOff("c", true)
		w.attested(t, time.Minute, "a", w.submit(t, "a", 1))
	})
}

// TestVotersThatCrash in turn, the leader first, lose nothing that was acknowledged, and the
// region signs nothing twice: attestation goes on, by whoever leads.
func TestVotersThatCrash(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		leaders := map[*Node]bool{}
		for round := range 9 {
			last := w.submit(t, "a", 2)
			n := w.Voters("a")[round%3]
			if round%2 == 0 {
				n = w.Leader("a")
			}
			leaders[w.Leader("a")] = true
			if err := n.Crash(); err != nil {
				t.Fatal(err)
			}
			w.attested(t, 30*time.Second, "a", last)
			w.attested(t, 30*time.Second, "a", w.submit(t, "a", 2))
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.within(t, time.Minute, n.Name()+" to be back", func() bool { ok, err := w.ready(); return ok && err == nil })
			w.quiet(t, time.Second)
		}
		if len(leaders) < 2 {
			t.Fatal("no crash moved the leadership")
		}
	})
}

// TestACutOneWay between a leader and the voters that hear it moves the leadership or heals;
// nothing is lost either way.
func TestACutOneWay(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *World) {
		w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
		was := w.Leader("a")
		for _, n := range w.Voters("a") {
			if n != was {
				w.CutOneWay(was, n, true)
			}
		}
		w.within(t, time.Minute, "another to lead", func() bool {
			l := w.Leader("a")
			return l != nil && l != was && was.Running().RaftStatus().Role != "Leader"
		})
		w.attested(t, time.Minute, "a", w.submit(t, "a", 2))
		for _, n := range w.Voters("a") {
			w.CutOneWay(was, n, false)
		}
		w.attested(t, time.Minute, "a", w.submit(t, "a", 2))
	})
}
