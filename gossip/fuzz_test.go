package gossip

import (
	"bytes"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"google.golang.org/protobuf/proto"

	"github.com/bizra/bizra/internal/testnet"
)

func FuzzFrame(f *testing.F) {
	f.Add(frame(0, []byte("x")))
	f.Add([]byte{frameVersion, 255})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, err := unframe(data)
		if err == nil && (len(payload) == 0 || !bytes.Equal(frame(data[1], payload), data)) {
			t.Errorf("%x was read as %x", data, payload)
		}
	})
}

func FuzzTopic(f *testing.F) {
	for _, k := range Kinds() {
		f.Add(Topic{Kind: k, Region: "a"}.name("test"))
	}
	f.Add("/bizra/test/votes/")
	f.Add("/bizra/other/evidence")
	f.Fuzz(func(t *testing.T, name string) {
		topic, ok := parseTopic("test", name)
		if ok && (topic.name("test") != name || len(topic.Region) > regionBytesMax || topic.Kind >= kinds) {
			t.Errorf("%q was read as %+v", name, topic)
		}
	})
}

func FuzzInspect(f *testing.F) {
	topic := proto.String(certificates.name("test"))
	for _, rpc := range []*pb.RPC{
		{Publish: []*pb.Message{{Topic: topic, Data: frame(0, []byte("x"))}, {}}},
		{Subscriptions: []*pb.RPC_SubOpts{{Subscribe: proto.Bool(true), Topicid: topic}}},
		{Control: &pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: topic, MessageIDs: []string{"1"}}}, Iwant: []*pb.ControlIWant{{}}, Graft: []*pb.ControlGraft{{TopicID: topic}}}},
	} {
		b, err := proto.Marshal(rpc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	net := testnet.New(2, 3, 0)
	self, other := net.Nodes["a"][0], net.Nodes["a"][1].Host.ID()
	r, err := New(self.Host, self.Access, Config{Federation: "test", Logger: testnet.Quiet()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close(); net.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		rpc := new(pubsub.RPC)
		if proto.Unmarshal(data, &rpc.RPC) != nil {
			return
		}
		before := len(rpc.Publish)
		_ = r.inspect(other, rpc)
		_, _ = subscriptionFilter{r}.FilterIncomingSubscriptions(other, rpc.Subscriptions)
		for _, m := range rpc.Publish {
			if topic, ok := parseTopic("test", m.GetTopic()); !ok || !r.place(other).sends(topic) {
				t.Errorf("a message of topic %q was left", m.GetTopic())
			}
		}
		if len(rpc.Publish) > before {
			t.Error("messages were added")
		}
	})
}
