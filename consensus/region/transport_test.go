package region

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// station is a libp2p host on loopback with a transport.
type station struct {
	host  host.Host
	id    raft.ServerID
	trans *Transport

	mu      sync.Mutex
	voters  map[raft.ServerID]bool // whom Admit takes
	refused []error
}

func (s *station) admit(from raft.ServerID, _ any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.voters[from] {
		return errors.New("not a voter")
	}
	return nil
}

func (s *station) refusals() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	key, err := pci.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	h, err := p2p.NewHost(p2p.Config{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// accessFor lets everybody among ids speak Raft.
func accessFor(t *testing.T, ids ...peer.ID) *p2p.Access {
	t.Helper()
	a, err := p2p.NewAccess(p2p.AccessConfig{Region: "a", Raft: func() (p2p.RaftPeers, bool) { return p2p.NewRaftPeers(ids, nil), true }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func introduce(hosts ...host.Host) (ids []peer.ID) {
	for _, a := range hosts {
		ids = append(ids, a.ID())
		for _, b := range hosts {
			if a != b {
				a.Peerstore().AddAddrs(b.ID(), b.Addrs(), time.Hour)
			}
		}
	}
	return ids
}

func newStations(t *testing.T, count int) []*station {
	t.Helper()
	var hosts []host.Host
	for range count {
		hosts = append(hosts, newHost(t))
	}
	ids := introduce(hosts...)
	var stations []*station
	for _, h := range hosts {
		s := &station{host: h, id: raft.ServerID(h.ID().String()), voters: make(map[raft.ServerID]bool)}
		for _, id := range ids {
			s.voters[raft.ServerID(id.String())] = true
		}
		trans, err := NewTransport(TransportConfig{Network: HostNetwork(h, accessFor(t, ids...)), Admit: s.admit,
			OnRefused: func(_ raft.ServerID, err error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.refused = append(s.refused, err)
			}})
		if err != nil {
			t.Fatal(err)
		}
		s.trans = trans
		t.Cleanup(func() { _ = trans.Close() })
		stations = append(stations, s)
	}
	return stations
}

func header(s *station) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.id), Addr: []byte(s.id)}
}

// answer answers the next RPC that passes, or reports that none came.
func (s *station) answer(t *testing.T, response any) any {
	t.Helper()
	select {
	case rpc := <-s.trans.Consumer():
		if rpc.Reader != nil {
			if _, err := io.Copy(io.Discard, rpc.Reader); err != nil {
				t.Error(err)
			}
		}
		rpc.Respond(response, nil)
		return rpc.Command
	case <-time.After(10 * time.Second):
		t.Error("no RPC came through")
		return nil
	}
}

func TestTransportKeepsPreVote(t *testing.T) {
	var trans raft.Transport = newStations(t, 1)[0].trans
	if _, ok := trans.(raft.WithPreVote); !ok {
		t.Error("raft would turn pre-vote off silently")
	}
	if _, ok := trans.(raft.WithClose); !ok {
		t.Error("raft would not close the transport")
	}
}

func TestTransportCarriesEveryRPC(t *testing.T) {
	s := newStations(t, 2)
	a, b := s[0], s[1]
	to := raft.ServerAddress(b.id)
	configuration := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: a.id, Address: raft.ServerAddress(a.id)}}})
	body := make([]byte, 3<<20)
	_, _ = rand.Read(body)
	for name, call := range map[string]struct {
		response any
		do       func() (granted bool, err error)
	}{
		"append": {&raft.AppendEntriesResponse{Success: true}, func() (bool, error) {
			var resp raft.AppendEntriesResponse
			err := a.trans.AppendEntries(b.id, to, &raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &resp)
			return resp.Success, err
		}},
		"vote": {&raft.RequestVoteResponse{Granted: true}, func() (bool, error) {
			var resp raft.RequestVoteResponse
			err := a.trans.RequestVote(b.id, to, &raft.RequestVoteRequest{RPCHeader: header(a), Term: 1}, &resp)
			return resp.Granted, err
		}},
		"pre-vote": {&raft.RequestPreVoteResponse{Granted: true}, func() (bool, error) {
			var resp raft.RequestPreVoteResponse
			err := a.trans.RequestPreVote(b.id, to, &raft.RequestPreVoteRequest{RPCHeader: header(a), Term: 1}, &resp)
			return resp.Granted, err
		}},
		"timeout now": {&raft.TimeoutNowResponse{}, func() (bool, error) {
			err := a.trans.TimeoutNow(b.id, to, &raft.TimeoutNowRequest{RPCHeader: header(a)}, &raft.TimeoutNowResponse{})
			return true, err
		}},
		"snapshot": {&raft.InstallSnapshotResponse{Success: true}, func() (bool, error) {
			var resp raft.InstallSnapshotResponse
			err := a.trans.InstallSnapshot(b.id, to, &raft.InstallSnapshotRequest{RPCHeader: header(a), SnapshotVersion: 1, LastLogIndex: 1,
				LastLogTerm: 1, Configuration: configuration, Size: int64(len(body))}, &resp, bytes.NewReader(body))
			return resp.Success, err
		}},
		"pipeline": {&raft.AppendEntriesResponse{Success: true}, func() (bool, error) {
			p, err := a.trans.AppendEntriesPipeline(b.id, to)
			if err != nil {
				return false, err
			}
			defer p.Close()
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
				return false, err
			}
			answer := <-p.Consumer()
			return answer.Response().Success, answer.Error()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			go func() { defer close(done); b.answer(t, call.response) }()
			granted, err := call.do()
			if err != nil || !granted {
				t.Errorf("%v, %v", granted, err)
			}
			<-done
		})
	}
	if r := b.refusals(); len(r) > 0 {
		t.Errorf("refused: %v", r)
	}
}

func TestHeartbeatsTakeTheOrdinaryWay(t *testing.T) {
	s := newStations(t, 2)
	a, b := s[0], s[1]
	b.trans.SetHeartbeatHandler(func(raft.RPC) { t.Error("a heartbeat went beside the main thread") })
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What NetworkTransport takes for a heartbeat: no entries, no previous one, no commit index.
		if _, ok := b.answer(t, &raft.AppendEntriesResponse{Success: true}).(*raft.AppendEntriesRequest); !ok {
			t.Error("the heartbeat did not come through the consumer")
		}
	}()
	var resp raft.AppendEntriesResponse
	err := a.trans.AppendEntries(b.id, raft.ServerAddress(b.id), &raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &resp)
	if err != nil || !resp.Success {
		t.Errorf("%v, %v", resp.Success, err)
	}
	<-done
}

func TestTransportRefuses(t *testing.T) {
	s := newStations(t, 3)
	a, b, other := s[0], s[1], s[2]
	to := raft.ServerAddress(b.id)
	send := func(h raft.RPCHeader, entries ...*raft.Log) error {
		return a.trans.AppendEntries(b.id, to, &raft.AppendEntriesRequest{RPCHeader: h, Term: 1, Entries: entries}, &raft.AppendEntriesResponse{})
	}
	addressOnly := header(a)
	addressOnly.Addr = []byte(other.id)
	noName := header(a)
	noName.ID = nil
	for name, call := range map[string]func() error{
		"another voter's name":    func() error { return send(header(other)) },
		"another voter's address": func() error { return send(addressOnly) },
		"no name":                 func() error { return send(noName) },
		"a vote under another name": func() error {
			return a.trans.RequestVote(b.id, to, &raft.RequestVoteRequest{RPCHeader: header(other), Term: 9}, &raft.RequestVoteResponse{})
		},
		"a pre-vote under another name": func() error {
			return a.trans.RequestPreVote(b.id, to, &raft.RequestPreVoteRequest{RPCHeader: header(other), Term: 9}, &raft.RequestPreVoteResponse{})
		},
		"a takeover under another name": func() error {
			return a.trans.TimeoutNow(b.id, to, &raft.TimeoutNowRequest{RPCHeader: header(other)}, &raft.TimeoutNowResponse{})
		},
		"a gap in the entries":     func() error { return send(header(a), &raft.Log{Index: 7}) },
		"an entry of unknown type": func() error { return send(header(a), &raft.Log{Index: 1, Type: 77}) },
		"a damaged configuration": func() error {
			return send(header(a), &raft.Log{Index: 1, Type: raft.LogConfiguration, Data: []byte{0xc1}})
		},
		"a missing entry": func() error { return send(header(a), nil) },
		"a snapshot of no version": func() error {
			return a.install(b, raft.InstallSnapshotRequest{RPCHeader: header(a), LastLogIndex: 1, LastLogTerm: 1})
		},
		"a snapshot without voters": func() error {
			return a.install(b, raft.InstallSnapshotRequest{RPCHeader: header(a), SnapshotVersion: 1, LastLogIndex: 1, LastLogTerm: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(b.refusals())
			if err := call(); err == nil {
				t.Error("it was answered")
			} else if !strings.Contains(err.Error(), "refused") && !strings.Contains(name, "snapshot") {
				t.Errorf("it was answered with %v", err)
			}
			if len(b.refusals()) == before {
				t.Error("it was not counted")
			}
			select {
			case rpc := <-b.trans.Consumer():
				t.Errorf("Raft was given %T", rpc.Command)
			default:
			}
		})
	}
}

func (s *station) install(to *station, req raft.InstallSnapshotRequest) error {
	body := bytes.Repeat([]byte{1}, 1<<20)
	req.Size = int64(len(body))
	return s.trans.InstallSnapshot(to.id, raft.ServerAddress(to.id), &req, &raft.InstallSnapshotResponse{}, bytes.NewReader(body))
}

func TestOnlyVotersMaySend(t *testing.T) {
	s := newStations(t, 2)
	a, b := s[0], s[1]
	send := func() error {
		return a.trans.AppendEntries(b.id, raft.ServerAddress(b.id), &raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &raft.AppendEntriesResponse{})
	}
	done := make(chan struct{})
	go func() { defer close(done); b.answer(t, &raft.AppendEntriesResponse{Success: true}) }()
	if err := send(); err != nil {
		t.Fatal(err)
	}
	<-done
	// Not a voter any more, its stream still open.
	b.mu.Lock()
	delete(b.voters, a.id)
	b.mu.Unlock()
	if err := send(); err == nil {
		t.Error("a former voter was answered on a stream that it had open")
	}
	if len(b.refusals()) == 0 {
		t.Error("it was not counted")
	}

	// A stranger gets no stream at all.
	stranger := newHost(t)
	stranger.Peerstore().AddAddrs(b.host.ID(), b.host.Addrs(), time.Hour)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := stranger.NewStream(ctx, b.host.ID(), p2p.ProtocolRaft)
	if err == nil {
		_ = stream.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err = stream.Read(make([]byte, 1)); err == nil {
			t.Error("a stranger was answered")
		}
	}
}

func TestTransportClosesCleanly(t *testing.T) {
	s := newStations(t, 2)
	a, b := s[0], s[1]
	for range 4 {
		go func() {
			_ = a.trans.AppendEntries(b.id, raft.ServerAddress(b.id), &raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &raft.AppendEntriesResponse{})
		}()
	}
	// Unanswered requests and open streams on both sides.
	rpc := <-b.trans.Consumer()
	if rpc.Command == nil {
		t.Fatal("nothing came")
	}
	if len(ours()) == 0 {
		t.Fatal("no goroutines to end: the test does not test")
	}
	if err := errors.Join(a.trans.Close(), b.trans.Close()); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the goroutines to end", func() bool { return len(ours()) == 0 })
	if err := a.trans.AppendEntries(b.id, raft.ServerAddress(b.id), &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrTransportShutdown) {
		t.Errorf("after Close: %v", err)
	}
}

// ours are the stacks of goroutines of a transport.
func ours() []string {
	buffer := make([]byte, 4<<20)
	var found []string
	for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if strings.Contains(stack, "NetworkTransport") || strings.Contains(stack, "region.(*Transport)") || strings.Contains(stack, "region.(*hostNetwork)") {
			found = append(found, stack)
		}
	}
	return found
}

func TestKeepForgetsPeersThatLeft(t *testing.T) {
	s := newStations(t, 2)
	a, b := s[0], s[1]
	go b.answer(t, &raft.AppendEntriesResponse{Success: true})
	if err := a.trans.AppendEntries(b.id, raft.ServerAddress(b.id), &raft.AppendEntriesRequest{RPCHeader: header(a), Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	b.trans.Keep([]raft.ServerID{"somebody else"})
	b.trans.mu.Lock()
	left := len(b.trans.remotes)
	b.trans.mu.Unlock()
	if left != 0 {
		t.Errorf("%d peers are kept", left)
	}
}

func TestUnansweredRequestsAreBounded(t *testing.T) {
	n := newMemNet(0)
	there, back := n.pipe("a", "b"), n.pipe("b", "a")
	layer := &streamLayer{conns: make(map[*conn]struct{})}
	c, err := layer.track(&memConn{read: there, write: back}, true)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		chunk := make([]byte, 1<<20)
		for range 2 * (rpcBytesMax >> 20) {
			if _, err := there.write(chunk); err != nil {
				return
			}
		}
	}()
	read, buffer := 0, make([]byte, 1<<20)
	for err == nil {
		var n int
		n, err = c.Read(buffer)
		read += n
	}
	if !errors.Is(err, errUnanswered) || read > rpcBytesMax+len(buffer) {
		t.Errorf("after %d bytes: %v", read, err)
	}
	_ = c.Close()
	layer.handlers.Wait()
}

func TestCommitIndexStaysBehindWhatWasCompared(t *testing.T) {
	for _, c := range []struct {
		prev          uint64
		entries       int
		commit, after uint64
	}{{80, 0, 85, 80}, {80, 3, 85, 83}, {80, 3, 82, 82}, {0, 0, 5, 0}} {
		req := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, LeaderCommitIndex: c.commit}
		for i := range c.entries {
			req.Entries = append(req.Entries, &raft.Log{Index: c.prev + 1 + uint64(i)})
		}
		if err := checkAppend(req); err != nil {
			t.Fatal(err)
		}
		if req.LeaderCommitIndex != c.after {
			t.Errorf("%+v: commit index %d", c, req.LeaderCommitIndex)
		}
	}
}

func TestBoundaryIsNeverSent(t *testing.T) {
	req := &raft.AppendEntriesRequest{Entries: []*raft.Log{{Index: 3, Type: boundaryType}}}
	s := newStations(t, 1)[0]
	if err := s.trans.AppendEntries("x", "x", req, &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := newPipelineForTest().AppendEntries(req, &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("%v", err)
	}
}

func newPipelineForTest() *pipeline { return &pipeline{closed: make(chan struct{})} }
