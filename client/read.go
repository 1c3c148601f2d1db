package client

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

func (c *Client) get(ctx context.Context, what, path string, query url.Values, into any) error {
	if c.cfg.Stale {
		if query == nil {
			query = url.Values{}
		}
		query.Set("consistency", "stale")
	}
	return c.own(ctx, what, path, query, into)
}

// own reads what has no consistency to ask for.
func (c *Client) own(ctx context.Context, what, path string, query url.Values, into any) error {
	ans, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return decode(ans, what, into)
}

// page is the query of one page of a list sorted by a name; limit 0 leaves the
// number of items to the node.
func page(name, value string, limit int) url.Values {
	q := url.Values{}
	if value != "" {
		q.Set(name, value)
	}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}

// Receipt finds the receipt of a proof by the digest of its envelope or by its
// envelope_id; the error matches [ErrNotFound] where no entry has it.
func (c *Client) Receipt(ctx context.Context, id string) (*Receipt, error) {
	var r Receipt
	if err := c.get(ctx, "read the receipt of "+id, "/v1/proofs/"+escape(id), nil, &r); err != nil {
		return &r, err
	}
	return &r, r.isNamed(id)
}

// isNamed holds a receipt against the name under which it was asked for, where that is a digest.
func (r *Receipt) isNamed(id string) error {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 32 {
		return nil //nolint:nilerr // an envelope_id is the sender's choice, and says nothing of the envelope
	}
	if err := r.isOfDigest(strings.ToLower(id)); err != nil {
		return fmt.Errorf("receipt of %s: %w", id, err)
	}
	return nil
}

// Inclusion gets the proof that the entry of a proof, named as in [Client.Receipt],
// is in the ledger. The caller verifies it: [Inclusion.Verify].
func (c *Client) Inclusion(ctx context.Context, id string) (*Inclusion, error) {
	var p Inclusion
	return &p, c.get(ctx, "read the inclusion proof of "+id, "/v1/proofs/"+escape(id)+"/inclusion", nil, &p)
}

// Session tells where a session stands; the error matches [ErrNotFound] for an unknown one.
func (c *Client) Session(ctx context.Context, id string) (*Session, error) {
	var s Session
	return &s, c.get(ctx, "read session "+id, "/v1/sessions/"+escape(id), nil, &s)
}

// Sessions lists sessions with ids after the one given ("": from the first), at most limit of them (0: the node's default).
func (c *Client) Sessions(ctx context.Context, after string, limit int) (*Sessions, error) {
	var s Sessions
	return &s, c.get(ctx, "list the sessions", "/v1/sessions", page("after", after, limit), &s)
}

// History lists a session's nodes from a number on, in the order in which they were made.
func (c *Client) History(ctx context.Context, id string, from int64, limit int) (*History, error) {
	var h History
	q := page("", "", limit)
	if from != 0 {
		q.Set("from", strconv.FormatInt(from, 10))
	}
	return &h, c.get(ctx, "read the history of session "+id, "/v1/sessions/"+escape(id)+"/history", q, &h)
}

// Agents lists registered agents with ids after the one given.
func (c *Client) Agents(ctx context.Context, after string, limit int) (*Agents, error) {
	var a Agents
	return &a, c.get(ctx, "list the agents", "/v1/agents", page("after", after, limit), &a)
}

// Agent tells what the region knows of an agent; the error matches [ErrNotFound] for an unknown one.
func (c *Client) Agent(ctx context.Context, id string) (*AgentRecord, error) {
	var a AgentRecord
	return &a, c.get(ctx, "read agent "+id, "/v1/agents/"+escape(id), nil, &a)
}

// Policy tells the constitution in force and the policy_hash to sign.
func (c *Client) Policy(ctx context.Context) (*Policy, error) {
	var p Policy
	return &p, c.get(ctx, "read the policy", "/v1/policy", nil, &p)
}

// Federation tells the federation document in force.
func (c *Client) Federation(ctx context.Context) (*Federation, error) {
	var f Federation
	return &f, c.get(ctx, "read the federation document", "/v1/federation", nil, &f)
}

// Status tells how the asked node stands. It is the node's own view in any case.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.own(ctx, "read the status", "/v1/status", nil, &s)
}

// Peers lists the nodes that the asked node knows, and what it hears of the regions.
func (c *Client) Peers(ctx context.Context) (*Peers, error) {
	var p Peers
	return &p, c.own(ctx, "list the peers", "/v1/peers", nil, &p)
}
