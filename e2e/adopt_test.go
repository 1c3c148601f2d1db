package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

// A constitution is changed while agents work and a voter is down: from one entry on, on
// every node, none is judged by the old one, and nothing that was acknowledged is lost.
func TestConstitutionIsChangedUnderLoad(t *testing.T) {
	t.Parallel()
	r := found(t)
	var record workload.Record
	agent := r.Agent("agent", &record, r.Voters...)
	home := filepath.Join(r.Dir, "reader")
	r.MustBizra("federation", "invite", "--federation", r.Document, "--operator-key", r.Operator, "--out", home)
	member := r.Add(home)
	member.Start("--join", r.Voters[0].Ready.Address)
	member.AwaitReady()

	policy := filepath.Join(r.Dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("version: 2\nthresholds: {ihsan_min: 0.96}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(r.Dir, "second.json")
	r.MustBizra("federation", "amend", r.Document, "--constitution", policy, "--out", second)
	hash := strings.TrimSpace(r.MustBizra("constitution", "hash", policy))

	leader := r.Leader()
	others := r.Others(leader)
	others[0].Kill()

	// Three agents open sessions until they are told of the new constitution.
	var wg sync.WaitGroup
	for i := range 3 {
		worker := *agent
		wg.Go(func() {
			for n := 0; ; n++ {
				_, err := worker.Submit(t.Context(), workload.OpenStep(r.Name, fmt.Sprintf("w%d-%d", i, n)))
				if err == nil {
					continue
				}
				if pci.CodeOf(err) != pci.RejectPolicyMismatch || !strings.Contains(err.Error(), hash) {
					t.Errorf("worker %d ended after %d sessions with %v", i, n, err)
				}
				return
			}
		})
	}
	proctest.Await(t, "wait for work to be under way", func(ctx context.Context) error {
		if record.Len() < 10 {
			return errors.New("too few proofs were acknowledged")
		}
		return nil
	})
	// Through a node that does not lead.
	r.MustBizra("federation", "adopt", "--document", second, "--operator-key", r.Operator, "--node", others[1].Ready.HTTP)
	wg.Wait()

	others[0].Start()
	others[0].AwaitReady()
	agent.Known.PolicyHash = hash
	mustAck(t, agent, workload.OpenStep(r.Name, "after"))
	all := append(r.Others(nil), member)
	checkVoters(t, all, record.Acked())
	want, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		s, err := n.Status(t.Context())
		if err != nil || s.Document.Version != 2 || s.Document.PolicyHash != hash {
			t.Errorf("%s goes by %+v, %v", n.Name, s, err)
		}
		n.Stop()
		if got, err := os.ReadFile(filepath.Join(n.Home, "federation.json")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has another document in its home: %v", n.Name, err)
		}
		r.MustBizra("fsck", "--home", n.Home)
	}
}
