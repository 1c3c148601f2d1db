package fsm

import (
	"fmt"
	"math"
	"strings"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
)

// Sentences for people about what an outcome says in numbers. They are made when a receipt
// is shown, never kept.

// explain says why the layers refused, and what would make the proof pass; "" where they did not.
func (r *Receipt) explain() string {
	switch {
	case r.Reason == reasonSNRMeasured && r.Agent != nil:
		return r.Agent.explainClaim(r.ClaimMin)
	case r.Reason == reasonBreaker && r.Agent != nil:
		return r.Agent.explainBreaker(r.AgentID)
	case (r.Reason == reasonFate || r.Reason == reasonFateRule) && r.Fate != nil:
		return explainVerdict(r.Fate, r.RuleMessage)
	case r.Reason == reasonBudgetOver && r.Budget != nil && r.Budget.Over != nil:
		o := r.Budget.Over
		return fmt.Sprintf("data.use.%s is %d, and %d is left of the %v budget of this line of work (task %v). Use less, or go back to active and into computing again, where a new budget is allocated.",
			o.Part, o.Asked, o.Left, r.Budget.Tier, r.Budget.Task)
	case r.Reason == reasonUnlicensed && r.Unlicensed != nil:
		return r.Unlicensed.explain()
	default:
		return ""
	}
}

func (u *Unlicensed) explain() string {
	return fmt.Sprintf("data.resource asks for %d of %v, and owner %.80q holds licences to %d. Obtain one that nobody holds with `bizra market issue %v %d`, or one that is held with `bizra market buy`; `bizra market show` tells what there is.",
		u.Asked, u.Resource, u.Owner, u.Held, u.Resource, u.Asked-u.Held)
}

// floored is a score as it may still be claimed, to four decimals.
func floored(score float64) string { return fmt.Sprintf("%.4f", math.Floor(float64(score*1e4))/1e4) }

// claimMin is the lowest snr_score with which a proof can pass under a constitution.
func claimMin(law *constitution.Constitution, action string) float64 {
	least := law.Thresholds.SNRMin
	if action != ActionSessionTransition {
		return least
	}
	if p, err := FatePolicy(law); err == nil { // which is so for each that came in force
		least = max(least, p.LeastSNR())
	}
	return least
}

func (s *Standing) explainClaim(least float64) string {
	text := fmt.Sprintf("metadata.snr_score is above what this agent's record supports: after %d outcomes its measured SNR is %.4f, so that it may claim at most %s",
		s.Outcomes, s.Measured, floored(s.ClaimMax))
	enough := timeText(s.EnoughMillis)
	if s.ClaimMax < least {
		return fmt.Sprintf("%s. A claim below %.4g cannot pass and counts as one more failure, so do not lower it: wait. What was claimed will be enough from %s of log time on, if nothing else happens.",
			text, least, enough)
	}
	return fmt.Sprintf("%s, and needs %.4g. What was claimed will be enough from %s of log time on, if nothing else happens; steps that succeed bring it nearer.",
		text, least, enough)
}

func (s *Standing) explainBreaker(agent string) string {
	what := fmt.Sprintf("is %v, and has had its entries of this minute", s.Breaker)
	if s.Breaker == Muted {
		what = "is muted"
	}
	return fmt.Sprintf("Agent %.80q %s: its reputation is %.2f, since what it did before failed or was refused. Try again from %s of log time on. "+
		"Steps that succeed raise its reputation, and lift the limit; GET /v1/policy shows the numbers under breaker.", agent, what, s.Reputation, timeText(s.UntilMillis))
}

// explainVerdict names every part that is missing or low, and which of them would do.
func explainVerdict(v *fate.Verdict, ruleMessage string) string {
	var b strings.Builder
	if v.Rule != "" {
		fmt.Fprintf(&b, "The constitution's rule %q denies this.", v.Rule)
		if ruleMessage != "" {
			b.WriteString(" " + ruleMessage)
		}
	} else {
		fmt.Fprintf(&b, "FATE gives %.4f and %.4g is needed: fidelity %.3f, accountability %.3f, transparency %.3f, ethics %.3f; the weakest is %v.",
			v.Composite, v.Threshold, v.Scores.Fidelity, v.Scores.Accountability, v.Scores.Transparency, v.Scores.Ethics, v.Weakest)
	}
	var needed, also []string
	for _, g := range v.Gaps {
		switch {
		case g.Part == fate.PartRule && g.Rule == v.Rule:
		case g.Required:
			needed = append(needed, advice(g))
		default:
			also = append(also, advice(g))
		}
	}
	if len(needed) > 0 {
		b.WriteString(" To make it pass: " + strings.Join(needed, "; ") + ".")
	}
	if len(also) > 0 {
		b.WriteString(" It would also gain by this: " + strings.Join(also, "; ") + ".")
	}
	return b.String()
}

// advice says what to do about a gap, in the names of the envelope.
func advice(g fate.Gap) string {
	switch g.Part {
	case fate.PartIntent:
		if g.Missing {
			return "say in data.intent what this is for, in words that data.operation has"
		}
		return fmt.Sprintf("data.operation lacks words of data.intent: %s", strings.Join(g.Words, ", "))
	case fate.PartName:
		return "name the operation in data.operation"
	case fate.PartType:
		return "give data.operation_type, such as read, write or execute"
	case fate.PartInput:
		return "give data.input, what the operation works on"
	case fate.PartMetadata:
		return "give data.meta"
	case fate.PartDescription:
		return "describe it in data.meta.description, or give data.meta.rationale"
	case fate.PartSNR:
		if g.Least > 0 {
			return fmt.Sprintf("metadata.snr_score must be at least %.4g", g.Least)
		}
		return "metadata.snr_score is too low"
	case fate.PartPII, fate.PartToxicity, fate.PartEthicsViolated:
		return fmt.Sprintf("data.meta.%s speaks against it", g.Part)
	case fate.PartRule:
		return fmt.Sprintf("the rule %q denies it too", g.Rule)
	default:
		return fmt.Sprintf("give %s", g.Part)
	}
}
