// Package judge answers a [client.Question] from a compiled constitution. The node answers
// POST /v1/judgements with it, and a client that keeps a text to itself, or that reaches no
// node, judges with it where the text is: so both say the same.
//
// It promises what fsm/gate does, and knows no more than it: whether the agent is
// registered and what its record supports only a region knows, and says so in [Standing].
// It does no I/O; a [Judge] may be used concurrently.
package judge

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/gate"
	"github.com/bizra/bizra/pci"
)

// Judge is a compiled constitution.
type Judge struct{ gate *gate.Gate }

// New compiles a constitution, which takes tens of milliseconds. The error is
// constitution.Problems where a rule does not compile.
func New(c *constitution.Constitution) (*Judge, error) {
	g, err := gate.New(c)
	if err != nil {
		return nil, err
	}
	return &Judge{g}, nil
}

// Parse is New of a constitution in canonical JSON, as [client.Policy] has it.
func Parse(text []byte) (*Judge, error) {
	c, err := constitution.ParseCanonical(text)
	if err != nil {
		return nil, fmt.Errorf("read the constitution: %w", err)
	}
	return New(c)
}

// PolicyHash is the constitution's.
func (j *Judge) PolicyHash() string { return j.gate.PolicyHash() }

// Standing is what a region knows beside its constitution.
type Standing struct {
	Region  string
	Known   bool                // the region was asked: without, Agent and Open say nothing
	Open    bool                // unknown agents are registered by their first proof
	Agent   *client.AgentRecord // nil: not registered
	Session constitution.Session
	Now     time.Time // a mute that ends before is over, and what a record lacks is made up until then
}

// Judge says how a proof would fare. The error is a *pci.Reject for a question that is
// no proof: data that is not of its action's form.
func (j *Judge) Judge(q client.Question, s Standing) (*client.Judgement, error) {
	data, err := pci.Parse(q.Data, pci.Limits{})
	if err != nil {
		return nil, err
	}
	if data.Kind() != pci.ObjectKind {
		return nil, pci.Rejectf(pci.RejectSchema, "data must be an object: the payload.data of the proof")
	}
	in := constitution.Input{Action: q.Action, Data: data, Session: s.Session,
		Agent: constitution.Agent{ID: q.AgentID, Type: q.AgentType, Owner: q.AgentID}}
	if in.Agent.Type == "" {
		in.Agent.Type = pci.AgentPAT
	}
	if s.Agent != nil {
		in.Agent.Type, in.Agent.Owner = s.Agent.AgentType, s.Agent.Owner
	}
	v, err := j.gate.Decide(in, gate.Claims{Ihsan: q.IhsanScore, SNR: q.SNRScore, PolicyHash: q.PolicyHash})
	if err != nil {
		return nil, err
	}
	return verdict(&v, &q, &s), nil
}

// verdict puts what the gates say in their order: the agent's standing comes before its claims.
func verdict(v *gate.Verdict, q *client.Question, s *Standing) *client.Judgement {
	out := &client.Judgement{DecidedBy: string(v.Decision), ToPass: v.ToPass(), Region: s.Region, PolicyHash: v.PolicyHash, Agent: s.Agent}
	if v.Scored {
		out.Fate = fateOf(&v.Scores)
	}
	switch v.Decision {
	case gate.ByNone:
		out.Message = "Nothing speaks against it."
	case gate.ByRule:
		r := v.Rules.Verdict
		out.Rule, out.Dimension = r.Rule, string(r.Dimension)
		out.Message = fmt.Sprintf("The constitution's rule %q denies this. %s", r.Rule, r.Message)
	case gate.ByScores:
		out.Message = fmt.Sprintf("FATE gives %.4f and %.4g is needed; the weakest is %v.", v.Scores.Composite, v.Scores.Threshold, v.Scores.Weakest)
	default:
		out.Message = strings.Join(out.ToPass, "; ") + "."
	}
	if by, message := s.refuses(q); by != "" && earlier(by, v.Decision) {
		out.DecidedBy, out.Message, out.Rule, out.Dimension = by, message, "", ""
		out.ToPass = append([]string{message}, out.ToPass...)
	}
	out.Passed = out.DecidedBy == client.DecidedByNone
	return out
}

// earlier reports whether what the region knows decides before what the constitution says.
func earlier(by string, d gate.Decision) bool {
	return by == client.DecidedByAgent || d != gate.ByIhsan && d != gate.BySNR
}

// refuses says what the agent's record has against the proof.
func (s *Standing) refuses(q *client.Question) (by, message string) {
	switch a := s.Agent; {
	case !s.Known:
	case a == nil && !s.Open:
		return client.DecidedByAgent, fmt.Sprintf("Agent %.80q is not registered: an operator of the region does that with `bizra agent register`.", q.AgentID)
	case a == nil:
	case a.Revoked != "":
		return client.DecidedByAgent, fmt.Sprintf("Agent %.80q is revoked since %s.", q.AgentID, a.Revoked)
	case a.Breaker == mutedBreaker && s.before(a.Until):
		return client.DecidedByAgent, fmt.Sprintf("Agent %.80q is muted until %s: what it did before failed or was refused.", q.AgentID, a.Until)
	case q.SNRScore > a.ClaimAt(s.Now)+claimTolerance:
		return client.DecidedBySNR, fmt.Sprintf("The claimed snr_score %v is above what the agent's record supports: its measured SNR was %.4f at the last entry, and it may claim at most %.4f now. Each minute mends some of it; a lower claim would not.",
			q.SNRScore, a.MeasuredSNR, math.Floor(a.ClaimAt(s.Now)*1e4)/1e4)
	}
	return "", ""
}

// before reports whether it is not yet the time of a text.
func (s *Standing) before(text string) bool {
	t, err := time.Parse(time.RFC3339, text)
	return err == nil && s.Now.Before(t)
}

const (
	mutedBreaker   = "muted"
	claimTolerance = 1e-9 // as the state machine forgives
)

func fateOf(v *fate.Verdict) *client.Fate {
	f := &client.Fate{Scores: client.Scores{Fidelity: v.Scores.Fidelity, Accountability: v.Scores.Accountability, Transparency: v.Scores.Transparency, Ethics: v.Scores.Ethics},
		Composite: v.Composite, Threshold: v.Threshold, Weakest: v.Weakest.String(), Passed: v.Passed, Rule: v.Rule}
	for _, g := range v.Gaps {
		f.Gaps = append(f.Gaps, client.Gap{Dimension: g.Dimension.String(), Part: string(g.Part), Missing: g.Missing, Gain: g.Gain, Composite: g.Composite,
			Required: g.Required, Least: g.Least, Words: g.Words, Rule: g.Rule})
	}
	return f
}
