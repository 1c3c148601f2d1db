package proctest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
)

// relayBufferBytes is how much a link holds back of what was sent across a cut; the rest waits
// with its sender.
const relayBufferBytes = 32 << 10

// Links are the connections between the nodes of regions, each through a relay of this process
// that can hold it back. A node announces its relay's address in place of its own, and is told
// apart by the port that it dials from, which with libp2p is the one that it listens on; who
// dials from another is turned away and dials again.
type Links struct {
	mu      sync.Mutex
	changed *sync.Cond
	regions map[int]string // by the port on which a node listens
	cuts    map[[2]string]bool
	closed  bool
	conns   map[net.Conn]bool
	crossed int // bytes that came while their way was cut

	listeners []net.Listener
	relays    sync.WaitGroup
}

// Link puts the nodes of regions that have not been started behind relays, until the test ends.
func Link(t testing.TB, regions ...*Region) *Links {
	t.Helper()
	l := &Links{regions: make(map[int]string), cuts: make(map[[2]string]bool), conns: make(map[net.Conn]bool)}
	l.changed = sync.NewCond(&l.mu)
	t.Cleanup(l.close)
	for _, r := range regions {
		for _, n := range r.Voters {
			if err := l.add(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// add gives a node a port of its own and a relay to it.
func (l *Links) add(n *Node) error {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := portOf(free.Addr())
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, free.Close())
	}
	l.listeners = append(l.listeners, relay)
	if err := free.Close(); err != nil {
		return err
	}
	n.listen = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)
	n.flags = []string{"--announce", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", portOf(relay.Addr()))}
	l.regions[port] = n.r.Name
	l.relays.Go(func() {
		for {
			from, err := relay.Accept()
			if err != nil {
				return
			}
			l.relays.Go(func() { l.relay(from, port) })
		}
	})
	return nil
}

func portOf(a net.Addr) int {
	_, port, _ := net.SplitHostPort(a.String()) // an address of package net
	n, _ := strconv.Atoi(port)
	return n
}

// relay connects who dials to a node, once nothing is cut between them.
func (l *Links) relay(from net.Conn, port int) {
	defer l.forget(from)
	l.mu.Lock()
	source, known := l.regions[portOf(from.RemoteAddr())]
	target := l.regions[port]
	l.conns[from] = true
	l.mu.Unlock()
	if !known || !l.await(source, target) || !l.await(target, source) {
		return
	}
	to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return
	}
	defer l.forget(to)
	l.mu.Lock()
	l.conns[to] = true
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.pass(from, to, source, target) })
	both.Go(func() { l.pass(to, from, target, source) })
	both.Wait()
}

func (l *Links) forget(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close()
}

// await waits while the way from a region to another is cut, and says whether to go on.
func (l *Links) await(from, to string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.cuts[[2]string{from, to}] && !l.closed {
		l.changed.Wait()
	}
	return !l.closed
}

// pass carries one direction until it ends, and ends the connection.
func (l *Links) pass(from, to net.Conn, source, target string) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, relayBufferBytes)
	for {
		n, err := from.Read(b)
		if n > 0 {
			l.mu.Lock()
			if l.cuts[[2]string{source, target}] {
				l.crossed += n
			}
			l.mu.Unlock()
			if !l.await(source, target) {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Cut cuts or heals, both ways, what lies between two groups of regions.
func (l *Links) Cut(left, right []*Region, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range left {
		for _, b := range right {
			l.cuts[[2]string{a.Name, b.Name}], l.cuts[[2]string{b.Name, a.Name}] = cut, cut
		}
	}
	l.changed.Broadcast()
}

// Held is how many bytes have come to a cut so far.
func (l *Links) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crossed
}

func (l *Links) close() {
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		_ = c.Close()
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	for _, x := range l.listeners {
		_ = x.Close()
	}
	l.relays.Wait()
}
