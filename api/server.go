package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is the HTTP interface of one node. Whoever calls Serve owns its goroutine;
// Shutdown makes it return.
type Server struct {
	cfg      Config
	backend  Backend
	metrics  *metrics
	http     *http.Server
	requests chan struct{} // one slot for each request with the backend
	bodies   budget
	bundles  budget
	bundling chan struct{} // one slot for each bundle being read
	readers  map[[32]byte]struct{}
	conns    *conns
	waits    places
	looking  chan struct{} // one slot for each request that waits and looks again
	streams  places
	draining atomic.Bool
	stop     func()        // once
	stopping chan struct{} // closed by it
}

// New makes a server. Its metrics go to cfg.Registry, so that a registry serves one
// server only.
func New(backend Backend, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if backend == nil {
		return nil, errors.New("api: no backend")
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s := &Server{cfg: cfg, backend: backend, metrics: m, requests: make(chan struct{}, cfg.RequestsMax), bodies: budget{left: cfg.BodiesBytesMax},
		bundles: budget{left: cfg.BundlesBytesMax}, bundling: make(chan struct{}, bundlesReadMax), readers: make(map[[32]byte]struct{}, len(cfg.Readers))}
	s.waits, s.streams = newPlaces(m, turnedWaits, cfg.WaitsMax), newPlaces(m, turnedStreams, cfg.StreamsMax)
	s.conns = newConns(cfg.ConnectionsMax, m.turned.WithLabelValues(turnedConnections))
	s.looking, s.stopping = make(chan struct{}, looksMax), make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	for _, k := range cfg.Readers {
		s.readers[k] = struct{}{}
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		ReadTimeout:       cfg.ReadTimeout,
		WriteTimeout:      cfg.WriteTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return withConn(withAddress(ctx, c), c) },
		MaxHeaderBytes:    HeaderBytesMax - headerSlackBytes,
		ConnState:         s.conns.note,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler serves requests without a listener of its own, so without the limits on
// connections: for tests and for a server that brings its own.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers on the listener, which it closes, until Shutdown; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(s.conns.listen(l))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP on %v: %w", l.Addr(), err)
}

// Shutdown stops taking requests, says so at /readyz, answers those that wait, ends
// streams of events, and waits for what is under way until the context ends; then it
// cuts it off and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.stop()
	s.conns.closeSilent()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop the HTTP interface: %w", err), s.http.Close())
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	add := func(pattern, method string, h handler) {
		mux.Handle(pattern, s.wrap(pattern, method, h))
	}
	add("/v1/proofs", http.MethodPost, s.submit)
	add("/v1/proofs/{id}", http.MethodGet, s.receipt)
	add("/v1/proofs/{id}/inclusion", http.MethodGet, s.inclusion)
	add("/v1/proofs/{id}/bundle", http.MethodGet, s.bundle)
	add("/v1/judgements", http.MethodPost, s.judgement)
	add("/v1/sessions", http.MethodGet, s.sessions)
	add("/v1/sessions/{id}", http.MethodGet, s.session)
	add("/v1/sessions/{id}/history", http.MethodGet, s.history)
	add("/v1/sessions/{id}/bundle", http.MethodGet, s.sessionBundle)
	add("/v1/agents", http.MethodGet, s.agents)
	add("/v1/agents/{id}", http.MethodGet, s.agent)
	add("/v1/market", http.MethodGet, s.market)
	add("/v1/market/holders", http.MethodGet, s.holders)
	add("/v1/market/holders/{id}", http.MethodGet, s.holder)
	add("/v1/market/licences", http.MethodGet, s.licences)
	add("/v1/market/licences/{id}", http.MethodGet, s.licence)
	add("/v1/market/epochs", http.MethodGet, s.epochs)
	add("/v1/policy", http.MethodGet, s.policy)
	add("/v1/federation", http.MethodGet, s.federation)
	add("/v1/federation/adoptions", http.MethodPost, s.adopt)
	add("/v1/documents/{id}", http.MethodGet, s.document)
	add("/v1/certificates", http.MethodGet, s.certificates)
	add("/v1/patterns", http.MethodGet, s.patterns)
	add("/v1/patterns/{id}", http.MethodGet, s.pattern)
	mux.Handle("/v1/events", s.wrapHTTP("/v1/events", http.MethodGet, http.HandlerFunc(s.events)))
	add("/v1/status", http.MethodGet, s.status)
	add("/v1/peers", http.MethodGet, s.peers)
	add("/checkpoint", http.MethodGet, s.checkpoint)
	add("/tile/{path...}", http.MethodGet, s.tile)
	add("/healthz", http.MethodGet, s.healthy)
	add("/readyz", http.MethodGet, s.ready)
	add("/", "", s.unknown)
	mux.Handle("/metrics", s.wrapHTTP("/metrics", http.MethodGet, promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		Registry: s.cfg.Registry, MaxRequestsInFlight: 4, Timeout: s.cfg.RequestTimeout,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError})))
	return mux
}

// budget is memory that requests take and give back.
type budget struct {
	mu   sync.Mutex
	left int64 // under mu
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
