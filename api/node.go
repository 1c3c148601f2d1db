package api

import (
	"context"
	"net/http"
	"regexp"
)

// own answers from the node's own view, for which consistency means nothing.
func (s *Server) own(r *http.Request, read func(ctx context.Context) (any, error)) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	return s.owned(r, read)
}

// owned is own for a handler that has read its parameters.
func (s *Server) owned(r *http.Request, read func(ctx context.Context) (any, error)) (*reply, error) {
	return s.work(r.Context(), func(ctx context.Context) (*reply, error) {
		x, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return jsonReply(http.StatusOK, x)
	})
}

func (s *Server) status(r *http.Request) (*reply, error) {
	return s.own(r, func(ctx context.Context) (any, error) { return s.backend.Status(ctx) })
}

func (s *Server) peers(r *http.Request) (*reply, error) {
	return s.own(r, func(ctx context.Context) (any, error) { return s.backend.Peers(ctx) })
}

type health struct {
	Status string `json:"status"`
}

// healthy says that the process answers. It asks nobody, so that a node is not
// restarted for the sake of another that is down.
func (s *Server) healthy(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, health{Status: "ok"})
}

// ready takes no request slot: a node at its limit is still one to send work to.
func (s *Server) ready(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	if s.draining.Load() {
		return nil, &Unavailable{Reason: "This node is shutting down"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
	defer cancel()
	if err := s.backend.Ready(ctx); err != nil {
		f := failf(http.StatusServiceUnavailable, "This node is not ready: %v", err)
		f.retryAfter = orSecond(0)
		return nil, f
	}
	return jsonReply(http.StatusOK, health{Status: "ready"})
}

var versionPath = regexp.MustCompile(`^/v[0-9]+(/|$)`)

// unknown answers every path that no route has.
func (s *Server) unknown(r *http.Request) (*reply, error) {
	if other := versionPath.FindString(r.URL.Path); other != "" && other != "/v1" && other != "/v1/" {
		return nil, failf(http.StatusNotFound, "This node speaks version 1 of the interface; its paths begin with /v1/. A newer node may speak more.")
	}
	return nil, failf(http.StatusNotFound, "There is nothing at %q. Proofs go to POST /v1/proofs; reads are at /v1/proofs/{digest or envelope_id}, /v1/sessions, /v1/agents, /v1/agents/{id}, /v1/policy, /v1/federation, /v1/certificates, /v1/patterns, /v1/events, /v1/status, /v1/peers.",
		clip(r.URL.Path, 80))
}
