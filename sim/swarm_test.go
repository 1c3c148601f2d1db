package sim

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// TestSwarm runs what a seed draws. BIZRA_SEED is where it begins, BIZRA_SWARM asks for more than one.
func TestSwarm(t *testing.T) {
	seed, runs := uint64(1), 1
	if text := os.Getenv("BIZRA_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("BIZRA_SWARM"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for i := range runs {
		seed := seed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("BIZRA_SEED=%d", seed)
			plan, err := Swarm(seed)
			if err != nil {
				t.Fatal(err)
			}
			rep, err := Simulate(t.Context(), plan, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range rep.Broken {
				t.Errorf("%s at %.1f s: %s\n%v", b.Invariant, b.At, b.What, b.Last)
			}
			effects := 0
			for _, f := range rep.Faults {
				t.Logf("%s from %.0f s to %.0f s: %d times", f.Name, f.From, f.Until, f.Count)
				effects += f.Count
			}
			if effects == 0 || rep.Proofs.Attested == 0 {
				t.Errorf("nothing happened: %d effects, %+v", effects, rep.Proofs)
			}
		})
	}
}

// TestSwarmDraws the same plan from the same seed, and every kind of fault sooner or later.
func TestSwarmDraws(t *testing.T) {
	drawn := map[string]bool{}
	for seed := range uint64(200) {
		a, err := Swarm(seed)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := Swarm(seed)
		if describe(a) != describe(b) {
			t.Fatalf("seed %d: %s and then %s", seed, describe(a), describe(b))
		}
		p := a.withDefaults()
		if err := p.validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, f := range a.Faults {
			drawn[f.Fault.Name()] = true
		}
	}
	for _, kind := range swarmKinds() {
		if !drawn[kind] {
			t.Errorf("%s is never drawn", kind)
		}
	}
}

func describe(p Plan) string {
	text := fmt.Sprintf("%s %d %d %d %+v", p.Name, p.Config.Nodes, p.Config.Regions, p.Config.Voters, p.Work)
	for _, f := range p.Faults {
		text += fmt.Sprintf(" %s %v %v", f.Fault.Name(), f.From, f.Until)
	}
	return text
}
