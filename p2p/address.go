package p2p

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Limits of addresses.
const (
	AddressBytesMax = 256
	AddressesMax    = 8 // that are remembered or told of one peer
)

const (
	joinForm   = "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW… or /dns4/node.example.org/udp/4001/quic-v1/p2p/12D3KooW… (a node prints its own when it is ready)"
	listenForm = "/ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1, without /p2p"
)

// ParseAddress reads the multiaddr of a node to dial, with its identity in /p2p/ID at
// the end. The error says the form that is wanted.
func ParseAddress(text string) (peer.AddrInfo, error) {
	fail := func(why string) (peer.AddrInfo, error) {
		return peer.AddrInfo{}, fmt.Errorf("address %q: %s: the form is %s", clip(text), why, joinForm)
	}
	if len(text) > AddressBytesMax {
		return fail(fmt.Sprintf("it has %d bytes, at most %d are taken", len(text), AddressBytesMax))
	}
	m, err := ma.NewMultiaddr(text)
	if err != nil {
		return fail(err.Error())
	}
	transport, id := peer.SplitAddr(m)
	if id == "" {
		return fail("it does not end in /p2p/ with the node's identity")
	}
	if _, err := NodeKey(id); err != nil {
		return fail(err.Error())
	}
	if why := unusable(transport); why != "" {
		return fail(why)
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{transport}}, nil
}

// ParseListen reads a multiaddr to listen on or to announce.
func ParseListen(text string) (ma.Multiaddr, error) {
	m, err := ma.NewMultiaddr(text)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w: the form is %s", clip(text), err, listenForm)
	}
	if _, id := peer.SplitAddr(m); id != "" {
		return nil, fmt.Errorf("address %q: it has a /p2p part: the form is %s", clip(text), listenForm)
	}
	if why := unusable(m); why != "" {
		return nil, fmt.Errorf("address %q: %s: the form is %s", clip(text), why, listenForm)
	}
	return m, nil
}

func parseAll(texts []string, parse func(string) (ma.Multiaddr, error)) ([]ma.Multiaddr, error) {
	addrs := make([]ma.Multiaddr, 0, len(texts))
	for _, t := range texts {
		m, err := parse(t)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, m)
	}
	return addrs, nil
}

// unusable says why a node cannot be reached by this address, "" if it can be tried:
// one host, then TCP or QUIC, and nothing else.
func unusable(m ma.Multiaddr) string {
	const form = "it must be an /ip4, /ip6, /dns, /dns4 or /dns6 host, then /tcp/PORT or /udp/PORT/quic-v1"
	if len(m) < 2 || len(m) > 3 {
		return form
	}
	switch m[0].Protocol().Code {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
	default:
		return form
	}
	if len(m) == 2 && m[1].Protocol().Code == ma.P_TCP {
		return ""
	}
	if len(m) == 3 && m[1].Protocol().Code == ma.P_UDP && m[2].Protocol().Code == ma.P_QUIC_V1 {
		return ""
	}
	return form
}

// dialable keeps, of what others say, at most [AddressesMax] addresses that can be
// tried, without /p2p and without those that mean "here, wherever I listen".
func dialable(texts []string) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, t := range texts {
		if len(addrs) == AddressesMax {
			break
		}
		if len(t) > AddressBytesMax {
			continue
		}
		m, err := ma.NewMultiaddr(t)
		if err != nil {
			continue
		}
		addrs = appendDialable(addrs, m)
	}
	return addrs
}

func appendDialable(addrs []ma.Multiaddr, m ma.Multiaddr) []ma.Multiaddr {
	m, _ = peer.SplitAddr(m)
	if unusable(m) != "" || len(m.String()) > AddressBytesMax || manet.IsIPUnspecified(m) || ma.Contains(addrs, m) {
		return addrs
	}
	return append(addrs, m)
}

func texts(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

func loopbackUnlimited() []rate.PrefixLimit {
	return []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}}
}
