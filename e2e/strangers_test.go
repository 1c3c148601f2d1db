package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	r := found(t)
	target := r.Voters[0]
	var record workload.Record
	agent := r.Agent("agent", &record, target)
	termBefore := termOf(t, target)

	t.Run("unknown key", func(t *testing.T) {
		h := dialled(t, newKey(t), target)
		refusesAllButJoin(t, h, target)
	})
	t.Run("a voter of another federation of the same name", func(t *testing.T) { wrongFederation(t, r, target) })
	t.Run("wrong protocol", func(t *testing.T) {
		h := dialled(t, newKey(t), target)
		for _, id := range []protocol.ID{"/bizra/raft/2.0.0", "/bizra/submit/0.9.0", "/bizra/backdoor/1.0.0", "/ipfs/kad/1.0.0"} {
			_, err := h.NewStream(t.Context(), peerOf(t, target), id)
			if err == nil || !strings.Contains(err.Error(), "protocols not supported") {
				t.Errorf("a stream of %s: %v", id, err)
			}
		}
	})
	t.Run("a member that sends Raft RPCs", func(t *testing.T) { memberSendsRaft(t, r, target) })
	t.Run("a voter under another's name", func(t *testing.T) { voterUnderAnothersName(t, r, target) })

	if term := termOf(t, target); term != termBefore {
		t.Errorf("the term went from %d to %d", termBefore, term)
	}
	mustAck(t, agent, workload.OpenStep(r.Name, "unharmed"))
}

func termOf(t *testing.T, n *proctest.Node) uint64 {
	t.Helper()
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Raft.Term
}

func newKey(t *testing.T) *pci.PrivateKey {
	t.Helper()
	key, err := pci.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func homeKey(t *testing.T, home string) *pci.PrivateKey {
	t.Helper()
	key, err := pci.LoadKey(filepath.Join(home, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func peerOf(t *testing.T, n *proctest.Node) peer.ID {
	t.Helper()
	a, err := p2p.ParseAddress(n.Ready.Address)
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// dialled is a raw host that is connected to a node.
func dialled(t *testing.T, key *pci.PrivateKey, n *proctest.Node) host.Host {
	t.Helper()
	h, err := p2p.NewHost(p2p.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	a, err := p2p.ParseAddress(n.Ready.Address)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return h
}

// refusesAllButJoin opens a stream of every protocol and expects to be turned away.
func refusesAllButJoin(t *testing.T, h host.Host, n *proctest.Node) {
	t.Helper()
	tried := 0
	for _, id := range p2p.Protocols() {
		if id == p2p.ProtocolJoin {
			continue
		}
		if err := useStream(t, h, n, id); !gated(err) {
			t.Errorf("a stream of %s: %v, want it to be reset as not allowed", id, err)
		}
		tried++
	}
	if tried < 5 {
		t.Errorf("only %d protocols were tried", tried)
	}
	if !strings.Contains(n.Log(), h.ID().String()) || !strings.Contains(n.Log(), "peer refused") {
		t.Error("the node's log does not say that it refused this peer")
	}
}

// useStream opens a stream, sends something and waits for what comes back.
func useStream(t *testing.T, h host.Host, n *proctest.Node, id protocol.ID) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := h.NewStream(ctx, peerOf(t, n), id)
	if err != nil {
		return err
	}
	defer s.Reset()
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Write([]byte{0, 0, 0, 2, 1, 0xa0}); err != nil { // a frame with an empty map
		return err
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return err
}

// gated tells whether the other side reset the stream because it is not allowed.
func gated(err error) bool {
	var reset *network.StreamError
	return errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamGated
}

func wrongFederation(t *testing.T, r *proctest.Region, target *proctest.Node) {
	other := proctest.New(t, proctest.Options{Binary: built.bizra, Name: r.Name})
	h := dialled(t, homeKey(t, other.Voters[0].Home), target)
	refusesAllButJoin(t, h, target)

	// An invitation by the other federation's operator opens nothing here.
	operator, err := pci.LoadKey(other.Operator)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = p2p.Join(ctx, h, p2p.JoinConfig{Addresses: []string{target.Ready.Address}, Region: r.Name, Invitation: invitation(t, r.Name, h, operator)})
	var fault *p2p.Fault
	if !errors.As(err, &fault) || fault.Code != p2p.FaultInvitation {
		t.Errorf("joining with another federation's invitation: %v", err)
	}

	// Its voter, told to join here, does not become part of this region, and says why not.
	lost := other.Voters[1]
	lost.Start("--join", target.Ready.Address)
	proctest.Await(t, "wait until it says why it is alone", func(ctx context.Context) error {
		if !strings.Contains(lost.Log(), "takes this node for a stranger") {
			return errors.New("its log does not say so")
		}
		s, err := lost.Status(ctx)
		if err == nil && s.Ready {
			t.Fatal("a voter of another federation serves")
		}
		return err
	})
	peers, err := target.Stale().Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers.Peers {
		if p.PeerID == peerOf(t, lost).String() && p.Role != p2p.Stranger.String() {
			t.Errorf("the region takes it for a %s", p.Role)
		}
	}
}

// invitation is what an operator signs for a host.
func invitation(t *testing.T, name string, h host.Host, operator *pci.PrivateKey) []byte {
	t.Helper()
	node, err := p2p.NodeKey(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	inv, err := p2p.SignInvitation(p2p.Invitation{Federation: name, Region: name, Node: node, Role: p2p.RoleMember,
		ExpiresMillis: time.Now().Add(time.Hour).UnixMilli()}, operator)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Canonical()
}

func memberSendsRaft(t *testing.T, r *proctest.Region, target *proctest.Node) {
	operator, err := pci.LoadKey(r.Operator)
	if err != nil {
		t.Fatal(err)
	}
	h := dialled(t, newKey(t), target)
	joined, err := p2p.Join(t.Context(), h, p2p.JoinConfig{Addresses: []string{target.Ready.Address}, Region: r.Name,
		Invitation: invitation(t, r.Name, h, operator)})
	if err != nil || joined.Role != p2p.Member.String() {
		t.Fatalf("the member was not admitted: %+v, %v", joined, err)
	}
	// It is a member: another protocol of the region is open to it.
	if err := useStream(t, h, target, p2p.ProtocolStatus); gated(err) {
		t.Errorf("a member may not ask for the status: %v", err)
	}
	for _, id := range []protocol.ID{p2p.ProtocolRaft, p2p.ProtocolKeys} {
		if err := useStream(t, h, target, id); !gated(err) {
			t.Errorf("a stream of %s by a member: %v, want it to be reset as not allowed", id, err)
		}
	}
	if err := requestVote(t, h, target, h.ID().String()); err == nil {
		t.Error("a member's request for a vote was answered")
	}
}

// voterUnderAnothersName has a voter's key, as a thief has, and speaks for another voter.
func voterUnderAnothersName(t *testing.T, r *proctest.Region, target *proctest.Node) {
	leader := r.Leader()
	stolen := r.Voters[1]
	if stolen == leader {
		stolen = r.Voters[2]
	}
	stolen.Stop()
	h := dialled(t, homeKey(t, stolen.Home), target)
	err := requestVote(t, h, target, peerOf(t, leader).String())
	if err == nil || !strings.Contains(err.Error(), "refused: this node takes no such Raft RPC from you") {
		t.Errorf("a request for a vote under another's name: %v", err)
	}
	if !strings.Contains(target.Log(), "under the name") {
		t.Error("the node's log does not say that a voter spoke under another's name")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	stolen.Start()
	stolen.AwaitReady()
}

// requestVote sends Raft's own RPC over streams of the host, under a name.
func requestVote(t *testing.T, h host.Host, n *proctest.Node, name string) error {
	t.Helper()
	layer := &streamLayer{t: t, host: h, to: peerOf(t, n), closed: make(chan struct{})}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: layer, MaxPool: 1, Timeout: 10 * time.Second})
	defer trans.Close()
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	request := raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(name), Addr: []byte(name)},
		Term: s.Raft.Term + 1000, LastLogIndex: 1 << 40, LastLogTerm: s.Raft.Term + 999, LeadershipTransfer: true}
	var response raft.RequestVoteResponse
	err = trans.RequestVote(raft.ServerID(layer.to.String()), raft.ServerAddress(layer.to.String()), &request, &response)
	if response.Granted {
		t.Error("the vote was granted")
	}
	return err
}

// streamLayer is what Raft's transport needs, over streams to one peer.
type streamLayer struct {
	t      *testing.T
	host   host.Host
	to     peer.ID
	closed chan struct{}
}

func (l *streamLayer) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	s, err := l.host.NewStream(l.t.Context(), l.to, p2p.ProtocolRaft)
	if err != nil {
		return nil, fmt.Errorf("open a Raft stream: %w", err)
	}
	return streamConn{s}, nil
}

func (l *streamLayer) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *streamLayer) Close() error {
	close(l.closed)
	return nil
}

func (l *streamLayer) Addr() net.Addr { return noAddr{} }

type streamConn struct{ network.Stream }

func (streamConn) LocalAddr() net.Addr  { return noAddr{} }
func (streamConn) RemoteAddr() net.Addr { return noAddr{} }

type noAddr struct{}

func (noAddr) Network() string { return "libp2p" }
func (noAddr) String() string  { return "raw" }
