package fate_test

import (
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/internal/vectors"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9 }

func TestVectorsFate(t *testing.T) {
	var file struct {
		Cases []struct {
			Name     string         `json:"operation_name"`
			Type     string         `json:"operation_type"`
			HasInput bool           `json:"has_input"`
			Metadata map[string]any `json:"metadata"`
			Intent   *string        `json:"declared_intent"`
			SNR      *float64       `json:"snr"`

			Fidelity, Accountability, Transparency, Ethics float64
			Product, Geometric                             float64
			Weakest                                        string
		}
	}
	vectors.Load(t, "fate.json", &file)
	product, geometric := mustNew(t, fate.Config{}), mustNew(t, fate.Config{Rule: fate.Geometric})
	passed := 0
	for i, c := range file.Cases {
		flag := func(name string) bool { value, _ := c.Metadata[name].(bool); return value }
		has := func(name string) bool { _, ok := c.Metadata[name]; return ok }
		o := fate.Operation{
			Name: c.Name, Type: c.Type, HasInput: c.HasInput,
			HasExecutionID: true, HasTimestamp: true, HasTrace: true,
			HasMetadata: len(c.Metadata) > 0, HasDescription: has("description"), HasRationale: has("rationale"),
			PIIDetected: flag("pii_detected"), ToxicityDetected: flag("toxicity_detected"), EthicsViolation: flag("ethics_violation"),
		}
		if c.Intent != nil {
			o.Intent = *c.Intent
		}
		if c.SNR != nil {
			o.SNR, o.HasSNR = *c.SNR, true
		}
		words := fate.Words{Intent: fate.SplitWords(o.Intent), Name: fate.SplitWords(o.Name)}
		for _, s := range []fate.Scores{o.Scores(), o.ScoresOf(words)} {
			want := fate.Scores{Fidelity: c.Fidelity, Accountability: c.Accountability, Transparency: c.Transparency, Ethics: c.Ethics}
			for d := fate.Fidelity; d <= fate.Ethics; d++ {
				if !near(s.Of(d), want.Of(d)) {
					t.Errorf("case %d: %v is %v, want %v", i, d, s.Of(d), want.Of(d))
				}
			}
			if got := product.Composite(s); !near(got, c.Product) {
				t.Errorf("case %d: product is %v, want %v", i, got, c.Product)
			}
			if got := geometric.Composite(s); !near(got, c.Geometric) {
				t.Errorf("case %d: geometric mean is %v, want %v", i, got, c.Geometric)
			}
			if got := s.Weakest().String(); got != c.Weakest {
				t.Errorf("case %d: weakest is %v, want %v", i, got, c.Weakest)
			}
		}
		if v := product.Judge(&o); v.Passed {
			passed++
			if c.Product < 0.95-1e-9 {
				t.Errorf("case %d passes with %v", i, c.Product)
			}
		} else if c.Product >= 0.95-1e-9 {
			t.Errorf("case %d is refused with %v", i, c.Product)
		}
	}
	if len(file.Cases) != 80 || passed == 0 || passed == len(file.Cases) {
		t.Errorf("%d cases, of which %d passed", len(file.Cases), passed)
	}
}
