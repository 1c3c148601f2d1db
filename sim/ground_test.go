package sim

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// TestPartsOfANode holds a simulated node against one on the machine's own ground, which is the one
// that cmd/bizra runs: voters of a federation of regions, up and ready, serve the same protocols and
// have parts with the same metrics. The same for members.
func TestPartsOfANode(t *testing.T) {
	t.Parallel()
	machine := partsOnMachine(t)
	simulated := map[bool][]string{}
	dir := t.TempDir()
	if err := Run(func() error {
		w, err := New(context.Background(), Config{Dir: dir, Regions: 2, Voters: 1, Members: 1})
		if err != nil {
			return err
		}
		for _, n := range w.Nodes("a") {
			if simulated[n.Votes], err = partsOf(n.Running(), n.host.Protocols()); err != nil {
				return errors.Join(err, w.Close())
			}
		}
		return w.Close()
	}); err != nil {
		t.Fatal(err)
	}
	for _, votes := range []bool{true, false} {
		if len(machine[votes]) < 40 {
			t.Errorf("only %d parts were found of a node that votes: %v", len(machine[votes]), votes)
		}
		if !slices.Equal(machine[votes], simulated[votes]) {
			t.Errorf("a node that votes: %v\nhas on a machine, not simulated: %v\nsimulated only: %v", votes, without(machine[votes], simulated[votes]), without(simulated[votes], machine[votes]))
		}
	}
	if slices.Equal(machine[true], machine[false]) {
		t.Error("voters and members are alike: the comparison sees nothing")
	}
}

func without(all, those []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(those, s) })
}

// partsOf names the protocols that a node serves and the metrics of its parts.
func partsOf(n *node.Node, protocols []protocol.ID) (parts []string, err error) {
	metrics, err := n.Metrics()
	if err != nil {
		return nil, err
	}
	for _, p := range protocols {
		if strings.HasPrefix(string(p), "/bizra/") {
			parts = append(parts, "protocol "+string(p))
		}
	}
	described := make(chan *prometheus.Desc)
	go func() {
		metrics.Describe(described)
		close(described)
	}()
	for d := range described {
		parts = append(parts, d.String())
	}
	slices.Sort(parts)
	return slices.Compact(parts), nil
}

// listening is the machine's ground, of which the host is kept.
type listening struct {
	node.Ground
	host host.Host
}

// NewHost implements [node.Ground].
func (l *listening) NewHost(cfg p2p.Config) (h host.Host, err error) {
	l.host, err = l.Ground.NewHost(cfg)
	return l.host, err
}

func partsOnMachine(t *testing.T) map[bool][]string {
	t.Helper()
	fed := testfed.New(2, 1)
	var join []string
	all := map[bool][]string{}
	start := func(region, name, role string, keys map[string]*pci.PrivateKey, more map[string][]byte) (*node.Node, *listening) {
		dir, ground := t.TempDir(), &listening{Ground: node.Machine()}
		who, err := json.Marshal(node.Identity{Version: 1, Name: name, Region: region, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		more[node.FileNode], more[node.FileDocument] = who, fed.Document.Canonical()
		for file, key := range keys {
			err = errors.Join(err, key.Save(filepath.Join(dir, file)))
		}
		for file, text := range more {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), text, 0o600))
		}
		n, started := node.Start(t.Context(), node.Config{Home: dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Join: join, Ground: ground, Version: "test"})
		if err := errors.Join(err, started); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close(context.Background()) })
		join = append(join, n.Addresses()[0])
		return n, ground
	}
	var voter, member *node.Node
	var ofVoter, ofMember *listening
	for _, region := range []string{"a", "b"} {
		keys := map[string]*pci.PrivateKey{node.FileNodeKey: fed.Nodes[region][0], node.FileLogKey: fed.LogKeys[region], node.FileCosignKey: fed.Cosign[region]}
		n, g := start(region, region+"-1", node.RoleVoter, keys, map[string][]byte{node.FileFounding: nil})
		if region == "a" {
			voter, ofVoter = n, g
		}
	}
	key := testfed.Key("member")
	inv, err := p2p.SignInvitation(p2p.Invitation{Federation: fed.Document.Name, Region: "a", Node: key.Public(),
		ExpiresMillis: time.Now().Add(time.Hour).UnixMilli()}, fed.Operators["a"])
	if err != nil {
		t.Fatal(err)
	}
	member, ofMember = start("a", "m", node.RoleMember, map[string]*pci.PrivateKey{node.FileNodeKey: key}, map[string][]byte{node.FileInvitation: inv.Canonical()})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		v, err1 := voter.Status()
		m, err2 := member.Status()
		if err1 == nil && err2 == nil && v.Ready && m.Ready {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %+v %v, %+v %v", v, err1, m, err2)
		}
	}
	var err1, err2 error
	all[true], err1 = partsOf(voter, ofVoter.host.Mux().Protocols())
	all[false], err2 = partsOf(member, ofMember.host.Mux().Protocols())
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return all
}
