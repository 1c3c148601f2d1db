package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of the transport.
const (
	inboundStreamsMax = 16        // from one peer; Raft uses about four
	rpcBytesMax       = 128 << 20 // of requests on one stream not yet answered; a snapshot's body apart
	remotesMax        = 64        // peers at once, far above any region's servers
	connPoolMax       = 3         // idle outgoing streams kept for one peer
	// A snapshot's RPC may take RPCTimeout for each of these many bytes: the receiver writes, syncs and verifies it.
	snapshotBytesPerTimeout = 512 << 10
)

// errRefused is what a sender is told, whatever the reason: the log here says which it was.
var errRefused = errors.New("refused: this node takes no such Raft RPC from you")

// TransportConfig says over what the transport talks and whom it listens to.
type TransportConfig struct {
	Network Network
	// Admit says whether this peer may send this RPC now (command is raft's request). It is asked for every RPC, and with a nil
	// command when the peer opens a stream.
	Admit func(from raft.ServerID, command any) error
	// RPCTimeout bounds every RPC; for a snapshot see snapshotBytesPerTimeout. Default 5 s.
	RPCTimeout time.Duration
	// TransferTimeout bounds the RPC that asks a peer to take over: Raft refuses all writes until it returns. Default 1 s.
	TransferTimeout time.Duration
	// Stored returns when this node's own log holds the entry at index on its disk, or never will, or stop is closed. No answer that
	// vouches for entries is handed to Raft before; see [overlap]. Default: at once.
	Stored func(index uint64, stop <-chan struct{}) error
	Logger *slog.Logger
	// OnRefused is called for everything refused. May be nil.
	OnRefused func(from raft.ServerID, err error)
}

func (c TransportConfig) withDefaults() TransportConfig {
	if c.RPCTimeout == 0 {
		c.RPCTimeout = 5 * time.Second
	}
	if c.TransferTimeout == 0 {
		c.TransferTimeout = time.Second
	}
	if c.Stored == nil {
		c.Stored = func(uint64, <-chan struct{}) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnRefused == nil {
		c.OnRefused = func(raft.ServerID, error) {}
	}
	return c
}

func (c TransportConfig) validate() error {
	if c.Network == nil {
		return errors.New("transport: Network is missing")
	}
	if c.Admit == nil {
		return errors.New("transport: Admit is missing")
	}
	return nil
}

// Transport is a raft.Transport over authenticated streams.
//
// raft's NetworkTransport does not say who sent an RPC. So there is one for each remote peer, over streams of that peer only, and
// their consumers are merged here, where each RPC is held against the peer it came from (see check.go). Heartbeats take the same
// way as every other RPC: SetHeartbeatHandler does nothing, since handling them beside Raft's main thread lets committed state
// diverge (hashicorp/raft #695).
type Transport struct {
	cfg     TransportConfig
	local   raft.ServerID
	rpcs    chan raft.RPC
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	workers sync.WaitGroup // goroutines that consume and answer
	stop    func()         // ends serving

	mu      sync.Mutex // guards what follows
	remotes map[raft.ServerID]*remote
	closed  bool
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// NewTransport starts to serve. Close ends it.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{cfg: cfg, local: cfg.Network.Local(), rpcs: make(chan raft.RPC), ctx: ctx, cancel: cancel,
		remotes: make(map[raft.ServerID]*remote)}
	stop, err := cfg.Network.Serve(t.serve)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("serve Raft: %w", err)
	}
	t.stop = stop
	return t, nil
}

// serve takes a stream that a peer opened.
func (t *Transport) serve(from raft.ServerID, conn net.Conn) {
	err := t.cfg.Admit(from, nil)
	if err == nil {
		var r *remote
		if r, err = t.remote(from); err == nil {
			err = r.layer.offer(conn)
		}
	}
	if err != nil {
		t.refused(from, fmt.Errorf("open a stream: %w", err))
		abort(conn)
	}
}

func (t *Transport) refused(from raft.ServerID, err error) {
	t.cfg.Logger.Warn("refused a Raft peer", "peer", string(from), "error", err)
	t.cfg.OnRefused(from, err)
}

// remote finds or makes the transport of one peer.
func (t *Transport) remote(id raft.ServerID) (*remote, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, raft.ErrTransportShutdown
	}
	if r, ok := t.remotes[id]; ok {
		return r, nil
	}
	if len(t.remotes) >= remotesMax {
		return nil, fmt.Errorf("more than %d Raft peers", remotesMax)
	}
	r := newRemote(t, id)
	t.remotes[id] = r
	t.workers.Add(1)
	go func() {
		defer t.workers.Done()
		t.consume(r)
	}()
	return r, nil
}

// Keep closes the transports of all peers that are not named: they have left the configuration.
func (t *Transport) Keep(ids []raft.ServerID) {
	keep := make(map[raft.ServerID]bool, len(ids))
	for _, id := range ids {
		keep[id] = true
	}
	t.mu.Lock()
	var gone []*remote
	for id, r := range t.remotes {
		if !keep[id] {
			gone = append(gone, r)
			delete(t.remotes, id)
		}
	}
	t.mu.Unlock()
	for _, r := range gone {
		r.close()
	}
}

// consume holds the RPCs of one peer against that peer and hands on what passes.
func (t *Transport) consume(r *remote) {
	for {
		select {
		case rpc := <-r.trans.Consumer():
			if err := t.check(r.id, rpc.Command); err != nil {
				t.refused(r.id, err)
				rpc.RespChan <- raft.RPCResponse{Response: emptyResponse(rpc.Command), Error: errRefused}
				if rpc.Reader != nil {
					// The body of a refused snapshot is still to come on that stream and must not be read as RPCs.
					r.layer.dropInbound()
				}
				continue
			}
			if rpc.Reader != nil {
				rpc = t.receiving(r, rpc)
			}
			select {
			case t.rpcs <- rpc:
			case <-r.done:
				return
			}
		case <-r.done:
			return
		}
	}
}

// receiving lifts the limits on requests for as long as Raft reads the snapshot that came with this one.
func (t *Transport) receiving(r *remote, rpc raft.RPC) raft.RPC {
	answered := make(chan raft.RPCResponse, 1)
	original := rpc.RespChan
	rpc.RespChan = answered
	r.layer.receiving.Add(1)
	t.workers.Add(1)
	go func() {
		defer t.workers.Done()
		defer r.layer.receiving.Add(-1)
		select {
		case response := <-answered:
			original <- response // has room for one, as every channel of this kind
		case <-r.done:
		}
	}()
	return rpc
}

// Consumer implements raft.Transport.
func (t *Transport) Consumer() <-chan raft.RPC { return t.rpcs }

// LocalAddr implements raft.Transport: an address is an ID here.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.local) }

// AppendEntriesPipeline implements raft.Transport.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	r, err := t.remote(id)
	if err != nil {
		return nil, err
	}
	p, err := r.trans.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newPipeline(p, t.cfg.Stored), nil
}

// AppendEntries implements raft.Transport.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := checkOutgoing(args); err != nil {
		return err
	}
	if err := t.call(id, func(n *raft.NetworkTransport) error { return n.AppendEntries(id, target, args, resp) }); err != nil {
		return err
	}
	return awaitOwn(t.cfg.Stored, args, t.ctx.Done())
}

// awaitOwn returns when the entries of a request are on this node's own disk.
func awaitOwn(stored func(uint64, <-chan struct{}) error, args *raft.AppendEntriesRequest, stop <-chan struct{}) error {
	if len(args.Entries) == 0 {
		return nil
	}
	if err := stored(args.Entries[len(args.Entries)-1].Index, stop); err != nil {
		return fmt.Errorf("wait for the own copy of what another voter has: %w", err)
	}
	return nil
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.call(id, func(n *raft.NetworkTransport) error { return n.RequestVote(id, target, args, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.call(id, func(n *raft.NetworkTransport) error { return n.RequestPreVote(id, target, args, resp) })
}

// InstallSnapshot implements raft.Transport.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, body io.Reader) error {
	return t.call(id, func(n *raft.NetworkTransport) error { return n.InstallSnapshot(id, target, args, resp, body) })
}

// TimeoutNow implements raft.Transport. It gives up after TransferTimeout, although the RPC may go on to RPCTimeout: Raft takes
// no writes until it returns (hashicorp/raft #696).
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	done := make(chan error, 1)
	var late raft.TimeoutNowResponse
	go func() {
		done <- t.call(id, func(n *raft.NetworkTransport) error { return n.TimeoutNow(id, target, args, &late) })
	}()
	limit := time.NewTimer(t.cfg.TransferTimeout)
	defer limit.Stop()
	select {
	case err := <-done:
		*resp = late
		return err
	case <-limit.C:
		return fmt.Errorf("ask %s to take over: no answer within %v", id, t.cfg.TransferTimeout)
	case <-t.ctx.Done():
		return raft.ErrTransportShutdown
	}
}

func (t *Transport) call(id raft.ServerID, rpc func(*raft.NetworkTransport) error) error {
	r, err := t.remote(id)
	if err != nil {
		return err
	}
	return rpc(r.trans)
}

// EncodePeer implements raft.Transport.
func (t *Transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport by doing nothing; see [Transport].
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close ends all streams and waits until nothing handles them any more. It implements raft.WithClose.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.workers.Wait()
		return nil
	}
	t.closed = true
	remotes := t.remotes
	t.remotes = nil
	t.mu.Unlock()
	t.cancel()
	for _, r := range remotes {
		r.close()
	}
	t.stop()
	t.workers.Wait()
	return nil
}
