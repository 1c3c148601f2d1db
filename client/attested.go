package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// WaitMax is how long a node waits for a finality within one request.
const WaitMax = 30 * time.Second

// waitMargin is what is left of an attempt's time for the way there and back.
const waitMargin = 5 * time.Second

// ErrNotYet is matched by the error of a wait that ended before the finality was reached.
var ErrNotYet = errors.New("not reached yet")

// reached reports whether a receipt says at least this finality.
func (r *Receipt) reached(finality string) bool {
	return r.Finality == finality || r.Finality == FinalityAttested
}

// Await waits until a proof, named as in [Client.Receipt], has come to a finality,
// [FinalityCommitted] or [FinalityAttested], or until the context ends. Then the error matches
// [ErrNotYet], and the receipt is the last that was seen, nil if none was: what is committed stays
// committed, and is attested as soon as a quorum of the regions has executed it.
func (c *Client) Await(ctx context.Context, id, finality string) (*Receipt, error) {
	if finality != FinalityCommitted && finality != FinalityAttested {
		return nil, fmt.Errorf("wait for finality %q: it must be %s or %s", finality, FinalityCommitted, FinalityAttested)
	}
	var last *Receipt
	for {
		var r Receipt
		err := c.get(ctx, "wait for "+id, "/v1/proofs/"+escape(id), c.patience(finality), &r)
		if err == nil {
			err = r.isNamed(id)
		}
		switch {
		case err == nil && r.reached(finality):
			return &r, nil
		case err == nil:
			last = &r
		case ctx.Err() == nil && !errors.Is(err, ErrNotFound):
			return last, err
		}
		if ctx.Err() == nil {
			// A node that is going down answers early.
			_ = wait(ctx, c.cfg.BackoffMin) // what ends it is told below
		}
		if ctx.Err() != nil {
			return last, fmt.Errorf("wait until %s is %s: %w: %w", id, finality, ErrNotYet, context.Cause(ctx))
		}
	}
}

// patience is the query of one request that waits, for as long as one attempt may take.
func (c *Client) patience(finality string) url.Values {
	timeout := min(WaitMax, max(c.cfg.AttemptTimeout-waitMargin, c.cfg.AttemptTimeout/2))
	return url.Values{"wait": {finality}, "timeout": {timeout.String()}}
}

// SubmitAwait is [Client.Submit], and [Client.Await] for what was accepted or refused with an
// entry. After an error that matches [ErrNotYet] the receipt says how far the proof has come.
func (c *Client) SubmitAwait(ctx context.Context, envelope []byte, finality string) (*Receipt, error) {
	r, err := c.Submit(ctx, envelope)
	if err != nil || r.Index == nil || r.reached(finality) {
		return r, err
	}
	later, err := c.Await(ctx, r.Digest, finality)
	if later == nil {
		later = r
	}
	return later, err
}

// Bundle gives what somebody keeps of a proof, named as in [Client.Receipt], to check it
// without any node: its entry, and the certificate that covers it. With wait it waits for that
// certificate, until the context ends ([ErrNotYet]); without, the error matches [ErrNotYet] at once where there is none.
// Nothing of it was checked: package certificate does that.
func (c *Client) Bundle(ctx context.Context, id string, wait bool) ([]byte, error) {
	return c.bundle(ctx, "get the bundle of "+id, "/v1/proofs/"+escape(id)+"/bundle", wait)
}

// SessionBundle is [Client.Bundle] of a session's tips: what the certified state says of it. With wait
// it is the session as it is when the node is asked, or later.
func (c *Client) SessionBundle(ctx context.Context, id string, wait bool) ([]byte, error) {
	return c.bundle(ctx, "get the bundle of session "+id, "/v1/sessions/"+escape(id)+"/bundle", wait)
}

func (c *Client) bundle(ctx context.Context, what, path string, patient bool) ([]byte, error) {
	for {
		var q url.Values
		if patient {
			q = c.patience(FinalityAttested)
		}
		var text json.RawMessage
		err := c.get(ctx, what, path, q, &text)
		var p *Problem
		if errors.As(err, &p) && p.Status == http.StatusConflict {
			err = fmt.Errorf("%w: %w", ErrNotYet, err)
			if patient && wait(ctx, c.cfg.BackoffMin) == nil {
				continue
			}
		}
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrNotYet, err)
		}
		return text, err
	}
}

// Certificate is a certificate of the region's ledger: a signed note (docs/protocol.md).
type Certificate struct {
	Size int64  `json:"size"` // entries that it covers
	Note string `json:"note"`
}

// Certificates is one page of a region's certificates, by size.
type Certificates struct {
	Certificates []Certificate `json:"certificates"`
	Next         *int64        `json:"next,omitempty"` // the `after` of the next page; nil on the last
}

// Certificates lists the region's certificates that cover more than so many entries, by size, at most
// limit of them (0: the node's default).
func (c *Client) Certificates(ctx context.Context, after int64, limit int) (*Certificates, error) {
	q := page("", "", limit)
	if after != 0 {
		q.Set("after", strconv.FormatInt(after, 10))
	}
	var list Certificates
	return &list, c.get(ctx, "list the certificates", "/v1/certificates", q, &list)
}

// DocumentText is the canonical form of a federation document that is or was in force, by its digest in
// hexadecimal digits. It was not checked against the digest.
func (c *Client) DocumentText(ctx context.Context, digest string) ([]byte, error) {
	var text json.RawMessage
	err := c.own(ctx, "read federation document "+digest, "/v1/documents/"+escape(digest), nil, &text)
	return text, err
}
