package e2e

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// What a node takes of a crowd: connections of HTTP that are open at a time, and some more for what else has a descriptor.
const (
	crowd          = 10_000
	crowdPeers     = 1_000 // that connect to where nodes do, and say nothing that they understand
	openFilesMax   = 1024 + 512
	crowdMemoryMax = 256 << 20 // bytes that all of it may cost
)

// TestTenThousandSockets: ten thousand connections to one node, which say half a request or nothing, and some to its libp2p
// port, keep no proof of an honest client from being acknowledged, and cost the node neither descriptors nor memory without end.
func TestTenThousandSockets(t *testing.T) {
	t.Parallel()
	r := proctest.Found(t, proctest.Options{Binary: built.bizra, Voters: 1})
	n := r.Voters[0]
	var record workload.Record
	agent := r.Agent("agent", &record, n)
	w, err := agent.Open(t.Context(), "crowded")
	if err != nil {
		t.Fatal(err)
	}
	before := resident(t, n.Process().PID(), "VmRSS")
	at, err := url.Parse(n.Ready.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(n.Ready.Address, "/p2p/")
	listens, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		t.Fatal(err)
	}
	_, peers, err := manet.DialArgs(listens)
	if err != nil {
		t.Fatal(err)
	}
	says := []string{"", "POST /v1/pr", "GET / HTTP/1.1\r\nHost: x\r\n", "POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n{"}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	join := func(to, text string) {
		t.Helper()
		c, err := net.DialTimeout("tcp", to, proctest.Patience)
		if err != nil {
			t.Fatalf("connection %d to %s: %v", len(open), to, err)
		}
		open = append(open, c)
		_, _ = c.Write([]byte(text)) // it may have been closed by now
	}
	slowest := time.Duration(0)
	for i := range crowd {
		join(at.Host, says[i%len(says)])
		if i%(crowd/crowdPeers) == 0 {
			join(peers, says[i/10%len(says)])
		}
		if i%500 == 0 {
			began := time.Now()
			if _, err := w.Step(t.Context()); err != nil {
				t.Fatalf("with %d connections: %v", len(open), err)
			}
			slowest = max(slowest, time.Since(began))
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.Process().PID()))
	if err != nil {
		t.Fatal(err)
	}
	after := resident(t, n.Process().PID(), "VmRSS")
	t.Logf("with %d connections made, %d of %d proofs took at most %v; the node has %d files open and %d MiB more", len(open), record.Len(), crowd/500+2,
		slowest, len(files), (after-before)>>20)
	if len(files) > openFilesMax || after-before > crowdMemoryMax {
		t.Errorf("%d files open, at most %d; %d bytes more, at most %d", len(files), openFilesMax, after-before, crowdMemoryMax)
	}
	if len(open) < crowd+crowdPeers {
		t.Errorf("only %d connections were made: the test does not test", len(open))
	}
	checkVoters(t, r.Voters, record.Acked())
}
