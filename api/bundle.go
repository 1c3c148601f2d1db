package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"

	"github.com/bizra/bizra/client"
)

// What somebody takes away to check it elsewhere: bundles, certificates, documents.

func (s *Server) bundle(r *http.Request) (*reply, error) {
	q, id, err := proofQuery(r)
	if err != nil {
		return nil, err
	}
	return s.readWaiting(r, q, func(v View, _ *wish) (any, bool, error) {
		text, err := v.Bundle(id)
		return json.RawMessage(text), true, err
	})
}

// sessionBundle answers with what is certified of a session. Who waits gets it as of this request, or later.
func (s *Server) sessionBundle(r *http.Request) (*reply, error) {
	q, err := params(r, consistencyParam, waitParam, timeoutParam)
	if err != nil {
		return nil, err
	}
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	asked := int64(-1)
	return s.readWaiting(r, q, func(v View, w *wish) (any, bool, error) {
		if _, err := v.Session(id); err != nil {
			return nil, false, err
		}
		if asked < 0 {
			asked = v.Entries()
		}
		if done, err := w.reached(v, asked); err != nil || !done {
			return nil, false, errOr(err, ErrNotAttested)
		}
		text, err := v.SessionBundle(id)
		return json.RawMessage(text), true, err
	})
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// certificates lists the region's certificates, each of which covers all before it.
func (s *Server) certificates(r *http.Request) (*reply, error) {
	q, err := params(r, "after", "limit", consistencyParam)
	if err != nil {
		return nil, err
	}
	after, err := number(q, "after", 0, 0, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	limit, err := number(q, "limit", client.CertificatesMax, 1, client.CertificatesMax)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		// One more than asked for tells whether there is a next page.
		list, err := v.Certificates(after, int(limit)+1)
		page := client.Certificates{Certificates: append([]client.Certificate{}, list...)}
		if int64(len(list)) > limit {
			page.Certificates = page.Certificates[:limit]
			next := page.Certificates[limit-1].Size
			page.Next = &next
		}
		return page, err
	})
}

// document answers with a federation document by its digest; it can be no other, so it may be kept for ever.
func (s *Server) document(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	digest, ok := digestOf(r.PathValue("id"))
	if !ok {
		return nil, failf(http.StatusBadRequest, "%q is no digest of a federation document: it has 64 lower-case hexadecimal digits.", clip(r.PathValue("id"), 80))
	}
	return s.workStale(r, func(_ context.Context, v View) (*reply, error) {
		text, err := v.DocumentText(digest)
		if err != nil {
			return nil, err
		}
		return &reply{status: http.StatusOK, media: client.MediaJSON, body: text, cache: cacheForEver}, nil
	})
}
