package region

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	stdnet "net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// FuzzConfiguration: what a log entry or a snapshot says that Raft's configuration is.
func FuzzConfiguration(f *testing.F) {
	f.Add(raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "a", Address: "a"}, {Suffrage: raft.Nonvoter, ID: "b", Address: "b"}}}))
	f.Add(raft.EncodeConfiguration(raft.Configuration{}))
	f.Add([]byte{0x81})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeConfiguration(b)
		if err == nil && len(c.Servers) == 0 {
			t.Fatal("a configuration without servers was taken")
		}
	})
}

// FuzzAddedMark: the file that says who may send to a node that knows no configuration yet.
func FuzzAddedMark(f *testing.F) {
	good, err := json.Marshal(addedMark{[]raft.ServerID{"a", "b"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if mark, err := parseAddedMark(b); err == nil && len(mark.Senders) == 0 {
			t.Fatal("a mark that names nobody was taken")
		}
	})
}

// rpcStreams is what a transport writes into its streams for some RPCs, one each.
func rpcStreams(f *testing.F, from raft.ServerID, send ...func(raft.Transport) error) (streams [][]byte) {
	f.Helper()
	net := newMemNet(0)
	sender, err := NewTransport(TransportConfig{Network: &memNode{net, from}, Admit: func(raft.ServerID, any) error { return nil },
		RPCTimeout: 20 * time.Millisecond, TransferTimeout: 20 * time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	defer sender.Close()
	for _, s := range send {
		came := make(chan []byte, 1)
		if _, err := (&memNode{net, "sink"}).Serve(func(_ raft.ServerID, c stdnet.Conn) {
			b, _ := io.ReadAll(c) // until the sender no longer waits for an answer
			came <- b
		}); err != nil {
			f.Fatal(err)
		}
		if err := s(sender); err == nil {
			f.Fatal("an RPC was answered by nobody")
		}
		b := <-came
		if len(b) < 2 {
			f.Fatalf("an RPC of %d bytes", len(b))
		}
		streams = append(streams, b)
	}
	return streams
}

// FuzzRaftStream: whatever a voter of the region writes into its stream, what comes out is an RPC under its own name that
// passes the checks, and the stream ends or is answered. A voter may lie about much else: voters of one region trust each other.
func FuzzRaftStream(f *testing.F) {
	from := raft.ServerID("voter")
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from), Addr: []byte(from)}
	for _, stream := range rpcStreams(f, from, func(t raft.Transport) error {
		return t.AppendEntries("sink", "sink", &raft.AppendEntriesRequest{RPCHeader: header, Term: 2, PrevLogEntry: 1, PrevLogTerm: 1, LeaderCommitIndex: 9,
			Entries: []*raft.Log{{Index: 2, Term: 2, Type: raft.LogCommand, Data: []byte("x")}}}, &raft.AppendEntriesResponse{})
	}, func(t raft.Transport) error {
		return t.RequestVote("sink", "sink", &raft.RequestVoteRequest{RPCHeader: header, Term: 3, LastLogIndex: 2}, &raft.RequestVoteResponse{})
	}, func(t raft.Transport) error {
		return t.InstallSnapshot("sink", "sink", &raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Term: 2, LastLogIndex: 7, LastLogTerm: 1, Size: 3,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: from}}})}, &raft.InstallSnapshotResponse{}, strings.NewReader("abc"))
	}, func(t raft.Transport) error {
		return t.TimeoutNow("sink", "sink", &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
	}) {
		f.Add(stream)
	}
	f.Add([]byte{0, 0xdd, 0xff, 0xff, 0xff, 0xff}) // an array of four thousand million
	f.Add([]byte{0x7f})
	net := newMemNet(0)
	trans, err := NewTransport(TransportConfig{Network: &memNode{net, "self"}, Admit: func(raft.ServerID, any) error { return nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = trans.Close() })
	faults := make(chan string, 1)
	go func() {
		for rpc := range trans.Consumer() {
			if err := trans.check(from, rpc.Command); err != nil {
				faults <- err.Error()
			}
			if rpc.Reader != nil {
				_, _ = io.Copy(io.Discard, rpc.Reader)
			}
			rpc.Respond(emptyResponse(rpc.Command), nil)
		}
	}()
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := (&memNode{net, from}).Open(ctx, "self")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) { // it may hang up before it has heard all
			t.Fatal(err)
		}
		near, ok := conn.(*memConn)
		if !ok {
			t.Fatalf("a stream of kind %T", conn)
		}
		near.write.end(false)
		if _, err := io.Copy(io.Discard, near); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		select {
		case fault := <-faults:
			t.Fatal(fault)
		default:
		}
	})
}
