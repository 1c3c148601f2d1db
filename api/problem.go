package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// failure is a problem document on its way out.
type failure struct {
	client.Problem
	retryAfter time.Duration // 0: no header
	allow      string        // Allow, for 405
	challenge  string        // WWW-Authenticate, for 401
	cause      error         // for the log only
}

func (f *failure) Error() string { return f.Problem.Error() }

func failf(status int, format string, args ...any) *failure {
	return &failure{Problem: client.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}}
}

// failed makes the problem document of an error, as the comment of [Backend] has it.
func failed(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if r, ok := errors.AsType[*pci.Reject](err); ok {
		return rejected(r)
	}
	if u, ok := errors.AsType[*Unavailable](err); ok {
		f := failf(http.StatusServiceUnavailable, "%s Send the same request again later: what was decided before is answered again, never done twice.", sentence(u.Reason))
		f.retryAfter, f.cause = orSecond(u.RetryAfter), err
		return f
	}
	if o, ok := errors.AsType[*Overloaded](err); ok {
		f := failf(http.StatusTooManyRequests, "%s Send the same request again after the pause that Retry-After names.", sentence(o.Reason))
		f.retryAfter, f.cause = orSecond(o.RetryAfter), err
		return f
	}
	if errors.Is(err, ErrNotFound) {
		return failf(http.StatusNotFound, "The region knows nothing of this name. It may be new: a read with consistency=stale can be behind; and a proof that was refused before the Ihsan gate leaves no entry.")
	}
	if errors.Is(err, ErrNotAttested) {
		f := failf(http.StatusConflict, "No certificate covers this yet. It stands as it is, and is attested once a quorum of the federation's regions has executed it: ask again with ?wait=attested, or see /v1/status for whose votes are missing.")
		f.cause = err
		return f
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		f := failf(http.StatusServiceUnavailable, "No decision was reached in time; it may still be reached. Send the same request again: what was decided is answered again, never done twice.")
		f.retryAfter, f.cause = time.Second, err
		return f
	}
	return internal(err)
}

func internal(cause error) *failure {
	f := rejected(&pci.Reject{Code: pci.RejectInternalError, Detail: "The node failed on this request; its log has the cause under this request id. Sending the same request again does no harm."})
	f.cause = cause
	return f
}

// rejected is the problem document of a refusal that has no receipt.
func rejected(r *pci.Reject) *failure {
	f := failf(r.Code.HTTPStatus(), "%s", r.Detail)
	if r.Detail == "" {
		f.Detail = r.Code.Sentence()
	}
	code := r.Code
	f.Code, f.Name = &code, code.String()
	f.Title = code.Sentence()
	if r.Code == pci.RejectRateLimited {
		f.retryAfter = untilNextMinute(time.Now())
	}
	return f
}

// untilNextMinute is how long a rate limit lasts: they count in fixed minutes.
func untilNextMinute(now time.Time) time.Duration {
	return now.Truncate(time.Minute).Add(time.Minute).Sub(now)
}

func orSecond(d time.Duration) time.Duration {
	if d <= 0 {
		return time.Second
	}
	return d
}

func sentence(s string) string {
	if s == "" {
		return "The region cannot decide at the moment."
	}
	if last := s[len(s)-1]; last != '.' && last != '!' && last != '?' {
		return s + "."
	}
	return s
}

// reply is an answer that is complete before its first byte is sent, so that an
// error never follows half an answer.
type reply struct {
	status     int
	media      string
	body       []byte
	applied    int64 // entries of the ledger; negative: no header
	retryAfter time.Duration
	allow      string
	challenge  string
	cache      string // Cache-Control; "": no-store
	release    func() // once the answer is written; may be nil
}

func jsonReply(status int, v any) (*reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return &reply{status: status, media: client.MediaJSON, body: append(b, '\n'), applied: -1}, nil
}

// line is the problem as one line of JSON, without a line break.
func (f *failure) line(requestID string) []byte {
	p := f.Problem
	if requestID != "" {
		p.Instance = "urn:bizra:request:" + requestID
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

func (f *failure) reply(requestID string) *reply {
	return &reply{status: f.Status, media: client.MediaProblem, body: append(f.line(requestID), '\n'), applied: -1, retryAfter: f.retryAfter, allow: f.allow, challenge: f.challenge}
}

func (p *reply) write(w http.ResponseWriter, head bool) {
	h := w.Header()
	h.Set("Content-Type", p.media)
	h.Set("Content-Length", strconv.Itoa(len(p.body)))
	orElse(&p.cache, "no-store")
	h.Set("Cache-Control", p.cache)
	h.Set("X-Content-Type-Options", "nosniff")
	if p.applied >= 0 {
		h.Set(client.HeaderApplied, strconv.FormatInt(p.applied, 10))
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	w.WriteHeader(p.status)
	if !head {
		_, _ = w.Write(p.body) //nolint:gosec // of a type that says what it is and may not be sniffed; a client that has gone is nobody to tell
	}
}
