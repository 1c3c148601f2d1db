package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

func TestMember(t *testing.T) {
	t.Parallel()
	r := found(t)
	var record workload.Record
	agent := r.Agent("agent", &record, r.Voters[0])
	mustAck(t, agent, workload.OpenStep(r.Name, "before"))

	home := filepath.Join(r.Dir, "reader")
	r.MustBizra("federation", "invite", "--federation", r.Document, "--operator-key", r.Operator, "--out", home)
	m := r.Add(home)
	m.Start("--join", r.Voters[1].Ready.Address)
	m.AwaitReady()
	s, err := m.Status(t.Context())
	if err != nil || s.Role != client.RoleMember || s.Node != "reader" || s.Raft.State != "none" || len(s.Voters) != 3 {
		t.Fatalf("the member's status: %+v, %v", s, err)
	}

	// It forwards.
	agent.Client = m.Client()
	w, err := agent.Open(t.Context(), "through-member")
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		acked, err := w.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		linearizable(t, m, w, acked)
	}
	// It holds what the voters hold, as entries that it executed itself.
	m.AwaitSize(int64(record.Len()) + 1)
	checkVoters(t, append(r.Others(nil), m), record.Acked())

	// It survives a restart, and the loss of the node that it follows.
	m.Kill()
	mustAck(t, &workload.Agent{Client: r.Voters[0].Client(), Signer: agent.Signer, Known: agent.Known, Record: &record}, workload.OpenStep(r.Name, "meanwhile"))
	r.Voters[1].Kill()
	m.Start()
	m.AwaitReady()
	m.AwaitSize(int64(record.Len()) + 1)
	withoutLeader(t, r, m, &record)
	m.Stop()
	r.MustBizra("fsck", "--home", m.Home)
}

// linearizable reads through the member what was acknowledged a moment ago.
func linearizable(t *testing.T, m *proctest.Node, w *workload.Walk, acked workload.Acked) {
	t.Helper()
	s, err := m.Client().Session(t.Context(), w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Tips) != 1 || s.Tips[0].Head != acked.Receipt.Head || s.Nodes != w.Nodes() {
		t.Errorf("a linearizable read after the acknowledgement of %s gives %+v", acked.Receipt.Head, s)
	}
}

// withoutLeader takes the majority away: stale reads are answered, all else is refused, not lied about.
func withoutLeader(t *testing.T, r *proctest.Region, m *proctest.Node, record *workload.Record) {
	t.Helper()
	r.Voters[0].Kill()
	digest := record.Acked()[0].Envelope.Digest()
	id := hex.EncodeToString(digest[:])
	if _, err := m.Stale().Receipt(t.Context(), id); err != nil {
		t.Errorf("a stale read without a majority: %v", err)
	}
	var p *client.Problem
	proctest.Await(t, "wait until the member notices", func(ctx context.Context) error {
		_, err := m.Client(func(c *client.Config) { c.RetriesMax = -1 }).Receipt(ctx, id)
		if !errors.As(err, &p) {
			return errors.Join(errors.New("a linearizable read was answered without a majority"), err)
		}
		return nil
	})
	if p.Status != http.StatusServiceUnavailable || strings.Contains(p.Detail, "internal") {
		t.Errorf("a linearizable read without a majority: %+v", p)
	}
}
