package api

import (
	"context"
	"net"
	"net/netip"
)

// addressKey is the context key of a client's address.
type addressKey struct{}

// withAddress notes in a connection's context where it comes from.
func withAddress(ctx context.Context, c net.Conn) context.Context {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ctx // not a connection of IP
	}
	return context.WithValue(ctx, addressKey{}, at.Addr().Unmap())
}

// ClientAddress is the IP address that a request came from, as its connection tells;
// ok is false where there is none. Behind a proxy it is the proxy's.
func ClientAddress(ctx context.Context) (addr netip.Addr, ok bool) {
	addr, ok = ctx.Value(addressKey{}).(netip.Addr)
	return addr, ok
}
