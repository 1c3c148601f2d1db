package region

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// A document is adopted while proofs go on; every voter goes by it, one that needs a
// snapshot too, and those under the old constitution are refused from then on.
func TestAdopt(t *testing.T) {
	c := newReal(t)
	l := c.leader()
	first := c.fed
	agent := first.Agent("agent-1", time.Now().UnixMilli())
	c.submit(l, agent, "s-first")
	away, behind := c.takeDown(l)
	second := first.Next(testfed.Stricter)
	proof := first.Operator("a", time.Now().UnixMilli()).Sign(fsm.ActionFederationAdopt, second.Adopts(), "")

	var wg sync.WaitGroup
	for i := range 20 {
		other := first.Agent(fmt.Sprintf("other-%d", i), time.Now().UnixMilli())
		env := other.Sign("session.open", map[string]any{"region": "a", "session": fmt.Sprintf("beside-%d", i)}, "")
		wg.Go(func() {
			receipts, err := l.current().Propose(t.Context(), []*pci.Envelope{env})
			if err != nil || !receipts[0].Accepted() && receipts[0].Code != pci.RejectPolicyMismatch {
				t.Errorf("a proof beside the adoption: %+v, %v", receipts, err)
			}
		})
	}
	adopted, err := l.current().Adopt(t.Context(), proof, second.Document.Canonical())
	if err != nil || !adopted.Accepted() {
		t.Fatalf("adoption: %+v, %v", adopted, err)
	}
	wg.Wait()
	again, err := l.current().Adopt(t.Context(), proof, second.Document.Canonical())
	if err != nil || !again.Repeated || again.Index != adopted.Index {
		t.Errorf("adopted again: %+v, %v", again, err)
	}
	agent.NowMillis = time.Now().UnixMilli()
	refused, err := l.current().Propose(t.Context(), []*pci.Envelope{agent.Sign("session.open", map[string]any{"region": "a", "session": "s-old"}, "")})
	if err != nil || refused[0].Code != pci.RejectPolicyMismatch || !strings.Contains(refused[0].Message(), second.Document.Constitution.PolicyHash()) {
		t.Errorf("under the old constitution: %+v, %v", refused, err)
	}
	agent.PolicyHash = second.Document.Constitution.PolicyHash()
	for i := 0; l.current().Status().SnapshotIndex <= behind+10; i++ {
		c.submit(l, agent, fmt.Sprintf("s-%d", i))
		if i > 2000 {
			t.Fatal("no snapshot")
		}
	}
	before := away.opened
	if err := c.prepare(away).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		until(t, 20*time.Second, "all to hold the same", func() bool {
			return n.current().Status().Entries == l.current().Status().Entries
		})
		n.view(t, func(v *fsm.View) {
			d, err := v.Document()
			if err != nil || d.Version != 2 || d.Digest() != second.Document.Digest() {
				t.Errorf("%s goes by document %+v, %v", n.id, d, err)
			}
		})
	}
	if away.opened < before+2 {
		t.Error("no snapshot was installed: the test does not test")
	}
}

// A document's proof is a log entry of its own, wherever it stands among others.
func TestAdoptGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commands [][]byte
		gate := make(chan struct{})
		in := newIntake(Config{}.withDefaults(), func(data []byte) func() (*fsm.Result, error) {
			commands = append(commands, data)
			return func() (*fsm.Result, error) {
				<-gate
				return &fsm.Result{Receipts: make([]fsm.Receipt, strings.Count(string(data), "proof"))}, nil
			}
		})
		in.inFlightMax = 1
		in.open()
		document := make([]byte, federation.DocumentBytesMax)
		var wg sync.WaitGroup
		propose := func(document []byte, proofs ...[]byte) {
			wg.Go(func() {
				if got, err := in.propose(t.Context(), proofs, document); err != nil || len(got) != len(proofs) {
					t.Errorf("%d receipts, %v", len(got), err)
				}
			})
			synctest.Wait()
		}
		propose(nil, []byte("proof 0"))
		propose(nil, []byte("proof 1"), []byte("proof 2"))
		propose(document, []byte("proof 3"))
		propose(document, []byte("proof 4"))
		propose(nil, []byte("proof 5"))
		if in.bytes < 2*len(document) {
			t.Errorf("%d bytes are waiting: the documents do not count", in.bytes)
		}
		close(gate)
		wg.Wait()
		if in.bytes != 0 || len(in.waiting) != 0 {
			t.Errorf("%d bytes of %d proofs are still waiting", in.bytes, len(in.waiting))
		}
		want := []int{1, 2, 1, 1, 1}
		if len(commands) != len(want) {
			t.Fatalf("%d log entries, want %d", len(commands), len(want))
		}
		for i, c := range commands {
			if n := strings.Count(string(c), "proof"); n != want[i] || (len(c) > len(document)) != (i == 2 || i == 3) {
				t.Errorf("entry %d has %d proofs and %d bytes", i, n, len(c))
			}
		}
	})
}

func TestAdoptLimits(t *testing.T) {
	r := &Region{intake: newIntake(Config{}.withDefaults(), nil)}
	env := testfed.New(1, 1).Agent("a", time.Now().UnixMilli()).Sign("session.open", map[string]any{"region": "a", "session": "s"}, "")
	for size, want := range map[int]error{0: ErrTooLarge, federation.DocumentBytesMax + 1: ErrTooLarge, federation.DocumentBytesMax: ErrNotLeader} {
		if _, err := r.Adopt(t.Context(), env, make([]byte, size)); !errors.Is(err, want) || !errors.Is(err, ErrNotCommitted) {
			t.Errorf("a document of %d bytes: %v, want %v", size, err, want)
		}
	}
}
