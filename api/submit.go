package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// submit takes one proof, or up to [client.BatchLinesMax] on lines.
func (s *Server) submit(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	media, err := bodyMedia(r)
	if err != nil {
		return nil, err
	}
	limit := int64(client.ProofBytesMax)
	if media == client.MediaNDJSON {
		limit = s.cfg.BatchBytesMax
	}
	body, release, err := s.readBody(r, limit)
	if err != nil {
		return nil, err
	}
	defer release()
	if media == client.MediaNDJSON {
		return s.submitLines(r, body)
	}
	return s.submitOne(r.Context(), body)
}

// bodyMedia decides what the body is; a client that does not say sends one JSON object.
func bodyMedia(r *http.Request) (string, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return "", failf(http.StatusUnsupportedMediaType, "Content-Encoding %q is not taken; send the body as it is.", clip(enc, 32))
	}
	given := r.Header.Values("Content-Type")
	if len(given) == 0 || len(given) == 1 && given[0] == "" {
		return client.MediaJSON, nil
	}
	media, parameters, err := mime.ParseMediaType(given[0])
	charset, hasCharset := parameters["charset"]
	switch {
	case err != nil || len(given) > 1:
	case hasCharset && !strings.EqualFold(charset, "utf-8"):
		return "", failf(http.StatusUnsupportedMediaType, "charset %q is not taken; proofs are UTF-8.", clip(charset, 32))
	case media == client.MediaJSON, media == client.MediaNDJSON:
		return media, nil
	}
	return "", failf(http.StatusUnsupportedMediaType,
		"Content-Type %q is not taken; send one proof as %s or several, one a line, as %s (curl: -H 'Content-Type: %s' --data-binary @FILE).",
		clip(strings.Join(given, ", "), 64), client.MediaJSON, client.MediaNDJSON, client.MediaNDJSON)
}

const firstReadBytes = 8 << 10

// readBody reads a body of at most limit bytes. Memory is taken from the server's
// budget as bytes arrive, so that a client that announces much and sends nothing
// holds nothing but its connection. release gives it back.
func (s *Server) readBody(r *http.Request, limit int64) (body []byte, release func(), err error) {
	if r.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	var taken int64
	give := func() { s.bodies.give(taken) }
	defer func() {
		if err != nil {
			give()
		}
	}()
	for {
		if len(body) == cap(body) {
			grown := min(max(2*int64(cap(body)), firstReadBytes), limit+1)
			if !s.bodies.take(grown - taken) {
				s.metrics.turned.WithLabelValues(turnedBodies).Inc()
				f := failf(http.StatusServiceUnavailable, "This node is receiving as much as it has memory for. Send the same request again after a pause, or to another node of the region.")
				f.retryAfter = orSecond(0)
				return nil, nil, f
			}
			taken = grown
			body = append(make([]byte, 0, grown), body...)
		}
		received := receiving(r)
		n, err := r.Body.Read(body[len(body):cap(body)])
		received()
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return nil, nil, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return body, give, nil
		}
		if err != nil {
			return nil, nil, badBody(err)
		}
	}
}

func tooLarge(limit int64) *failure {
	return failf(http.StatusRequestEntityTooLarge, "The body has more than %d bytes. One envelope has at most %d, one request of several at most %d proofs and %d bytes: send them in more requests.",
		limit, pci.EnvelopeBytesMax, client.BatchLinesMax, client.BatchBytesMax)
}

func badBody(err error) *failure {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		f := failf(http.StatusRequestTimeout, "The body did not arrive in time. Send the same request again.")
		f.cause = err
		return f
	}
	f := failf(http.StatusBadRequest, "The body could not be read to its end. Send the same request again.")
	f.cause = err
	return f
}

// trimSpace drops the white space that JSON allows around a value, which tools such
// as echo add; it is no part of the envelope's size.
func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

func (s *Server) submitOne(ctx context.Context, body []byte) (*reply, error) {
	envelope := trimSpace(body)
	if len(envelope) == 0 {
		return nil, rejected(pci.Rejectf(pci.RejectSchema, "The body is empty: send one envelope as JSON."))
	}
	return s.oneProof(ctx, func(ctx context.Context) (Outcome, error) {
		outs, err := s.decide(ctx, [][]byte{envelope})
		if err != nil {
			return Outcome{}, err
		}
		return outs[0], nil
	})
}

// oneProof answers with what became of one proof.
func (s *Server) oneProof(ctx context.Context, decide func(context.Context) (Outcome, error)) (*reply, error) {
	var out Outcome
	rep, err := s.work(ctx, func(ctx context.Context) (_ *reply, err error) {
		if out, err = decide(ctx); err != nil {
			return nil, err
		}
		if out.Err == nil && out.Receipt == nil {
			out.Err = errors.New("the backend gave no outcome")
		}
		if out.Err != nil {
			return nil, out.Err
		}
		return jsonReply(out.Code.HTTPStatus(), out.Receipt)
	})
	if err != nil {
		out = Outcome{Err: err}
	} else if out.Code == pci.RejectRateLimited {
		rep.retryAfter = untilNextMinute(time.Now())
	}
	s.metrics.proof(out)
	return rep, err
}

// decide hands envelopes to the backend and holds it to its contract.
func (s *Server) decide(ctx context.Context, raw [][]byte) ([]Outcome, error) {
	outs, err := s.backend.Submit(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("submit %d proofs: %w", len(raw), err)
	}
	if len(outs) != len(raw) {
		return nil, fmt.Errorf("submit %d proofs: the backend gave %d outcomes", len(raw), len(outs))
	}
	for i := range outs {
		if outs[i].Err == nil && outs[i].Receipt == nil {
			outs[i].Err = fmt.Errorf("submit %d proofs: no outcome for number %d", len(raw), i)
		}
	}
	return outs, nil
}

// splitLines gives the lines of an NDJSON body without their ends. A last line that
// is empty is none: it is what follows the last line's end.
func splitLines(body []byte) [][]byte {
	lines := bytes.Split(body, []byte{'\n'})
	for i := range lines {
		lines[i] = trimSpace(lines[i])
	}
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// checkLine refuses what need not travel to the leader to be refused.
func checkLine(line []byte) error {
	switch {
	case len(line) == 0:
		return pci.Rejectf(pci.RejectSchema, "The line is empty: every line must hold one envelope.")
	case len(line) > pci.EnvelopeBytesMax:
		return pci.Rejectf(pci.RejectSchema, "The line has %d bytes: an envelope has at most %d.", len(line), pci.EnvelopeBytesMax)
	}
	return nil
}

func (s *Server) submitLines(r *http.Request, body []byte) (*reply, error) {
	if n := bytes.Count(body, []byte{'\n'}); n > client.BatchLinesMax+1 {
		return nil, tooManyLines(n)
	}
	lines := splitLines(body)
	if len(lines) > client.BatchLinesMax {
		return nil, tooManyLines(len(lines))
	}
	if len(lines) == 0 {
		return nil, rejected(pci.Rejectf(pci.RejectSchema, "The body is empty: send one envelope a line."))
	}
	outs := make([]Outcome, len(lines))
	var raw [][]byte
	var at []int // lines that the backend gets
	for i, line := range lines {
		if outs[i].Err = checkLine(line); outs[i].Err == nil {
			raw, at = append(raw, line), append(at, i)
		}
	}
	if len(raw) > 0 {
		_, err := s.work(r.Context(), func(ctx context.Context) (*reply, error) {
			decided, err := s.decide(ctx, raw)
			for k := range decided {
				outs[at[k]] = decided[k]
			}
			return nil, err
		})
		if err != nil {
			for range raw {
				s.metrics.proof(Outcome{Err: err})
			}
			return nil, err
		}
	}
	var b bytes.Buffer
	for _, o := range outs {
		s.metrics.proof(o)
		b.Write(s.outcomeLine(r.Context(), o))
		b.WriteByte('\n')
	}
	return &reply{status: http.StatusOK, media: client.MediaNDJSON, body: b.Bytes(), applied: -1}, nil
}

func tooManyLines(n int) *failure {
	return failf(http.StatusRequestEntityTooLarge, "The body has %d lines, at most %d are taken: send them in more requests.", n, client.BatchLinesMax)
}

func (s *Server) outcomeLine(ctx context.Context, o Outcome) []byte {
	if o.Err == nil {
		rep, err := jsonReply(http.StatusOK, o.Receipt)
		if err == nil {
			return bytes.TrimSuffix(rep.body, []byte{'\n'})
		}
		o.Err = err
	}
	f := failed(o.Err)
	if f.Status == http.StatusInternalServerError {
		s.cfg.Log.ErrorContext(ctx, "proof of a batch failed", "cause", o.Err)
	}
	return f.line("")
}
