package region

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// Raft takes no more answers after one that failed, but may send once more. With raft's own pipeline that blocks for ever.
func TestPipelineEndsAfterAFailedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(time.Millisecond)
		admit := func(raft.ServerID, any) error { return nil }
		a, err := NewTransport(TransportConfig{Network: &memNode{n, "a"}, Admit: admit})
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewTransport(TransportConfig{Network: &memNode{n, "b"}, Admit: admit})
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case rpc := <-b.Consumer():
					rpc.Respond(&raft.AppendEntriesResponse{Success: false}, nil)
				case <-stop:
					return
				}
			}
		}()
		p, err := a.AppendEntriesPipeline("b", "b")
		if err != nil {
			t.Fatal(err)
		}
		request := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}, Term: 1}
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := p.AppendEntries(request, &raft.AppendEntriesResponse{}); err != nil {
					ended <- err
					return
				}
			}
		}()
		if answer := <-p.Consumer(); answer.Response().Success {
			t.Fatal("the answer should have failed")
		}
		select {
		case err := <-ended:
			t.Log(err)
		case <-time.After(time.Minute):
			t.Error("a request waits for an answer that nobody takes")
		}
		close(stop)
		if err := errors.Join(p.Close(), a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
