package sim

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestScenarios runs every scenario that comes with the simulator, small: each of its faults must
// take effect, what it is to find must be found, and nothing else.
func TestScenarios(t *testing.T) {
	for _, name := range ScenarioNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := LoadScenario(name)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != name || !strings.HasSuffix(s.About, ".") {
				t.Errorf("it is called %q, and is %q", s.Name, s.About)
			}
			plan, err := s.Plan(false)
			if err != nil {
				t.Fatal(err)
			}
			rep, err := Simulate(t.Context(), plan, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range rep.Broken {
				t.Errorf("%s: %s\n%v", b.Invariant, b.What, b.Last)
			}
			for _, f := range rep.Faults {
				t.Logf("%s from %.0f s to %.0f s: %d times", f.Name, f.From, f.Until, f.Count)
				if !f.TookEffect {
					t.Errorf("%s took no effect", f.Name)
				}
			}
			if wants := plan.Expect != (Expect{}); wants != (len(rep.Findings) > 0) {
				t.Errorf("found: %q", rep.Findings)
			}
			if plan.Expect.Broken == "" {
				for _, i := range rep.Invariants {
					if i.Checks == 0 {
						t.Errorf("%s was not checked", i.Name)
					}
				}
			}
			t.Logf("%d of %d proofs attested, %d certificates, %.1f s of virtual time in %.1f s, %d MiB; found %q", rep.Proofs.Attested, rep.Proofs.Submitted,
				rep.Certificates, rep.VirtualSeconds, rep.WallSeconds, rep.PeakRSSBytes>>20, rep.Findings)
		})
	}
}

// TestScenariosAreThere that the simulator promises.
func TestScenariosAreThere(t *testing.T) {
	names := ScenarioNames()
	for _, want := range []string{"calm", "leader-churn", "rolling-restart", "region-loss", "split-brain", "flapping", "slow-disk", "clock-skew", "equivocation", "rewrite",
		"bad-entry", "silent-third", "over-a-third", "colluders", "sybil-quarter", "spam", "eclipse", "cold-boot", "soak", "market"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// TestScenarioFiles are read strictly, and errors name the line.
func TestScenarioFiles(t *testing.T) {
	const head = "name: x\nsmall: {regions: 4, duration: 10s}\nlarge: {regions: 4, duration: 10s}\n"
	for name, c := range map[string]struct{ text, want string }{
		"an unknown field":           {head + "surprise: 1\n", "line 4: field surprise not found"},
		"an unknown field in a list": {head + "faults:\n  - {kind: crash, at: 1s}\n  - {kind: crash, when: 1s}\n", "line 6: field when not found"},
		"a field twice":              {head + "name: y\n", `line 4: mapping key "name" already defined at line 1`},
		"no number":                  {head + "seed: many\n", "line 4: cannot unmarshal !!str `many`"},
		"no duration":                {head + "settle: soon\n", `line 4: "soon" is no duration`},
		"an unknown fault":           {head + "faults:\n  - {kind: crash}\n  - {kind: meteor}\n", `line 6: fault 2: no fault is called "meteor": bad-entry, `},
		"a part of too much":         {head + "faults:\n  - {kind: loss, part: 2}\n", "line 5: fault 1: part is 2"},
		"a share of too much":        {head + "faults:\n  - {kind: loss, share: 1.1}\n", "line 5: fault 1: share is 1.1"},
		"too many regions":           {head + "faults:\n  - {kind: loss, regions: 150}\n", "line 5: fault 1: regions is 150"},
		"too many nodes":             {head + "faults:\n  - {kind: crash, nodes: 1001}\n", "line 5: fault 1: nodes is 1001"},
		"too late":                   {head + "faults:\n  - {kind: slow-disk, delay: 2h}\n", "line 5: fault 1: delay is 2h"},
		"nobody":                     {head + "faults:\n  - {kind: crash, whom: managers}\n", `line 5: fault 1: whom is "managers"`},
		"no nodes":                   {head + "faults:\n  - {kind: loss, whom: voters}\n", "line 5: fault 1: loss does not befall nodes"},
		"often, not how often":       {head + "faults:\n  - {kind: crash, for: 1s, times: 2}\n", "line 5: fault 1: it happens 2 times: say every how long"},
		"longer than until the next": {head + "faults:\n  - {kind: crash, for: 3s, every: 2s, times: 2}\n", "line 5: fault 1: it happens every 2s"},
		"too often":                  {head + "faults:\n  - {kind: crash, for: 1ms, every: 1ms, times: 1001}\n", "line 5: fault 1: times is 1001"},
		"negative times":             {head + "faults:\n  - {kind: crash, at: -1s}\n", "line 5: fault 1: at, for and every"},
		"after the end":              {head + "faults:\n  - {kind: crash, at: 11s}\n", "fault crash: from 11s"},
		"an unknown invariant":       {head + "expect: {broken: everything}\n", `"everything" is no invariant`},
		"too many nodes in all":      {"small: {nodes: 100001}\n", "nodes is 100001"},
		"too many regions in all":    {"small: {regions: 150}\n", "Regions is 150"},
		"two documents":              {head + "---\nname: y\n", "more than one document"},
		"no mapping":                 {"- 1\n", "line 1: cannot unmarshal !!seq"},
		"nothing":                    {"", "EOF"},
		"too long":                   {strings.Repeat("#", ScenarioBytesMax+1), "longer than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReadScenario(strings.NewReader(c.text), "x.yaml")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, %v; want %q", s, err, c.want)
			}
			if strings.Contains(err.Error(), "sim.") {
				t.Errorf("it names a type: %v", err)
			}
		})
	}
	if s, err := ReadScenario(strings.NewReader(head+strings.Repeat("#", ScenarioBytesMax-len(head))), "x.yaml"); err != nil || s.Name != "x" {
		t.Errorf("a file of the greatest length: %v", err)
	}
	if _, err := LoadScenario("no-such"); err == nil || !strings.Contains(err.Error(), "leader-churn") {
		t.Errorf("no such scenario: %v", err)
	}
}

// TestScenarioPlans repeat a fault on the next node each time.
func TestScenarioPlans(t *testing.T) {
	s, err := LoadScenario("rolling-restart")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(true)
	if err != nil {
		t.Fatal(err)
	}
	if p.Config.Nodes != 10_000 || p.Config.Regions != 100 || len(p.Faults) != 3 {
		t.Fatalf("%+v", p)
	}
	for i, f := range p.Faults {
		c := f.Fault.(*crash)
		if want := time.Duration(2+6*i) * time.Second; f.From != want || f.Until != want+3*time.Second || c.cfg.Turn != i+1 || !c.gently {
			t.Errorf("%v to %v, %+v", f.From, f.Until, c.cfg)
		}
	}
}

func FuzzReadScenario(f *testing.F) {
	for _, name := range ScenarioNames() {
		b, err := scenarioFiles.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("faults: [{kind: loss, part: .nan}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadScenario(bytes.NewReader(b), "fuzzed")
		if err != nil {
			return
		}
		for _, large := range []bool{false, true} {
			if _, err := s.Plan(large); err != nil {
				t.Errorf("it was read, and gives no plan: %v", err)
			}
		}
	})
}
