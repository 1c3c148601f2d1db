package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// serviceBackMax is how soon a region without its leader must acknowledge again, at the
// default timeouts.
const serviceBackMax = 5 * time.Second

// rotated gives each submitter another order of nodes, so that all of them take proofs in.
func rotated(nodes []*proctest.Node, by int) []*proctest.Node {
	by %= len(nodes)
	return append(append([]*proctest.Node(nil), nodes[by:]...), nodes[:by]...)
}

func TestLeaderIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	r := found(t)
	var record workload.Record
	const submitters = 6
	agents := make([]*workload.Agent, submitters)
	for i := range agents {
		agents[i] = r.Agent("agent-"+string(rune('a'+i)), &record, rotated(r.Voters, i)...)
	}
	stop := load(t, "load", agents...)
	registered := record.Len()
	reach(t, &record, registered+100)

	leader := r.Leader()
	proctest.Await(t, "wait for proofs under way", func(context.Context) error {
		if record.UnderWay() < submitters/2 {
			return errors.New("too few")
		}
		return nil
	})
	underWay, before := record.UnderWay(), record.Len()
	killed := time.Now()
	leader.Kill()

	// A submitter of its own: the others may be waiting for what they sent before.
	probe := *agents[0]
	probe.Client = clientOf(t, r.Others(leader))
	mustAck(t, &probe, workload.OpenStep(r.Name, "probe"))
	first, ok := record.FirstSentAfter(killed)
	if !ok {
		t.Fatal("no acknowledgement of what was sent after the kill")
	}
	back := first.At.Sub(killed)
	t.Logf("%s was killed after %d acknowledgements with %d under way; the next one came after %v", leader.Name, before, underWay, back)
	if back > serviceBackMax {
		t.Errorf("service was back after %v, at most %v is promised", back, serviceBackMax)
	}
	if now := r.Leader(); now == leader {
		t.Errorf("%s leads, which was killed", now.Name)
	}
	reach(t, &record, record.Len()+100)
	stop()

	leader.Start()
	leader.AwaitReady()
	acked := record.Acked()
	checkVoters(t, r.Voters, acked)
	checkRetries(t, r, acked)
	if got := record.Len(); got != len(acked) {
		t.Errorf("%d acknowledged after the retries, %d before", got, len(acked))
	}
	checkDisks(t, r, r.Voters, acked)
}

func clientOf(t *testing.T, nodes []*proctest.Node) *client.Client {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.Ready.HTTP)
	}
	return proctest.Client(t, urls)
}

// checkRetries submits everything again: each proof gets the receipt that it got first.
func checkRetries(t *testing.T, r *proctest.Region, acked []workload.Acked) {
	t.Helper()
	envelopes := make([][]byte, len(acked))
	for i, a := range acked {
		envelopes[i] = a.Envelope.Canonical()
	}
	outcomes, err := r.Voters[1].Client().SubmitAll(t.Context(), envelopes)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Receipt == nil || !o.Receipt.Repeated {
			t.Fatalf("the retry of %s got %+v", acked[i].Receipt.Digest, o)
		}
		again, first := *o.Receipt, acked[i].Receipt
		again.Repeated, first.Repeated = false, false                                       // the first may itself have been a retry, across the kill
		again.Finality, first.Finality = client.FinalityCommitted, client.FinalityCommitted // a certificate has come since
		x, errx := json.Marshal(again)
		y, erry := json.Marshal(first)
		if err := errors.Join(errx, erry); err != nil {
			t.Fatal(err)
		}
		if string(x) != string(y) {
			t.Errorf("the retry got\n%s\nand the first submission\n%s", x, y)
		}
	}
}

func TestAllAreKilledAndStartAgain(t *testing.T) {
	t.Parallel()
	allAreKilled(t)
}

// The same with Raft's log in bolt.
func TestAllAreKilledWithTheLogInBolt(t *testing.T) {
	t.Parallel()
	r := allAreKilled(t, "--log-store", string(region.LogInBolt))
	for _, v := range r.Voters {
		if exists(filepath.Join(v.Home, "raft", "log-in-wal")) {
			t.Errorf("%s has its log elsewhere: the test does not test", v.Name)
		}
	}
}

func allAreKilled(t *testing.T, flags ...string) *proctest.Region {
	r := found(t, flags...)
	var record workload.Record
	agents := []*workload.Agent{r.Agent("agent-a", &record, r.Voters...), r.Agent("agent-b", &record, rotated(r.Voters, 1)...)}
	for round := range 2 {
		stop := load(t, fmt.Sprintf("round-%d", round), agents...)
		reach(t, &record, record.Len()+50)
		for _, v := range r.Voters {
			v.Kill()
		}
		underWay := record.UnderWay()
		if underWay == 0 {
			t.Error("nothing was under way when the region was killed")
		}
		// The other way round: none is the one that must come first.
		for i := range r.Voters {
			r.Voters[len(r.Voters)-1-i].Start()
		}
		for _, v := range r.Voters {
			v.AwaitReady()
		}
		stop() // what was under way is decided now
		t.Logf("round %d: %d acknowledged, %d were under way", round, record.Len(), underWay)
	}
	acked := record.Acked()
	checkVoters(t, r.Voters, acked)
	checkRetries(t, r, acked)
	checkDisks(t, r, r.Voters, acked)
	return r
}

// TestLeaderThatHangs stops the leader's process where it is, as a machine that hangs
// does, and lets it go on when others have taken over: it must not answer from the past.
func TestLeaderThatHangs(t *testing.T) {
	t.Parallel()
	r := found(t)
	var record workload.Record
	agent := r.Agent("agent", &record, r.Voters...)
	w, err := agent.Open(t.Context(), "hung")
	if err != nil {
		t.Fatal(err)
	}
	old := r.Leader()
	if err := old.Process().Pause(); err != nil {
		t.Fatal(err)
	}
	agent.Client = clientOf(t, r.Others(old))
	paused := time.Now()
	if _, err := w.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Since(paused)
	t.Logf("%s hung; the next acknowledgement came after %v", old.Name, back)
	if back > serviceBackMax {
		t.Errorf("service was back after %v, at most %v is promised", back, serviceBackMax)
	}
	for range 20 {
		if _, err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Process().Resume(); err != nil {
		t.Fatal(err)
	}
	// At once: it may still take itself for the leader.
	once := old.Client(func(c *client.Config) { c.RetriesMax = -1 })
	s, err := once.Session(t.Context(), w.ID)
	var p *client.Problem
	switch {
	case err == nil && s.Nodes != w.Nodes():
		t.Errorf("a linearizable read at the old leader gives %d nodes of %d", s.Nodes, w.Nodes())
	case err != nil && (!errors.As(err, &p) || p.Status != 503):
		t.Errorf("a linearizable read at the old leader: %v", err)
	}
	old.AwaitReady()
	checkVoters(t, r.Voters, record.Acked())
	checkDisks(t, r, r.Voters, record.Acked())
}
