package fate_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/fate"
)

func mustNew(t rapid.TB, c fate.Config) fate.Policy {
	t.Helper()
	p, err := fate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// whole is an operation that nothing is missing from.
func whole() fate.Operation {
	return fate.Operation{
		Name: "file_read", Type: "tool", Intent: "read file", SNR: 0.97, HasSNR: true,
		HasExecutionID: true, HasTimestamp: true, HasTrace: true, HasInput: true, HasDescription: true,
	}
}

func drawOperation(t *rapid.T) fate.Operation {
	text := rapid.SampledFrom([]string{"", "file_read", "read file", "write file", "READ  file_read", "Ärger δ", "unknown", "tool"})
	b := func(name string) bool { return rapid.Bool().Draw(t, name) }
	return fate.Operation{
		Name: text.Draw(t, "name"), Type: text.Draw(t, "type"), Intent: text.Draw(t, "intent"),
		SNR: rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64()).Draw(t, "snr"), HasSNR: b("has snr"),
		HasExecutionID: b("id"), HasTimestamp: b("timestamp"), HasTrace: b("trace"), HasInput: b("input"),
		HasDescription: b("description"), HasRationale: b("rationale"), HasMetadata: b("metadata"),
		PIIDetected: b("pii"), ToxicityDetected: b("toxicity"), EthicsViolation: b("ethics"),
	}
}

func drawPolicy(t *rapid.T) fate.Policy {
	c := fate.Config{Rule: rapid.SampledFrom([]fate.Rule{fate.Product, fate.Geometric}).Draw(t, "rule"), Threshold: rapid.Float64Range(0.01, 1).Draw(t, "threshold")}
	if c.Rule == fate.Geometric {
		for i := range c.Weights {
			c.Weights[i] = rapid.Float64Range(0.01, 5).Draw(t, "weight")
		}
	}
	return mustNew(t, c)
}

func TestCompositeIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		score := rapid.Float64Range(0, 1)
		low := fate.Scores{Fidelity: score.Draw(t, "f"), Accountability: score.Draw(t, "a"), Transparency: score.Draw(t, "t"), Ethics: score.Draw(t, "e")}
		high := low
		which := rapid.SampledFrom([]*float64{&high.Fidelity, &high.Accountability, &high.Transparency, &high.Ethics}).Draw(t, "which")
		*which += (1 - *which) * score.Draw(t, "up")
		a, b := p.Composite(low), p.Composite(high)
		if !(a >= 0 && b <= 1) || b < a-1e-15 {
			t.Fatalf("composite of %+v is %v, of %+v %v", low, a, high, b)
		}
	})
}

func TestScoresStayInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOperation(t)
		s := o.Scores()
		for d := fate.Fidelity; d <= fate.Ethics; d++ {
			if x := s.Of(d); !(x >= 0 && x <= 1) {
				t.Fatalf("%v of %+v is %v", d, o, x)
			}
			if s.Of(s.Weakest()) > s.Of(d) {
				t.Fatalf("weakest of %+v is %v", s, s.Weakest())
			}
		}
	})
}

// mend does to an operation what a gap asks for.
func mend(o *fate.Operation, g fate.Gap) {
	switch g.Part {
	case fate.PartIntent:
		o.Intent = o.Name
	case fate.PartExecutionID:
		o.HasExecutionID = true
	case fate.PartTimestamp:
		o.HasTimestamp = true
	case fate.PartTrace:
		o.HasTrace = true
	case fate.PartMetadata:
		o.HasMetadata = true
	case fate.PartName:
		o.Name, o.Intent = "named", strings.ReplaceAll(o.Intent, "file", "named")
	case fate.PartType:
		o.Type = "tool"
	case fate.PartInput:
		o.HasInput = true
	case fate.PartDescription:
		o.HasDescription = true
	case fate.PartSNR:
		o.HasSNR, o.SNR = true, g.Least
		if g.Least == 0 {
			o.SNR = 1
		}
	case fate.PartPII:
		o.PIIDetected, o.HasMetadata = false, true
	case fate.PartToxicity:
		o.ToxicityDetected, o.HasMetadata = false, true
	case fate.PartEthicsViolated:
		o.EthicsViolation, o.HasMetadata = false, true
	}
}

// Whatever is refused passes once all that the verdict calls required is mended, and not before.
func TestMendingPasses(t *testing.T) {
	mendedSome := false
	rapid.Check(t, func(t *rapid.T) {
		p, o := drawPolicy(t), drawOperation(t)
		if o.Name == "" {
			o.Name = "read" // else a mended intent would depend on the mended name
		}
		v := p.Judge(&o)
		if v.Passed {
			if v.Gaps != nil {
				t.Fatalf("passed with gaps: %+v", v)
			}
			return
		}
		mendedSome = true
		required := 0
		for i, g := range v.Gaps {
			if !g.Required {
				if i+1 < len(v.Gaps) && v.Gaps[i+1].Required {
					t.Fatalf("required after optional: %+v", v.Gaps)
				}
				continue
			}
			required++
			if then := p.Judge(&o); then.Passed {
				t.Fatalf("passes before %+v is mended: %+v", g, v)
			}
			mend(&o, g)
		}
		if then := p.Judge(&o); required == 0 || !then.Passed {
			t.Fatalf("%+v mended as %+v asks is still refused: %+v", o, v, then)
		}
	})
	if !mendedSome {
		t.Error("nothing was refused")
	}
}

func TestVerdicts(t *testing.T) {
	gap := func(parts ...fate.Part) []fate.Part { return parts }
	for _, c := range []struct {
		name     string
		change   func(*fate.Operation)
		denials  []fate.Denial
		passed   bool
		weakest  fate.Dimension
		required []fate.Part
		says     string
	}{
		{name: "whole", change: func(*fate.Operation) {}, passed: true, weakest: fate.Ethics},
		{name: "at the threshold but for rounding", change: func(o *fate.Operation) { o.SNR = 0.95 }, passed: true, weakest: fate.Ethics},
		{name: "below", change: func(o *fate.Operation) { o.SNR = 0.94 }, weakest: fate.Ethics, required: gap(fate.PartSNR), says: "snr must be at least 0.9500"},
		{name: "no intent", change: func(o *fate.Operation) { o.Intent = " _ " }, weakest: fate.Fidelity, required: gap(fate.PartIntent), says: "fidelity: give intent"},
		{
			name: "other intent", change: func(o *fate.Operation) { o.Intent = "Please read the file" }, weakest: fate.Fidelity,
			required: gap(fate.PartIntent), says: "lacks the intent's please, the",
		},
		{name: "no type", change: func(o *fate.Operation) { o.Type = "unknown" }, weakest: fate.Transparency, required: gap(fate.PartType), says: "transparency: give type"},
		{
			name: "bare", change: func(o *fate.Operation) { *o = fate.Operation{Name: "file_read"} }, weakest: fate.Accountability,
			required: gap(fate.PartExecutionID, fate.PartTimestamp, fate.PartIntent, fate.PartDescription, fate.PartTrace, fate.PartType, fate.PartInput),
			says:     "accountability: give execution_id",
		},
		{name: "personal data", change: func(o *fate.Operation) { o.PIIDetected = true }, weakest: fate.Ethics, required: gap(fate.PartPII), says: "pii_detected speaks against it"},
		{
			name: "denied", change: func(*fate.Operation) {}, denials: []fate.Denial{{Dimension: fate.Ethics, Rule: "no-rm"}, {Dimension: fate.Fidelity, Rule: "scope"}},
			weakest: fate.Fidelity, required: gap(fate.PartRule, fate.PartRule), says: `the rule "no-rm" denies this`,
		},
		{name: "NaN", change: func(o *fate.Operation) { o.SNR = math.NaN() }, weakest: fate.Ethics, required: gap(fate.PartSNR), says: "at least 0.9500"},
		{name: "above one", change: func(o *fate.Operation) { o.SNR = 1.5 }, weakest: fate.Ethics, required: gap(fate.PartSNR), says: "at least 0.9500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := whole()
			c.change(&o)
			v := mustNew(t, fate.Config{}).Judge(&o, c.denials...)
			words := fate.Words{Intent: fate.SplitWords(o.Intent), Name: fate.SplitWords(o.Name)}
			if w := mustNew(t, fate.Config{}).JudgeWords(&o, words, c.denials...); w.Scores != v.Scores || w.Passed != v.Passed {
				t.Errorf("JudgeWords = %+v, Judge = %+v", w, v)
			}
			if v.Passed != c.passed || v.Weakest != c.weakest {
				t.Errorf("passed %t with weakest %v: %+v", v.Passed, v.Weakest, v)
			}
			var required []fate.Part
			var says []string
			for _, g := range v.Gaps {
				says = append(says, g.String())
				if g.Required {
					required = append(required, g.Part)
				}
			}
			if !slices.Equal(required, c.required) {
				t.Errorf("required are %v, want %v: %+v", required, c.required, v.Gaps)
			}
			if text := strings.Join(says, "; "); !strings.Contains(text, c.says) {
				t.Errorf("it says %q, want %q in it", text, c.says)
			}
			if len(c.denials) > 0 && v.Rule != c.denials[0].Rule {
				t.Errorf("rule is %q", v.Rule)
			}
		})
	}
}

// A denied operation is refused even where the geometric mean would let a score of 0 pass.
func TestDenialOutweighsWeights(t *testing.T) {
	p := mustNew(t, fate.Config{Rule: fate.Geometric, Weights: [4]float64{1, 1, 1, 0}})
	o := whole()
	v := p.Judge(&o, fate.Denial{Dimension: fate.Ethics, Rule: "r"})
	if v.Passed || v.Composite < 0.95 || v.Rule != "r" || v.Scores.Ethics != 0 {
		t.Errorf("%+v", v)
	}
	var zero fate.Policy
	if v := zero.Judge(&o); v.Passed {
		t.Errorf("the zero policy let pass: %+v", v)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []fate.Config{
		{Rule: 3}, {Threshold: -0.1}, {Threshold: 1.01}, {Threshold: math.NaN()},
		{Weights: [4]float64{1, 1, 1, 1}},
		{Rule: fate.Geometric, Weights: [4]float64{1, -1, 1, 1}},
		{Rule: fate.Geometric, Weights: [4]float64{1, math.Inf(1), 1, 1}},
		{Rule: fate.Geometric, Weights: [4]float64{1, math.NaN(), 1, 1}},
		{Rule: fate.Geometric, Weights: [4]float64{2e9, 1, 1, 1}},
	} {
		if _, err := fate.New(c); !errors.Is(err, fate.ErrConfig) {
			t.Errorf("New(%+v) = %v", c, err)
		}
	}
	p := mustNew(t, fate.Config{Rule: fate.Geometric, Weights: [4]float64{1e9, 1e9, 1e9, 1e9}})
	if p.Rule() != fate.Geometric || p.Threshold() != fate.ThresholdDefault {
		t.Errorf("%v, %v", p.Rule(), p.Threshold())
	}
}

func TestNames(t *testing.T) {
	for d := fate.Fidelity; d <= fate.Ethics; d++ {
		text, err := json.Marshal(d)
		var back fate.Dimension
		if err != nil || json.Unmarshal(text, &back) != nil || back != d {
			t.Errorf("%v is %s in JSON, and back %v", d, text, back)
		}
	}
	var d fate.Dimension
	if err := json.Unmarshal([]byte(`"faith"`), &d); err == nil {
		t.Error("faith is a dimension")
	}
	for _, r := range []fate.Rule{fate.Product, fate.Geometric} {
		if back, ok := fate.ParseRule(r.String()); !ok || back != r {
			t.Errorf("ParseRule(%q) = %v, %t", r, back, ok)
		}
	}
	if _, ok := fate.ParseRule("sum"); ok {
		t.Error("sum is a rule")
	}
	if s := fate.Rule(9).String() + fate.Dimension(9).String(); s != "rule(9)dimension(9)" || (fate.Scores{Fidelity: 1}).Of(9) != 0 {
		t.Errorf("unknown names: %s", s)
	}
}

func TestNoAllocation(t *testing.T) {
	o, p, g := whole(), mustNew(t, fate.Config{}), mustNew(t, fate.Config{Rule: fate.Geometric})
	long := whole()
	long.Name, long.Intent = strings.Repeat("Ärger_", 60), strings.Repeat("ÄRGER ", 60)
	words := fate.Words{Intent: fate.SplitWords(o.Intent), Name: fate.SplitWords(o.Name)}
	if n := testing.AllocsPerRun(1000, func() {
		ok := p.Judge(&o).Passed && g.Judge(&o).Passed && p.JudgeWords(&o, words).Passed && p.Judge(&long).Passed
		if !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations for an operation that passes", n)
	}
}

// threeWords is what the speed is promised for.
func threeWords() fate.Operation {
	o := whole()
	o.Name, o.Intent = "deploy_write_report", "write deploy report"
	return o
}

func BenchmarkScoresRaw(b *testing.B) {
	o := threeWords()
	b.ReportAllocs()
	for b.Loop() {
		if s := o.Scores(); s.Fidelity != 1 {
			b.Fatal(s)
		}
	}
}

func BenchmarkScoresRawUnicode(b *testing.B) {
	o := threeWords()
	o.Intent = "schreibe übergabe bericht"
	b.ReportAllocs()
	for b.Loop() {
		if s := o.Scores(); s.Fidelity != 0.7 {
			b.Fatal(s)
		}
	}
}

func BenchmarkScoresPreSplit(b *testing.B) {
	o := threeWords()
	words := fate.Words{Intent: fate.SplitWords(o.Intent), Name: fate.SplitWords(o.Name)}
	b.ReportAllocs()
	for b.Loop() {
		if s := o.ScoresOf(words); s.Fidelity != 1 {
			b.Fatal(s)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	o, p := threeWords(), mustNew(b, fate.Config{})
	b.ReportAllocs()
	for b.Loop() {
		if v := p.Judge(&o); !v.Passed {
			b.Fatal(v)
		}
	}
}

func BenchmarkJudgeRefusal(b *testing.B) {
	p, o := mustNew(b, fate.Config{}), fate.Operation{Name: "file_read"}
	b.ReportAllocs()
	for b.Loop() {
		if v := p.Judge(&o); v.Passed {
			b.Fatal(v)
		}
	}
}

// The most that comparing words can cost: 256 different words on either side.
func BenchmarkScoresWorst(b *testing.B) {
	o := whole()
	var intent, name strings.Builder
	for i := range 256 {
		intent.WriteByte(byte(33 + i%62))
		intent.WriteByte(' ')
		name.WriteRune(rune(33 + i%62))
		name.WriteByte('\t')
	}
	o.Intent, o.Name = intent.String(), name.String()
	b.ReportAllocs()
	for b.Loop() {
		if s := o.Scores(); s.Fidelity != 1 {
			b.Fatal(s)
		}
	}
}
