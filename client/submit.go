package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/bizra/bizra/pci"
)

// requestBytesMax is how much SubmitAll puts into one request. It is below what a
// node takes, so that one slow line holds up fewer.
const requestBytesMax = BatchBytesMax / 2

// lineRoundsMax is how often lines that a node left undecided in an answer are sent again.
const lineRoundsMax = 8

// Submit submits one signed envelope. Where a gate refuses it, the receipt says so
// ([Receipt.Err]); an error without a receipt is a [*Problem] or says that no node
// came to a decision. Then it is safe, and right, to submit the same envelope again.
func (c *Client) Submit(ctx context.Context, envelope []byte) (*Receipt, error) {
	return c.post(ctx, "/v1/proofs", envelope, envelope)
}

// Adopt submits a federation document, in canonical form, with the signed envelope that
// adopts it. It fails and may be repeated as [Client.Submit] does.
func (c *Client) Adopt(ctx context.Context, document, envelope []byte) (*Receipt, error) {
	body, err := json.Marshal(Adoption{Document: document, Proof: envelope})
	if err != nil {
		return nil, fmt.Errorf("submit an adoption: document or envelope is no JSON: %w", err)
	}
	return c.post(ctx, "/v1/federation/adoptions", body, envelope)
}

// ErrOtherProof is matched by the error for an answer about another proof than the one that was asked about. What became of
// that one is not known: submit it again, to another node.
var ErrOtherProof = errors.New("the answer is about another proof: the node, or what stands before it, is at fault")

// isOf holds a receipt against the envelope that it should be of.
func (r *Receipt) isOf(envelope []byte) error {
	env, err := pci.Inspect(envelope)
	if err != nil {
		return nil //nolint:nilerr // what is no envelope has no digest, and its receipt says that it was refused
	}
	return r.isOfDigest(fmt.Sprintf("%x", env.Digest()))
}

func (r *Receipt) isOfDigest(digest string) error {
	if r.Digest == digest || r.Digest == "" && r.Index == nil && !r.Accepted() {
		return nil
	}
	return fmt.Errorf("%w: its digest is %.64q, not %s", ErrOtherProof, r.Digest, digest)
}

// post submits something whose answer is one receipt, of an envelope.
func (c *Client) post(ctx context.Context, path string, body, envelope []byte) (*Receipt, error) {
	ans, err := c.do(ctx, request{method: http.MethodPost, path: path, contentType: MediaJSON, body: body})
	if err != nil {
		return nil, fmt.Errorf("submit a proof: %w", err)
	}
	if ans.isReceipt() {
		var r Receipt
		if err := json.Unmarshal(ans.body, &r); err != nil {
			return nil, fmt.Errorf("submit a proof: decode the receipt: %w", err)
		}
		if err := r.isOf(envelope); err != nil {
			return nil, fmt.Errorf("submit a proof: %w", err)
		}
		return &r, nil
	}
	var r Receipt
	if err := decode(ans, "submit a proof", &r); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("submit a proof: the answer is no receipt: is this the address of a bizra node?")
}

// SubmitAll submits signed envelopes in order, in requests of at most
// [BatchLinesMax] proofs, and returns an outcome for each, in the same order. Lines
// that a node could not decide are sent again. After an error the outcomes of the
// requests before it are returned beside it; submitting all again is safe.
func (c *Client) SubmitAll(ctx context.Context, envelopes [][]byte) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(envelopes))
	for len(envelopes) > 0 {
		n, size := 0, 0
		for n < len(envelopes) && n < BatchLinesMax && (n == 0 || size+len(envelopes[n]) < requestBytesMax) {
			size += len(envelopes[n]) + 1
			n++
		}
		part, err := c.submitLines(ctx, envelopes[:n])
		if err != nil {
			return outcomes, fmt.Errorf("submit proofs %d to %d: %w", len(outcomes)+1, len(outcomes)+n, err)
		}
		outcomes = append(outcomes, part...)
		envelopes = envelopes[n:]
	}
	return outcomes, nil
}

// submitLines sends one request, and again those of its lines that were left undecided.
func (c *Client) submitLines(ctx context.Context, envelopes [][]byte) ([]Outcome, error) {
	outcomes := make([]Outcome, len(envelopes))
	open := make([]int, 0, len(envelopes))
	lines := make([][]byte, len(envelopes))
	for i, e := range envelopes {
		line, problem := oneLine(e)
		if problem != nil {
			outcomes[i] = Outcome{Problem: problem}
			continue
		}
		lines[i] = line
		open = append(open, i)
	}
	backoff := c.cfg.BackoffMin
	for round := 0; len(open) > 0; round++ {
		var body bytes.Buffer
		for _, i := range open {
			body.Write(lines[i])
			body.WriteByte('\n')
		}
		answers, err := c.postLines(ctx, body.Bytes(), len(open))
		if err != nil {
			return nil, err
		}
		var again []int
		for k, i := range open {
			if r := answers[k].Receipt; r != nil {
				if err := r.isOf(lines[i]); err != nil {
					return nil, fmt.Errorf("line %d of the answer: %w", k+1, err)
				}
			}
			outcomes[i] = answers[k]
			if p := answers[k].Problem; p != nil && p.Temporary() {
				again = append(again, i)
			}
		}
		if open = again; len(open) == 0 || round >= min(lineRoundsMax, c.cfg.RetriesMax) {
			break
		}
		if err := wait(ctx, backoff); err != nil {
			return nil, err
		}
		backoff = min(2*backoff, c.cfg.BackoffMax)
	}
	return outcomes, nil
}

func (c *Client) postLines(ctx context.Context, body []byte, count int) ([]Outcome, error) {
	ans, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/proofs", contentType: MediaNDJSON, body: body})
	if err != nil {
		return nil, err
	}
	if p := ans.problem(); p != nil {
		return nil, p
	}
	if ans.media() != MediaNDJSON {
		return nil, fmt.Errorf("the answer is %q, not %s: is this the address of a bizra node?", ans.header.Get("Content-Type"), MediaNDJSON)
	}
	outcomes := make([]Outcome, 0, count)
	sc := bufio.NewScanner(bytes.NewReader(ans.body))
	sc.Buffer(nil, responseBytesMax)
	for sc.Scan() {
		var o Outcome
		if err := o.UnmarshalJSON(sc.Bytes()); err != nil {
			return nil, fmt.Errorf("line %d of the answer: %w", len(outcomes)+1, err)
		}
		outcomes = append(outcomes, o)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(outcomes) != count {
		return nil, fmt.Errorf("the answer has %d lines for %d proofs", len(outcomes), count)
	}
	return outcomes, nil
}

// oneLine puts an envelope on one line. What is no JSON at all does not leave this
// machine, since its line breaks could shift the answers to others.
func oneLine(envelope []byte) ([]byte, *Problem) {
	if !bytes.ContainsAny(envelope, "\n\r") && len(bytes.TrimSpace(envelope)) > 0 {
		return envelope, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, envelope); err != nil {
		code := pci.RejectSchema
		return nil, &Problem{Type: "about:blank", Title: http.StatusText(http.StatusBadRequest), Status: http.StatusBadRequest,
			Detail: "the envelope is no JSON: " + err.Error(), Code: &code, Name: code.String()}
	}
	return b.Bytes(), nil
}
