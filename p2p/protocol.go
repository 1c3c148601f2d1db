package p2p

import (
	"github.com/libp2p/go-libp2p/core/protocol"
)

// The protocols of a node. Each carries its version; a change that an old node would
// misread gets a new one. [Rules] says who may open a stream of which.
const (
	ProtocolRaft         protocol.ID = "/bizra/raft/1.0.0"         // Raft's own RPCs, raw stream
	ProtocolSubmit       protocol.ID = "/bizra/submit/1.0.0"       // proofs forwarded to the leader
	ProtocolEntries      protocol.ID = "/bizra/entries/1.0.0"      // the ledger's entries for those who follow, raw stream
	ProtocolJoin         protocol.ID = "/bizra/join/1.0.0"         // the federation document and the region's peers
	ProtocolStatus       protocol.ID = "/bizra/status/1.0.0"       // clock, applied index, seal bodies, whether Raft was started
	ProtocolRead         protocol.ID = "/bizra/read/1.0.0"         // how far the ledger must be read for a linearizable answer
	ProtocolKeys         protocol.ID = "/bizra/keys/1.0.0"         // hand-over of the region's keys
	ProtocolAttest       protocol.ID = "/bizra/attest/1.0.0"       // checkpoints, cosignatures and certificates, between voters of different regions
	ProtocolCertificates protocol.ID = "/bizra/certificates/1.0.0" // the newest certificate of each region
	ProtocolGossip       protocol.ID = "/bizra/gossip/1.0.0"       // GossipSub 1.2 under a name of our own, raw stream
)

// Protocols lists every protocol that this package gives rules for, in the order of [Rules].
func Protocols() []protocol.ID {
	rules := Rules()
	ids := make([]protocol.ID, len(rules))
	for i, r := range rules {
		ids[i] = r.Protocol
	}
	return ids
}
