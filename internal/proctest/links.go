package proctest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
)

const datagramBytesMax = 64 << 10

// Links are the links between the nodes of regions, each through a relay of this process that
// can lose all that is sent. Nodes listen for QUIC alone, announce their relay's address in place
// of their own, and are told apart by the port that they send from, which with QUIC is the one
// that they listen on.
type Links struct {
	mu      sync.Mutex
	regions map[int]string // by the port on which a node listens
	cuts    map[[2]string]bool
	closed  bool
	sockets []*net.UDPConn
	lost    int // datagrams

	relays sync.WaitGroup
}

// Link puts the nodes of regions, not started yet, behind relays until the test ends.
func Link(t testing.TB, regions ...*Region) *Links {
	t.Helper()
	l := &Links{regions: make(map[int]string), cuts: make(map[[2]string]bool)}
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

// loopback is a UDP socket on a free port.
func loopback() (*net.UDPConn, error) {
	return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

func portOf(c *net.UDPConn) int {
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0
	}
	return a.Port
}

// add gives a node a port of its own, and a relay to it.
func (l *Links) add(n *Node) error {
	free, err := loopback()
	if err != nil {
		return err
	}
	port := portOf(free)
	relay, err := loopback()
	if err := errors.Join(err, free.Close()); err != nil {
		return err
	}
	n.listen = fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port)
	n.flags = []string{"--announce", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", portOf(relay))}
	l.mu.Lock()
	l.regions[port] = n.r.Name
	l.sockets = append(l.sockets, relay)
	l.mu.Unlock()
	l.relays.Go(func() { l.relay(relay, port) })
	return nil
}

// relay hands what comes for a node on to it, for each sender from a socket of its own on which
// the answers come back.
func (l *Links) relay(in *net.UDPConn, port int) {
	node := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	senders := make(map[int]*net.UDPConn)
	b := make([]byte, datagramBytesMax)
	for {
		n, from, err := in.ReadFromUDP(b)
		if err != nil {
			if l.over() {
				return
			}
			continue // of an answer that could not be delivered
		}
		if !l.passes(from.Port, port) {
			continue
		}
		out := senders[from.Port]
		if out == nil {
			if out, err = loopback(); err != nil || !l.keep(out) {
				return
			}
			senders[from.Port] = out
			l.relays.Go(func() { l.answers(in, out, from, port) })
		}
		_, _ = out.WriteToUDP(b[:n], node) // a node that is down gets nothing
	}
}

func (l *Links) answers(in, out *net.UDPConn, sender *net.UDPAddr, port int) {
	b := make([]byte, datagramBytesMax)
	for {
		n, _, err := out.ReadFromUDP(b)
		switch {
		case err != nil && l.over():
			return
		case err == nil && l.passes(port, sender.Port):
			_, _ = in.WriteToUDP(b[:n], sender)
		}
	}
}

func (l *Links) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// keep has a socket closed in the end, and says whether that is still to come.
func (l *Links) keep(c *net.UDPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = c.Close()
		return false
	}
	l.sockets = append(l.sockets, c)
	return true
}

// passes says whether a datagram between the nodes that listen on two ports arrives.
func (l *Links) passes(from, to int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	source, known := l.regions[from]
	if known && !l.cuts[[2]string{source, l.regions[to]}] {
		return true
	}
	l.lost++
	return false
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
}

// Lost is how many datagrams cuts have swallowed so far.
func (l *Links) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *Links) close() {
	l.mu.Lock()
	l.closed = true
	for _, c := range l.sockets {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.relays.Wait()
}
