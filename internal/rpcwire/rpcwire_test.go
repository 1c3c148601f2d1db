package rpcwire

import (
	"bytes"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	b, err := Encode(Publish("t", []byte("x"), []byte("y")))
	if err != nil {
		t.Fatal(err)
	}
	rpc := Decode(b)
	if rpc == nil || len(rpc.Publish) != 2 || rpc.Publish[1].GetTopic() != "t" || !bytes.Equal(rpc.Publish[1].GetData(), []byte("y")) || Empty(rpc) {
		t.Fatalf("%v", rpc)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0), {2, 0xff, 0xff}} {
		if Decode(bad) != nil {
			t.Errorf("%x was read", bad)
		}
	}
	if rpc = Decode([]byte{0}); rpc == nil || !Empty(rpc) {
		t.Errorf("%v", rpc)
	}
	control := Graft("a", "b")
	if len(control.Control.Graft) != 2 || len(Prune("a").Control.Prune) != 1 || len(IHave("a", []string{"1"}).Control.Ihave[0].MessageIDs) != 1 || len(IWant([]string{"1", "2"}).Control.Iwant[0].MessageIDs) != 2 {
		t.Error("control messages are not as they were asked for")
	}
}
