package sim

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testregion"
)

// TestTheAuditorFinds what would break a promise, each planted in a world that keeps them.
func TestTheAuditorFinds(t *testing.T) {
	for _, c := range []struct {
		name, want string
		plant      func(t *testing.T, w *World, last *fsm.Seal)
	}{
		{"two certificates of one size", "contradict", func(t *testing.T, w *World, last *fsm.Seal) {
			other := *last.Checkpoint()
			other.State[0] ^= 1
			w.Auditor.certificate(w.Leader("b"), attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certificate of what no ledger has", "no node that is up holds them", func(t *testing.T, w *World, last *fsm.Seal) {
			other := *last.Checkpoint()
			other.Size++
			w.Auditor.certificate(w.Leader("b"), attest.Learned{Origin: "a", Size: other.Size, Note: testregion.Certify(t, w.Fed, &other)})
		}},
		{"a certificate on the way that re-execution refuses", "re-execution under a later one", func(t *testing.T, w *World, last *fsm.Seal) {
			w.attested(t, 20*time.Second, "a", w.submit(t, "a", 1))
			w.Auditor.mu.Lock()
			c := w.Auditor.certified["a"][last.Size]
			c.body = append([]byte(nil), c.body...)
			c.body[len(c.body)-3] ^= 1
			w.Auditor.certified["a"][last.Size] = c
			w.Auditor.mu.Unlock()
		}},
		{"a voter of another state", "of seal", func(_ *testing.T, w *World, last *fsm.Seal) {
			other := *last
			other.State[0] ^= 1
			w.Auditor.seal(w.Voters("a")[0], &other)
		}},
		{"an acknowledged proof that is lost", "is lost from a ledger", func(_ *testing.T, w *World, _ *fsm.Seal) {
			w.Auditor.accepted[0].digest[0] ^= 1
		}},
		{"something that is no certificate", "what is none", func(_ *testing.T, w *World, last *fsm.Seal) {
			w.Auditor.certificate(w.Leader("b"), attest.Learned{Origin: "a", Size: last.Size, Note: []byte("x")})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w, err := New(context.Background(), Config{Dir: dir, Voters: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = w.Close() }()
				w.attested(t, 20*time.Second, "a", w.submit(t, "a", 2))
				seals := w.seals(t, "a")
				if err := w.Auditor.Broken(); err != nil {
					t.Fatalf("before anything was planted: %v", err)
				}
				c.plant(t, w, seals[len(seals)-1])
				if err := w.Auditor.Audit(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("the auditor says: %v", err)
				}
			})
		})
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
