package ntu_test

import (
	"math"
	"testing"

	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/internal/vectors"
)

const tolerance = 1e-9

func near(a, b float64) bool { return math.Abs(a-b) <= tolerance }

func TestVectorsNTU(t *testing.T) {
	var file struct {
		Cases []struct {
			Config struct {
				Window int `json:"window_size"`
				Alpha  float64
				Beta   float64
				Gamma  float64
			}
			Observations []float64
			Trace        [][3]float64
			Convergence  struct {
				Epsilon       float64
				IterationsMax int `json:"max_iterations"`
				Converged     bool
				Iterations    int
				Belief        float64
			}
		}
	}
	vectors.Load(t, "ntu.json", &file)
	steps := 0
	for i, c := range file.Cases {
		config := ntu.Config(c.Config)
		u, err := ntu.New(config)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if len(c.Trace) != len(c.Observations) {
			t.Fatalf("case %d has %d observations and %d states", i, len(c.Observations), len(c.Trace))
		}
		for j, v := range c.Observations {
			steps++
			got, err := u.Observe(v)
			if err != nil {
				t.Fatalf("case %d, observation %d: %v", i, j, err)
			}
			want := c.Trace[j]
			if !near(got.Belief, want[0]) || !near(got.Entropy, want[1]) || !near(got.Potential, want[2]) {
				t.Errorf("case %d, observation %d: %+v, want %v", i, j, got, want)
			}
		}
		want := c.Convergence
		got, err := ntu.Converge(config, c.Observations, want.Epsilon, want.IterationsMax)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if got.Converged != want.Converged || got.Iterations != want.Iterations || !near(got.State.Belief, want.Belief) {
			t.Errorf("case %d converges as %+v, want %+v", i, got, want)
		}
	}
	if len(file.Cases) != 60 || steps < 1000 {
		t.Errorf("%d cases with %d observations were tried", len(file.Cases), steps)
	}
}

func TestStationary(t *testing.T) {
	got, err := ntu.DefaultChain().Stationary()
	if err != nil {
		t.Fatal(err)
	}
	want := [3]float64{0.16, 19.0 / 75, 44.0 / 75}
	for i := range want {
		if !near(got[i], want[i]) {
			t.Errorf("Stationary() = %v, want %v", got, want)
		}
	}
}
