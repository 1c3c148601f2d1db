package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/internal/testfed"
)

func TestIdentity(t *testing.T) {
	key := testfed.Key("node")
	h := newHost(t, key)
	id := idOf(t, key)
	if h.ID() != id {
		t.Errorf("the host is %v, its key says %v", h.ID(), id)
	}
	back, err := NodeKey(id)
	if err != nil || back != key.Public() {
		t.Errorf("key from ID: %v, %v", back, err)
	}
	for _, text := range []string{id.String(), back.String()} {
		if got, err := ParseNode(text); err != nil || got != id {
			t.Errorf("ParseNode(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "node", strings.ToUpper(back.String()), back.String()[1:], "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", strings.Repeat("1", 500)} {
		if got, err := ParseNode(bad); err == nil {
			t.Errorf("ParseNode(%q) = %v", bad, got)
		}
	}
}

func TestHostServesTCPAndQUICAndSaysWhatItIs(t *testing.T) {
	noLeaks(t, "github.com/libp2p/go-libp2p")
	server := newHostWith(t, Config{Key: testfed.Key("server"), Version: "1.2.3", Listen: []string{onTCP, onQUIC}})
	for _, want := range []string{"tcp", "quic-v1"} {
		i := slices.IndexFunc(server.Addrs(), func(a maddr) bool { return transportOf(a) == want })
		if i < 0 {
			t.Fatalf("no %s address in %v", want, server.Addrs())
		}
		client := newHost(t, testfed.Key("client-"+want))
		if err := client.Connect(t.Context(), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()[i : i+1]}); err != nil {
			t.Fatal(err)
		}
		if agent, err := client.Peerstore().Get(server.ID(), "AgentVersion"); err != nil || agent != "bizra/1.2.3" {
			t.Errorf("agent %v, %v", agent, err)
		}
		protocols, err := client.Peerstore().GetProtocols(server.ID())
		if err != nil || len(protocols) == 0 {
			t.Fatalf("protocols %v, %v", protocols, err)
		}
		for _, p := range protocols {
			if strings.Contains(string(p), "circuit") || strings.Contains(string(p), "autonat") || strings.Contains(string(p), "dcutr") || strings.Contains(string(p), "kad") {
				t.Errorf("serves %s, which nobody asked for", p)
			}
		}
	}
}

func TestHostAnnounces(t *testing.T) {
	const public = "/ip4/203.0.113.7/tcp/4001"
	h := newHostWith(t, Config{Key: testfed.Key("natted"), Listen: []string{onTCP}, Announce: []string{public}})
	if got := fmt.Sprint(h.Addrs()); got != "["+public+"]" {
		t.Errorf("announces %s", got)
	}
	other := newHost(t, testfed.Key("other"))
	connectTo := peer.AddrInfo{ID: h.ID(), Addrs: h.Network().ListenAddresses()}
	if err := other.Connect(t.Context(), connectTo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "identify tells the announced address", func() bool {
		return strings.Contains(fmt.Sprint(other.Peerstore().Addrs(h.ID())), public)
	})
}

func TestHostConfigRefused(t *testing.T) {
	key := testfed.Key("node")
	for name, c := range map[string]struct {
		cfg  Config
		says string
	}{
		"no key":             {Config{}, "Key"},
		"not a multiaddr":    {Config{Key: key, Listen: []string{"localhost:4001"}}, "/ip4/0.0.0.0/tcp/4001"},
		"with /p2p":          {Config{Key: key, Listen: []string{onTCP + "/p2p/" + idOf(t, key).String()}}, "/p2p part"},
		"websocket":          {Config{Key: key, Listen: []string{onTCP + "/ws"}}, "quic-v1"},
		"plain UDP":          {Config{Key: key, Listen: []string{"/ip4/127.0.0.1/udp/0"}}, "quic-v1"},
		"announce a relay":   {Config{Key: key, Announce: []string{"/p2p-circuit"}}, "Announce"},
		"too few conns":      {Config{Key: key, ConnsMax: 7}, "ConnsMax is 7"},
		"negative per peer":  {Config{Key: key, ConnsPerPeerMax: -1}, "ConnsPerPeerMax"},
		"too few streams":    {Config{Key: key, StreamsMax: 1}, "StreamsMax"},
		"too little memory":  {Config{Key: key, MemoryBytesMax: 1 << 20}, "MemoryBytesMax"},
		"address of no host": {Config{Key: key, Listen: []string{"/ip4/203.0.113.7/tcp/0"}}, "listen on"},
	} {
		h, err := NewHost(c.cfg)
		if err == nil {
			_ = h.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
}

func TestHostFailsOnATakenPort(t *testing.T) {
	noLeaks(t, "github.com/libp2p/go-libp2p")
	first := newHostWith(t, Config{Key: testfed.Key("first"), Listen: []string{onTCP, onQUIC}})
	for _, a := range first.Network().ListenAddresses() {
		h, err := NewHost(Config{Key: testfed.Key("second"), Listen: []string{onTCP, a.String()}, Logger: quiet()})
		if err == nil {
			_ = h.Close()
			t.Errorf("a second node listens on %s too", a)
		} else if !strings.Contains(err.Error(), a.String()) {
			t.Errorf("the error does not name %s: %v", a, err)
		}
	}
}

func TestHostLimitsConnections(t *testing.T) {
	server := newHostWith(t, Config{Key: testfed.Key("server"), Listen: []string{onTCP}, ConnsMax: 8, ConnsPerPeerMax: 1})
	const inboundMax = 8 * 3 / 4
	var clients []host.Host
	for i := range inboundMax {
		h := newHost(t, testfed.Key(fmt.Sprint("client-", i)))
		connect(t, h, server)
		clients = append(clients, h)
	}
	late := newHost(t, testfed.Key("late"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := late.Connect(ctx, addrInfo(server))
	eventually(t, "the connection above the limit is refused", func() bool {
		return err != nil || late.Network().Connectedness(server.ID()) != network.Connected
	})
	if n := len(server.Network().Peers()); n != inboundMax {
		t.Errorf("%d peers, want %d", n, inboundMax)
	}
	_ = clients[0].Close()
	eventually(t, "a freed place is given", func() bool {
		clearDialBackoff(late, server.ID())
		_ = late.Connect(t.Context(), addrInfo(server))
		return server.Network().Connectedness(late.ID()) == network.Connected
	})
}

func TestHostLimitsStreams(t *testing.T) {
	server := newHostWith(t, Config{Key: testfed.Key("server"), Listen: []string{onTCP}, StreamsPerPeerMax: 16})
	client := newHost(t, testfed.Key("client"))
	const inboundMax = 16 / 2 // of one protocol and peer
	server.SetStreamHandler("/test", func(network.Stream) {})
	connect(t, client, server)
	open := 0
	for range 2 * inboundMax {
		s, err := client.NewStream(t.Context(), server.ID(), "/test")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("x"))
		_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err = s.Read(make([]byte, 1))
		var reset *network.StreamError
		if errors.As(err, &reset) {
			break
		}
		open++
	}
	if open != inboundMax {
		t.Errorf("%d streams stayed open, want %d", open, inboundMax)
	}
}

func TestParseAddress(t *testing.T) {
	id := idOf(t, testfed.Key("node")).String()
	for _, good := range []string{"/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/1/quic-v1", "/dns4/node.example.org/tcp/4001", "/dns/x/udp/2/quic-v1"} {
		got, err := ParseAddress(good + "/p2p/" + id)
		if err != nil || got.ID.String() != id || len(got.Addrs) != 1 || got.Addrs[0].String() != good {
			t.Errorf("%s: %v, %v", good, got, err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "host and port": "127.0.0.1:4001", "URL": "http://127.0.0.1:8080", "no identity": onTCP, "identity only": "/p2p/" + id,
		"no transport": "/ip4/127.0.0.1/p2p/" + id, "broken identity": onTCP + "/p2p/12D3Koo", "hashed key": onTCP + "/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
		"relayed": onTCP + "/p2p/" + id + "/p2p-circuit/p2p/" + id, "too long": "/dns4/" + strings.Repeat("x", 300) + "/tcp/1/p2p/" + id, "webtransport": onQUIC + "/webtransport/p2p/" + id,
	} {
		got, err := ParseAddress(bad)
		if err == nil || !strings.Contains(err.Error(), "/p2p/12D3KooW") {
			t.Errorf("%s: %v, %v: want an error that shows the form", name, got, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"", onTCP, "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", "/p2p-circuit", "/ip6zone/x/ip6/::1/tcp/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if info, err := ParseAddress(text); err == nil {
			if again, err := ParseAddress(info.Addrs[0].String() + "/p2p/" + info.ID.String()); err != nil || again.ID != info.ID {
				t.Fatalf("%q does not read back: %v", text, err)
			}
		}
		_ = dialable([]string{text})
	})
}
