package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
)

// Pattern is what an agent has come to believe and elevated, as a node keeps it. Belief, entropy
// and observations are the agent's claims.
type Pattern struct {
	Digest       string  `json:"digest"` // of the envelope that elevated it
	Region       string  `json:"region"`
	Agent        string  `json:"agent"`
	Name         string  `json:"name"`
	Statement    string  `json:"statement"`
	Session      string  `json:"session,omitempty"`
	Belief       float64 `json:"belief"`
	Entropy      float64 `json:"entropy"`
	Potential    float64 `json:"potential"` // belief·(1 − entropy)
	Observations int64   `json:"observations"`
	Impact       float64 `json:"impact"`      // potential·ln(1 + observations)
	Elevated     string  `json:"elevated_at"` // the envelope's timestamp
}

// PatternRecord is a pattern with the signed envelope that says it.
type PatternRecord struct {
	Pattern
	Proof json.RawMessage `json:"proof"` // canonical form
}

// Patterns is one page of what a node keeps, the greatest impact first.
type Patterns struct {
	Patterns []Pattern `json:"patterns"`
	Next     *int64    `json:"next,omitempty"` // the `from` of the next page; nil on the last
}

// PatternFilter says which patterns to list; an empty member takes all.
type PatternFilter struct {
	Region, Agent, Name string
}

// Patterns lists the patterns that the asked node keeps from the from-th that passes the
// filter on, the greatest impact first. It is the node's own view in any case.
func (c *Client) Patterns(ctx context.Context, f PatternFilter, from int64, limit int) (*Patterns, error) {
	q := page("", "", limit)
	for name, value := range map[string]string{"region": f.Region, "agent": f.Agent, "name": f.Name} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if from != 0 {
		q.Set("from", strconv.FormatInt(from, 10))
	}
	var p Patterns
	return &p, c.own(ctx, "list the patterns", "/v1/patterns", q, &p)
}

// Pattern gives a pattern by the digest of its envelope; the error matches [ErrNotFound] where
// the asked node does not keep it.
func (c *Client) Pattern(ctx context.Context, digest string) (*PatternRecord, error) {
	var p PatternRecord
	return &p, c.own(ctx, "read the pattern "+digest, "/v1/patterns/"+escape(digest), url.Values{}, &p)
}
