package gossip

import pb "github.com/libp2p/go-libp2p-pubsub/pb"

// Wire makes a message as a router of the federation puts it on its streams, for whoever is none:
// the simulator's attackers. attempt tells apart what is said again.
func Wire(federation string, t Topic, attempt uint8, payload []byte) *pb.Message {
	name := t.name(federation)
	return &pb.Message{Topic: &name, Data: frame(attempt, payload)}
}

// WireID is the ID by which routers offer and ask for a message.
func WireID(m *pb.Message) string { return messageID(m) }
