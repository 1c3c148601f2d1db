package gossip

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/testnet"
)

// chatter lets every region's leader say something every half minute to the others' voters, and tell its
// own members whom it has heard, as digests and rosters do.
func (w *world) chatter(d time.Duration) {
	for i := range int(d / (30 * time.Second)) {
		for region, nodes := range w.nodes {
			payload := fmt.Sprintf("ok:%s:%d at %v", region, i, time.Now())
			if err := nodes[0].router.Publish(Topic{Kind: Digests}, []byte(payload)); err != nil {
				w.t.Fatal(err)
			}
		}
		testnet.Pass(30 * time.Second)
		for _, nodes := range w.nodes {
			for _, heard := range nodes[0].router.LocalOnly().Regions {
				for _, n := range nodes {
					if !n.Voter && !heard.Heard.IsZero() {
						n.router.Hear(heard.Region, heard.Heard)
					}
				}
			}
		}
	}
}

func TestLocalOnlyModeIsEnteredAndLeft(t *testing.T) {
	for name, hangUp := range map[string]bool{"connections end": true, "connections hang": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, 3, 2, func(t *testing.T, w *world) {
				var mu sync.Mutex
				var told []bool
				member := w.nodes["a"][4]
				for _, n := range w.all() {
					n.start(func(c *Config) {
						if n == member {
							c.LocalOnly = func(s LocalStatus) { mu.Lock(); told = append(told, s.Local); mu.Unlock() }
						}
					})
				}
				w.ConnectAll()
				testnet.Pass(5 * time.Second)
				alone := func(region string) (count int) {
					for _, n := range w.nodes[region] {
						if n.router.LocalOnly().Local {
							count++
						}
					}
					return count
				}
				w.chatter(10 * time.Minute)
				if alone("a")+alone("b")+alone("c") != 0 {
					t.Fatal("in a federation that works somebody is alone")
				}
				w.CutOff("a", true, hangUp)
				w.chatter(2 * time.Minute)
				linked := 0
				for _, n := range w.nodes["a"] {
					for _, r := range n.router.LocalOnly().Regions {
						linked += r.Connected
					}
				}
				if hangUp != (linked == 0) {
					t.Fatalf("%d links to other regions are left", linked)
				}
				if got := alone("a"); hangUp && got != 5 || !hangUp && got != 2 {
					t.Errorf("%d nodes of the region that is cut off are alone after two minutes", got)
				}
				w.chatter(4 * time.Minute)
				if alone("a") != 5 || alone("b")+alone("c") != 0 {
					t.Errorf("alone: %d of a, %d of b and %d of c, want 5, 0 and 0", alone("a"), alone("b"), alone("c"))
				}
				// Inside the region all goes on.
				if err := w.nodes["a"][0].router.Announce(certificates, []byte("ok:a:meanwhile"), Announcement{Until: time.Now().Add(time.Hour)}); err != nil {
					t.Fatal(err)
				}
				testnet.Pass(5 * time.Second)
				if member.received("ok:a:meanwhile") != 1 || w.nodes["b"][0].received("ok:a:meanwhile") != 0 {
					t.Error("the region does not go on by itself")
				}
				w.CutOff("a", false, false)
				w.ConnectAll()
				w.chatter(2 * time.Minute)
				if n := alone("a") + alone("b") + alone("c"); n != 0 {
					t.Errorf("%d nodes are still alone", n)
				}
				if w.nodes["b"][4].received("ok:a:meanwhile") != 1 {
					t.Error("what was announced meanwhile did not come through")
				}
				mu.Lock()
				defer mu.Unlock()
				if len(told) != 2 || !told[0] || told[1] {
					t.Errorf("the node was told %v, want that it is alone and that it no longer is", told)
				}
			})
		})
	}
}

func TestAFederationOfOneRegionIsNotAlone(t *testing.T) {
	bubble(t, 1, 3, 0, func(t *testing.T, w *world) {
		n := w.nodes["a"][0]
		n.start()
		testnet.Pass(time.Hour)
		if n.router.LocalOnly().Local {
			t.Error("it misses regions that there are none of")
		}
	})
}
