// Package memnet is a libp2p network in memory: hosts that connect and open streams
// with latency, in the virtual time of a testing/synctest bubble or in real time.
//
// What runs over it is the code that runs over sockets: a [Host] is a host.Host with
// connections, streams with deadlines and flow control, events about peers and their
// protocols. Bytes arrive in order, one latency after they were written (rounded up to 100 µs), and none is
// lost while both ends live, as with TCP and QUIC. A one-way [Network.Cut] holds bytes
// back until it heals; [Network.Part] does so for all ways that a function names;
// [Network.Weather] makes writes late, double, or overtake each other;
// [Network.Disconnect] ends connections.
//
// It is made for ten thousand hosts in one process: a stream is two queues, all that arrives at
// one instant shares a timer, and no goroutine waits on behalf of a link. There is no encryption, so that
// simulated processor time is the protocols' own; a peer is who its host's key says.
// There is no bandwidth, no congestion, no resource manager and no negotiation of
// protocols.
package memnet
