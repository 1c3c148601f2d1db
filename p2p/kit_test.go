package p2p

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

const (
	onTCP  = "/ip4/127.0.0.1/tcp/0"
	onQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
	// patience is how long a test waits for what must happen.
	patience = 20 * time.Second
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// eventually polls until the condition holds, and fails the test if it never does.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("did not happen within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// stays polls for a while and fails if the condition ever breaks.
func stays(t *testing.T, what string, during time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.After(during)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if !condition() {
			t.Fatalf("did not last: %s", what)
		}
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}

// noLeaks fails the test if goroutines of this package, or of others that are named,
// outlive it. Call it first: cleanups run in reverse order.
func noLeaks(t *testing.T, others ...string) {
	t.Helper()
	owners := append([]string{"github.com/bizra/bizra/p2p."}, others...)
	leaked := func() string {
		buf := make([]byte, 4<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		for _, s := range stacks[1:] { // the first is this one
			if strings.Contains(s, "testing.tRunner(") || strings.Contains(s, "testing.(*T).Run(") {
				continue
			}
			for _, o := range owners {
				if strings.Contains(s, o) {
					return s
				}
			}
		}
		return ""
	}
	t.Cleanup(func() {
		deadline := time.After(patience)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			s := leaked()
			if s == "" {
				return
			}
			select {
			case <-deadline:
				t.Errorf("a goroutine outlives the test:\n%s", s)
				return
			case <-tick.C:
			}
		}
	})
}

func newHost(t *testing.T, key *pci.PrivateKey, listen ...string) host.Host {
	t.Helper()
	if len(listen) == 0 {
		listen = []string{onTCP}
	}
	return newHostWith(t, Config{Key: key, Listen: listen})
}

func newHostWith(t *testing.T, cfg Config) host.Host {
	t.Helper()
	cfg.Logger = quiet()
	h, err := NewHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func addrInfo(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// multiaddr is what --join takes.
func multiaddr(h host.Host) string { return fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID()) }

func connect(t *testing.T, from, to host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := from.Connect(ctx, addrInfo(to)); err != nil {
		t.Fatalf("connect: %v", err)
	}
}

func newAccess(t *testing.T, region string, d *federation.Document) *Access {
	t.Helper()
	return newAccessWith(t, AccessConfig{Region: region}, d)
}

func newAccessWith(t *testing.T, cfg AccessConfig, d *federation.Document) *Access {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	a, err := NewAccess(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d != nil {
		if err := a.SetDocument(d); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func idOf(t *testing.T, key *pci.PrivateKey) peer.ID {
	t.Helper()
	id, err := PeerID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// invite makes an invitation of the region's operator for the node, for an hour.
func invite(t *testing.T, fed *testfed.Federation, region string, node *pci.PrivateKey, change ...func(*Invitation)) []byte {
	t.Helper()
	inv := Invitation{Federation: fed.Document.Name, Region: region, Node: node.Public(), ExpiresMillis: time.Now().Add(time.Hour).UnixMilli()}
	for _, c := range change {
		c(&inv)
	}
	inv, err := SignInvitation(inv, fed.Operators[region])
	if err != nil {
		t.Fatal(err)
	}
	return inv.Canonical()
}

func closing(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// elapse lets virtual time pass; only inside a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
