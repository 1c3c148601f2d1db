package api

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/bizra/bizra/client"
)

// params reads the query strictly: a parameter that is not known, twice there or
// misspelt is refused, since ignoring it would answer another question.
func params(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, failf(http.StatusBadRequest, "The query %q cannot be read: percent-encode its values.", clip(r.URL.RawQuery, 80))
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			may := "no parameters"
			if len(known) > 0 {
				may = strings.Join(known, ", ")
			}
			return nil, failf(http.StatusBadRequest, "Query parameter %q is not known here; known: %s.", clip(name, 40), may)
		}
		if len(values) != 1 {
			return nil, failf(http.StatusBadRequest, "Query parameter %q stands %d times; give it once.", name, len(values))
		}
	}
	return q, nil
}

// number reads a whole number from 0 (or from low) to high.
func number(q url.Values, name string, otherwise, low, high int64) (int64, error) {
	if !q.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || n < low || n > high {
		return 0, failf(http.StatusBadRequest, "Query parameter %s is %q: it must be a whole number from %d to %d.", name, clip(q.Get(name), 40), low, high)
	}
	return n, nil
}

func limitOf(q url.Values) (int, error) {
	n, err := number(q, "limit", client.PageItemsDefault, 1, client.PageItemsMax)
	return int(n), err
}

func afterOf(q url.Values) (string, error) {
	after := q.Get("after")
	if len(after) > pathIDBytesMax {
		return "", failf(http.StatusBadRequest, "Query parameter after has %d bytes, at most %d.", len(after), pathIDBytesMax)
	}
	return after, nil
}

func idOf(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if len(id) > pathIDBytesMax {
		return "", failf(http.StatusBadRequest, "The id in the path has %d bytes, at most %d.", len(id), pathIDBytesMax)
	}
	return id, nil
}

const consistencyParam = "consistency"

func consistencyOf(q url.Values) (Consistency, error) {
	switch text := q.Get(consistencyParam); {
	case text == "stale":
		return Stale, nil
	case text != "linearizable" && q.Has(consistencyParam):
		return 0, failf(http.StatusBadRequest, "Query parameter consistency is %q: it must be linearizable (the default) or stale.", clip(text, 40))
	}
	return Linearizable, nil
}

// readView answers from one view of the state, in JSON.
func (s *Server) readView(r *http.Request, q url.Values, read func(v View) (any, error)) (*reply, error) {
	c, err := consistencyOf(q)
	if err != nil {
		return nil, err
	}
	return s.workView(r.Context(), c, func(_ context.Context, v View) (*reply, error) {
		x, err := read(v)
		if err != nil {
			return nil, err
		}
		return jsonReply(http.StatusOK, x)
	})
}

// workView answers from one view of the state, in a request slot.
func (s *Server) workView(ctx context.Context, c Consistency, read func(ctx context.Context, v View) (*reply, error)) (*reply, error) {
	return s.work(ctx, func(ctx context.Context) (*reply, error) { return s.fromView(ctx, c, read) })
}

func (s *Server) fromView(ctx context.Context, c Consistency, read func(ctx context.Context, v View) (*reply, error)) (_ *reply, err error) {
	v, err := s.backend.View(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open a %v view: %w", c, err)
	}
	defer func() {
		if cerr := v.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("close a view: %w", cerr)
		}
	}()
	rep, err := read(ctx, v)
	if err != nil {
		return nil, err
	}
	rep.applied = v.Entries()
	return rep, nil
}

func proofOf(r *http.Request) (Proof, error) {
	text, err := idOf(r)
	if err != nil {
		return Proof{}, err
	}
	if digest, ok := digestOf(text); ok {
		return Proof{Digest: digest}, nil
	}
	if err := uuid.Validate(text); err == nil && len(text) == 36 {
		return Proof{EnvelopeID: text}, nil
	}
	return Proof{}, failf(http.StatusBadRequest, "%q names no proof: give the digest of its envelope (64 lower-case hexadecimal digits) or its envelope_id (a UUID).", clip(text, 80))
}

// digestOf reads a digest in its one form.
func digestOf(text string) (digest [32]byte, ok bool) {
	if len(text) != hex.EncodedLen(len(digest)) || strings.ToLower(text) != text {
		return digest, false
	}
	_, err := hex.Decode(digest[:], []byte(text))
	return digest, err == nil
}

// proofQuery is what is asked of one proof, and how fresh and how final the answer is to be.
func proofQuery(r *http.Request) (q url.Values, id Proof, err error) {
	if q, err = params(r, consistencyParam, waitParam, timeoutParam); err != nil {
		return nil, id, err
	}
	id, err = proofOf(r)
	return q, id, err
}

func (s *Server) receipt(r *http.Request) (*reply, error) {
	q, id, err := proofQuery(r)
	if err != nil {
		return nil, err
	}
	return s.readWaiting(r, q, func(v View, w *wish) (any, bool, error) {
		rec, err := v.Receipt(id)
		if err != nil {
			return nil, false, err
		}
		done, err := w.reached(v, rec.Index+1)
		return rec, done, err
	})
}

func (s *Server) inclusion(r *http.Request) (*reply, error) {
	q, err := params(r, consistencyParam)
	if err != nil {
		return nil, err
	}
	id, err := proofOf(r)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) { return v.Inclusion(id) })
}

func (s *Server) session(r *http.Request) (*reply, error) {
	return s.one(r, func(v View, id string) (any, error) { return v.Session(id) })
}

func (s *Server) agent(r *http.Request) (*reply, error) {
	return s.one(r, func(v View, id string) (any, error) { return v.Agent(id) })
}

// one reads what the id in the path names.
func (s *Server) one(r *http.Request, read func(v View, id string) (any, error)) (*reply, error) {
	q, err := params(r, consistencyParam)
	if err != nil {
		return nil, err
	}
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) { return read(v, id) })
}

func (s *Server) sessions(r *http.Request) (*reply, error) {
	q, after, limit, err := listParams(r)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		// One more than asked for tells whether there is a next page.
		list, err := v.Sessions(after, limit+1)
		page := client.Sessions{Sessions: append([]client.Session{}, list...)}
		if len(list) > limit {
			page.Sessions = page.Sessions[:limit]
			page.Next = page.Sessions[limit-1].ID
		}
		return page, err
	})
}

func (s *Server) agents(r *http.Request) (*reply, error) {
	q, after, limit, err := listParams(r)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		list, err := v.Agents(after, limit+1)
		page := client.Agents{Agents: append([]client.Agent{}, list...)}
		if len(list) > limit {
			page.Agents = page.Agents[:limit]
			page.Next = page.Agents[limit-1].AgentID
		}
		return page, err
	})
}

func listParams(r *http.Request) (q url.Values, after string, limit int, err error) {
	if q, err = params(r, "after", "limit", consistencyParam); err != nil {
		return nil, "", 0, err
	}
	if after, err = afterOf(q); err != nil {
		return nil, "", 0, err
	}
	limit, err = limitOf(q)
	return q, after, limit, err
}

func (s *Server) history(r *http.Request) (*reply, error) {
	q, err := params(r, "from", "limit", consistencyParam)
	if err != nil {
		return nil, err
	}
	id, err := idOf(r)
	if err != nil {
		return nil, err
	}
	from, err := number(q, "from", 0, 0, 1<<53)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		nodes, err := v.History(id, from, limit+1)
		page := client.History{Session: id, Nodes: append([]client.Node{}, nodes...)}
		if len(nodes) > limit {
			next := nodes[limit].Number
			page.Nodes, page.Next = page.Nodes[:limit], &next
		}
		return page, err
	})
}

func (s *Server) policy(r *http.Request) (*reply, error) {
	q, err := params(r, consistencyParam)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) { return v.Policy() })
}
