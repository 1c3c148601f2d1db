package client

import (
	"math"
	"strings"
	"time"
)

// What the governance layers say, in receipts, sessions and of agents. Scores are in [0, 1].

// NTU is what a unit makes of its last observations.
type NTU struct {
	Belief    float64 `json:"belief"`
	Entropy   float64 `json:"entropy"`
	Potential float64 `json:"potential"`
}

// Scores are the four of FATE.
type Scores struct {
	Fidelity       float64 `json:"fidelity"`
	Accountability float64 `json:"accountability"`
	Transparency   float64 `json:"transparency"`
	Ethics         float64 `json:"ethics"`
}

// Fate is how a proof fared in FATE.
type Fate struct {
	Scores    Scores  `json:"scores"`
	Composite float64 `json:"composite"`
	Threshold float64 `json:"threshold"` // what the composite must reach
	Weakest   string  `json:"weakest"`   // dimension
	Passed    bool    `json:"passed"`
	Rule      string  `json:"rule,omitempty"` // of the constitution, if one denied
	Gaps      []Gap   `json:"gaps,omitempty"` // of a proof that did not pass, those that help most first
}

// Gap is a part that lowers a score.
type Gap struct {
	Dimension string   `json:"dimension"`
	Part      string   `json:"part"`
	Missing   bool     `json:"missing"`   // not given at all
	Gain      float64  `json:"gain"`      // of the dimension's score, once this and those before it are mended
	Composite float64  `json:"composite"` // then
	Required  bool     `json:"required"`  // the proof does not pass without it
	Least     float64  `json:"least,omitempty"`
	Words     []string `json:"words,omitempty"` // of the intent, that the operation's name lacks
	Rule      string   `json:"rule,omitempty"`
}

// Needed lists the parts without which a refused proof does not pass, "" for one that passed.
func (f *Fate) Needed() string {
	var parts []string
	for _, g := range f.Gaps {
		if g.Required {
			parts = append(parts, g.Part)
		}
	}
	return strings.Join(parts, ", ")
}

// Budget is what a session's tip may spend.
type Budget struct {
	Task      string      `json:"task"`
	Tier      string      `json:"tier"`
	Left      BudgetLeft  `json:"left"`
	Allocated *Allocation `json:"allocated,omitempty"` // by this very step
	Over      *BudgetOver `json:"over,omitempty"`      // why the step was refused
}

// BudgetLeft is what is left of an allocation. Depth and tracks are ceilings.
type BudgetLeft struct {
	TimeMillis int64 `json:"time_ms"`
	Tokens     int64 `json:"tokens"`
	Iterations int64 `json:"iterations"`
	Depth      int64 `json:"depth"`
	Tracks     int64 `json:"tracks"`
}

// BudgetOver is a part of a budget that a use would exceed.
type BudgetOver struct {
	Part  string `json:"part"`
	Asked int64  `json:"asked"`
	Left  int64  `json:"left"`
}

// Allocation is what a task was given.
type Allocation struct {
	Task             string  `json:"task"`
	Tier             string  `json:"tier"`
	Complexity       float64 `json:"complexity"`
	TimeSeconds      float64 `json:"time_seconds"`
	TimeMillis       int64   `json:"time_ms"`
	Tokens           int64   `json:"tokens"`
	Depth            int64   `json:"depth"`
	Tracks           int64   `json:"tracks"`
	Iterations       int64   `json:"iterations"`
	Confidence       float64 `json:"confidence"`
	ExtendedThinking bool    `json:"extended_thinking"`
	NTUWindow        int     `json:"ntu_window"`
}

// Standing is how an agent has done. Times are log time, RFC 3339.
type Standing struct {
	Outcomes    int64   `json:"outcomes"`     // that were measured
	MeasuredSNR float64 `json:"measured_snr"` // their exponential mean
	ClaimMax    float64 `json:"claim_max"`    // the highest snr_score that it may claim
	Reputation  float64 `json:"reputation"`
	Breaker     string  `json:"breaker"`               // clear, throttled, muted or probation
	EnoughFrom  string  `json:"enough_from,omitempty"` // when the claim that was refused would do
	Until       string  `json:"until,omitempty"`       // when a mute or a throttled minute ends
}

// AgentRecord is what a region knows of an agent.
type AgentRecord struct {
	Agent
	Standing
	Accepted  int64  `json:"accepted"` // entries, whatever the action
	Refused   int64  `json:"refused"`  // entries
	Failed    int64  `json:"failed"`   // steps to failed
	NTU       NTU    `json:"ntu"`      // of the unit over its outcomes
	Observed  int    `json:"observed"` // outcomes in that unit's window
	DecidedAt string `json:"decided_at,omitempty"`
	LogTime   string `json:"log_time"` // as of which all this is
}

// claimRecovery is what each minute of log time leaves of a record's deficit (docs/governance.md, measured SNR).
const claimRecovery = 0.95

// ClaimAt is the highest snr_score that the agent may claim at a time, if nothing else happens
// until then: a record is as of the last entry, and what it lacks is made up as time goes by.
func (a *AgentRecord) ClaimAt(now time.Time) float64 {
	at, err := time.Parse(time.RFC3339, a.LogTime)
	if err != nil || a.ClaimMax >= 1 {
		return a.ClaimMax
	}
	minutes := max(math.Floor(now.Sub(at).Minutes()), 0)
	deficit := (1 - a.MeasuredSNR) * math.Pow(claimRecovery, minutes)
	return min(1, a.ClaimMax+(1-a.MeasuredSNR)-deficit)
}

// BreakerCounts are how many agents are not clear.
type BreakerCounts struct {
	Throttled int `json:"throttled"`
	Muted     int `json:"muted"`
	Probation int `json:"probation"`
}
