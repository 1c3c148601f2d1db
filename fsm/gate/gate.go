package gate

import (
	"crypto/subtle"
	"strings"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
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
	f, err := fsm.FatePolicy(c)
	if err != nil {
		return nil, err
	}
	return &Gate{c, p, f}, nil
}

// Policy is the compiled rules.
func (g *Gate) Policy() *constitution.Policy { return g.policy }

// PolicyHash is that of the constitution.
func (g *Gate) PolicyHash() string { return g.constitution.PolicyHash() }

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
	Action     string
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

// Judge says how a proof fares. The error is a *pci.Reject where the data is not that of a
// transition and ought to be.
func (g *Gate) Judge(in constitution.Input, claims Claims) (Verdict, error) {
	return g.judge(in, claims, g.policy.Explain)
}

// Decide is Judge as fast as a replica is: of the rules it knows only the one that decides.
func (g *Gate) Decide(in constitution.Input, claims Claims) (Verdict, error) {
	return g.judge(in, claims, func(in constitution.Input) constitution.Explanation {
		x := constitution.Explanation{Verdict: g.policy.Evaluate(in)}
		if x.Verdict.Denied() {
			x.Holding = []constitution.Verdict{x.Verdict}
		}
		return x
	})
}

func (g *Gate) judge(in constitution.Input, claims Claims, ask func(constitution.Input) constitution.Explanation) (Verdict, error) {
	t := g.constitution.Thresholds
	v := Verdict{Action: in.Action, PolicyHash: g.PolicyHash(), Scored: Scored(in.Action),
		Ihsan: Threshold{claims.Ihsan, t.IhsanMin, claims.Ihsan >= t.IhsanMin},
		SNR:   Threshold{claims.SNR, t.SNRMin, claims.SNR >= t.SNRMin}}
	v.HashDiffers = claims.PolicyHash != "" && subtle.ConstantTimeCompare([]byte(claims.PolicyHash), []byte(v.PolicyHash)) != 1
	if Ruled(in.Action) {
		v.Rules = ask(in)
	}
	if v.Scored {
		o, err := fsm.OperationOf(in.Data, claims.SNR)
		if err != nil {
			return v, err
		}
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
	return v, nil
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
func Scored(action string) bool { return action == fsm.ActionSessionTransition }

// Ruled reports whether the deny rules are asked about an action.
func Ruled(action string) bool {
	return strings.HasPrefix(action, "session.") || strings.HasPrefix(action, "market.")
}
