package fate

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/exact"
)

const (
	// ThresholdDefault is the composite score from which an operation may happen.
	ThresholdDefault = 0.95
	// Tolerance is how far below the threshold a composite may be: 0.7+0.1+0.1+0.1 falls short of 1 by
	// rounding, and nobody is to be refused for that.
	Tolerance = 1e-9
	// ScoreFloor is the least that a score counts as in the geometric mean, which has no logarithm of 0.
	ScoreFloor = 1e-10

	// weightMax keeps the sum of four weights finite.
	weightMax = 1e9
)

// ErrConfig is returned by [New] when a [Config] is out of its range.
var ErrConfig = errors.New("fate: bad configuration")

// Dimension is one of the four scores.
type Dimension uint8

// The dimensions, in the order in which the weakest is looked for.
const (
	Fidelity Dimension = iota
	Accountability
	Transparency
	Ethics
	dimensions = 4
)

func (d Dimension) String() string {
	switch d {
	case Fidelity:
		return "fidelity"
	case Accountability:
		return "accountability"
	case Transparency:
		return "transparency"
	case Ethics:
		return "ethics"
	default:
		return fmt.Sprintf("dimension(%d)", uint8(d))
	}
}

// ParseDimension is the inverse of [Dimension.String]; ok is false for any other text.
func ParseDimension(name string) (d Dimension, ok bool) {
	for d := Fidelity; d < dimensions; d++ {
		if d.String() == name {
			return d, true
		}
	}
	return 0, false
}

// MarshalText writes the dimension's name.
func (d Dimension) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a dimension's name.
func (d *Dimension) UnmarshalText(name []byte) error {
	parsed, ok := ParseDimension(string(name))
	if !ok {
		return fmt.Errorf("fate: no dimension is called %q", name)
	}
	*d = parsed
	return nil
}

// Of returns the score of a dimension.
func (s Scores) Of(d Dimension) float64 {
	switch d {
	case Fidelity:
		return s.Fidelity
	case Accountability:
		return s.Accountability
	case Transparency:
		return s.Transparency
	case Ethics:
		return s.Ethics
	default:
		return 0
	}
}

// Weakest returns the dimension of the lowest score, the first if several are.
func (s Scores) Weakest() Dimension {
	weakest, lowest := Fidelity, s.Fidelity
	if s.Accountability < lowest {
		weakest, lowest = Accountability, s.Accountability
	}
	if s.Transparency < lowest {
		weakest, lowest = Transparency, s.Transparency
	}
	if s.Ethics < lowest {
		weakest = Ethics
	}
	return weakest
}

// zeroed returns the scores with one of them 0.
func (s Scores) zeroed(d Dimension) Scores {
	switch d {
	case Fidelity:
		s.Fidelity = 0
	case Accountability:
		s.Accountability = 0
	case Transparency:
		s.Transparency = 0
	case Ethics:
		s.Ethics = 0
	}
	return s
}

// Rule says how four scores become one. The zero Rule stands for [Product] in a [Config].
type Rule uint8

// The rules.
const (
	// Product is F·A·T·E, the blueprint's rule.
	Product Rule = iota + 1
	// Geometric is the weighted geometric mean of the scores, each at least [ScoreFloor]:
	// exp(Σ wᵢ·log(sᵢ)) with weights that sum to 1. With equal weights it is the reference's rule.
	Geometric
)

func (r Rule) String() string {
	switch r {
	case Product:
		return "product"
	case Geometric:
		return "geometric"
	default:
		return fmt.Sprintf("rule(%d)", uint8(r))
	}
}

// ParseRule is the inverse of [Rule.String]; ok is false for any other text.
func ParseRule(name string) (r Rule, ok bool) {
	for r := Product; r <= Geometric; r++ {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}

// Config is what a constitution says of the gate.
type Config struct {
	// Rule makes one number of the scores; 0 stands for [Product].
	Rule Rule
	// Threshold is what the composite must reach but for [Tolerance], above 0 and at most 1;
	// 0 stands for [ThresholdDefault].
	Threshold float64
	// Weights are those of the geometric mean, by [Dimension], divided by their sum, which must be above 0; each is
	// finite and at least 0. All 0 stand for equal weights. The product has none.
	Weights [dimensions]float64
}

func (c Config) withDefaults() Config {
	c.Rule = cmp.Or(c.Rule, Product)
	c.Threshold = cmp.Or(c.Threshold, ThresholdDefault)
	if c.Rule == Geometric && c.Weights == [dimensions]float64{} {
		c.Weights = [dimensions]float64{1, 1, 1, 1}
	}
	return c
}

func (c Config) validate() error {
	if c.Rule != Product && c.Rule != Geometric {
		return fmt.Errorf("%w: Rule is %v, want %v or %v", ErrConfig, c.Rule, Product, Geometric)
	}
	if !(c.Threshold > 0 && c.Threshold <= 1) {
		return fmt.Errorf("%w: Threshold is %v, want above 0 and at most 1", ErrConfig, c.Threshold)
	}
	if c.Rule == Product && c.Weights != [dimensions]float64{} {
		return fmt.Errorf("%w: Weights are %v, but the product has none", ErrConfig, c.Weights)
	}
	for i, w := range c.Weights {
		if !(w >= 0 && w <= weightMax) {
			return fmt.Errorf("%w: Weights of %v is %v, want 0 to %v", ErrConfig, Dimension(i), w, weightMax)
		}
	}
	return nil
}

// Policy is a checked [Config]. The zero Policy lets nothing pass.
type Policy struct {
	rule      Rule
	threshold float64
	weights   [dimensions]float64 // sum to 1; of the geometric mean alone
}

// New checks a configuration. The error is [ErrConfig].
func New(config Config) (Policy, error) {
	c := config.withDefaults()
	if err := c.validate(); err != nil {
		return Policy{}, err
	}
	p := Policy{rule: c.Rule, threshold: c.Threshold}
	if c.Rule == Geometric {
		total := c.Weights[0] + c.Weights[1] + c.Weights[2] + c.Weights[3]
		for i, w := range c.Weights {
			p.weights[i] = w / total
		}
	}
	return p, nil
}

// Rule returns how the policy makes one number of the scores.
func (p Policy) Rule() Rule { return p.rule }

// Threshold returns what the composite must reach but for [Tolerance].
func (p Policy) Threshold() float64 { return p.threshold }

// Composite makes one number in [0, 1] of four. It grows with each of them, or stays.
func (p Policy) Composite(s Scores) float64 {
	switch p.rule {
	case Product:
		return float64(s.Fidelity * s.Accountability * s.Transparency * s.Ethics)
	case Geometric:
		sum := float64(p.weights[Fidelity]*exact.Log(max(s.Fidelity, ScoreFloor))) +
			float64(p.weights[Accountability]*exact.Log(max(s.Accountability, ScoreFloor))) +
			float64(p.weights[Transparency]*exact.Log(max(s.Transparency, ScoreFloor))) +
			float64(p.weights[Ethics]*exact.Log(max(s.Ethics, ScoreFloor)))
		return min(1, exact.Exp(sum))
	default:
		return 0
	}
}

// Passes reports whether a composite reaches the threshold.
func (p Policy) Passes(composite float64) bool {
	return p.rule != 0 && composite >= p.threshold-Tolerance
}

// Denial is a rule of a constitution that holds for an operation: it sets the score of its
// dimension to 0, and the operation does not pass, whatever the composite.
type Denial struct {
	Dimension Dimension
	Rule      string // its name
}

// Verdict is what the gate says of an operation.
type Verdict struct {
	Scores    Scores    `json:"scores"`
	Composite float64   `json:"composite"`
	Threshold float64   `json:"threshold"`
	Weakest   Dimension `json:"weakest"`
	Passed    bool      `json:"passed"`
	// Rule is the name of the first rule that denied, if one did.
	Rule string `json:"rule,omitempty"`
	// Gaps are the parts that lower the composite, if the operation was refused, those that help most
	// first; mending all that are Required makes it pass.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Judge scores an operation and says whether it may happen. It allocates only to explain a refusal.
func (p Policy) Judge(o *Operation, denials ...Denial) Verdict {
	return p.verdict(o, o.Scores(), denials)
}

// JudgeWords is [Policy.Judge] for words that were split before (see [Operation.ScoresOf]).
func (p Policy) JudgeWords(o *Operation, w Words, denials ...Denial) Verdict {
	return p.verdict(o, o.ScoresOf(w), denials)
}

func (p Policy) verdict(o *Operation, s Scores, denials []Denial) Verdict {
	for _, d := range denials {
		s = s.zeroed(d.Dimension)
	}
	v := Verdict{Scores: s, Composite: p.Composite(s), Threshold: p.threshold, Weakest: s.Weakest()}
	v.Passed = len(denials) == 0 && p.Passes(v.Composite)
	if len(denials) > 0 {
		v.Rule = denials[0].Rule
	}
	if !v.Passed {
		v.Gaps = p.gaps(o, denials)
	}
	return v
}
