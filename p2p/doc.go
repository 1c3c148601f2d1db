// Package p2p is how nodes reach each other: the libp2p host, who a peer is, who may
// speak which protocol, framed messages over streams, joining a region, and keeping
// its peers connected.
//
// It promises:
//   - One place decides who may speak what: [Access.Allow]. [Serve] and [ServeStream]
//     ask it before the first byte of a request is read, and again while a long stream
//     is open. What it refuses is reset, counted by reason and logged at most once per
//     peer and minute.
//   - No input of any size or shape stops a node or makes it hold more than stated:
//     every message, stream, connection, table and file here has a limit in a constant
//     or a Config, and every wait has an end.
//   - Whoever starts a goroutine ends it: Close waits for all of them.
//
// A node's identity is its Ed25519 key; a peer ID is that key in libp2p's writing.
// Everything takes a host.Host, so that a simulator can hand in another than
// [NewHost]'s, and time is the time package's.
//
// It does not know what the messages of Raft, of proofs or of entries mean, keeps no
// region's keys, does not relay for others, punches no holes through NAT and keeps no
// DHT. Addresses and the names of peers that others tell are hints: nothing is trusted
// for having come from an admitted peer but what the key of that peer itself proves.
package p2p
