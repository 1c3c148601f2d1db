package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"
)

// Limits of one protocol at the side that serves it. The zero value of a field takes
// the default named there.
type Limits struct {
	RequestBytesMax  int           // of one request frame; 64 KiB
	ResponseBytesMax int           // of one response frame; 1 MiB
	ConcurrentMax    int           // streams served at once; 256
	PerPeerMax       int           // of them, of one peer; 32
	PerRegionMax     int           // of them, of all nodes of one region; 0: no such limit
	Timeout          time.Duration // to read the request, to handle it, to write the response, each; 10 s. Not for ServeStream
	PerPeerPerSecond float64       // streams that one peer may open in the long run; 0: no such limit
	PerPeerBurst     int           // and at once; 10
	StrangerPerSec   float64       // streams that all strangers together may open; 4
	StrangerBurst    int           // and at once; 16
	RecheckEvery     time.Duration // how soon the end of a peer's admission ends its open streams; 5 s
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.RequestBytesMax, 64<<10)
	set(&l.ResponseBytesMax, 1<<20)
	set(&l.ConcurrentMax, 256)
	set(&l.PerPeerMax, 32)
	set(&l.PerPeerBurst, 10)
	set(&l.StrangerBurst, 16)
	if l.Timeout == 0 {
		l.Timeout = 10 * time.Second
	}
	if l.RecheckEvery == 0 {
		l.RecheckEvery = 5 * time.Second
	}
	if l.StrangerPerSec == 0 {
		l.StrangerPerSec = 4
	}
	return l
}

func (l Limits) validate() error {
	for _, f := range []struct {
		name string
		bad  bool
	}{
		{"RequestBytesMax", l.RequestBytesMax < 1}, {"ResponseBytesMax", l.ResponseBytesMax < 1}, {"ConcurrentMax", l.ConcurrentMax < 1},
		{"PerPeerMax", l.PerPeerMax < 1}, {"PerRegionMax", l.PerRegionMax < 0}, {"PerPeerBurst", l.PerPeerBurst < 1}, {"StrangerBurst", l.StrangerBurst < 1},
		{"Timeout", l.Timeout < 0}, {"RecheckEvery", l.RecheckEvery < 0}, {"PerPeerPerSecond", l.PerPeerPerSecond < 0}, {"StrangerPerSec", l.StrangerPerSec < 0},
	} {
		if f.bad {
			return fmt.Errorf("limits: %s must be positive: %+v", f.name, l)
		}
	}
	return nil
}

// Stats counts what became of the streams that were opened towards a [Server].
type Stats struct {
	Open      int    // now
	Served    uint64 // answered, or for raw streams ended by their handler
	Refused   uint64 // not allowed, at the start or later
	Busy      uint64 // above a limit of streams or of rate
	Malformed uint64 // too long, not CBOR, not the message, or ended early
	TimedOut  uint64 // cut off for being too slow
	Faults    uint64 // handlers that returned an error
	Panics    uint64 // handlers that panicked
}

type counters struct {
	served, refused, busy, malformed, timedOut, faults, panics atomic.Uint64
}

// Server serves one protocol on one host until Close.
type Server struct {
	host   host.Host
	access *Access
	proto  protocol.ID
	limits Limits
	logger *slog.Logger
	stats  counters
	ctx    context.Context // ends with Close, and with it every handler's
	cancel context.CancelFunc
	wg     sync.WaitGroup // every handler and the recheck that is due

	mu        sync.Mutex
	closed    bool
	streams   map[network.Stream]context.CancelFunc
	perPeer   map[peer.ID]int           // streams open now
	perRegion map[string]int            // streams open now, where they are limited
	rates     map[peer.ID]*rate.Limiter // emptied by recheck where full again
	strangers *rate.Limiter
	rechecks  *time.Timer // of the next recheck, nil while there is nothing to look at; holds a place in wg
}

// ServeStream serves raw streams of a protocol, such as those of Raft: after the
// access check the stream is the handler's until it returns; then it is closed, or
// reset if the handler returned an error. The context ends with the server, and with
// the peer's permission to speak the protocol.
func ServeStream(h host.Host, a *Access, proto protocol.ID, lim Limits,
	handle func(ctx context.Context, from peer.ID, s network.Stream) error) (*Server, error) {
	lim = lim.withDefaults()
	if err := lim.validate(); err != nil {
		return nil, fmt.Errorf("serve %s: %w", proto, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := &Server{host: h, access: a, proto: proto, limits: lim, logger: a.cfg.Logger.With("protocol", proto), ctx: ctx, cancel: cancel,
		streams: make(map[network.Stream]context.CancelFunc), perPeer: make(map[peer.ID]int), perRegion: make(map[string]int), rates: make(map[peer.ID]*rate.Limiter),
		strangers: rate.NewLimiter(rate.Limit(lim.StrangerPerSec), lim.StrangerBurst)}
	h.SetStreamHandler(proto, func(s network.Stream) { srv.serve(s, handle) })
	return srv, nil
}

// Stats reports what the server did so far.
func (srv *Server) Stats() Stats {
	srv.mu.Lock()
	open := len(srv.streams)
	srv.mu.Unlock()
	c := &srv.stats
	return Stats{Open: open, Served: c.served.Load(), Refused: c.refused.Load(), Busy: c.busy.Load(), Malformed: c.malformed.Load(),
		TimedOut: c.timedOut.Load(), Faults: c.faults.Load(), Panics: c.panics.Load()}
}

// Protocol is the protocol served.
func (srv *Server) Protocol() protocol.ID { return srv.proto }

// Close stops serving, resets the open streams and waits for their handlers, which
// must heed their context or an error of the stream.
func (srv *Server) Close() error {
	srv.mu.Lock()
	already := srv.closed
	srv.closed = true
	if srv.rechecks != nil && srv.rechecks.Stop() {
		srv.rechecks = nil
		srv.wg.Done()
	}
	open := make([]network.Stream, 0, len(srv.streams))
	for s := range srv.streams {
		open = append(open, s)
	}
	srv.mu.Unlock()
	if !already {
		srv.host.RemoveStreamHandler(srv.proto)
	}
	srv.cancel()
	for _, s := range open {
		_ = s.ResetWithError(network.StreamShutdown)
	}
	srv.wg.Wait()
	return nil
}

func (srv *Server) serve(s network.Stream, handle func(context.Context, peer.ID, network.Stream) error) {
	from := s.Conn().RemotePeer()
	if err := srv.access.Allow(from, srv.proto); err != nil {
		srv.stats.refused.Add(1)
		_ = s.ResetWithError(network.StreamGated)
		return
	}
	ctx, done, ok := srv.admit(from, s)
	if !ok {
		srv.stats.busy.Add(1)
		_ = s.ResetWithError(network.StreamRateLimited)
		return
	}
	defer done()
	defer func() {
		if p := recover(); p != nil {
			srv.stats.panics.Add(1)
			srv.logger.Error("handler panicked", "peer", from, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			_ = s.ResetWithError(network.StreamProtocolViolation)
		}
	}()
	if err := handle(ctx, from, s); err != nil {
		_ = s.ResetWithError(network.StreamProtocolViolation)
		return
	}
	srv.stats.served.Add(1)
	_ = s.Close()
}

// admit takes a place for the stream, or says that there is none.
func (srv *Server) admit(from peer.ID, s network.Stream) (ctx context.Context, done func(), ok bool) {
	stranger := srv.access.Role(from) == Stranger
	var region string
	if srv.limits.PerRegionMax > 0 {
		region = srv.access.RegionOf(from)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.closed || len(srv.streams) >= srv.limits.ConcurrentMax || srv.perPeer[from] >= srv.limits.PerPeerMax {
		return nil, nil, false
	}
	if srv.limits.PerRegionMax > 0 && srv.perRegion[region] >= srv.limits.PerRegionMax {
		return nil, nil, false
	}
	// Strangers make up as many names as they like, so they share one bucket.
	if stranger && !srv.strangers.Allow() || !stranger && !srv.rate(from).Allow() {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(srv.ctx)
	srv.streams[s] = cancel
	srv.perPeer[from]++
	srv.perRegion[region]++
	srv.wg.Add(1)
	srv.watch()
	return ctx, func() {
		cancel()
		srv.mu.Lock()
		delete(srv.streams, s)
		if srv.perPeer[from]--; srv.perPeer[from] <= 0 {
			delete(srv.perPeer, from)
		}
		if srv.perRegion[region]--; srv.perRegion[region] <= 0 {
			delete(srv.perRegion, region)
		}
		srv.mu.Unlock()
		srv.wg.Done()
	}, true
}

// rate is the peer's bucket; under mu. Only admitted peers have one, so their number
// is bounded by those of the document and of [AdmissionsMax].
func (srv *Server) rate(p peer.ID) *rate.Limiter {
	if l, ok := srv.rates[p]; ok {
		return l
	}
	every := rate.Inf
	if srv.limits.PerPeerPerSecond > 0 {
		every = rate.Limit(srv.limits.PerPeerPerSecond)
	}
	l := rate.NewLimiter(every, srv.limits.PerPeerBurst)
	if every != rate.Inf {
		srv.rates[p] = l
	}
	return l
}

// watch makes the next recheck due while there is anything to look at: most nodes serve most
// protocols to nobody most of the time. Under mu.
func (srv *Server) watch() {
	if srv.closed || srv.rechecks != nil || len(srv.streams) == 0 && len(srv.rates) == 0 {
		return
	}
	srv.wg.Add(1)
	srv.rechecks = time.AfterFunc(srv.limits.RecheckEvery, func() {
		defer srv.wg.Done()
		srv.recheck()
	})
}

// recheck ends the streams of peers that may no longer speak the protocol, and forgets
// the buckets that are full again.
func (srv *Server) recheck() {
	srv.mu.Lock()
	srv.rechecks = nil
	open := make(map[network.Stream]context.CancelFunc, len(srv.streams))
	for s, cancel := range srv.streams {
		open[s] = cancel
	}
	for p, l := range srv.rates {
		if l.Tokens() >= float64(srv.limits.PerPeerBurst) {
			delete(srv.rates, p)
		}
	}
	srv.watch()
	srv.mu.Unlock()
	for s, cancel := range open {
		if srv.access.Allow(s.Conn().RemotePeer(), srv.proto) != nil {
			srv.stats.refused.Add(1)
			cancel()
			_ = s.ResetWithError(network.StreamGated)
		}
	}
}

// Serve serves requests and responses of a protocol: one of each a stream. A handler
// that returns a [*Fault] has it sent to the caller; of any other error the caller
// learns only that there was one. A handler that panics costs its stream and nothing else.
func Serve[Request, Response any](h host.Host, a *Access, proto protocol.ID, lim Limits,
	handle func(ctx context.Context, from peer.ID, request *Request) (*Response, error)) (*Server, error) {
	var srv *Server
	ready := make(chan struct{})
	srv, err := ServeStream(h, a, proto, lim, func(ctx context.Context, from peer.ID, s network.Stream) error {
		<-ready
		return serveCall(ctx, srv, from, s, handle)
	})
	close(ready)
	return srv, err
}

func serveCall[Request, Response any](ctx context.Context, srv *Server, from peer.ID, s network.Stream,
	handle func(context.Context, peer.ID, *Request) (*Response, error)) error {
	lim := srv.limits
	reserved := 0
	defer func() { s.Scope().ReleaseMemory(reserved) }()
	reserve := func(n int) error {
		if err := s.Scope().ReserveMemory(n, network.ReservationPriorityMedium); err != nil {
			return err
		}
		reserved += n
		return nil
	}
	var request Request
	_ = s.SetReadDeadline(time.Now().Add(lim.Timeout))
	if err := readMessage(s, lim.RequestBytesMax, &request, reserve); err != nil {
		return srv.failed(from, "request", err)
	}
	var answer reply
	response, err := func() (*Response, error) {
		ctx, cancel := context.WithTimeout(ctx, lim.Timeout)
		defer cancel()
		return handle(ctx, from, &request)
	}()
	if err == nil {
		answer.Body, err = Marshal(response)
	}
	if err == nil && len(answer.Body) > lim.ResponseBytesMax {
		err = fmt.Errorf("%w: response of %d bytes, at most %d", ErrFrameTooLong, len(answer.Body), lim.ResponseBytesMax)
	}
	if err != nil {
		srv.stats.faults.Add(1)
		answer = replyOf(err)
		if answer.Code == FaultInternal {
			srv.logger.Warn("request failed", "peer", from, "error", err)
		}
	}
	_ = s.SetWriteDeadline(time.Now().Add(lim.Timeout))
	if err := WriteMessage(s, lim.ResponseBytesMax+replyBytesMax, &answer); err != nil {
		return srv.failed(from, "response", err)
	}
	return nil
}

// failed counts why a stream broke.
func (srv *Server) failed(from peer.ID, what string, err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case srv.ctx.Err() != nil:
	case errors.As(err, &timeout) && timeout.Timeout():
		srv.stats.timedOut.Add(1)
	default:
		srv.stats.malformed.Add(1)
	}
	srv.logger.Debug("stream broke", "peer", from, "in", what, "error", err)
	return err
}
