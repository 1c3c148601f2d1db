package gossip

import (
	"testing"
	"time"

	"github.com/bizra/bizra/internal/testnet"
)

func TestACertificateCrossesEachLongLinkOnce(t *testing.T) {
	bubble(t, 4, 3, 7, func(t *testing.T, w *world) {
		w.startAll()
		const certificate = "ok:a:certificate 1"
		start := time.Now()
		if err := w.nodes["a"][0].router.Announce(Topic{Kind: Certificates}, []byte(certificate), Announcement{Until: time.Now().Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(time.Minute)
		for _, n := range w.all() {
			want := 1
			if n == w.nodes["a"][0] {
				want = 0 // its own
			}
			if got := n.received(certificate); got != want {
				t.Errorf("a node of region %s got it %d times, want %d", n.Region, got, want)
			}
			for _, m := range n.messages() {
				if late := m.Received.Sub(start); n.Region != "a" && (late < testnet.Far || late > testnet.Far+10*testnet.Near) {
					t.Errorf("it reached region %s after %v, want one long hop of %v and a few short ones", n.Region, late, testnet.Far)
				}
			}
		}
		for from := range w.nodes {
			for to := range w.nodes {
				if from == to {
					continue
				}
				// The author's region has four links to each other one: two from its leader, two to
				// it from the others' leaders; two of them end at the author.
				total, most := w.sent(certificate, from, to)
				want := 0
				if from == "a" {
					want = 2
				}
				if most > 1 || total != want {
					t.Errorf("from %s to %s: %d copies, at most %d on one link; want %d, one on each link of the author's", from, to, total, most, want)
				}
			}
		}
	})
}

func TestWithoutThePeerFilterItCrossesOftener(t *testing.T) {
	bubble(t, 4, 3, 7, func(t *testing.T, w *world) {
		for _, n := range w.all() {
			n.start(func(c *Config) { c.off.peerFilter = true })
		}
		w.ConnectAll()
		testnet.Pass(30 * time.Second)
		const certificate = "ok:a:certificate 1"
		if err := w.nodes["a"][0].router.Publish(Topic{Kind: Certificates}, []byte(certificate)); err != nil {
			t.Fatal(err)
		}
		testnet.Pass(10 * time.Second)
		copies := 0
		for from := range w.nodes {
			for to := range w.nodes {
				if from != to {
					total, _ := w.sent(certificate, from, to)
					copies += total
				}
			}
		}
		if copies <= 6 {
			t.Errorf("%d copies went from region to region: the filter is for nothing", copies)
		}
	})
}
