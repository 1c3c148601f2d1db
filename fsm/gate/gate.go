package gate

import (
	"crypto/subtle"
	"fmt"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/pci"
)

// Gate is a compiled constitution with its scores. It may be used concurrently.
type Gate struct {
	constitution *constitution.Constitution
	policy       *constitution.Policy
	scores       fate.Policy
}

// New makes a gate. The error is constitution.Problems where a rule does not compile.
func New(c *constitution.Constitution) (*Gate, error) {
	p, err := c.Compile()
	if err != nil {
		return nil, err
	}
	f, err := scoresOf(c, c.Composite.Rule, c.Thresholds.FateMin)
	if err != nil {
		return nil, err
	}
	return &Gate{c, p, f}, nil
}

// Policy is the compiled rules.
func (g *Gate) Policy() *constitution.Policy { return g.policy }

// PolicyHash is that of the constitution.
func (g *Gate) PolicyHash() string { return g.constitution.PolicyHash() }

func scoresOf(c *constitution.Constitution, rule string, least float64) (fate.Policy, error) {
	r, ok := fate.ParseRule(rule)
	if !ok {
		return fate.Policy{}, fmt.Errorf("composite.rule %q is no rule of scores", rule)
	}
	cfg := fate.Config{Rule: r, Threshold: least}
	if r == fate.Geometric {
		w := c.Composite.Weights
		cfg.Weights = [...]float64{w.Fidelity, w.Accountability, w.Transparency, w.Ethics}
	}
	return fate.New(cfg)
}

// Claims are what a sender says of its proof beside payload.data.
type Claims struct {
	Ihsan, SNR float64
	PolicyHash string // "": none yet, a payload that is not signed
}

// Threshold is a value that a proof must reach.
type Threshold struct {
	Claimed float64 `json:"claimed"`
	Least   float64 `json:"least"`
	Passed  bool    `json:"passed"`
}

// Decision says what decides about a proof.
type Decision string

// The decisions, in the order in which the gates come.
const (
	ByIhsan      Decision = "ihsan_score"
	BySNR        Decision = "snr_score"
	ByPolicyHash Decision = "policy_hash"
	ByRule       Decision = "rule" // a deny rule
	ByScores     Decision = "fate" // the composite of the four scores
	ByNone       Decision = "none" // nothing speaks against it here
)

// Verdict is all that the constitution says of a proof.
type Verdict struct {
	Decision   Decision
	Ihsan, SNR Threshold
	// PolicyHash is the constitution's; HashDiffers says that the proof carries another.
	PolicyHash  string
	HashDiffers bool
	Rules       constitution.Explanation
	// Scored says that the action is one whose scores count: a session's transition.
	Scored bool
	Scores fate.Verdict
}

// Passed reports whether nothing speaks against the proof.
func (v *Verdict) Passed() bool { return v.Decision == ByNone }

// Judge says how a proof fares.
func (g *Gate) Judge(in constitution.Input, claims Claims) Verdict {
	t := g.constitution.Thresholds
	v := Verdict{PolicyHash: g.PolicyHash(), Rules: g.policy.Explain(in), Scored: Scored(in.Action),
		Ihsan: Threshold{claims.Ihsan, t.IhsanMin, claims.Ihsan >= t.IhsanMin},
		SNR:   Threshold{claims.SNR, t.SNRMin, claims.SNR >= t.SNRMin}}
	v.HashDiffers = claims.PolicyHash != "" && subtle.ConstantTimeCompare([]byte(claims.PolicyHash), []byte(v.PolicyHash)) != 1
	if v.Scored {
		o := Operation(in.Data, claims.SNR)
		v.Scores = g.scores.Judge(&o, denial(v.Rules.Verdict)...)
	}
	switch {
	case !v.Ihsan.Passed:
		v.Decision = ByIhsan
	case !v.SNR.Passed:
		v.Decision = BySNR
	case v.HashDiffers:
		v.Decision = ByPolicyHash
	case v.Rules.Verdict.Denied():
		v.Decision = ByRule
	case v.Scored && !v.Scores.Passed:
		v.Decision = ByScores
	default:
		v.Decision = ByNone
	}
	return v
}

// denial is the rule that decided, if one did: the first, as on every replica.
func denial(v constitution.Verdict) []fate.Denial {
	d, ok := fate.ParseDimension(string(v.Dimension))
	if !ok {
		return nil
	}
	return []fate.Denial{{Dimension: d, Rule: v.Rule}}
}

// Scored reports whether the scores of an action count.
func Scored(action string) bool { return action == "session.transition" }

// Operation is what the scores look at in a transition's data. A signed envelope has an id,
// a timestamp and a trace.
func Operation(data pci.Value, snr float64) fate.Operation {
	o := fate.Operation{Name: text(data, "operation"), Type: text(data, "operation_type"), Intent: text(data, "intent"),
		SNR: snr, HasSNR: true, HasExecutionID: true, HasTimestamp: true, HasTrace: true}
	if in, ok := data.Get("input"); ok {
		o.HasInput = in.Kind() != pci.NullKind
	}
	meta, ok := data.Get("meta")
	if !ok || meta.Kind() != pci.ObjectKind {
		return o
	}
	o.HasMetadata = len(meta.Members()) > 0
	o.HasDescription, o.HasRationale = text(meta, "description") != "", text(meta, "rationale") != ""
	o.PIIDetected, o.ToxicityDetected, o.EthicsViolation = flag(meta, "pii_detected"), flag(meta, "toxicity_detected"), flag(meta, "ethics_violation")
	return o
}

func text(v pci.Value, name string) string {
	if v.Kind() != pci.ObjectKind {
		return ""
	}
	m, ok := v.Get(name)
	if !ok || m.Kind() != pci.StringKind {
		return ""
	}
	return m.String()
}

func flag(v pci.Value, name string) bool {
	m, ok := v.Get(name)
	return ok && m.Bool()
}
