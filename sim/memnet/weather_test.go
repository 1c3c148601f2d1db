package memnet

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// TestWeather has writes come late, twice, and in another order, and queues counted meanwhile.
func TestWeather(t *testing.T) {
	for name, c := range map[string]struct {
		fates []Fate // of the writes "a", "b", "c"
		want  string
		after time.Duration // beside the latency
	}{
		"calm":                         {make([]Fate, 3), "abc", 0},
		"twice":                        {[]Fate{{Twice: true}, {}, {Twice: true}}, "aabcc", 0},
		"swapped":                      {[]Fate{{}, {Swap: true}, {}}, "bac", 0},
		"the first can overtake none":  {[]Fate{{Swap: true}, {}, {}}, "abc", 0},
		"late, and what follows waits": {[]Fate{{Late: time.Second}, {}, {}}, "abc", time.Second},
		"swapped with what is late":    {[]Fate{{}, {Late: time.Second}, {Swap: true}}, "acb", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, h := testNetwork(t, 2, nil)
				got := make(chan string, 1)
				var took time.Duration
				began := time.Now()
				h[1].SetStreamHandler(echo, func(s network.Stream) {
					b, _ := io.ReadAll(s)
					took = time.Since(began)
					got <- string(b)
				})
				s := open(t, h[0], h[1])
				began = time.Now()
				write := 0
				n.Weather(func(from, to peer.ID, proto protocol.ID, late time.Duration) Fate {
					if from != h[0].ID() || to != h[1].ID() || proto != echo || late != latency {
						t.Errorf("asked about %v to %v, %s, %v", from, to, proto, late)
					}
					write++
					return c.fates[write-1]
				})
				for _, b := range []string{"a", "b", "c"} {
					if _, err := s.Write([]byte(b)); err != nil {
						t.Fatal(err)
					}
				}
				n.Weather(nil)
				if q := n.QueueBytes(); q != len(c.want) || q > n.QueueBytesMax() {
					t.Errorf("%d bytes wait", q)
				}
				if err := s.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if b := <-got; b != c.want || took != latency+c.after {
					t.Errorf("%q arrived after %v", b, took)
				}
				_ = s.Close()
			})
		})
	}
}

// TestParted cuts and heals the ways that a function names, one way at a time.
func TestParted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := testNetwork(t, 2, nil)
		h[1].SetStreamHandler(echo, echoing)
		s := open(t, h[0], h[1])
		say := func(d time.Duration) error {
			_ = s.SetReadDeadline(time.Now().Add(d))
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, err := io.ReadFull(s, make([]byte, 1))
			return err
		}
		if err := say(time.Second); err != nil {
			t.Fatal(err)
		}
		n.Part(func(from, to peer.ID) bool { return from == h[1].ID() && to == h[0].ID() })
		if err := say(time.Second); err == nil {
			t.Fatal("what was cut got through")
		}
		if err := h[1].Connect(t.Context(), peer.AddrInfo{ID: h[0].ID()}); err != nil {
			t.Fatalf("what is connected stays so: %v", err)
		}
		n.Part(nil)
		if err := say(time.Second); err != nil {
			t.Fatalf("what had waited did not arrive: %v", err)
		}
		_ = s.Close()
		n.Disconnect(h[0].ID(), h[1].ID())
		n.Part(func(peer.ID, peer.ID) bool { return true })
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: h[1].ID()}); err == nil {
			t.Fatal("dialled across a cut")
		}
		n.Part(nil)
		if err := h[0].Connect(t.Context(), peer.AddrInfo{ID: h[1].ID()}); err != nil {
			t.Fatal(err)
		}
	})
}
