package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/client"
)

const (
	waitParam    = "wait"
	timeoutParam = "timeout"
	// lookEvery is how often at most a request that waits looks again: changes come much faster.
	lookEvery = 50 * time.Millisecond
	// looksMax is how many of them look at a time.
	looksMax = 8
)

// wish is what a request waits for.
type wish struct {
	finality string // "": nothing, the answer comes at once
	timeout  time.Duration
}

func wishOf(q url.Values) (*wish, error) {
	w := &wish{finality: q.Get(waitParam), timeout: client.WaitMax}
	if w.finality != client.FinalityCommitted && w.finality != client.FinalityAttested && q.Has(waitParam) {
		return nil, failf(http.StatusBadRequest, "Query parameter wait is %q: it must be committed or attested.", clip(w.finality, 40))
	}
	if !q.Has(timeoutParam) {
		return w, nil
	}
	var err error
	if w.timeout, err = time.ParseDuration(q.Get(timeoutParam)); err != nil || w.timeout < 0 || w.timeout > client.WaitMax {
		return nil, failf(http.StatusBadRequest, "Query parameter timeout is %q: it must be a time such as 10s, from 0s to %v.", clip(q.Get(timeoutParam), 40), client.WaitMax)
	}
	if w.finality == "" {
		return nil, failf(http.StatusBadRequest, "Query parameter timeout needs wait=committed or wait=attested beside it.")
	}
	return w, nil
}

// reached reports whether the first so many entries, which the view has, have come as far as is wished.
func (w *wish) reached(v View, size int64) (bool, error) {
	if w.finality != client.FinalityAttested {
		return true, nil
	}
	certified, err := v.CertifiedSize()
	return certified >= size, err
}

// look answers from one view and says whether what is wished is reached. While it is not, an
// error may be that it is not there yet.
type look func(v View, w *wish) (x any, reached bool, err error)

// readWaiting is readView for what may be waited for. When the time is over, the answer is what there is then.
func (s *Server) readWaiting(r *http.Request, q url.Values, read look) (*reply, error) {
	w, err := wishOf(q)
	if err != nil {
		return nil, err
	}
	if w.finality == "" {
		return s.readView(r, q, func(v View) (any, error) {
			x, _, err := read(v, w)
			return x, err
		})
	}
	consistency, err := consistencyOf(q)
	if err != nil {
		return nil, err
	}
	release, err := s.waits.take()
	if err != nil {
		return nil, err
	}
	defer release()
	// The answer must be on its way before the connection's time is over.
	ctx, cancel := context.WithTimeout(r.Context(), min(w.timeout, s.cfg.WriteTimeout-s.cfg.RequestTimeout))
	defer cancel()
	from := s.workView
	for {
		changed := s.backend.Changed()
		var reached bool
		// The last look is taken after the time is over, by which the request's own context still lives.
		last := ctx.Err() != nil || s.draining.Load()
		rep, err := from(r.Context(), consistency, func(_ context.Context, v View) (*reply, error) {
			x, done, err := read(v, w)
			if reached = done; err != nil {
				return nil, err
			}
			return jsonReply(http.StatusOK, x)
		})
		notYet := errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotAttested)
		if err == nil && reached || err != nil && !notYet || last {
			return rep, err
		}
		// Having seen all that was acknowledged before, this node learns of the rest by itself.
		consistency, from = Stale, s.lookAgain
		s.pause(ctx, changed)
	}
}

// lookAgain is workView for requests that wait. A change wakes all of them at once, so they take turns
// among themselves, and no slot of other requests.
func (s *Server) lookAgain(ctx context.Context, c Consistency, read func(ctx context.Context, v View) (*reply, error)) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.fromView(ctx, c, read)
}

// pause returns once the state has changed, but not before lookEvery; at once when the context ends or the
// server is to stop.
func (s *Server) pause(ctx context.Context, changed <-chan struct{}) {
	soonest := time.NewTimer(lookEvery)
	defer soonest.Stop()
	select {
	case <-changed:
	case <-ctx.Done():
		return
	case <-s.stopping:
		return
	}
	select {
	case <-soonest.C:
	case <-ctx.Done():
	case <-s.stopping:
	}
}

// places are how many requests of a kind may be there at a time.
type places struct {
	free   chan struct{}
	taken  prometheus.Gauge
	turned prometheus.Counter
	what   string
}

func newPlaces(m *metrics, limit string, n int) places {
	return places{free: make(chan struct{}, n), taken: m.waiting.WithLabelValues(limit), turned: m.turned.WithLabelValues(limit), what: limit}
}

// take gives a place, or the answer that there is none.
func (p places) take() (release func(), err error) {
	select {
	case p.free <- struct{}{}:
		p.taken.Inc()
		return func() { p.taken.Dec(); <-p.free }, nil
	default:
		p.turned.Inc()
		f := failf(http.StatusServiceUnavailable, "This node serves %d %s at a time, as many as it takes. Come back after a pause, or ask another node of the region.", cap(p.free), p.what)
		f.retryAfter = time.Second
		return nil, f
	}
}
