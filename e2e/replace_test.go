package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

func TestWipedVoterIsReplaced(t *testing.T) {
	t.Parallel()
	r := proctest.New(t, proctest.Options{Binary: built.bizra})
	lost := r.Voters[2]
	// A copy of the first day, as backups are.
	founding, err := os.ReadFile(filepath.Join(lost.Home, "founding"))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range r.Voters {
		if i == 0 {
			v.Start()
		} else {
			v.Start("--join", r.Voters[0].Ready.Address)
		}
	}
	for _, v := range r.Voters {
		v.AwaitReady()
		if exists(filepath.Join(v.Home, "founding")) {
			t.Errorf("%s has voted and still has its founding file", v.Name)
		}
	}
	var record workload.Record
	agent := r.Agent("agent", &record, r.Voters[0], r.Voters[1])
	mustAck(t, agent, workload.OpenStep(r.Name, "before"))

	lost.Kill()
	wipe(t, lost)
	refusedToStart(t, lost, "neither a Raft store nor the file founding")
	wipe(t, lost)
	if err := os.WriteFile(filepath.Join(lost.Home, "founding"), founding, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedToStart(t, lost, "has proofs in its log, and this home has none")

	fresh := replace(t, r, lost, "a-4")
	mustAck(t, agent, workload.OpenStep(r.Name, "after"))
	checkHandedOver(t, r, fresh)
	// The region tolerates a failure again: without the new voter it could not go on.
	down := r.Leader()
	if down == fresh {
		down = r.Voters[0]
	}
	down.Kill()
	others := append(r.Others(down), fresh)
	agent.Client = clientOf(t, others)
	mustAck(t, agent, workload.OpenStep(r.Name, "tolerated"))
	down.Start()
	down.AwaitReady()
	voters := []*proctest.Node{r.Voters[0], r.Voters[1], fresh}
	checkVoters(t, voters, record.Acked())
	// What was replaced stays out, also with all of its keys.
	wipe(t, lost)
	refusedToStart(t, lost, "voter replace")
	checkDisks(t, r, voters, record.Acked())
}

// wipe takes from a home all that the node wrote while it ran.
func wipe(t *testing.T, n *proctest.Node) {
	t.Helper()
	if n.Running() {
		t.Fatalf("%s runs", n.Name)
	}
	for _, name := range []string{"raft", "state", "snapshots", "peers.json", "founding"} {
		if err := os.RemoveAll(filepath.Join(n.Home, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedToStart starts a voter that must not vote: it ends by itself, says why and names the way out.
func refusedToStart(t *testing.T, n *proctest.Node, why string) {
	t.Helper()
	from := len(n.Log())
	n.StartUnready()
	if code := n.AwaitExit(); code != 1 {
		t.Errorf("%s ended with exit code %d, not 1", n.Name, code)
	}
	said := n.Log()[from:]
	last := said[strings.LastIndex(strings.TrimRight(said, "\n"), "\n")+1:]
	if !strings.Contains(last, why) || !strings.Contains(last, "bizra voter replace") {
		t.Errorf("%s ended with %q; it should say %q and name bizra voter replace", n.Name, last, why)
	}
}

// replace puts a new node in the place of a lost one, as the operator would.
func replace(t *testing.T, r *proctest.Region, lost *proctest.Node, name string) *proctest.Node {
	t.Helper()
	home := filepath.Join(r.Dir, name)
	r.MustBizra("federation", "invite", "--federation", r.Document, "--operator-key", r.Operator, "--name", name, "--out", home)
	fresh := r.Add(home)
	fresh.Start("--join", r.Voters[0].Ready.Address)
	fresh.AwaitReady()
	s, err := fresh.Status(t.Context())
	if err != nil || s.Role != client.RoleMember {
		t.Fatalf("before it is made a voter: %+v, %v", s, err)
	}
	t.Log(r.MustBizra("voter", "replace", lost.Name, "--name", name, "--node-key", s.PeerID, "--operator-key", r.Operator, "--node", r.Voters[0].Ready.HTTP))
	fresh.AwaitReady()
	if s, err = r.Voters[0].Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range s.Voters {
		if v.Suffrage == client.RoleVoter {
			names = append(names, v.Name)
		}
	}
	if len(names) != 3 || strings.Contains(strings.Join(names, " "), lost.Name) || !strings.Contains(strings.Join(names, " "), name) {
		t.Fatalf("after the replacement the voters are %v", names)
	}
	return fresh
}

// checkHandedOver checks that a new voter has the region's keys.
func checkHandedOver(t *testing.T, r *proctest.Region, fresh *proctest.Node) {
	t.Helper()
	for _, name := range []string{"region-log.key", "region-cosign.key"} {
		want, err := os.ReadFile(filepath.Join(r.Voters[0].Home, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(fresh.Home, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, got) {
			t.Errorf("%s of the new voter is another key", name)
		}
		info, err := os.Stat(filepath.Join(fresh.Home, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s of the new voter: %v, %v", name, info, err)
		}
	}
}
