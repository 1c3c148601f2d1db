package fsm_test

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/gate"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// TestExplainSaysWhatTheRegionDecides puts every case of the corpus to a region and to package gate, which
// `bizra constitution explain` shows: what people are told before they submit must be what happens then.
func TestExplainSaysWhatTheRegionDecides(t *testing.T) {
	cases, err := constitution.ReadCases(os.DirFS("constitution/testdata/corpus"))
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*constitution.Constitution){
		"default": func(*constitution.Constitution) {},
		"product": func(c *constitution.Constitution) { c.Thresholds.FateMin = 0.66 },
		"geometric": func(c *constitution.Constitution) {
			c.Thresholds.FateMin, c.Composite.Rule = 0.9, constitution.Geometric
		},
	} {
		t.Run(name, func(t *testing.T) {
			law, err := constitution.Default()
			if err != nil {
				t.Fatal(err)
			}
			edit(law)
			law.Thresholds.MeasuredSNRMargin, law.Breaker.After, law.Limits.RefusalsPerMinute = 1, 1_000_000, 1_000_000
			g, err := gate.New(law)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, testfed.New(1, 3, func(d *federation.Document) { d.Constitution = *law }))
			w := r.worker("alice")
			decided := map[gate.Decision]int{}
			for i, c := range cases {
				env := w.ofCase(t, c, []float64{0.95, 0.99, 0.86, 0.8}[i%4])
				v, err := g.Judge(constitution.Input{Action: env.Payload.Action, Data: env.Payload.Data,
					Agent: constitution.Agent{ID: "alice", Type: "PAT", Owner: "alice"}, Session: constitution.Session{ID: "of-alice"}},
					gate.Claims{Ihsan: env.Metadata.IhsanScore, SNR: env.Metadata.SNRScore, PolicyHash: env.Payload.PolicyHash})
				if err != nil {
					t.Fatalf("%s: %v", c.Name, err)
				}
				decided[v.Decision]++
				rec := r.submit(env)[0]
				if rec.Accepted() {
					w.head = rec.Head
					w.next++
				}
				if want := codeOf(v.Decision); rec.Code != want {
					t.Errorf("%s: explained as decided by %s, and the region says %v: %s", c.Name, v.Decision, rec.Code, rec.Message())
				}
				if rec.Fate != nil && !reflect.DeepEqual(*rec.Fate, v.Scores) {
					t.Errorf("%s: explained with %+v, the region has %+v", c.Name, v.Scores, *rec.Fate)
				}
				r.now += 100
			}
			if decided[gate.ByRule] < 100 || decided[gate.BySNR] < 100 || decided[gate.ByNone]+decided[gate.ByScores] < 100 {
				t.Errorf("decided by %v: some gates were hardly met", decided)
			}
		})
	}
}

// ofCase is the worker's next step with what a case of the corpus says is done.
func (w *worker) ofCase(t *testing.T, c constitution.Case, claim float64) *pci.Envelope {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal(c.Input.Data.AppendCanonical(nil), &data); err != nil {
		t.Fatal(err)
	}
	data["session"], data["to"] = "of-alice", round[w.next%len(round)]
	delete(data, "type")
	w.NowMillis = w.r.now
	return w.Sign(fsm.ActionSessionTransition, data, w.head, snr(claim))
}

func codeOf(d gate.Decision) pci.Code {
	switch d {
	case gate.ByNone:
		return pci.Success
	case gate.BySNR:
		return pci.RejectSNRBelowMin
	case gate.ByRule, gate.ByScores:
		return pci.RejectFateViolation
	default:
		return pci.RejectInternalError
	}
}
