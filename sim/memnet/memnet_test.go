package memnet

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	echo    protocol.ID = "/echo/1"
	latency             = 40 * time.Millisecond
)

// pass lets virtual time pass, and what is due by then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func testKey(t *testing.T, i int) crypto.PrivKey {
	t.Helper()
	var seed [ed25519.SeedSize]byte
	binary.BigEndian.PutUint64(seed[:], uint64(i)+1)
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testNetwork(t *testing.T, count int, change func(*Config)) (*Network, []*Host) {
	t.Helper()
	cfg := Config{Latency: func(peer.ID, peer.ID) time.Duration { return latency }}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	hosts := make([]*Host, count)
	for i := range hosts {
		if hosts[i], err = n.NewHost(testKey(t, i)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hosts[i].Close() })
	}
	return n, hosts
}

func open(t *testing.T, from, to *Host) network.Stream {
	t.Helper()
	s, err := from.NewStream(t.Context(), to.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func echoing(s network.Stream) {
	_, _ = io.Copy(s, s)
	_ = s.Close()
}

func TestRoundTripTakesTwoLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, nil)
		h[1].SetStreamHandler(echo, echoing)
		start := time.Now()
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: h[1].ID()}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*latency {
			t.Errorf("connecting took %v, want one round trip of %v", took, 2*latency)
		}
		s := open(t, h[0], h[1])
		defer s.Close()
		start = time.Now()
		for _, part := range []string{"in ", "order"} {
			if _, err := s.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len("in order"))
		if _, err := io.ReadFull(s, got); err != nil || string(got) != "in order" {
			t.Fatalf("read %q, %v", got, err)
		}
		if took := time.Since(start); took != 2*latency {
			t.Errorf("the echo took %v, want %v", took, 2*latency)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(got); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %d bytes, %v", n, err)
		}
		if l := h[0].Peerstore().LatencyEWMA(h[1].ID()); l != 2*latency {
			t.Errorf("the peerstore holds a latency of %v", l)
		}
	})
}

func TestResetReachesTheOtherEndALatencyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, nil)
		ended := make(chan time.Time, 1)
		h[1].SetStreamHandler(echo, func(s network.Stream) {
			_, err := s.Read(make([]byte, 1))
			if !errors.Is(err, network.ErrReset) {
				t.Errorf("read gave %v, want a reset", err)
			}
			ended <- time.Now()
		})
		s := open(t, h[0], h[1])
		pass(time.Second)
		at := time.Now()
		if err := s.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("a stream that was reset takes more")
		}
		if late := (<-ended).Sub(at); late != latency {
			t.Errorf("the other end heard after %v, want %v", late, latency)
		}
		if n := len(h[0].Network().Conns()[0].GetStreams()) + len(h[1].Network().Conns()[0].GetStreams()); n != 1 {
			t.Errorf("%d streams are left, want the one that the handler did not close", n)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, func(c *Config) { c.WindowBytes = 8 })
		h[1].SetStreamHandler(echo, func(s network.Stream) {}) // reads nothing
		s := open(t, h[0], h[1])
		defer s.Reset()
		start := time.Now()
		time.AfterFunc(time.Second, func() { _ = s.SetReadDeadline(start.Add(2 * time.Second)) }) // while the read waits
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("read gave %v after %v", err, time.Since(start))
		}
		if _, err := s.Write(make([]byte, 8)); err != nil {
			t.Fatalf("a window of 8 bytes does not take 8: %v", err)
		}
		start = time.Now()
		_ = s.SetWriteDeadline(start.Add(time.Minute))
		if _, err := s.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("write into a full window gave %v after %v", err, time.Since(start))
		}
	})
}

// TestADeadlineDoesNotHoldBackWhatArrives: a reader that waits with a deadline reads at once what
// comes before it, and the end of the stream.
func TestADeadlineDoesNotHoldBackWhatArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, nil)
		h[1].SetStreamHandler(echo, func(s network.Stream) {
			pass(time.Second)
			_, _ = s.Write([]byte{1})
			pass(time.Second)
			_ = s.Close()
		})
		s := open(t, h[0], h[1])
		defer s.Reset()
		start := time.Now()
		_ = s.SetReadDeadline(start.Add(time.Hour))
		n, err := s.Read(make([]byte, 1))
		if n != 1 || err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("read %d bytes after %v: %v", n, time.Since(start), err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) > 3*time.Second {
			t.Errorf("the end came after %v: %v", time.Since(start), err)
		}
	})
}

func TestAWriterWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, func(c *Config) { c.WindowBytes = 8 })
		h[1].SetStreamHandler(echo, func(s network.Stream) {
			<-time.After(time.Minute)
			_, _ = io.Copy(io.Discard, s)
		})
		s := open(t, h[0], h[1])
		defer s.Reset()
		start := time.Now()
		for range 3 {
			if _, err := s.Write(make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < time.Minute {
			t.Errorf("three windows were written in %v to one who does not read", took)
		}
	})
}

func TestACutHoldsBytesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := testNetwork(t, 3, nil)
		h[1].SetStreamHandler(echo, echoing)
		s := open(t, h[0], h[1])
		defer s.Close()
		n.Cut(h[1].ID(), h[0].ID(), true) // answers do not come back
		start := time.Now()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Hour, func() { n.Cut(h[1].ID(), h[0].ID(), false) })
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Hour {
			t.Errorf("the answer came after %v", took)
		}
		n.Cut(h[2].ID(), h[0].ID(), true)
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: h[2].ID()}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("dialling across a cut gave %v", err)
		}
		n.Cut(h[2].ID(), h[0].ID(), false)
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: h[2].ID()}); err != nil {
			t.Errorf("dialling after it healed gave %v", err)
		}
	})
}

func TestBothDialAndOneConnectionIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := testNetwork(t, 2, nil)
		sub, err := h[1].EventBus().Subscribe([]any{new(event.EvtPeerConnectednessChanged), new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated)})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		var wg sync.WaitGroup
		for i := range h {
			wg.Go(func() {
				if err := h[i].Connect(t.Context(), peer.AddrInfo{ID: h[1-i].ID()}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if a, b := len(h[0].Network().Conns()), len(h[1].Network().ConnsToPeer(h[0].ID())); a != 1 || b != 1 {
			t.Errorf("%d and %d connections", a, b)
		}
		h[0].SetStreamHandler(echo, echoing)
		pass(latency)
		if p, err := h[1].Peerstore().SupportsProtocols(h[0].ID(), echo); err != nil || len(p) != 1 {
			t.Errorf("the peer does not know of the protocol: %v, %v", p, err)
		}
		n.Disconnect(h[0].ID(), h[1].ID())
		synctest.Wait()
		var order []string
		for len(sub.Out()) > 0 {
			switch e := (<-sub.Out()).(type) {
			case event.EvtPeerConnectednessChanged:
				order = append(order, e.Connectedness.String())
			case event.EvtPeerIdentificationCompleted:
				order = append(order, "identified")
			case event.EvtPeerProtocolsUpdated:
				order = append(order, "protocols")
			}
		}
		want := []string{"Connected", "identified", "protocols", "NotConnected"}
		if len(order) != len(want) {
			t.Fatalf("events %v, want %v", order, want)
		}
		for i := range want {
			if order[i] != want[i] {
				t.Errorf("events %v, want %v", order, want)
			}
		}
	})
}

func TestWhoIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := testNetwork(t, 2, nil)
		id, err := peer.IDFromPrivateKey(testKey(t, 7))
		if err != nil {
			t.Fatal(err)
		}
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: id}); !errors.Is(err, ErrNoPeer) {
			t.Errorf("dialling nobody gave %v", err)
		}
		if _, err := h[0].NewStream(t.Context(), h[1].ID(), echo); !errors.Is(err, ErrNoProtocol) {
			t.Errorf("a stream that nobody serves gave %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), latency)
		defer cancel()
		h[1].Close()
		if err := h[0].Connect(ctx, peer.AddrInfo{ID: h[1].ID()}); !errors.Is(err, ErrNoPeer) {
			t.Errorf("dialling a host that was closed gave %v", err)
		}
		if len(h[0].Network().Peers()) != 0 {
			t.Error("the connection to a closed host is still there")
		}
	})
}
