package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// Errors that end a stream of the server.
var (
	errSlowReader = errors.New("the follower does not take what it asked for")
	errChatter    = errors.New("the follower sent something after its request")
	errGone       = errors.New("the follower left")
	errSlowAsker  = errors.New("the request did not come in time")
)

// ServerConfig configures a [Server]. A zero value takes the default named at its field.
type ServerConfig struct {
	Host   host.Host
	Access *p2p.Access
	Region string // whose ledger is served
	// View opens a view on the state now. It is called for each frame, so the machine
	// behind it may be another one each time.
	View func() (*fsm.View, error)
	Feed *Feed // advanced after each commit and each seal
	// Age says since when this node may not know what its region committed: 0 for a voter
	// that hears from its leader, [Follower.Age] for a member. Nil: always 0.
	Age func() time.Duration
	// Copy gives the copy of another region's ledger, if there is one, for the nodes of this region. May be nil.
	Copy           func(region string) (Source, bool)
	StreamsMax     int           // at once; 256. Each holds up to 1 MiB
	PerPeerMax     int           // of them, of one peer; 4
	WriteTimeout   time.Duration // for one frame, of up to 256 KiB; 10 s
	RequestTimeout time.Duration // 5 s
	HeartbeatEvery time.Duration // when idle; 5 s. Followers wait 15 s
	Metrics        prometheus.Registerer
	Logger         *slog.Logger
}

func (c ServerConfig) withDefaults() ServerConfig {
	setInt(&c.StreamsMax, 256)
	setInt(&c.PerPeerMax, 4)
	setDuration(&c.WriteTimeout, 10*time.Second)
	setDuration(&c.RequestTimeout, 5*time.Second)
	setDuration(&c.HeartbeatEvery, 5*time.Second)
	if c.Age == nil {
		c.Age = func() time.Duration { return 0 }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c ServerConfig) validate() error {
	switch {
	case c.Region == "" || len(c.Region) > regionBytesMax:
		return fmt.Errorf("serve entries: Region is %q: it must have 1 to %d bytes", c.Region, regionBytesMax)
	case c.View == nil || c.Feed == nil:
		return errors.New("serve entries: View and Feed must be set")
	case c.StreamsMax < 1 || c.PerPeerMax < 1:
		return fmt.Errorf("serve entries: StreamsMax %d and PerPeerMax %d must be positive", c.StreamsMax, c.PerPeerMax)
	case c.WriteTimeout < 0 || c.RequestTimeout < 0 || c.HeartbeatEvery < 0:
		return fmt.Errorf("serve entries: WriteTimeout %v, RequestTimeout %v and HeartbeatEvery %v must be positive", c.WriteTimeout, c.RequestTimeout, c.HeartbeatEvery)
	}
	return nil
}

// Source is a ledger that is served.
type Source struct {
	Lend func(fn func(*fsm.View) error) error // a view on it as it is now
	Feed *Feed
	Age  func() time.Duration
}

// own is the ledger of the node's own region.
func (c *ServerConfig) own() Source {
	return Source{Feed: c.Feed, Age: c.Age, Lend: func(fn func(*fsm.View) error) error {
		v, err := c.View()
		if err != nil {
			return err
		}
		return errors.Join(fn(v), v.Close())
	}}
}

// source is the ledger that a peer asks for. That of another region is for those of this one: others
// have it from its own nodes.
func (srv *Server) source(from peer.ID, region string) (Source, error) {
	if region == srv.cfg.Region {
		return srv.cfg.own(), nil
	}
	if srv.cfg.Copy != nil && srv.cfg.Access != nil && srv.cfg.Access.RegionOf(from) == srv.cfg.Region {
		if src, ok := srv.cfg.Copy(region); ok {
			return src, nil
		}
	}
	return Source{}, &refusal{refusedRegion, fmt.Sprintf("this node serves the ledger of region %q, and was asked for %q", srv.cfg.Region, region)}
}

func setInt(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

func setDuration(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}

// Stream is what the protocol needs of a network.Stream. Reset ends both directions at
// once and unblocks whoever waits on the stream; CloseRead unblocks readers.
type Stream interface {
	io.Reader
	io.Writer
	CloseRead() error
	Reset() error
}

// Server serves a region's ledger on one host until Close.
type Server struct {
	cfg     ServerConfig
	metrics *serverMetrics
	streams *p2p.Server // nil in tests of the protocol alone
}

// Serve serves the ledger of a region to those whom access lets speak the protocol.
func Serve(cfg ServerConfig) (*Server, error) {
	srv, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Host == nil || cfg.Access == nil {
		return nil, errors.New("serve entries: Host and Access must be set")
	}
	if err := srv.metrics.Register(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("serve entries: %w", err)
	}
	srv.streams, err = p2p.ServeStream(cfg.Host, cfg.Access, p2p.ProtocolEntries,
		p2p.Limits{RequestBytesMax: requestBytesMax, ResponseBytesMax: FrameBytesMax, ConcurrentMax: srv.cfg.StreamsMax, PerPeerMax: srv.cfg.PerPeerMax},
		func(ctx context.Context, from peer.ID, s network.Stream) error { return srv.handle(ctx, from, s) })
	if err != nil {
		srv.metrics.Unregister(cfg.Metrics)
		return nil, err
	}
	return srv, nil
}

func newServer(cfg ServerConfig) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, metrics: newServerMetrics(cfg.Region)}, nil
}

// Stats counts streams: open, refused, busy and so on.
func (srv *Server) Stats() p2p.Stats { return srv.streams.Stats() }

// Close ends every stream and waits for what serves them.
func (srv *Server) Close() error {
	err := srv.streams.Close()
	srv.metrics.Unregister(srv.cfg.Metrics)
	return err
}

// handle serves one stream until it ends.
func (srv *Server) handle(ctx context.Context, from peer.ID, s Stream) error {
	srv.metrics.open.Inc()
	defer srv.metrics.open.Add(-1)
	err := srv.stream(ctx, from, s)
	srv.metrics.ended.With(endReason(err)).Inc()
	log := srv.cfg.Logger.Debug
	if errors.Is(err, errSlowReader) || errors.Is(err, errChatter) {
		log = srv.cfg.Logger.Warn
	}
	if err != nil {
		log("stream of entries ended", "peer", from, "error", err)
	}
	var no *refusal
	if errors.As(err, &no) {
		return nil // the stream is closed in order, so that the refusal arrives
	}
	return err
}

func endReason(err error) string {
	var no *refusal
	switch {
	case err == nil:
		return "complete"
	case errors.As(err, &no):
		return no.code
	case errors.Is(err, errSlowReader):
		return "slow"
	case errors.Is(err, errChatter), errors.Is(err, errSlowAsker), errors.Is(err, p2p.ErrFrameMalformed), errors.Is(err, p2p.ErrFrameTooLong), errors.Is(err, p2p.ErrFrameVersion):
		return refusedMalformed
	default:
		return "gone"
	}
}

func (srv *Server) stream(ctx context.Context, from peer.ID, s Stream) error {
	// A stream's reads and writes do not end with a context.
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	want, err := srv.request(s)
	if err != nil {
		return srv.refuse(s, &frame{}, err)
	}
	src, err := srv.source(from, want.Region)
	if err != nil {
		return srv.refuse(s, &frame{}, err)
	}
	p := srv.newPusher(s, src, want)
	forget := src.Feed.tell(func() { p.rounds.Within(0) })
	p.rounds.Start(0, p.round)
	left := awaitLeave(s)
	if left == nil {
		select {
		case <-p.ended:
		case <-ctx.Done():
		}
	}
	forget()
	select {
	case <-p.ended:
		stop() // what was written must still arrive
		p.rounds.Stop()
		return p.err
	default:
	}
	_ = s.Reset()
	p.rounds.Stop()
	switch {
	case errors.Is(p.err, errSlowReader):
		return p.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return left
	}
}

// awaitLeave waits for the follower to leave and says how. That it ends its own direction is no
// farewell: it has nothing more to say. To end reading ends it too.
func awaitLeave(s Stream) error {
	var b [1]byte
	switch n, err := s.Read(b[:]); {
	case n > 0:
		return errChatter
	case err != nil && !errors.Is(err, io.EOF):
		return errGone
	default:
		return nil
	}
}

func (srv *Server) request(s Stream) (*requestBody, error) {
	slow := time.AfterFunc(srv.cfg.RequestTimeout, func() { _ = s.Reset() })
	want, err := readRequest(s)
	if !slow.Stop() {
		return nil, errSlowAsker
	}
	return want, err
}

// refuse sends a refusal, if err is one, and returns err.
func (srv *Server) refuse(s Stream, f *frame, err error) error {
	var no *refusal
	if !errors.As(err, &no) {
		return err
	}
	f.Kind, f.Code, f.Detail = frameRefusal, no.code, no.detail
	if writeErr := srv.write(s, f); writeErr != nil {
		return errors.Join(errGone, writeErr)
	}
	return err
}

func (srv *Server) write(s Stream, f *frame) error {
	slow := time.AfterFunc(srv.cfg.WriteTimeout, func() { _ = s.Reset() })
	err := p2p.WriteMessage(s, FrameBytesMax, f)
	if !slow.Stop() {
		return fmt.Errorf("%w: a frame was not taken within %v", errSlowReader, srv.cfg.WriteTimeout)
	}
	if err == nil {
		srv.metrics.sent(f)
	}
	return err
}
