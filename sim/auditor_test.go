package sim

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/linear"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// TestTheAuditorFinds what would break each promise, planted in a world that keeps them.
func TestTheAuditorFinds(t *testing.T) {
	found := map[string]bool{}
	for _, c := range []struct {
		name, invariant, want string
		plant                 func(t *testing.T, w *World, last *fsm.Seal)
	}{
		{"two certificates of one size", InvariantContradiction, "contradict", func(t *testing.T, w *World, last *fsm.Seal) {
			other := *last.Checkpoint()
			other.State[0] ^= 1
			w.Auditor.watch(w.Leader("b")).Learned(attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certificate of a smaller size that is no prefix", InvariantContradiction, "is not of the ledger", func(t *testing.T, w *World, last *fsm.Seal) {
			other := *last.Checkpoint()
			other.Size--
			other.Root[0] ^= 1
			w.Auditor.watch(w.Leader("b")).Learned(attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certificate of a smaller size that is no prefix, learned late", InvariantContradiction, "is not of the ledger", func(t *testing.T, w *World, last *fsm.Seal) {
			if err := w.Auditor.Audit(); err != nil {
				t.Fatal(err)
			}
			other := *last.Checkpoint()
			other.Size--
			other.Root[0] ^= 1
			w.Auditor.watch(w.Leader("b")).Learned(attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certificate of what no ledger has", InvariantReexecution, "no node that is up holds them", func(t *testing.T, w *World, last *fsm.Seal) {
			other := *last.Checkpoint()
			other.Size++
			w.Auditor.watch(w.Leader("b")).Learned(attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certified ledger that does not re-execute", InvariantReexecution, "re-execution refuses", func(t *testing.T, w *World, _ *fsm.Seal) {
			other, err := federation.Parse(w.Fed.Document.Canonical())
			if err != nil {
				t.Fatal(err)
			}
			testfed.Stricter(other) // by other gates than those that the region went by
			own := w.Fed.Document
			w.Fed.Document = &federation.Document{Version: own.Version, Name: own.Name, Constitution: other.Constitution, Regions: own.Regions}
			w.Auditor.reexecution.replicas = map[string]*fsm.Machine{}
		}},
		{"a certificate on the way that re-execution refuses", InvariantContradiction, "re-execution under a later one", func(t *testing.T, w *World, last *fsm.Seal) {
			w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
			w.Auditor.mu.Lock()
			c := w.Auditor.contradiction.certified["a"][last.Size]
			c.body = append([]byte(nil), c.body...)
			c.body[len(c.body)-3] ^= 1
			w.Auditor.contradiction.certified["a"][last.Size] = c
			w.Auditor.mu.Unlock()
		}},
		{"a voter of another state", InvariantStates, "of seal", func(_ *testing.T, w *World, last *fsm.Seal) {
			other := *last
			other.State[0] ^= 1
			w.Auditor.watch(w.Voters("a")[0]).Applied(&fsm.Result{Seal: &other})
		}},
		{"an acknowledged proof that is lost", InvariantSurvival, "is lost from a ledger", func(_ *testing.T, w *World, _ *fsm.Seal) {
			w.Auditor.survival.accepted["a"][0].digest[0] ^= 1
		}},
		{"an acknowledged proof that never came in", InvariantSurvival, "of its leader", func(_ *testing.T, w *World, last *fsm.Seal) {
			w.Auditor.accept(accepted{region: "a", index: last.Size + 5})
		}},
		{"something that is no certificate", InvariantContradiction, "what is none", func(_ *testing.T, w *World, last *fsm.Seal) {
			w.Auditor.watch(w.Leader("b")).Learned(attest.Learned{Origin: "a", Size: last.Size, Note: []byte("x")})
		}},
		{"a bundle whose entry is another", InvariantBundles, "does not verify", func(t *testing.T, w *World, last *fsm.Seal) {
			err := w.Leader("a").read(func(v *fsm.View) error {
				other := *last.Checkpoint()
				other.Size = 1
				note := testregion.Certify(t, w.Fed, last.Checkpoint())
				return w.Auditor.bundles.check(v, note, &other)
			})
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"two steps from one head", InvariantSessions, "no order explains", func(_ *testing.T, w *World, _ *fsm.Seal) {
			step := func(head string) linear.Operation {
				return linear.Operation{Input: linear.Input{}, Output: linear.Output{Won: true, Head: head}, Call: 1, Return: 2}
			}
			w.Auditor.sessions.seen("a", "s", step("x"))
			w.Auditor.sessions.seen("a", "s", step("y"))
		}},
		{"a read of what was never written", InvariantSessions, "no order explains", func(_ *testing.T, w *World, _ *fsm.Seal) {
			op := linear.Operation{Input: linear.Input{}, Call: 1, ClientId: 1}
			w.Auditor.sessions.unknown("a", "s", op, [32]byte{1}) // not in the ledger: it took no effect
			w.Auditor.sessions.seen("a", "s", linear.Operation{Input: linear.Input{Read: true}, Output: linear.Output{Head: "x"}, Call: 3, Return: 4})
		}},
		{"memory that grows", InvariantBounds, "the heap has grown", func(_ *testing.T, w *World, _ *fsm.Seal) {
			grown := w.Auditor.bounds.measure()
			grown.heapBytes = 2*grown.heapBytes + heapSlackBytes
			w.Auditor.bounds.look = func() size { return grown }
		}},
		{"goroutines that are left behind", InvariantBounds, "goroutines have grown", func(_ *testing.T, w *World, _ *fsm.Seal) {
			grown := w.Auditor.bounds.measure()
			grown.goroutines = 2*1000 + goroutineSlack
			w.Auditor.bounds.look = func() size { return grown }
		}},
		{"a queue without end", InvariantBounds, "bytes unread", func(_ *testing.T, w *World, _ *fsm.Seal) {
			grown := w.Auditor.bounds.measure()
			grown.queueBytes = w.net.QueueBytesMax() + 1
			w.Auditor.bounds.look = func() size { return grown }
		}},
		{"an epoch that leaves too much to one", InvariantGini, "leave a Gini of 0.350001", func(_ *testing.T, w *World, _ *fsm.Seal) {
			w.Auditor.equality.look = func(*fsm.View) ([]fsm.SettledEpoch, error) {
				return []fsm.SettledEpoch{{Epoch: fsm.Epoch{Number: 1, GiniAfter: 350_001}}}, nil
			}
		}},
		{"credits out of nowhere", InvariantCredits, "where there are 1000000000000", func(_ *testing.T, w *World, _ *fsm.Seal) {
			w.Auditor.conservation.look = func(v *fsm.View) (held, error) {
				h, err := holdings(v)
				h.balances++
				return h, err
			}
		}},
		{"a region that is attested no more", InvariantProgress, "after all was healed", func(t *testing.T, w *World, _ *fsm.Seal) {
			last := w.submit(t, "a", 1)
			w.CutOff("a", true) // and nobody heals it
			if err := w.Auditor.progress.within(t.Context(), 10*time.Second, "everything to be attested", func() (bool, error) {
				return w.Attested("a", last+1000), nil
			}); err == nil {
				t.Fatal("no error")
			}
		}},
	} {
		found[c.invariant] = true
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Dir: dir, Voters: 1, Seed: 7}
				if c.invariant == InvariantGini || c.invariant == InvariantCredits {
					cfg.Change = Markets
				}
				w, err := New(context.Background(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = w.Close() }()
				w.attested(t, 20*time.Second, "a", w.submit(t, "a", 2))
				seals := w.seals(t, "a")
				if err := w.Auditor.Broken(); err != nil {
					t.Fatalf("before anything was planted: %v", err)
				}
				w.Auditor.bounds.first = &size{heapBytes: w.Auditor.bounds.measure().heapBytes, goroutines: 1000}
				c.plant(t, w, seals[len(seals)-1])
				err = w.Auditor.Audit()
				var v *Violation
				if !errors.As(err, &v) || v.Invariant != c.invariant || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("the auditor says: %v", err)
				}
				if v.Seed != 7 || v.At == 0 || len(v.Last) == 0 || !strings.Contains(err.Error(), "knows a certificate of a") {
					t.Fatalf("it does not say what is needed to see it again: %v", err)
				}
			})
		})
	}
	for _, name := range Invariants() {
		if !found[name] {
			t.Errorf("nothing is planted that breaks %q", name)
		}
	}
}

func TestRing(t *testing.T) {
	var r ring
	for i := range lastMax + 3 {
		r.add(Happening{At: time.Duration(i)})
		if list := r.all(); len(list) != min(i+1, lastMax) || list[len(list)-1].At != time.Duration(i) {
			t.Fatalf("after %d: %v", i+1, list)
		}
	}
	if list := r.all(); list[0].At != 3 {
		t.Fatalf("the oldest is %v", list[0])
	}
}

// TestRun pins what a program outside of tests goes by: virtual time, and panics as errors.
func TestRun(t *testing.T) {
	start := time.Now()
	if err := Run(func() error { <-time.After(24 * time.Hour); return nil }); err != nil {
		t.Fatal(err)
	}
	if time.Since(start) > time.Minute {
		t.Fatal("time was not virtual")
	}
	if err := Run(func() error { panic("x") }); err == nil || !strings.Contains(err.Error(), "panic: x") {
		t.Fatalf("a panic gave %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{}, {Dir: "x", Regions: RegionsMax + 1}, {Dir: "x", Regions: -1}, {Dir: "x", Voters: VotersMax + 1}, {Dir: "x", Members: MembersMax + 1}} {
		if _, err := New(t.Context(), c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestMatrix(t *testing.T) {
	m, err := ReadMatrix(strings.NewReader("a,b,ms\nx,x,4\nx,y,10\ny,x,30\ny,y,2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if x, y := m.OneWay("x", "y"), m.OneWay("x", "x"); x != 10*time.Millisecond || y != 2*time.Millisecond {
		t.Fatalf("one way %v and %v", x, y)
	}
	for _, bad := range []string{"h,h,h\nx,y,1\n", "h,h,h\nx,x,a\n", "h,h\nx,x\n", "h,h,h\nx,x,-1\n"} {
		if _, err := ReadMatrix(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
