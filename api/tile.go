package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/client"
)

// The read side of c2sp.org/tlog-tiles. It shows what this node has applied, since a
// log's reader checks everything against a checkpoint anyway.

const (
	mediaNote = "text/plain; charset=utf-8"
	mediaTile = "application/octet-stream"
	// What a certificate covers never changes; a disaster may take back what none does.
	cacheForEver = "public, max-age=31536000, immutable"
	cacheReader  = "private, max-age=31536000, immutable"
	// A checkpoint is replaced at any moment.
	cacheRevalidate = "no-cache"
)

func (s *Server) checkpoint(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	return s.workStale(r, func(_ context.Context, v View) (*reply, error) {
		note, _, err := v.Checkpoint()
		if errors.Is(err, ErrNotFound) {
			return nil, failf(http.StatusNotFound, "The region has no certificate yet. The first is made when a quorum of the federation's regions has cosigned a checkpoint; /v1/status says how far the ledger is.")
		}
		if err != nil {
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
		return &reply{status: http.StatusOK, media: mediaNote, body: note, cache: cacheRevalidate}, nil
	})
}

// workStale answers from what this node has applied.
func (s *Server) workStale(r *http.Request, read func(ctx context.Context, v View) (*reply, error)) (*reply, error) {
	return s.workView(r.Context(), Stale, read)
}

func (s *Server) tile(r *http.Request) (*reply, error) {
	if _, err := params(r); err != nil {
		return nil, err
	}
	path := "tile/" + r.PathValue("path")
	t, err := torchwood.ParseTilePath(path)
	// The parser also takes tile/data/, as another standard names bundles.
	if err != nil || torchwood.TilePath(t) != path {
		return nil, failf(http.StatusNotFound, "%q is no path of a tile: c2sp.org/tlog-tiles has /tile/<level>/<number>[.p/<width>] and /tile/entries/<number>[.p/<width>], numbers in groups of three digits such as x001/067.", clip(r.URL.Path, 80))
	}
	if t.L != -1 {
		return s.workStale(r, func(_ context.Context, v View) (*reply, error) { return tileReply(v, t, cacheForEver) })
	}
	cache, err := s.mayReadEntries(r)
	if err != nil {
		return nil, err
	}
	return s.entryBundle(r, t, cache)
}

func tileReply(v View, t tlog.Tile, cache string) (*reply, error) {
	data, err := v.Tile(t)
	if errors.Is(err, ErrNotFound) {
		return nil, failf(http.StatusNotFound, "The ledger, of %d entries on this node, does not fill this tile to this width.", v.Entries())
	}
	if err != nil {
		return nil, fmt.Errorf("read a tile: %w", err)
	}
	_, certified, err := v.Checkpoint()
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	rep := &reply{status: http.StatusOK, media: mediaTile, body: data}
	if entriesUnder(t) <= certified {
		rep.cache = cache
	}
	return rep, nil
}

// entriesUnder is how many entries the ledger needs for the tile. The tile is one that
// the ledger has, so nothing overflows.
func entriesUnder(t tlog.Tile) int64 {
	return (t.N*torchwood.TileWidth + int64(t.W)) << uint(torchwood.TileHeight*max(t.L, 0))
}

// entryBundle answers with a bundle, few being read at a time, and all that are being
// written bounded together.
func (s *Server) entryBundle(r *http.Request, t tlog.Tile, cache string) (*reply, error) {
	return s.workStale(r, func(ctx context.Context, v View) (*reply, error) {
		select {
		case s.bundling <- struct{}{}:
			defer func() { <-s.bundling }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		rep, err := tileReply(v, t, cache)
		if err != nil {
			return nil, err
		}
		n := int64(len(rep.body))
		if !s.bundles.take(n) {
			s.metrics.turned.WithLabelValues(turnedBundles).Inc()
			f := failf(http.StatusServiceUnavailable, "This node is sending as many entries as it takes. Send the same request again after a pause.")
			f.retryAfter = time.Second
			return nil, f
		}
		rep.release = func() { s.bundles.give(n) }
		return rep, nil
	})
}

// mayReadEntries demands a reader token where the entries are not open, and says how
// what follows may be cached.
func (s *Server) mayReadEntries(r *http.Request) (cache string, err error) {
	if s.cfg.OpenEntries {
		return cacheForEver, nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", unauthorised("Entries hold what agents sent, so reading them needs a reader token: Authorization: Bearer TOKEN. Who holds a reader key that the region lists makes one with `bizra token`.")
	}
	key, err := client.CheckReaderToken(strings.TrimSpace(token), s.cfg.Origin, time.Now())
	if err != nil {
		return "", unauthorised("The reader token does not hold here: %v. Make a new one with `bizra token --origin %s`.", err, s.cfg.Origin)
	}
	if _, listed := s.readers[key]; !listed {
		return "", failf(http.StatusForbidden, "Reader key %x is not one that this node lists; ask the region's operators to add it.", key)
	}
	return cacheReader, nil
}

func unauthorised(format string, args ...any) *failure {
	f := failf(http.StatusUnauthorized, format, args...)
	f.challenge = `Bearer realm="entries"`
	return f
}
