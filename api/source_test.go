package api

import (
	"net"
	"net/netip"
	"testing"
)

type connFrom struct {
	net.Conn
	from net.Addr
}

func (c connFrom) RemoteAddr() net.Addr { return c.from }

func TestClientAddress(t *testing.T) {
	for text, want := range map[string]string{"192.0.2.7:1234": "192.0.2.7", "[2001:db8::1]:1": "2001:db8::1", "[::ffff:192.0.2.7]:1": "192.0.2.7"} {
		ctx := withAddress(t.Context(), connFrom{from: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))})
		if got, ok := ClientAddress(ctx); !ok || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	if got, ok := ClientAddress(withAddress(t.Context(), connFrom{from: &net.UnixAddr{Name: "@"}})); ok {
		t.Errorf("a connection without an IP address has %v", got)
	}
}
