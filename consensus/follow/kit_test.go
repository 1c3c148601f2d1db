package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

const logStart = int64(1_772_452_800_000) // 2026-03-02T12:00:00Z

// origin is a region's ledger that grows when a test says so.
type origin struct {
	t      testing.TB
	fed    *testfed.Federation
	region string
	st     store.Store
	m      *fsm.Machine
	feed   *Feed
	agent  *testfed.Signer
	raft   uint64
	now    int64
	opened int
}

func newOrigin(t testing.TB, fed *testfed.Federation, region string) *origin {
	t.Helper()
	return newOriginAt(t, fed, region, logStart)
}

// newOriginAt makes an origin whose log time starts where it is told.
func newOriginAt(t testing.TB, fed *testfed.Federation, region string, now int64) *origin {
	t.Helper()
	o := &origin{t: t, fed: fed, region: region, st: store.NewMemory(), feed: NewFeed(0), now: now}
	m, err := fsm.Open(o.st, fsm.Config{Region: region})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	o.m, o.agent = m, fed.Agent("alice", o.now)
	o.apply(fsm.EncodeGenesis(o.now, fed.Document.Canonical()))
	return o
}

func (o *origin) apply(data []byte) fsm.Result {
	o.t.Helper()
	o.raft++
	res, err := o.m.Apply([]fsm.Command{{Index: o.raft, Term: 1, Data: data}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.feed.Advance(o.m.Size())
	return res[0]
}

// proof makes a proof that opens a session.
func (o *origin) proof() *pci.Envelope {
	o.opened++
	o.agent.NowMillis = o.now
	return o.agent.Sign("session.open", map[string]any{"region": o.region, "session": fmt.Sprintf("s%d", o.opened)}, "")
}

// grow appends entries, one proof each.
func (o *origin) grow(n int) *origin {
	o.t.Helper()
	for n > 0 {
		var canonical [][]byte
		for range min(n, 256) {
			canonical = append(canonical, o.proof().Canonical())
		}
		o.now += 10
		for _, r := range o.apply(fsm.EncodeProofs(o.now, canonical)).Receipts {
			if r.Code != pci.Success {
				o.t.Fatalf("the origin refused a proof: %v %s", r.Code, r.Reason)
			}
		}
		n -= len(canonical)
	}
	return o
}

func (o *origin) seal() *origin {
	o.t.Helper()
	s := o.apply(fsm.EncodeSeal()).Seal
	if s == nil {
		o.t.Fatal("nothing to seal")
	}
	o.apply(o.fed.Certify(s))
	return o
}

func (o *origin) entries() [][]byte {
	o.t.Helper()
	v, err := o.m.View()
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	entries, err := v.Ledger().Entries(0, o.m.Size(), 1<<30)
	if err != nil {
		o.t.Fatal(err)
	}
	return entries
}

func (o *origin) serverConfig() ServerConfig {
	return ServerConfig{Region: o.region, View: o.m.View, Feed: o.feed, Logger: quiet()}
}

func (o *origin) server() *Server {
	o.t.Helper()
	srv, err := newServer(o.serverConfig())
	if err != nil {
		o.t.Fatal(err)
	}
	return srv
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// replicaOf is an empty replica of a region.
func replicaOf(t testing.TB, fed *testfed.Federation, region string) *fsm.Machine {
	t.Helper()
	m, err := fsm.Open(store.NewMemory(), fsm.Config{Region: region, Document: documentOf(fed.Document)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func documentOf(d *federation.Document) func([32]byte) ([]byte, bool) {
	return func(digest [32]byte) ([]byte, bool) { return d.Canonical(), digest == d.Digest() }
}

// sameAs fails unless a replica holds just what the origin holds.
func sameAs(t testing.TB, o *origin, replica *fsm.Machine) {
	t.Helper()
	want, err1 := o.m.StateRoot()
	got, err2 := replica.StateRoot()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	v1, err1 := o.m.View()
	v2, err2 := replica.View()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = v1.Close(), v2.Close() }()
	if o.m.Size() != replica.Size() || got != want || v1.Seals() != v2.Seals() {
		t.Fatalf("the replica has %d entries, %d seals and state %x; the origin %d, %d and %x",
			replica.Size(), v2.Seals(), got, o.m.Size(), v1.Seals(), want)
	}
	for n := range v1.Seals() {
		s1, err1 := v1.SealAt(n)
		s2, err2 := v2.SealAt(n)
		if err := errors.Join(err1, err2); err != nil || string(s1.Body()) != string(s2.Body()) {
			t.Fatalf("seal %d: %v, %v: %v", n, s1, s2, err)
		}
	}
}

// prefixOf fails unless all that a replica holds is the origin's.
func prefixOf(t testing.TB, o *origin, replica *fsm.Machine) {
	t.Helper()
	if err := differs(o, replica); err != nil {
		t.Fatal(err)
	}
}

// differs says what a replica holds that is not the origin's. The replica must be at rest.
func differs(o *origin, replica *fsm.Machine) error {
	v1, err1 := o.m.View()
	v2, err2 := replica.View()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer func() { _, _ = v1.Close(), v2.Close() }()
	r1, err1 := v1.Ledger().Root(replica.Size())
	r2, err2 := v2.Ledger().Root(replica.Size())
	if err := errors.Join(err1, err2); err != nil || r1 != r2 {
		return fmt.Errorf("the replica's %d entries are not the origin's: %w", replica.Size(), err)
	}
	for n := range v2.Seals() {
		s1, err1 := v1.SealAt(n)
		s2, err2 := v2.SealAt(n)
		if err := errors.Join(err1, err2); err != nil || string(s1.Body()) != string(s2.Body()) {
			return fmt.Errorf("seal %d: %v, %v: %w", n, s1, s2, err)
		}
	}
	return nil
}

var errReset = errors.New("stream reset")

// pipe is one end of a stream in memory, without buffers. A reset shows at the other
// end as an error other than io.EOF, as it does with libp2p.
type pipe struct {
	net.Conn
	reset *atomic.Bool
}

func newPipe() (a, b *pipe) {
	x, y := net.Pipe()
	reset := new(atomic.Bool)
	return &pipe{x, reset}, &pipe{y, reset}
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if errors.Is(err, io.EOF) && p.reset.Load() {
		err = errReset
	}
	return n, err
}

func (p *pipe) CloseRead() error { return p.SetReadDeadline(time.Unix(1, 0)) }

func (p *pipe) Reset() error {
	p.reset.Store(true)
	return p.Close()
}

// handler is a peer's side of a stream.
type handler func(ctx context.Context, s Stream) error

// mesh is peers in memory: what they do when a follower opens a stream.
type mesh struct {
	mu    sync.Mutex
	peers map[peer.ID]handler // nil: cannot be reached
	order []peer.ID
	opens map[peer.ID]int
	wg    sync.WaitGroup
	ctx   context.Context
}

func newMesh(ctx context.Context) *mesh {
	return &mesh{peers: map[peer.ID]handler{}, opens: map[peer.ID]int{}, ctx: ctx}
}

// add places a peer behind those that are there, or changes what it does.
func (n *mesh) add(p peer.ID, h handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.peers[p]; !known {
		n.order = append(n.order, p)
	}
	n.peers[p] = h
}

func (n *mesh) list() []peer.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]peer.ID(nil), n.order...)
}

func (n *mesh) opened(p peer.ID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opens[p]
}

func (n *mesh) open(_ context.Context, p peer.ID) (Stream, error) {
	n.mu.Lock()
	h := n.peers[p]
	n.opens[p]++
	n.mu.Unlock()
	if h == nil {
		return nil, errors.New("no route to peer")
	}
	near, far := newPipe()
	n.wg.Go(func() {
		if err := h(n.ctx, far); err != nil {
			_ = far.Reset()
			return
		}
		_ = far.Close()
	})
	return near, nil
}

// serves makes a peer of a server.
func serves(srv *Server) handler {
	return func(ctx context.Context, s Stream) error { return srv.handle(ctx, "follower", s) }
}

// namedHost is a host of which only its name is asked.
type namedHost struct {
	host.Host
	id peer.ID
}

func (h namedHost) ID() peer.ID { return h.id }

// run is a follower at work over a mesh.
type run struct {
	t        testing.TB
	f        *Follower
	replica  *fsm.Machine
	mesh     *mesh
	advances atomic.Int64
	diverged atomic.Pointer[error]
	done     chan error
	cancel   context.CancelFunc
}

// start follows region a with an empty replica of fed. The context of the mesh ends with stop.
func start(t testing.TB, fed *testfed.Federation, n *mesh, change ...func(*Config)) *run {
	t.Helper()
	return startWith(t, replicaOf(t, fed, "a"), n, change...)
}

func startWith(t testing.TB, replica *fsm.Machine, n *mesh, change ...func(*Config)) *run {
	t.Helper()
	r := &run{t: t, mesh: n, replica: replica, done: make(chan error, 1)}
	cfg := Config{Host: namedHost{id: "follower"}, Region: "a", Replica: replica, Peers: n.list, Logger: quiet(),
		OnAdvance: func(int64) { r.advances.Add(1) }, OnDiverged: func(err error) { r.diverged.Store(&err) }, open: n.open}
	for _, c := range change {
		c(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.f = f
	ctx, cancel := context.WithCancel(n.ctx)
	r.cancel = cancel
	go func() { r.done <- f.Run(ctx) }()
	return r
}

// stop ends the follower and returns what Run returned.
func (r *run) stop() error {
	r.cancel()
	return <-r.done
}

// relay passes frames of an honest server on, as change turns them; what change writes
// itself replaces the frame when it returns false.
func relay(inner handler, change func(f *frame, out io.Writer) (forward bool)) handler {
	return func(ctx context.Context, s Stream) error {
		near, far := newPipe()
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		defer func() { _ = near.Reset() }()
		wg.Go(func() { _ = inner(ctx, far) })
		var req request
		if err := p2p.ReadMessage(s, requestBytesMax, &req); err != nil {
			return err
		}
		if err := p2p.WriteMessage(near, requestBytesMax, &req); err != nil {
			return err
		}
		wg.Go(func() { // the follower left
			_, _ = s.Read(make([]byte, 1))
			_ = near.Reset()
		})
		defer func() { _ = s.Reset() }()
		for {
			f, err := readFrame(near)
			if err != nil {
				return err
			}
			if !change(f, s) {
				continue
			}
			if err := p2p.WriteMessage(s, 2*FrameBytesMax, f); err != nil {
				return err
			}
		}
	}
}

// addVoter has an operator name another voter of the region.
func (o *origin) addVoter(name string, key [32]byte, addresses ...string) {
	o.t.Helper()
	op := o.fed.Operator(o.region, o.now)
	env := op.Sign("region.voter", map[string]any{"region": o.region, "op": "add", "node": federation.Key(key).String(), "name": name,
		"addresses": addresses}, "")
	if rec := o.apply(fsm.EncodeProofs(o.now, [][]byte{env.Canonical()})).Receipts[0]; rec.Code != pci.Success {
		o.t.Fatalf("the voter was not added: %v %s", rec.Code, rec.Reason)
	}
}
