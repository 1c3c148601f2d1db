package session_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/internal/vectors"
	"github.com/bizra/bizra/pci"
)

// book keeps the nodes of a test.
type book map[session.Hash]*session.Node

func (b book) Node(h session.Hash) (*session.Node, error) {
	if n, ok := b[h]; ok {
		return n, nil
	}
	return nil, fmt.Errorf("no node %v", h)
}

func (b book) HasNode(h session.Hash) (bool, error) { _, ok := b[h]; return ok, nil }

func (b book) Lineage(h session.Hash) (uint64, []session.Hash, error) {
	n, err := b.Node(h)
	if err != nil {
		return 0, nil, err
	}
	clock, parents, err := session.ParseLineage(n.AppendCanonical(nil))
	if err == nil && (clock != n.Clock || !slices.Equal(parents, n.Parents)) {
		err = fmt.Errorf("the lineage of %v is read as %d %v", h, clock, parents)
	}
	return clock, parents, err
}

func wantRefusal(t *testing.T, err error, code pci.Code, reason string) {
	t.Helper()
	var rej *pci.Reject
	if !errors.As(err, &rej) || rej.Code != code || rej.Detail != reason {
		t.Fatalf("got %v, want %v %s", err, code, reason)
	}
}

func TestVectorsSession(t *testing.T) {
	var file struct {
		Cases []struct {
			Table map[string][]string
			Steps []struct {
				From, To, Type string
				OK             bool
			}
		}
	}
	vectors.Load(t, "session.json", &file)
	checked := 0
	for _, c := range file.Cases {
		for from, to := range c.Table {
			s, ok := session.ParseState(from)
			var names []string
			for _, n := range s.Successors() {
				names = append(names, n.String())
			}
			slices.Sort(names)
			slices.Sort(to)
			if !ok || !slices.Equal(names, to) {
				t.Errorf("%s leads to %v, the table says %v", from, names, to)
			}
			checked++
		}
		for _, step := range c.Steps {
			if step.Type != "standard" {
				continue // the reference holds only these to the table
			}
			from, ok1 := session.ParseState(step.From)
			to, ok2 := session.ParseState(step.To)
			if !ok1 || !ok2 || session.StepAllowed(from, to) != step.OK {
				t.Errorf("%s → %s: allowed %v, the reference says %v", step.From, step.To, session.StepAllowed(from, to), step.OK)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Fatalf("only %d cases were checked", checked)
	}
}

// rig walks one session.
type rig struct {
	t *testing.T
	s *session.Session
	b book
	n int64
}

func newRig(t *testing.T) *rig {
	s, n := session.Open(session.Step{Agent: "a", Region: "r", Session: "s", Agents: []string{"b"}})
	return &rig{t: t, s: s, b: book{n.Hash(): n}}
}

func (r *rig) step(st session.Step) (session.Hash, error) {
	r.n++
	st.TimeMillis, st.Region, st.Session = r.n, "r", "s"
	if err := r.s.CheckHead(&st); err != nil {
		return session.Hash{}, err
	}
	next, n, err := r.s.Apply(&st, r.b)
	if err != nil {
		return session.Hash{}, err
	}
	r.s, r.b[n.Hash()] = next, n
	return n.Hash(), nil
}

func (r *rig) must(st session.Step) session.Hash {
	r.t.Helper()
	h, err := r.step(st)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *rig) walk(head session.Hash, states ...session.State) session.Hash {
	r.t.Helper()
	for _, to := range states {
		head = r.must(session.Step{Type: session.Standard, StateHash: head, To: to})
	}
	return head
}

func TestBranchKeepsTheOldTip(t *testing.T) {
	r := newRig(t)
	head := r.walk(r.s.Tips[0].Hash, session.Active)
	b := r.must(session.Step{Type: session.Branch, StateHash: head})
	if len(r.s.Tips) != 2 || r.b[b].State != session.Active || r.b[b].Parents[0] != head || r.b[b].Clock != r.b[head].Clock+1 {
		t.Fatalf("after a branch: %+v, node %+v", r.s, r.b[b])
	}
	// The same branch in the same millisecond would be the same node.
	r.n--
	_, err := r.step(session.Step{Type: session.Branch, StateHash: head})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonNodeExists)
}

func TestTipsAreLimited(t *testing.T) {
	r := newRig(t)
	head := r.s.Tips[0].Hash
	for range session.TipsMax - 1 {
		r.must(session.Step{Type: session.Branch, StateHash: head})
	}
	if len(r.s.Tips) != session.TipsMax {
		t.Fatalf("%d tips", len(r.s.Tips))
	}
	_, err := r.step(session.Step{Type: session.Branch, StateHash: head})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonTooManyTips)
	var heads []session.Hash
	for _, tip := range r.s.Tips {
		heads = append(heads, tip.Hash)
	}
	m := r.must(session.Step{Type: session.Merge, StateHash: heads[3], Heads: heads})
	if len(r.s.Tips) != 1 || r.s.Tips[0].Hash != m || len(r.b[m].Parents) != session.TipsMax || r.b[m].Clock != 2 {
		t.Fatalf("after merging all: %+v", r.s.Tips)
	}
}

func TestMergeRefusals(t *testing.T) {
	r := newRig(t)
	a := r.walk(r.s.Tips[0].Hash, session.Active)
	b := r.must(session.Step{Type: session.Branch, StateHash: a})
	c := r.walk(b, session.Computing)
	gone := session.Hash{9}
	_, err := r.step(session.Step{Type: session.Merge, StateHash: a, Heads: []session.Hash{a, c}})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonHeadsDiffer)
	_, err = r.step(session.Step{Type: session.Merge, StateHash: a, Heads: []session.Hash{a, b}})
	wantRefusal(t, err, pci.RejectStateMismatch, session.ReasonHeadNotATip)
	_, err = r.step(session.Step{Type: session.Merge, StateHash: a, Heads: []session.Hash{c, gone}})
	wantRefusal(t, err, pci.RejectStateMismatch, session.ReasonStateNotAHead)
	_, err = r.step(session.Step{Type: session.Merge, StateHash: gone, Heads: []session.Hash{a, gone}})
	wantRefusal(t, err, pci.RejectStateMismatch, session.ReasonNotATip)
}

func TestRollbackGoesOnInTheAncestorsState(t *testing.T) {
	r := newRig(t)
	genesis := r.s.Tips[0].Hash
	active := r.walk(genesis, session.Active)
	failed := r.walk(active, session.Computing, session.Failed)
	back := r.must(session.Step{Type: session.Rollback, StateHash: failed, Ancestor: active, Reason: "again"})
	if n := r.b[back]; n.State != session.Active || n.Parents[0] != failed || n.Clock != 4 {
		t.Fatalf("rolled back to %+v", n)
	}
	for _, not := range []session.Hash{back, {7}} { // itself, and nobody
		_, err := r.step(session.Step{Type: session.Rollback, StateHash: back, Ancestor: not, Reason: "x"})
		wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonNoAncestor)
	}
}

func TestRollbackLooksAtABoundedNumberOfNodes(t *testing.T) {
	r := newRig(t)
	genesis := r.s.Tips[0].Hash
	head := r.walk(genesis, session.Active)
	near := head
	for i := range 2 * session.RollbackNodesMax {
		if i%2 == 0 {
			head = r.walk(head, session.Suspended)
		} else {
			head = r.walk(head, session.Resumed)
			head = r.walk(head, session.Active)
		}
	}
	for n := r.b[head]; n.Clock+session.RollbackNodesMax > r.s.Last.Clock; n = r.b[near] {
		near = n.Parents[0]
	}
	_, err := r.step(session.Step{Type: session.Rollback, StateHash: head, Ancestor: r.b[near].Parents[0], Reason: "far"})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonNoAncestor)
	r.must(session.Step{Type: session.Rollback, StateHash: head, Ancestor: near, Reason: "near"})
}

func TestRecovery(t *testing.T) {
	r := newRig(t)
	failed := r.walk(r.s.Tips[0].Hash, session.Active, session.Failed)
	_, err := r.step(session.Step{Type: session.Recovery, StateHash: failed, To: session.Recovered})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonRecoveryReason)
	_, err = r.step(session.Step{Type: session.Recovery, StateHash: failed, To: session.Terminated, Reason: "x"})
	wantRefusal(t, err, pci.RejectInvariantFailed, session.ReasonStepNotAllowed)
	r.must(session.Step{Type: session.Recovery, StateHash: failed, To: session.Recovered, Reason: "x"})
}

func TestOnlyItsAgentsMoveASession(t *testing.T) {
	r := newRig(t)
	if r.s.MayMove("a") != nil || r.s.MayMove("b") != nil {
		t.Fatal("the opener or a named agent is refused")
	}
	wantRefusal(t, r.s.MayMove("c"), pci.RejectRoleViolation, session.ReasonAgentNotNamed)
}

// TestSessionProperties takes random steps: clocks grow, tips are sorted and real,
// a terminated node is never built on, and nodes survive their canonical form.
func TestSessionProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if len(r.s.Tips) == 0 {
				break
			}
			tip := rapid.SampledFrom(r.s.Tips).Draw(rt, "tip")
			other := rapid.SampledFrom(r.s.Tips).Draw(rt, "other")
			st := session.Step{StateHash: tip.Hash, Reason: "r", To: session.State(rapid.IntRange(0, 9).Draw(rt, "to")),
				Type: session.Type(rapid.IntRange(1, 5).Draw(rt, "type")), Heads: []session.Hash{tip.Hash, other.Hash}, Ancestor: other.Hash}
			if st.Type == session.Merge && tip == other {
				continue
			}
			before := r.s
			h, err := r.step(st)
			var rej *pci.Reject
			if err != nil && !errors.As(err, &rej) {
				rt.Fatal(err)
			}
			if err != nil {
				if r.s != before {
					rt.Fatal("a refused step changed the session")
				}
				continue
			}
			n := r.b[h]
			for _, p := range n.Parents {
				if r.b[p].Clock >= n.Clock || r.b[p].State == session.Terminated {
					rt.Fatalf("node %+v stands on %+v", n, r.b[p])
				}
			}
			if !slices.IsSortedFunc(r.s.Tips, func(a, b session.Tip) int { return a.Hash.Compare(b.Hash) }) {
				rt.Fatal("tips are not sorted")
			}
			again, err := session.ParseNode(n.AppendCanonical(nil))
			if err != nil || again.Hash() != h {
				rt.Fatalf("node %+v read again as %+v: %v", n, again, err)
			}
		}
	})
}

func FuzzParseNode(f *testing.F) {
	_, n := session.Open(session.Step{Region: "r", Session: "s", Reason: "é\""})
	f.Add(n.AppendCanonical(nil))
	n.Parents = []session.Hash{{1}, {2}}
	f.Add(n.AppendCanonical(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := session.ParseNode(b)
		if err == nil && string(n.AppendCanonical(nil)) != string(b) {
			t.Fatalf("accepted %q, which is not the canonical form", b)
		}
	})
}

// BenchmarkTransition takes steps that the layers have judged; their nodes' hashes are most of it.
func BenchmarkTransition(b *testing.B) {
	judged := session.Judged{NTU: &ntu.State{Belief: 0.8227412096, Entropy: 1.5246181361799331e-09, Potential: 0.8227412083},
		Fate: &session.Scored{Scores: fate.Scores{Fidelity: 1, Accountability: 1, Transparency: 0.9999999999999999, Ethics: 0.95}, Composite: 0.9499999999999998}}
	s, n := session.Open(session.Step{Agent: "a", Region: "region-1", Session: "0fe85c04-0000-4000-8000-ac5cda9b9ff0"})
	nodes := book{n.Hash(): n}
	b.ReportAllocs()
	states := []session.State{session.Active, session.Suspended, session.Resumed}
	for i := 0; b.Loop(); i++ {
		st := session.Step{Type: session.Standard, StateHash: s.Tips[0].Hash, To: states[i%3], TimeMillis: int64(i), Judged: judged}
		next, _, err := s.Apply(&st, nodes)
		if err != nil {
			b.Fatal(err)
		}
		s = next
	}
}
