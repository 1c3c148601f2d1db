package gossip

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnet"
	"github.com/bizra/bizra/p2p"
)

// The same over real hosts, TCP and QUIC: names are negotiated, frames go through muxers.
func TestOverRealHosts(t *testing.T) {
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(strings.Split(listen, "/")[3], func(t *testing.T) {
			fed := testfed.New(2, 3)
			var hosts []host.Host
			var routers []*Router
			var got [6]atomic.Int32
			for _, region := range []string{"a", "b"} {
				for _, key := range fed.Nodes[region] {
					h, err := p2p.NewHost(p2p.Config{Key: key, Listen: []string{listen}, Logger: testnet.Quiet()})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = h.Close() })
					access, err := p2p.NewAccess(p2p.AccessConfig{Region: region, Logger: testnet.Quiet()})
					if err != nil {
						t.Fatal(err)
					}
					if err := access.SetDocument(fed.Document); err != nil {
						t.Fatal(err)
					}
					r, err := New(h, access, Config{Federation: fed.Document.Name, Heartbeat: 100 * time.Millisecond, Logger: testnet.Quiet()})
					if err != nil {
						t.Fatal(err)
					}
					n := &node{judged: make(map[string]int)}
					i := len(hosts)
					r.Handle(Certificates, Handler{Judge: n.judge, Deliver: func(Message) { got[i].Add(1) }})
					r.Start()
					t.Cleanup(func() { _ = r.Close() })
					hosts, routers = append(hosts, h), append(routers, r)
				}
			}
			// Each region is a chain, and one link joins them: a2 - a1 - a0 - b0 - b1 - b2.
			for _, pair := range [][2]int{{2, 1}, {1, 0}, {0, 3}, {3, 4}, {4, 5}} {
				a, b := hosts[pair[0]], hosts[pair[1]]
				a.Peerstore().AddAddrs(b.ID(), b.Addrs(), peerstore.PermanentAddrTTL)
				if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID()}); err != nil {
					t.Fatal(err)
				}
			}
			// Until the meshes stand, who is two hops away may miss a message; one of these reaches all.
			deadline := time.NewTimer(30 * time.Second)
			defer deadline.Stop()
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for sent := int32(0); ; sent++ {
				heard := 0
				for i := 1; i < len(got); i++ {
					if got[i].Load() > 0 {
						heard++
					}
				}
				if heard == 5 {
					return
				}
				if err := routers[0].Publish(certificates, fmt.Appendf(nil, "ok:a:over real hosts, %d", sent)); err != nil {
					t.Fatal(err)
				}
				select {
				case <-deadline.C:
					t.Fatalf("of %d messages, %d of 5 nodes heard none", sent, 5-heard)
				case <-tick.C:
				}
			}
		})
	}
}
