package api

import (
	"context"
	"net/http"

	"github.com/bizra/bizra/client"
)

// patternsFromMax is more patterns than a node keeps.
const patternsFromMax = 1 << 20

// patterns lists what the node keeps of what agents elevated, the greatest impact first.
func (s *Server) patterns(r *http.Request) (*reply, error) {
	q, err := params(r, "region", "agent", "name", "from", "limit")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"region", "agent", "name"} {
		if n := len(q.Get(name)); n > pathIDBytesMax {
			return nil, failf(http.StatusBadRequest, "Query parameter %s has %d bytes, at most %d.", name, n, pathIDBytesMax)
		}
	}
	from, err := number(q, "from", 0, 0, patternsFromMax)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	f := client.PatternFilter{Region: q.Get("region"), Agent: q.Get("agent"), Name: q.Get("name")}
	return s.owned(r, func(ctx context.Context) (any, error) {
		list, err := s.backend.Patterns(ctx, f, int(from), limit+1)
		page := client.Patterns{Patterns: append([]client.Pattern{}, list...)}
		if len(list) > limit {
			page.Patterns = page.Patterns[:limit]
			next := from + int64(limit)
			page.Next = &next
		}
		return page, err
	})
}

func (s *Server) pattern(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	digest, ok := digestOf(r.PathValue("id"))
	if !ok {
		return nil, failf(http.StatusBadRequest, "%q names no pattern: give the digest of the envelope that elevated it, 64 lower-case hexadecimal digits.", clip(r.PathValue("id"), 80))
	}
	return s.owned(r, func(ctx context.Context) (any, error) { return s.backend.Pattern(ctx, digest) })
}
