package gate

import (
	"fmt"
	"slices"

	"github.com/bizra/bizra/fsm/fate"
)

// ToPass says, in sentences for people, what has to change for the proof to pass, in the
// order of the gates; it is empty for one that passes.
func (v *Verdict) ToPass() []string {
	steps := []string{}
	if !v.Ihsan.Passed {
		steps = append(steps, fmt.Sprintf("claim an ihsan_score of at least %v, if the work supports it", v.Ihsan.Least))
	}
	if !v.SNR.Passed {
		steps = append(steps, fmt.Sprintf("claim an snr_score of at least %v, if the work supports it", v.SNR.Least))
	}
	if v.HashDiffers {
		steps = append(steps, "sign again with policy_hash "+v.PolicyHash)
	}
	for _, r := range v.Rules.Holding {
		steps = append(steps, fmt.Sprintf("rule %s: %s", r.Rule, r.Message))
	}
	for _, gap := range v.Scores.Gaps {
		if gap.Required && gap.Part != fate.PartRule {
			steps = append(steps, gap.String())
		}
	}
	return slices.Compact(steps)
}
