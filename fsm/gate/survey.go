package gate

import (
	"math"
	"slices"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
)

// surveyPercent of the cases are to pass at [Survey.FateMin].
const surveyPercent = 99

// Survey is how the cases of a folder that should pass fare at the whole gate: by the
// rules and the scores.
type Survey struct {
	Cases  int `json:"cases"` // that should pass and whose scores count
	Passed int `json:"passed"`
	// Malformed are those that should pass and whose data no transition has; nothing else counts them.
	Malformed int     `json:"malformed"`
	SNR       float64 `json:"snr"` // that was claimed for each
	// Median of the composite scores, denied ones included.
	Median float64 `json:"composite_median"`
	// Shortfalls are what keeps the others back, the most frequent first.
	Shortfalls []Shortfall `json:"shortfalls"`
	// FateMin is the greatest fate_min, in steps of 0.01, at which 99 of 100 would pass.
	FateMin float64 `json:"fate_min_for_99_percent"`
	// OtherComposite is the rule of composites that the constitution does not use, OtherPassed
	// how many would pass by it at the constitution's own fate_min, and OtherFateMin the
	// FateMin by it.
	OtherComposite string  `json:"other_composite"`
	OtherPassed    int     `json:"other_composite_passed"`
	OtherFateMin   float64 `json:"other_fate_min_for_99_percent"`
}

// Shortfall is a part that proofs lack.
type Shortfall struct {
	Part   fate.Part `json:"part"`
	Needed int       `json:"needed"` // cases that do not pass without it
	Alone  int       `json:"alone"`  // of them, those for which it would be enough
}

// Survey judges the cases that should pass, each with this snr_score.
func (g *Gate) Survey(cases []constitution.Case, snr float64) (Survey, error) {
	s := Survey{SNR: snr, OtherComposite: constitution.Geometric, Shortfalls: []Shortfall{}}
	if g.constitution.Composite.Rule == constitution.Geometric {
		s.OtherComposite = constitution.Product
	}
	law := *g.constitution
	law.Composite.Rule = s.OtherComposite
	other, err := fsm.FatePolicy(&law)
	if err != nil {
		return s, err
	}
	var composites, others []float64
	for _, c := range cases {
		if c.Expect != constitution.ExpectPass || !Scored(c.Input.Action) {
			continue
		}
		o, err := fsm.OperationOf(c.Input.Data, snr)
		if err != nil {
			s.Malformed++
			continue
		}
		ds := denial(g.policy.Evaluate(c.Input))
		v := g.scores.Judge(&o, ds...)
		s.Cases++
		composites = append(composites, v.Composite)
		if v.Passed {
			s.Passed++
		} else {
			s.lacks(v.Gaps)
		}
		v = other.Judge(&o, ds...)
		others = append(others, v.Composite)
		if v.Passed {
			s.OtherPassed++
		}
	}
	if s.Cases == 0 {
		return s, nil
	}
	s.FateMin, s.OtherFateMin = least(composites), least(others)
	s.Median = composites[len(composites)/2]
	slices.SortStableFunc(s.Shortfalls, func(a, b Shortfall) int { return b.Needed - a.Needed })
	return s, nil
}

// least sorts composites and gives the greatest threshold that surveyPercent of them reach.
func least(composites []float64) float64 {
	slices.Sort(composites)
	enough := (surveyPercent*len(composites) + 99) / 100
	return math.Floor(float64((composites[len(composites)-enough]+fate.Tolerance)*100)) / 100
}

func (s *Survey) lacks(gaps []fate.Gap) {
	required := 0
	for _, gap := range gaps {
		if gap.Required {
			required++
		}
	}
	for _, gap := range gaps {
		if !gap.Required {
			continue
		}
		i := slices.IndexFunc(s.Shortfalls, func(f Shortfall) bool { return f.Part == gap.Part })
		if i < 0 {
			i = len(s.Shortfalls)
			s.Shortfalls = append(s.Shortfalls, Shortfall{Part: gap.Part})
		}
		s.Shortfalls[i].Needed++
		if required == 1 {
			s.Shortfalls[i].Alone++
		}
	}
}
