// Package rpcwire reads and writes what GossipSub routers write to each other's streams, for those
// who listen in on them or speak without being one: each write is an RPC behind its length.
package rpcwire

import (
	"encoding/binary"
	"fmt"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"google.golang.org/protobuf/proto"
)

// Encode makes the write that carries an RPC.
func Encode(rpc *pb.RPC) ([]byte, error) {
	body, err := proto.Marshal(rpc)
	if err != nil {
		return nil, fmt.Errorf("encode RPC: %w", err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...), nil
}

// Decode reads the RPC of one write, nil if it carries none.
func Decode(write []byte) *pb.RPC {
	size, n := binary.Uvarint(write)
	if n <= 0 || uint64(len(write)-n) != size { //nolint:gosec // n is the length of a part of write
		return nil
	}
	rpc := new(pb.RPC)
	if proto.Unmarshal(write[n:], rpc) != nil {
		return nil
	}
	return rpc
}

// Graft asks a router to take the sender into its meshes of topics.
func Graft(topics ...string) *pb.RPC {
	control := &pb.ControlMessage{}
	for _, t := range topics {
		control.Graft = append(control.Graft, &pb.ControlGraft{TopicID: proto.String(t)})
	}
	return &pb.RPC{Control: control}
}

// Prune takes the sender out of meshes again.
func Prune(topics ...string) *pb.RPC {
	control := &pb.ControlMessage{}
	for _, t := range topics {
		control.Prune = append(control.Prune, &pb.ControlPrune{TopicID: proto.String(t)})
	}
	return &pb.RPC{Control: control}
}

// IHave offers messages of a topic by their IDs.
func IHave(topic string, ids []string) *pb.RPC {
	return &pb.RPC{Control: &pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: proto.String(topic), MessageIDs: ids}}}}
}

// IWant asks for messages by their IDs.
func IWant(ids []string) *pb.RPC {
	return &pb.RPC{Control: &pb.ControlMessage{Iwant: []*pb.ControlIWant{{MessageIDs: ids}}}}
}

// Publish carries messages of a topic.
func Publish(topic string, datas ...[]byte) *pb.RPC {
	rpc := &pb.RPC{}
	for _, d := range datas {
		rpc.Publish = append(rpc.Publish, &pb.Message{Topic: proto.String(topic), Data: d})
	}
	return rpc
}

// Empty says whether an RPC says nothing.
func Empty(rpc *pb.RPC) bool { return proto.Size(rpc) == 0 }
