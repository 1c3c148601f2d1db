package constitution_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

func TestDefault(t *testing.T) {
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	want := constitution.Thresholds{IhsanMin: 0.95, SNRMin: 0.85, FateMin: 0.95, TimestampWindowMillis: 120_000, NonceWindowMillis: 300_000,
		MeasuredSNRMargin: 0.10, MeasuredAfter: 20}
	if c.Thresholds != want {
		t.Errorf("thresholds %+v", c.Thresholds)
	}
	if c.Limits != (constitution.Limits{RefusalsPerMinute: 60, StateMismatchesPerMinute: 6_000}) {
		t.Errorf("limits %+v", c.Limits)
	}
	if c.Composite.Rule != constitution.Product || c.Composite.Weights != (constitution.Weights{Fidelity: 1, Accountability: 1, Transparency: 1, Ethics: 1}) {
		t.Errorf("composite %+v", c.Composite)
	}
	if p := c.PCI(); p.PolicyHash != c.PolicyHash() || p.IhsanMin != 0.95 || p.TimestampWindow.Milliseconds() != 120_000 {
		t.Errorf("gates %+v", p)
	}
	hash, err := constitution.Hash(constitution.DefaultText())
	if err != nil || hash != c.PolicyHash() || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(hash) {
		t.Errorf("hash %q, %v; the document's is %q", hash, err, c.PolicyHash())
	}
	if problems := constitution.Lint(constitution.DefaultText()); len(problems) != 0 {
		t.Error(problems)
	}
}

// What a document leaves out has its default, and how it is written does not matter.
func TestHashIsOfTheMeaning(t *testing.T) {
	texts := []string{
		"version: 2\nrules: [{name: a, dimension: ethics, deny: 'data.x == 1', message: No x.}]\n",
		"# a comment\nrules:\n  - message: |\n      No x.\n    deny: >-\n      data.x == 1\n    name: \"a\"   # another\n    dimension: ethics\n\nversion: 2\nterms: []\n",
		`{"version": 2, "rules": [{"name": "a", "dimension": "ethics", "deny": "  data.x == 1\n", "message": "No x."}], "thresholds": {"ihsan_min": 0.950, "snr_min": 8.5e-1}}`,
		"version: 2\nlimits: {refusals_per_minute: 60, open_registration: false}\ncomposite: {rule: product, weights: {ethics: 1.0}}\nrules:\n- {name: a, dimension: ethics, deny: data.x == 1, message: No x.}\n",
	}
	first := ""
	for i, text := range texts {
		hash, err := constitution.Hash([]byte(text))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if first == "" {
			first = hash
		}
		if hash != first {
			t.Errorf("document %d has another hash than the first", i)
		}
	}
	for _, change := range []string{"data.x == 2", "data.x  == 1", "data.y == 1"} {
		hash, err := constitution.Hash([]byte(strings.Replace(texts[0], "data.x == 1", change, 1)))
		if err != nil || hash == first {
			t.Errorf("%s: the same hash, or %v", change, err)
		}
	}
	c, err := constitution.Parse([]byte(texts[0]))
	if err != nil {
		t.Fatal(err)
	}
	const canonical = `{"breaker":{"after":12,"mute_after":6,"mute_below":0.17,"mute_ms":300000,"mute_ms_max":3600000,"probation_failures":2,"restore_above":0.5,"throttle_below":0.2,"throttled_per_minute":6},` +
		`"composite":{"rule":"product","weights":{"accountability":1.0,"ethics":1.0,"fidelity":1.0,"transparency":1.0}},` +
		`"limits":{"open_registration":false,"refusals_per_minute":60,"state_mismatches_per_minute":6000},` +
		`"rules":[{"deny":"data.x == 1","dimension":"ethics","message":"No x.","name":"a"}],"terms":[],` +
		`"thresholds":{"fate_min":0.95,"ihsan_min":0.95,"measured_after":20,"measured_snr_margin":0.1,"nonce_window_ms":300000,"snr_min":0.85,"timestamp_window_ms":120000},"version":2}`
	if got := string(c.Canonical()); got != canonical {
		t.Errorf("canonical form\n%s\nwant\n%s", got, canonical)
	}
}

// Each file of testdata/problems has documents, and what should be said of each.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files, %v", err)
	}
	n := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			document, want := archive.Files[i], archive.Files[i+1]
			n++
			var got strings.Builder
			for _, p := range constitution.Lint(document.Data) {
				got.WriteString(p.String() + "\n")
			}
			if got.String() == string(want.Data) {
				continue
			}
			t.Errorf("%s, %s: problems\n%swant\n%s", file, document.Name, got.String(), want.Data)
			if os.Getenv("UPDATE_GOLDEN") != "" {
				archive.Files[i+1].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d documents", n)
	}
}

func TestBounds(t *testing.T) {
	rule := func(n int) string {
		return "- {name: r" + strings.Repeat("x", n) + ", dimension: ethics, deny: 'false', message: m}\n"
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- {name: r%d, dimension: ethics, deny: 'false', message: m}\n", i)
		}
		return b.String()
	}
	terms := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("- {name: t" + strings.Repeat("x", i) + ", value: \"'a'\"}\n")
		}
		return b.String()
	}
	expression := func(n int) string {
		return "- {name: r, dimension: ethics, message: m, deny: \"data.x == '" + strings.Repeat("x", n-len("data.x == ''")) + "'\"}\n"
	}
	for _, c := range []struct {
		name string
		text string
		ok   bool
	}{
		{"64 rules", "rules:\n" + many(constitution.RulesMax), true},
		{"65 rules", "rules:\n" + many(constitution.RulesMax+1), false},
		{"16 terms", "terms:\n" + terms(constitution.TermsMax), true},
		{"17 terms", "terms:\n" + terms(constitution.TermsMax+1), false},
		{"longest expression", "rules:\n" + expression(constitution.ExpressionBytesMax), true},
		{"longer expression", "rules:\n" + expression(constitution.ExpressionBytesMax+1), false},
		{"longest name", "rules:\n" + rule(constitution.NameBytesMax-1), true},
		{"longer name", "rules:\n" + rule(constitution.NameBytesMax), false},
		{"largest document", "#" + strings.Repeat("x", constitution.DocumentBytesMax-len("version: 2\n#\n")) + "\n", true},
		{"larger document", "#" + strings.Repeat("x", constitution.DocumentBytesMax-len("version: 2\n#\n")+1) + "\n", false},
		{"longest message", "rules:\n- {name: r, dimension: ethics, deny: 'false', message: " + strings.Repeat("m", constitution.MessageBytesMax) + "}\n", true},
		{"longer message", "rules:\n- {name: r, dimension: ethics, deny: 'false', message: " + strings.Repeat("m", constitution.MessageBytesMax+1) + "}\n", false},
		{"longest pattern", "rules:\n- {name: r, dimension: ethics, message: m, deny: \"action.matches('" + strings.Repeat("p", constitution.PatternBytesMax) + "')\"}\n", true},
		{"longer pattern", "rules:\n- {name: r, dimension: ethics, message: m, deny: \"action.matches('" + strings.Repeat("p", constitution.PatternBytesMax+1) + "')\"}\n", false},
		{"costly pattern", "rules:\n- {name: r, dimension: ethics, message: m, deny: \"action.matches('(?:[a-z]{50}){90}')\"}\n", false},
		{"costly rule", "rules:\n- {name: r, dimension: ethics, message: m, deny: \"data.x.exists(a, data.x.exists(b, a == b))\"}\n", false},
	} {
		_, err := constitution.Parse([]byte("version: 2\n" + c.text))
		if (err == nil) != c.ok {
			t.Errorf("%s: error %v", c.name, err)
		}
		var problems constitution.Problems
		if err != nil && (!errors.As(err, &problems) || problems[0].Line == 0) {
			t.Errorf("%s: the error names no line: %v", c.name, err)
		}
	}
}

// Each expression is within its bound; together they are not.
func TestTotalCost(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 2\nrules:\n")
	for i := range constitution.RulesMax - 1 {
		b.WriteString("- {name: r" + strings.Repeat("x", i) + ", dimension: ethics, message: m, deny: \"action.matches('" + strings.Repeat("p", 1900) + "')\"}\n")
	}
	_, err := constitution.Parse([]byte(b.String()))
	if err == nil || !strings.Contains(err.Error(), "all expressions together") {
		t.Errorf("error %v", err)
	}
}

func TestParseCanonical(t *testing.T) {
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	text := c.Canonical()
	again, err := constitution.ParseCanonical(text)
	if err != nil || !bytes.Equal(again.Canonical(), text) || again.PolicyHash() != c.PolicyHash() {
		t.Fatalf("read back: %v", err)
	}
	for name, other := range map[string]string{
		"missing member": strings.Replace(string(text), `"open_registration":false,`, "", 1),
		"other number":   strings.Replace(string(text), `"ihsan_min":0.95,`, `"ihsan_min":0.950,`, 1),
		"not trimmed":    strings.Replace(string(text), `"deny":"size(`, `"deny":" size(`, 1),
		"unknown member": strings.Replace(string(text), `"version":2`, `"version":2,"x":1`, 1),
		"version":        strings.Replace(string(text), `"version":2`, `"version":3`, 1),
		"bad rule":       strings.Replace(string(text), `"deny":"size(`, `"deny":"sizes(`, 1),
		"duplicate":      strings.Replace(string(text), `"version":2`, `"version":2,"version":2`, 1),
		"no object":      `[]`,
		"no JSON":        `{`,
	} {
		if other == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := constitution.ParseCanonical([]byte(other)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCanonicalRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		score := rapid.Float64Range(0, 1)
		weight := rapid.Float64Range(0.001, 100)
		window := rapid.Int64Range(1_000, 3_600_000).Draw(rt, "window")
		text := rapid.StringMatching(`[^\s\pZ\pC\x{fffd}]{1,20}`)
		c := constitution.Constitution{
			Thresholds: constitution.Thresholds{IhsanMin: score.Draw(rt, "ihsan"), SNRMin: score.Draw(rt, "snr"), FateMin: rapid.Float64Range(0.001, 1).Draw(rt, "fate"),
				TimestampWindowMillis: window, NonceWindowMillis: 2*window + 1, MeasuredSNRMargin: score.Draw(rt, "margin"), MeasuredAfter: rapid.Int64Range(0, 1_000_000).Draw(rt, "after")},
			Limits: constitution.Limits{RefusalsPerMinute: rapid.Int64Range(1, 1_000_000).Draw(rt, "refusals"),
				StateMismatchesPerMinute: rapid.Int64Range(1, 1_000_000).Draw(rt, "mismatches"), OpenRegistration: rapid.Bool().Draw(rt, "open")},
			Breaker: constitution.Breaker{After: 1, ThrottleBelow: rapid.Float64Range(0.1, 0.5).Draw(rt, "throttle"), MuteBelow: 0.1, RestoreAbove: rapid.Float64Range(0.6, 0.8).Draw(rt, "restore"),
				ThrottledPerMinute: 2, MuteAfter: 3, MuteMillis: rapid.Int64Range(1_000, 5_000).Draw(rt, "mute"), MuteMillisMax: 6_000, ProbationFailures: 4},
			Composite: constitution.Composite{Rule: constitution.Geometric,
				Weights: constitution.Weights{Fidelity: weight.Draw(rt, "f"), Accountability: weight.Draw(rt, "a"), Transparency: weight.Draw(rt, "t"), Ethics: weight.Draw(rt, "e")}},
			Rules: []constitution.Rule{{Name: "r", Dimension: constitution.Fidelity, Deny: "data.x == 1", Message: text.Draw(rt, "message")}},
		}
		again, err := constitution.ParseCanonical(c.Canonical())
		if err != nil {
			rt.Fatalf("%s: %v", c.Canonical(), err)
		}
		if !bytes.Equal(again.Canonical(), c.Canonical()) || again.Thresholds != c.Thresholds || again.Limits != c.Limits || again.Breaker != c.Breaker || again.Composite != c.Composite {
			rt.Fatalf("%s became %s", c.Canonical(), again.Canonical())
		}
		// JSON is YAML.
		other, err := constitution.Parse(c.Canonical())
		if err != nil || other.PolicyHash() != c.PolicyHash() {
			rt.Fatalf("%s as YAML: %v", c.Canonical(), err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(constitution.DefaultText()[:1500])
	for _, s := range []string{"version: 2\n", "version: 2\nrules: [{name: a, dimension: ethics, deny: 'true', message: m}]", "a: &x [*x]", "<<: {}", "!!binary x", "[[[[", "version: 2\nterms: [{name: t, value: \"'a'\"}]",
		"version: 2\r\n", "\xff", "? {a: b}\n: c", "version: 2\n---\nversion: 2", "%YAML 1.1\n---\n", "version: 2\nrules:\n- deny: |\n    data.x\n     == \n", "\t"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 8<<10 {
			return
		}
		problems := constitution.Lint(text)
		c, err := constitution.Parse(text)
		if (err == nil) != (len(problems) == 0) {
			t.Fatalf("error %v, problems %v", err, problems)
		}
		lines := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) + 2
		for _, p := range problems {
			if p.Message == "" || p.Line < 0 || p.Line > lines+1 {
				t.Errorf("problem %+v in %d lines", p, lines)
			}
		}
		if err != nil {
			return
		}
		again, err := constitution.ParseCanonical(c.Canonical())
		if err != nil || !bytes.Equal(again.Canonical(), c.Canonical()) {
			t.Fatalf("%q does not read back: %v", c.Canonical(), err)
		}
	})
}

func FuzzParseCanonical(f *testing.F) {
	c, err := constitution.Parse([]byte("version: 2\nrules: [{name: a, dimension: ethics, deny: 'true', message: m}]"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Canonical())
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := constitution.ParseCanonical(text)
		if err != nil {
			return
		}
		v, err := pci.Parse(text, pci.Limits{BytesMax: constitution.DocumentBytesMax})
		if err != nil || !bytes.Equal(v.AppendCanonical(nil), c.Canonical()) {
			t.Errorf("%q was read as %q", text, c.Canonical())
		}
	})
}

func FuzzEvaluate(f *testing.F) {
	p := defaultPolicy(f)
	for _, s := range []string{`{}`, `{"input":{"command":"rm -rf /"}}`, `{"input":"x","meta":{"scope":"/a"}}`, `{"input":{"args":["a b","c"],"command":"sh"}}`, `{"meta":{"scope":[1]},"input":{"content":"x","file_path":"y"}}`, `[1]`, `{"\u0063ommand":"rm -rf /"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := pci.Parse(text, pci.Limits{})
		if err != nil {
			return
		}
		in := constitution.Input{Action: "session.transition", Data: v}
		first := p.Evaluate(in)
		if again, x := p.Evaluate(in), p.Explain(in); again != first || x.Verdict != first {
			t.Errorf("%s: %+v, then %+v, explained as %+v", text, first, again, x.Verdict)
		}
	})
}
