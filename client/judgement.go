package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// What decides about a proof in a [Judgement]: a gate, or nothing that speaks against it.
const (
	DecidedByAgent  = "agent"       // it is unknown, or revoked
	DecidedByIhsan  = "ihsan_score" // the claim is below the constitution's least
	DecidedBySNR    = "snr_score"   // the claim is below the least, or above what the agent's record supports
	DecidedByPolicy = "policy_hash" // another constitution is in force
	DecidedByRule   = "rule"        // a deny rule of the constitution
	DecidedByFate   = "fate"        // the composite of the four scores
	DecidedByNone   = "none"
)

// JudgementBytesMax is the body of a question: what a proof's data may have, and a little around it.
const JudgementBytesMax = ProofBytesMax

// Question is a proof that might be: nothing of it is recorded.
type Question struct {
	AgentID    string          `json:"agent_id"`
	AgentType  string          `json:"agent_type,omitempty"` // where the agent is not registered; "": PAT
	Action     string          `json:"action"`
	Data       json.RawMessage `json:"data"` // payload.data, an object
	IhsanScore float64         `json:"ihsan_score"`
	SNRScore   float64         `json:"snr_score"`
	PolicyHash string          `json:"policy_hash,omitempty"` // that it would be signed with; "": the one in force
}

// Judgement is how a proof would fare as things stand on the node asked. It promises
// nothing: time, replay, the session's state and the budget are decided when a proof is applied.
type Judgement struct {
	Passed     bool     `json:"passed"`
	DecidedBy  string   `json:"decided_by"`          // the first gate that would refuse it, or [DecidedByNone]
	Rule       string   `json:"rule,omitempty"`      // of the constitution, if one denies
	Dimension  string   `json:"dimension,omitempty"` // whose score the rule sets to 0
	Message    string   `json:"message"`             // a sentence for people
	ToPass     []string `json:"to_pass,omitempty"`   // what would have to change, for people
	Region     string   `json:"region,omitempty"`
	PolicyHash string   `json:"policy_hash"`    // in force
	Fate       *Fate    `json:"fate,omitempty"` // of a transition
	// Agent is what the region knows of the agent; nil: it is not registered.
	Agent *AgentRecord `json:"agent,omitempty"`
}

// Judge asks how a proof would fare by the constitution in force and its agent's record,
// without submitting it. The text of the question goes to the node, and no further.
func (c *Client) Judge(ctx context.Context, q Question) (*Judgement, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask for a judgement: data is no JSON: %w", err)
	}
	ans, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/judgements", contentType: MediaJSON, body: body})
	if err != nil {
		return nil, fmt.Errorf("ask for a judgement: %w", err)
	}
	var j Judgement
	return &j, decode(ans, "ask for a judgement", &j)
}
