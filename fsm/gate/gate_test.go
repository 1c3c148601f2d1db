package gate_test

import (
	"os"
	"strings"
	"testing"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/gate"
	"github.com/bizra/bizra/pci"
)

func defaultGate(t *testing.T, edit func(*constitution.Constitution)) *gate.Gate {
	t.Helper()
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(c)
	}
	g, err := gate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func transition(t *testing.T, data string) constitution.Input {
	t.Helper()
	v, err := pci.Parse([]byte(data), pci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return constitution.Input{Action: "session.transition", Data: v}
}

const listing = `{"session":"s","to":"computing","operation":"list_files","operation_type":"shell","intent":"list files",
	"input":{"command":"ls"},"meta":{"description":"see what is there"}}`

// Every decision, in the order in which the gates come: the first that fails decides.
func TestJudge(t *testing.T) {
	g := defaultGate(t, nil)
	good := gate.Claims{Ihsan: 0.99, SNR: 0.95, PolicyHash: g.PolicyHash()}
	removal := strings.Replace(listing, `"ls"`, `"rm -rf /"`, 1)
	for _, c := range []struct {
		name, data string
		claims     gate.Claims
		want       gate.Decision
	}{
		{"all well", listing, good, gate.ByNone},
		{"not signed yet", listing, gate.Claims{Ihsan: 0.99, SNR: 0.95}, gate.ByNone},
		{"ihsan before all", removal, gate.Claims{Ihsan: 0.9, SNR: 0.5, PolicyHash: "x"}, gate.ByIhsan},
		{"snr before the hash", removal, gate.Claims{Ihsan: 0.99, SNR: 0.5, PolicyHash: "x"}, gate.BySNR},
		{"the hash before rules", removal, gate.Claims{Ihsan: 0.99, SNR: 0.95, PolicyHash: "x"}, gate.ByPolicyHash},
		{"a rule", removal, good, gate.ByRule},
		{"the scores", strings.Replace(listing, `"list files"`, `"look around"`, 1), good, gate.ByScores},
		{"an SNR that opens the gate but not the scores", listing, gate.Claims{Ihsan: 0.99, SNR: 0.9}, gate.ByScores},
		{"no input", strings.Replace(listing, `{"command":"ls"}`, "null", 1), good, gate.ByScores},
		{"toxic by its own word", strings.Replace(listing, `{"description"`, `{"toxicity_detected":true,"description"`, 1), good, gate.ByScores},
	} {
		v, err := g.Judge(transition(t, c.data), c.claims)
		if err != nil {
			t.Fatal(err)
		}
		if v.Decision != c.want || v.Passed() != (c.want == gate.ByNone) {
			t.Errorf("%s: decided by %s, want %s: %+v", c.name, v.Decision, c.want, v.Scores)
		}
		fast, err := g.Decide(transition(t, c.data), c.claims)
		if err != nil || fast.Decision != v.Decision || fast.Rules.Verdict != v.Rules.Verdict || len(fast.ToPass()) > len(v.ToPass()) {
			t.Errorf("%s: decided fast by %s, rule %q: %v", c.name, fast.Decision, fast.Rules.Verdict.Rule, err)
		}
		if passed := len(v.ToPass()) == 0; passed != v.Passed() {
			t.Errorf("%s: to pass it takes %q", c.name, v.ToPass())
		}
	}
	in := transition(t, strings.Replace(listing, `"list files"`, `"look around"`, 1))
	in.Action = "session.open"
	if v, err := g.Judge(in, good); err != nil || v.Scored || !v.Passed() {
		t.Errorf("an action without scores was scored: %+v, %v", v, err)
	}
	in = transition(t, removal)
	in.Action = "agent.register"
	if v, err := g.Judge(in, good); err != nil || !v.Passed() {
		t.Errorf("rules were asked about what is no session's: %+v, %v", v, err)
	}
	if _, err := g.Judge(transition(t, `{"session":"s"}`), good); pci.CodeOf(err) != pci.RejectSchema {
		t.Errorf("no transition's data: %v", err)
	}
}

func TestNewRefusesWhatDoesNotCompile(t *testing.T) {
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.Rules[0].Deny = "no such thing("
	if _, err := gate.New(c); err == nil {
		t.Error("a gate was made of a rule that does not compile")
	}
}

// The rate of the whole gate that docs/constitution.md gives, and what raises it.
func TestSurveyOfTheCorpus(t *testing.T) {
	cases, err := constitution.ReadCases(os.DirFS("../constitution/testdata/corpus"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := defaultGate(t, nil).Survey(cases, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	if s.Cases != 396 || s.Passed != 0 || s.FateMin != 0.66 || s.OtherFateMin != 0.9 || s.OtherPassed != 0 || s.OtherComposite != constitution.Geometric ||
		len(s.Shortfalls) != 1 || s.Shortfalls[0] != (gate.Shortfall{Part: fate.PartIntent, Needed: 396, Alone: 396}) {
		t.Errorf("survey %+v", s)
	}
	// What the survey says would raise it does.
	for name, edit := range map[string]func(*constitution.Constitution){
		"fate_min": func(c *constitution.Constitution) { c.Thresholds.FateMin = s.FateMin },
		"composite": func(c *constitution.Constitution) {
			c.Thresholds.FateMin, c.Composite.Rule = s.OtherFateMin, s.OtherComposite
		},
	} {
		r, err := defaultGate(t, edit).Survey(cases, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		if r.Passed*100 < r.Cases*99 {
			t.Errorf("%s: %d of %d pass", name, r.Passed, r.Cases)
		}
	}
	// So does an operation that is named by its intent.
	v := transition(t, listing)
	named := []constitution.Case{{Input: v, Expect: constitution.ExpectPass}, {Input: v, Expect: constitution.ExpectDeny}}
	if r, err := defaultGate(t, nil).Survey(named, 0.95); err != nil || r.Cases != 1 || r.Passed != 1 || r.FateMin != 0.95 {
		t.Errorf("a case that says all: %+v, %v", r, err)
	}
	none := []constitution.Case{{Input: transition(t, `{"session":"s"}`), Expect: constitution.ExpectPass}}
	if r, err := defaultGate(t, nil).Survey(none, 0.95); err != nil || r.Cases != 0 || r.Malformed != 1 {
		t.Errorf("no transition's data: %+v, %v", r, err)
	}
	if r, err := defaultGate(t, nil).Survey(nil, 0.95); err != nil || r.Cases != 0 {
		t.Errorf("no case: %+v, %v", r, err)
	}
}
