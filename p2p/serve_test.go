package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/internal/testfed"
)

// pair is a voter of region a that serves, and another node that calls it.
type pair struct {
	fed            *testfed.Federation
	server, client host.Host
	access         *Access
}

func newPair(t *testing.T, client string, listen string) *pair {
	t.Helper()
	noLeaks(t)
	fed := testfed.New(2, 3)
	p := &pair{fed: fed, access: newAccess(t, "a", fed.Document)}
	p.server = newHost(t, fed.Nodes["a"][0], listen)
	p.client = newHost(t, testfed.Key(client), listen)
	connect(t, p.client, p.server)
	return p
}

type echo struct {
	Text string `cbor:"1,keyasint"`
}

func (p *pair) serve(t *testing.T, lim Limits, handle func(context.Context, peer.ID, *echo) (*echo, error)) *Server {
	t.Helper()
	srv, err := Serve(p.server, p.access, ProtocolSubmit, lim, handle)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, srv)
	return srv
}

func (p *pair) call(t *testing.T, text string) (string, error) {
	t.Helper()
	var out echo
	err := Call(t.Context(), p.client, p.server.ID(), ProtocolSubmit, &echo{text}, &out)
	return out.Text, err
}

func sameAgain(_ context.Context, _ peer.ID, in *echo) (*echo, error) { return in, nil }

func TestCall(t *testing.T) {
	for name, listen := range map[string]string{"tcp": onTCP, "quic": onQUIC} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, "a-2", listen)
			from := make(chan peer.ID, 1)
			srv := p.serve(t, Limits{}, func(_ context.Context, who peer.ID, in *echo) (*echo, error) {
				from <- who
				return &echo{strings.ToUpper(in.Text)}, nil
			})
			got, err := p.call(t, "proof")
			if err != nil || got != "PROOF" {
				t.Fatalf("%q, %v", got, err)
			}
			if who := <-from; who != p.client.ID() {
				t.Errorf("the handler was told that %v calls", who)
			}
			eventually(t, "it is counted", func() bool { return srv.Stats().Served == 1 })
			if got := transportOf(p.client.Network().ConnsToPeer(p.server.ID())[0].RemoteMultiaddr()); !strings.HasPrefix(got, name) {
				t.Errorf("went over %s", got)
			}
		})
	}
}

func TestCallRefused(t *testing.T) {
	for name, listen := range map[string]string{"tcp": onTCP, "quic": onQUIC} {
		for who, key := range map[string]string{"stranger": "mallory", "another region's voter": "b-1"} {
			t.Run(name+" "+who, func(t *testing.T) {
				p := newPair(t, key, listen)
				var handled atomic.Int32
				srv := p.serve(t, Limits{}, func(_ context.Context, _ peer.ID, in *echo) (*echo, error) {
					handled.Add(1)
					return in, nil
				})
				if _, err := p.call(t, "let me in"); !errors.Is(err, ErrCallRefused) {
					t.Errorf("%v, want ErrCallRefused", err)
				}
				if st := srv.Stats(); st.Refused != 1 || handled.Load() != 0 {
					t.Errorf("refused %d, handled %d", st.Refused, handled.Load())
				}
				if r := p.access.Refusals(); len(r) != 1 || r[0].Count != 1 {
					t.Errorf("refusals %v", r)
				}
			})
		}
	}
}

func TestWrongProtocolIsRefused(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	p.serve(t, Limits{}, sameAgain)
	for _, proto := range []protocol.ID{"/bizra/submit/2.0.0", "/bizra/keys/1.0.0", "/ipfs/kad/1.0.0", "/bizra/other/1.0.0"} {
		var out echo
		if err := Call(t.Context(), p.client, p.server.ID(), proto, &echo{"x"}, &out); err == nil {
			t.Errorf("%s was answered", proto)
		}
	}
}

func TestMemberSendingRaftIsRefused(t *testing.T) {
	p := newPair(t, "member", onTCP)
	if _, err := p.access.Admit(p.client.ID(), invite(t, p.fed, "a", testfed.Key("member"))); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int32
	srv, err := ServeStream(p.server, p.access, ProtocolRaft, Limits{}, func(context.Context, peer.ID, network.Stream) error {
		handled.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, srv)
	// The refusal comes while the protocol is negotiated, or at the first read.
	s, err := p.client.NewStream(t.Context(), p.server.ID(), ProtocolRaft)
	if err == nil {
		_, _ = s.Write([]byte("AppendEntries"))
		_ = s.SetReadDeadline(time.Now().Add(patience))
		_, err = s.Read(make([]byte, 1))
	}
	if !errors.Is(streamError(t.Context(), err), ErrCallRefused) {
		t.Errorf("the member's stream: %v", err)
	}
	if r := p.access.Refusals(); handled.Load() != 0 || len(r) != 1 || r[0] != (Refusal{ProtocolRaft, "not-voter", 1}) {
		t.Errorf("handled %d, refusals %v", handled.Load(), r)
	}
}

func TestFaults(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	srv := p.serve(t, Limits{Timeout: 300 * time.Millisecond}, func(ctx context.Context, _ peer.ID, in *echo) (*echo, error) {
		switch in.Text {
		case "fault":
			return nil, &Fault{Code: "not-leader", Detail: strings.Repeat("ä", 1000)}
		case "secret":
			return nil, errors.New("the password is swordfish")
		case "panic":
			panic("boom")
		case "long":
			return &echo{strings.Repeat("x", 2<<20)}, nil
		case "slow":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return in, nil
	})
	fault := func(text string) *Fault {
		_, err := p.call(t, text)
		var f *Fault
		if !errors.As(err, &f) {
			t.Fatalf("%s: %v, want a fault", text, err)
		}
		return f
	}
	if f := fault("fault"); f.Code != "not-leader" || len(f.Detail) != faultDetailBytesMax {
		t.Errorf("code %q, detail of %d bytes", f.Code, len(f.Detail))
	}
	if f := fault("secret"); f.Code != FaultInternal || strings.Contains(f.Error(), "swordfish") {
		t.Errorf("an internal error went out: %v", f)
	}
	if f := fault("long"); f.Code != FaultInternal {
		t.Errorf("a response above the limit: %v", f)
	}
	if f := fault("slow"); f.Code != FaultTimeout {
		t.Errorf("a handler out of time: %v", f)
	}
	if _, err := p.call(t, "panic"); err == nil {
		t.Error("a panic was answered")
	}
	if got, err := p.call(t, "still there"); err != nil || got != "still there" {
		t.Errorf("after all that: %q, %v", got, err)
	}
	eventually(t, "1 panic, 4 faults, 5 served", func() bool {
		st := srv.Stats()
		return st.Panics == 1 && st.Faults == 4 && st.Served == 5
	})
}

func TestLimitsOfStreams(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	other := newHost(t, p.fed.Nodes["a"][2])
	connect(t, other, p.server)
	release := make(chan struct{})
	var inside atomic.Int32
	srv := p.serve(t, Limits{ConcurrentMax: 3, PerPeerMax: 2}, func(_ context.Context, _ peer.ID, in *echo) (*echo, error) {
		inside.Add(1)
		<-release
		return in, nil
	})
	done := make(chan error, 3)
	hold := func(h host.Host) {
		go func() {
			var out echo
			done <- Call(context.WithoutCancel(t.Context()), h, p.server.ID(), ProtocolSubmit, &echo{"hold"}, &out)
		}()
	}
	hold(p.client)
	hold(p.client)
	eventually(t, "two calls of one peer are inside", func() bool { return inside.Load() == 2 })
	if _, err := p.call(t, "third"); !errors.Is(err, ErrBusy) {
		t.Errorf("a third call of the peer: %v", err)
	}
	hold(other)
	eventually(t, "three calls are inside", func() bool { return inside.Load() == 3 })
	var out echo
	if err := Call(t.Context(), other, p.server.ID(), ProtocolSubmit, &echo{"fourth"}, &out); !errors.Is(err, ErrBusy) {
		t.Errorf("a fourth call of all: %v", err)
	}
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("a call within the limits: %v", err)
		}
	}
	eventually(t, "places are given back", func() bool { return srv.Stats().Open == 0 })
	if _, err := p.call(t, "after"); err != nil {
		t.Errorf("after the places were given back: %v", err)
	}
	if st := srv.Stats(); st.Busy != 2 {
		t.Errorf("busy %d, want 2", st.Busy)
	}
}

// TestLimitsOfRegions has the nodes of one region hold all the places that their region may have, and
// a node of another region find one all the same.
func TestLimitsOfRegions(t *testing.T) {
	p := newPair(t, "b-1", onTCP)
	second, other := newHost(t, p.fed.Nodes["b"][1]), newHost(t, p.fed.Nodes["a"][1])
	connect(t, second, p.server)
	connect(t, other, p.server)
	release := make(chan struct{})
	var inside atomic.Int32
	srv, err := Serve(p.server, p.access, ProtocolEntries, Limits{ConcurrentMax: 3, PerPeerMax: 2, PerRegionMax: 2}, func(_ context.Context, _ peer.ID, in *echo) (*echo, error) {
		inside.Add(1)
		<-release
		return in, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	done := make(chan error, 3)
	call := func(h host.Host) error {
		var out echo
		return Call(t.Context(), h, p.server.ID(), ProtocolEntries, &echo{"hold"}, &out)
	}
	for _, h := range []host.Host{p.client, second} {
		go func() { done <- call(h) }()
	}
	eventually(t, "two calls of one region are inside", func() bool { return inside.Load() == 2 })
	for _, h := range []host.Host{p.client, second} {
		if err := call(h); !errors.Is(err, ErrBusy) {
			t.Errorf("a third call of the region: %v", err)
		}
	}
	go func() { done <- call(other) }()
	eventually(t, "another region's node has a place", func() bool { return inside.Load() == 3 })
	close(release)
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "places are given back", func() bool { return srv.Stats().Open == 0 })
	if err := call(p.client); err != nil {
		t.Errorf("after the places were given back: %v", err)
	}
}

func TestLimitsOfRate(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	srv := p.serve(t, Limits{PerPeerPerSecond: 0.001, PerPeerBurst: 3}, sameAgain)
	for i := range 3 {
		if _, err := p.call(t, "x"); err != nil {
			t.Fatalf("call %d of the burst: %v", i, err)
		}
	}
	if _, err := p.call(t, "x"); !errors.Is(err, ErrBusy) {
		t.Errorf("above the burst: %v", err)
	}
	if st := srv.Stats(); st.Busy != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestStrangersShareOneRate(t *testing.T) {
	p := newPair(t, "mallory-0", onTCP)
	srv, err := Serve(p.server, p.access, ProtocolJoin, Limits{StrangerPerSec: 0.001, StrangerBurst: 2}, sameAgain)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, srv)
	busy := 0
	for _, name := range []string{"mallory-1", "mallory-2", "mallory-3"} {
		h := newHost(t, testfed.Key(name))
		connect(t, h, p.server)
		var out echo
		if err := Call(t.Context(), h, p.server.ID(), ProtocolJoin, &echo{"x"}, &out); errors.Is(err, ErrBusy) {
			busy++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	voter := newHost(t, p.fed.Nodes["a"][1])
	connect(t, voter, p.server)
	var out echo
	if err := Call(t.Context(), voter, p.server.ID(), ProtocolJoin, &echo{"x"}, &out); busy != 1 || err != nil {
		t.Errorf("%d strangers turned away, want 1; the voter: %v", busy, err)
	}
}

// raw opens a stream and writes bytes that no honest node would. The server may hang up
// before they are all out; what it made of them its Stats tell.
func (p *pair) raw(t *testing.T, b []byte, closeWrite bool) network.Stream {
	t.Helper()
	s, err := p.client.NewStream(t.Context(), p.server.ID(), ProtocolSubmit)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write(b)
	if closeWrite {
		_ = s.CloseWrite()
	}
	return s
}

func TestHostileBytes(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	var handled atomic.Int32
	srv := p.serve(t, Limits{RequestBytesMax: 1000}, func(_ context.Context, _ peer.ID, in *echo) (*echo, error) {
		handled.Add(1)
		return in, nil
	})
	cases := map[string][]byte{
		"huge length":     {0xff, 0xff, 0xff, 0xff, 1},
		"just too long":   binary.BigEndian.AppendUint32(nil, 1001),
		"garbage":         bytes.Repeat([]byte{0x5a}, 500),
		"HTTP":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"unknown field":   frame(1, 0xa1, 0x09, 0x00),
		"another version": frame(7, 0xa0),
		"ends early":      frame(1, 0xa1, 0x01)[:6],
	}
	for name, b := range cases {
		s := p.raw(t, b, true)
		_ = s.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(s)
		if err == nil || len(got) > 0 || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %d bytes answered, %v; want a reset", name, len(got), err)
		}
	}
	eventually(t, "all are gone", func() bool { return srv.Stats().Open == 0 })
	if st := srv.Stats(); st.Malformed != uint64(len(cases)) || handled.Load() != 0 {
		t.Errorf("malformed %d of %d, handled %d", st.Malformed, len(cases), handled.Load())
	}
	exact, err := Marshal(&echo{strings.Repeat("x", 1000-6)})
	if err != nil || 1+len(exact) != 1000 {
		t.Fatalf("the request at the limit has %d bytes, %v", 1+len(exact), err)
	}
	if _, err := p.call(t, strings.Repeat("x", 1000-6)); err != nil {
		t.Errorf("a request at the limit: %v", err)
	}
}

func TestSlowPeersAreCutOff(t *testing.T) {
	for name, listen := range map[string]string{"tcp": onTCP, "quic": onQUIC} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, "a-2", listen)
			srv := p.serve(t, Limits{Timeout: 200 * time.Millisecond, ResponseBytesMax: 8 << 20}, func(context.Context, peer.ID, *echo) (*echo, error) {
				return &echo{strings.Repeat("x", 4<<20)}, nil
			})
			request, err := Marshal(&echo{"x"})
			if err != nil {
				t.Fatal(err)
			}
			whole := frame(append([]byte{1}, request...)...)
			p.raw(t, whole[:2], false)            // half a header, then silence
			p.raw(t, whole[:len(whole)-1], false) // all but a byte
			reader := p.raw(t, whole, true)       // asks for 4 MiB and reads nothing
			defer func() { _ = reader.Reset() }()
			eventually(t, "three slow peers are cut off", func() bool { st := srv.Stats(); return st.TimedOut == 3 && st.Open == 0 })
		})
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	inside := make(chan struct{})
	p.serve(t, Limits{}, func(ctx context.Context, _ peer.ID, in *echo) (*echo, error) {
		close(inside)
		<-ctx.Done()
		return in, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-inside
		cancel()
	}()
	var out echo
	began := time.Now()
	err := Call(ctx, p.client, p.server.ID(), ProtocolSubmit, &echo{"x"}, &out)
	if !errors.Is(err, context.Canceled) || time.Since(began) > patience/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestServerCloseEndsHandlersAndWaits(t *testing.T) {
	p := newPair(t, "a-2", onTCP)
	var ended atomic.Bool
	inside := make(chan struct{})
	srv, err := ServeStream(p.server, p.access, ProtocolRaft, Limits{}, func(ctx context.Context, _ peer.ID, s network.Stream) error {
		close(inside)
		_, err := io.Copy(io.Discard, s)
		<-ctx.Done()
		ended.Store(true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.client.NewStream(t.Context(), p.server.ID(), ProtocolRaft)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-inside
	if err := srv.Close(); err != nil || !ended.Load() {
		t.Errorf("closed before its handler ended: %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if s, err := p.client.NewStream(t.Context(), p.server.ID(), ProtocolRaft); err == nil {
		_, _ = s.Write([]byte("x"))
		_ = s.SetReadDeadline(time.Now().Add(patience))
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("served after Close")
		}
	}
}

func TestStreamEndsWithTheRightToIt(t *testing.T) {
	noLeaks(t)
	fed := testfed.New(1, 3)
	server, client := newHost(t, fed.Nodes["a"][0]), newHost(t, fed.Nodes["a"][1])
	connect(t, client, server)
	var removed atomic.Bool
	access := newAccessWith(t, AccessConfig{Region: "a", Raft: func() (RaftPeers, bool) {
		if removed.Load() {
			return NewRaftPeers([]peer.ID{server.ID()}, []peer.ID{client.ID()}), true
		}
		return RaftPeers{}, false
	}}, fed.Document)
	inside, ended := make(chan struct{}), make(chan error, 1)
	srv, err := ServeStream(server, access, ProtocolRaft, Limits{RecheckEvery: 50 * time.Millisecond}, func(ctx context.Context, _ peer.ID, s network.Stream) error {
		close(inside)
		_, err := io.Copy(io.Discard, s)
		ended <- err
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, srv)
	s, err := client.NewStream(t.Context(), server.ID(), ProtocolRaft)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-inside
	stays(t, "the voter's stream is open", 300*time.Millisecond, func() bool { return len(ended) == 0 })
	removed.Store(true)
	eventually(t, "the removed voter's stream is reset", func() bool { return len(ended) == 1 && srv.Stats().Refused >= 1 })
}

func TestLimitsValidate(t *testing.T) {
	for _, lim := range []Limits{{RequestBytesMax: -1}, {ResponseBytesMax: -1}, {ConcurrentMax: -1}, {PerPeerMax: -1}, {PerRegionMax: -1}, {PerPeerBurst: -1},
		{StrangerBurst: -1}, {Timeout: -1}, {PerPeerPerSecond: -1}, {StrangerPerSec: -1}, {RecheckEvery: -1}} {
		if err := lim.withDefaults().validate(); err == nil {
			t.Errorf("taken: %+v", lim)
		}
	}
	if err := (Limits{}).withDefaults().validate(); err != nil {
		t.Error(err)
	}
}
