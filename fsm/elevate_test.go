package fsm_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/pattern"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

func containsText(text []byte, part string) bool { return bytes.Contains(text, []byte(part)) }

func elevated(more ...any) map[string]any {
	p := pattern.Pattern{Region: "a", Name: "retries-help", Statement: "A second attempt succeeds.", Belief: 0.8, Entropy: 0.25,
		Potential: pattern.Potential(0.8, 0.25), Observations: 40}
	data := p.Data()
	for i := 0; i+1 < len(more); i += 2 {
		data[more[i].(string)] = more[i+1]
	}
	return data
}

// TestElevateAPattern: a pattern passes the gates like any proof, and is an entry that moves nothing.
func TestElevateAPattern(t *testing.T) {
	fed := testfed.New(1, 3)
	r := newRig(t, fed)
	a := r.registered("alice")
	for name, c := range map[string]struct {
		env   *pci.Envelope
		code  pci.Code
		entry bool
	}{
		"elevated":            {a.Sign("pattern.elevate", elevated(), ""), pci.Success, true},
		"with a session":      {a.Sign("pattern.elevate", elevated("session", "no-such"), ""), pci.Success, true},
		"potential off":       {a.Sign("pattern.elevate", elevated("potential", 0.7), ""), pci.RejectSchema, false},
		"unknown member":      {a.Sign("pattern.elevate", elevated("impact", 1), ""), pci.RejectSchema, false},
		"longest statement":   {a.Sign("pattern.elevate", elevated("statement", strings.Repeat("x", pattern.StatementBytesMax)), ""), pci.Success, true},
		"statement too long":  {a.Sign("pattern.elevate", elevated("statement", strings.Repeat("x", pattern.StatementBytesMax+1)), ""), pci.RejectSchema, false},
		"of another region":   {a.Sign("pattern.elevate", elevated("region", "b"), ""), pci.RejectSchema, false},
		"of no region":        {a.Sign("pattern.elevate", without(elevated(), "region"), ""), pci.RejectSchema, false},
		"on a head":           {a.Sign("pattern.elevate", elevated(), strings.Repeat("ab", 32)), pci.RejectSchema, false},
		"by a stranger":       {fed.Agent("mallory", r.now).Sign("pattern.elevate", elevated(), ""), pci.RejectRoleViolation, false},
		"by an operator":      {fed.Operator("a", r.now).Sign("pattern.elevate", elevated(), ""), pci.RejectRoleViolation, true},
		"under another law":   {a.Sign("pattern.elevate", elevated(), "", func(d *pci.Draft) { d.PolicyHash = "other" }), pci.RejectPolicyMismatch, true},
		"with a low claim":    {a.Sign("pattern.elevate", elevated(), "", snr(0.5)), pci.RejectSNRBelowMin, true},
		"of too many members": {a.Sign("pattern.elevate", elevated("observations", pattern.ObservationsMax+1), ""), pci.RejectSchema, false},
	} {
		before := r.size()
		rec := r.want(c.code, c.env)
		if got := r.size() > before; got != c.entry {
			t.Errorf("%s: an entry was made: %v", name, got)
		}
		if c.code == pci.Success && (rec.Session != "" || rec.Head != "" || rec.State != "" || rec.Fate != nil || rec.NTU != nil || rec.Budget != nil) {
			t.Errorf("%s: the receipt tells of a session: %+v", name, rec)
		}
	}
	sessions, err := r.view().Sessions("", 10)
	if err != nil || len(sessions) != 0 {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
}

// TestElevatedPatternIsNoOutcome: elevating says nothing of how well an agent works.
func TestElevatedPatternIsNoOutcome(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	before, err := r.view().Conduct("alice")
	if err != nil {
		t.Fatal(err)
	}
	const times = 5
	for range times {
		r.want(pci.Success, a.Sign("pattern.elevate", elevated(), ""))
	}
	after, err := r.view().Conduct("alice")
	if err != nil || after.Accepted != before.Accepted+times {
		t.Fatalf("%+v, %v", after, err)
	}
	after.Accepted = before.Accepted
	if !reflect.DeepEqual(before, after) {
		t.Errorf("%+v became %+v", before, after)
	}
}

func TestElevatedPatternIsReexecuted(t *testing.T) {
	r := newRig(t, testfed.New(1, 3))
	a := r.registered("alice")
	r.want(pci.Success, a.Sign("pattern.elevate", elevated(), ""))
	r.want(pci.RejectSNRBelowMin, a.Sign("pattern.elevate", elevated(), "", snr(0.5)))
	r.sealed()
	if _, err := fsm.Rederive(t.Context(), r.st, store.NewMemory(), fsm.Config{Region: "a"}, quiet); err != nil {
		t.Fatal(err)
	}
}
