package p2p

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/pci"
)

const (
	protocolFamily = "bizra/1"       // libp2p's identify shows it
	dialTimeout    = 5 * time.Second // of one address
	connGrace      = 30 * time.Second
)

// Config configures a host. A limit of zero takes the default named at its field.
type Config struct {
	Key      *pci.PrivateKey // the node's identity
	Listen   []string        // multiaddrs with /tcp/PORT or /udp/PORT/quic-v1; none: the node dials out and cannot be dialled
	Announce []string        // told to others instead of the addresses of the interfaces, for a node behind NAT or a load balancer
	PortMap  bool            // ask the router for a port by UPnP or NAT-PMP
	Version  string          // of the program, for identify's agent; "dev"

	ConnsMax           int   // connections; 512. Above three quarters of it, the least valued are closed
	ConnsPerPeerMax    int   // 8
	ConnsPerAddressMax int   // of one IPv4 address or IPv6 /56, loopback excepted; 64
	StreamsMax         int   // 8192
	StreamsPerPeerMax  int   // 512
	MemoryBytesMax     int64 // that libp2p may reserve for buffers and messages; 512 MiB
	FilesMax           int   // file descriptors of connections; 512

	Metrics prometheus.Registerer // libp2p's own metrics; nil: none
	Logger  *slog.Logger
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.ConnsMax, 512)
	set(&c.ConnsPerPeerMax, 8)
	set(&c.ConnsPerAddressMax, 64)
	set(&c.StreamsMax, 8192)
	set(&c.StreamsPerPeerMax, 512)
	set(&c.FilesMax, 512)
	if c.MemoryBytesMax == 0 {
		c.MemoryBytesMax = 512 << 20
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Key == nil {
		return errors.New("host: Key is missing")
	}
	for _, f := range []struct {
		name string
		v    int
		min  int
	}{
		{"ConnsMax", c.ConnsMax, 8}, {"ConnsPerPeerMax", c.ConnsPerPeerMax, 1}, {"ConnsPerAddressMax", c.ConnsPerAddressMax, 1},
		{"StreamsMax", c.StreamsMax, 8}, {"StreamsPerPeerMax", c.StreamsPerPeerMax, 8}, {"FilesMax", c.FilesMax, 8},
	} {
		if f.v < f.min {
			return fmt.Errorf("host: %s is %d: it must be at least %d", f.name, f.v, f.min)
		}
	}
	if c.MemoryBytesMax < 32<<20 {
		return fmt.Errorf("host: MemoryBytesMax is %d: it must be at least %d", c.MemoryBytesMax, 32<<20)
	}
	return nil
}

// NewHost starts a libp2p host: TCP and QUIC, TLS or Noise always, limits on
// everything, no relay, no hole punching, no DHT. It fails unless every address of
// Listen could be bound. The caller closes it, after what it handed it to.
func NewHost(cfg Config) (host.Host, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	listen, err := parseAll(cfg.Listen, ParseListen)
	if err != nil {
		return nil, fmt.Errorf("host: Listen: %w", err)
	}
	announce, err := parseAll(cfg.Announce, ParseListen)
	if err != nil {
		return nil, fmt.Errorf("host: Announce: %w", err)
	}
	key, err := hostKey(cfg.Key.Seed())
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	resources, err := newResources(cfg)
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(cfg.ConnsMax/2, cfg.ConnsMax*3/4, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		_ = resources.Close()
		return nil, fmt.Errorf("host: connection watermarks: %w", err)
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs, // bound one by one below: libp2p is content if one of many can be bound
		// Without SO_REUSEPORT, so that a second node on the same port is an error and
		// does not silently take half of the connections.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(conns),
		libp2p.UserAgent("bizra/" + cfg.Version),
		libp2p.ProtocolVersion(protocolFamily),
		libp2p.WithDialTimeout(dialTimeout),
		libp2p.DisableRelay(),
		// No node of a federation serves AutoNAT, so nobody is asked whether we can be reached.
		libp2p.ForceReachabilityPublic(),
		// [Keeper] measures latency and finds dead connections with it; the resource
		// manager bounds what others can make of it.
		libp2p.Ping(true),
	}
	if len(announce) > 0 {
		options = append(options, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return append([]ma.Multiaddr(nil), announce...) }))
	}
	if cfg.PortMap {
		options = append(options, libp2p.NATPortMap())
	}
	if cfg.Metrics != nil {
		options = append(options, libp2p.PrometheusRegisterer(cfg.Metrics))
	} else {
		options = append(options, libp2p.DisableMetrics())
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	for _, a := range listen {
		if err := h.Network().Listen(a); err != nil {
			return nil, errors.Join(fmt.Errorf("host: listen on %s: %w: is another node running there?", a, err), h.Close())
		}
	}
	return h, nil
}

// newResources bounds everything that libp2p counts; what Config does not name keeps
// libp2p's own finite defaults for a machine with that much memory.
func newResources(cfg Config) (network.ResourceManager, error) {
	defaults := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&defaults)
	n := func(v int) rcmgr.LimitVal { return rcmgr.LimitVal(v) }
	total := rcmgr.ResourceLimits{
		Conns: n(cfg.ConnsMax), ConnsInbound: n(cfg.ConnsMax * 3 / 4), ConnsOutbound: n(cfg.ConnsMax * 3 / 4),
		Streams: n(cfg.StreamsMax), StreamsInbound: n(cfg.StreamsMax), StreamsOutbound: n(cfg.StreamsMax),
		FD: n(cfg.FilesMax), Memory: rcmgr.LimitVal64(cfg.MemoryBytesMax),
	}
	// One peer may take at most a quarter of the memory.
	perPeer := rcmgr.ResourceLimits{
		Conns: n(cfg.ConnsPerPeerMax), ConnsInbound: n(cfg.ConnsPerPeerMax), ConnsOutbound: n(cfg.ConnsPerPeerMax),
		Streams: n(cfg.StreamsPerPeerMax), StreamsInbound: n(cfg.StreamsPerPeerMax), StreamsOutbound: n(cfg.StreamsPerPeerMax),
		FD: n(cfg.ConnsPerPeerMax), Memory: rcmgr.LimitVal64(cfg.MemoryBytesMax / 4),
	}
	perProtocolPeer := rcmgr.ResourceLimits{Streams: n(cfg.StreamsPerPeerMax), StreamsInbound: n(cfg.StreamsPerPeerMax / 2),
		StreamsOutbound: n(cfg.StreamsPerPeerMax / 2), Memory: rcmgr.LimitVal64(cfg.MemoryBytesMax / 4)}
	concrete := rcmgr.PartialLimitConfig{System: total, AllowlistedSystem: total, PeerDefault: perPeer, ProtocolPeerDefault: perProtocolPeer}.
		Build(defaults.Scale(cfg.MemoryBytesMax, cfg.FilesMax))
	perSubnet := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: cfg.ConnsPerAddressMax}}
	perSubnet6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: cfg.ConnsPerAddressMax}, {PrefixLength: 48, ConnCount: 4 * cfg.ConnsPerAddressMax}}
	// A whole region behind one address must be able to come back at once, which
	// libp2p's default of one connection in five seconds per address prevents.
	newConns := rate.Limit{RPS: 4, Burst: cfg.ConnsPerAddressMax}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(concrete),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(perSubnet, perSubnet6),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: loopbackUnlimited(),
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: newConns}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: newConns}},
				GracePeriod:      time.Minute,
			},
		}))
	if err != nil {
		return nil, fmt.Errorf("host: resource limits: %w", err)
	}
	return m, nil
}
