package session

import (
	"fmt"
	"slices"

	"github.com/bizra/bizra/pci"
)

// Limits of a session.
const (
	TipsMax          = 64       // tips at one time, and heads that a merge may name
	AgentsMax        = 64       // agents that an opener may name besides itself
	IDBytesMax       = 128      // a session's id
	ReasonBytesMax   = 1024     // a step's reason
	NameBytesMax     = 128      // a branch's name
	RollbackNodesMax = 256      // nodes looked at in search of a rollback's ancestor: each is a read of the store
	NodeBytesMax     = 16 << 10 // canonical form of a node
)

// Tip is a node that may be built on.
type Tip struct {
	_     struct{} `cbor:",toarray"`
	Hash  Hash
	State State
	Clock uint64
}

// Session is what the state machine keeps of a session: who may move it, and its
// tips sorted by hash. A terminated node is no tip, so a session without tips is over.
type Session struct {
	_            struct{} `cbor:",toarray"`
	ID           string
	Opener       string   // agent_id
	Agents       []string // sorted, without the opener
	Tips         []Tip
	Nodes        uint64 // made so far
	OpenedMillis int64  // log time
	Last         Tip    // the node made last, terminated or not
}

// Reasons that a step is refused for, as they stand in entries: part of the state version.
const (
	ReasonSessionExists  = "session-exists"
	ReasonSessionUnknown = "session-unknown"
	ReasonNotATip        = "state-hash-not-a-tip"
	ReasonOpenNeedsEmpty = "open-needs-empty-state-hash"
	ReasonAgentNotNamed  = "agent-not-of-session"
	ReasonStepNotAllowed = "step-not-allowed"
	ReasonRecoveryReason = "recovery-needs-reason"
	ReasonTooManyTips    = "too-many-tips"
	ReasonHeadsDiffer    = "heads-differ-in-state"
	ReasonHeadNotATip    = "head-not-a-tip"
	ReasonStateNotAHead  = "state-hash-not-a-head"
	ReasonNoAncestor     = "ancestor-not-found"
	ReasonNodeExists     = "node-exists"
)

// Step is what one proof asks of a session, already checked for form.
type Step struct {
	Type       Type
	Agent      string // agent_id of the sender
	StateHash  Hash   // the head that the sender acts on; unused by Genesis
	To         State  // Standard and Recovery
	Heads      []Hash // Merge: two or more, distinct
	Ancestor   Hash   // Rollback
	Reason     string
	Agents     []string // Genesis: who else may move the session, sorted and distinct
	Region     string
	Session    string
	Data       Hash
	TimeMillis int64
	Judged
}

// Nodes looks up nodes by their hash; it returns an error for one that is not there.
type Nodes interface {
	Node(Hash) (*Node, error)
	HasNode(Hash) (bool, error)
	// Lineage gives a node's clock and parents, without the cost of decoding all of it.
	Lineage(Hash) (clock uint64, parents []Hash, err error)
}

func refuse(code pci.Code, reason string) error { return &pci.Reject{Code: code, Detail: reason} }

// Open makes a session and its genesis node.
func Open(st Step) (*Session, *Node) {
	n := &Node{Region: st.Region, Session: st.Session, State: Init, Type: Genesis, Data: st.Data, Reason: st.Reason, TimeMillis: st.TimeMillis}
	tip := Tip{Hash: n.Hash(), State: Init}
	return &Session{ID: st.Session, Opener: st.Agent, Agents: st.Agents, Tips: []Tip{tip}, Nodes: 1,
		OpenedMillis: st.TimeMillis, Last: tip}, n
}

// MayMove is the ROLE gate: only the opener and the agents that it named move a session.
func (s *Session) MayMove(agent string) error {
	if agent == s.Opener {
		return nil
	}
	if _, named := slices.BinarySearch(s.Agents, agent); named {
		return nil
	}
	return refuse(pci.RejectRoleViolation, ReasonAgentNotNamed)
}

// CheckHead is the STATE gate: the head that the sender acts on must be a tip,
// and of a merge one of its heads, which must all be tips.
func (s *Session) CheckHead(st *Step) error {
	if _, ok := s.Tip(st.StateHash); !ok {
		return refuse(pci.RejectStateMismatch, ReasonNotATip)
	}
	if st.Type != Merge {
		return nil
	}
	if !slices.Contains(st.Heads, st.StateHash) {
		return refuse(pci.RejectStateMismatch, ReasonStateNotAHead)
	}
	for _, h := range st.Heads {
		if _, ok := s.Tip(h); !ok {
			return refuse(pci.RejectStateMismatch, ReasonHeadNotATip)
		}
	}
	return nil
}

// Apply is the INVARIANT gate and the step itself, after [Session.MayMove] and
// [Session.CheckHead] have passed: it returns the session as it is afterwards and the new node,
// and leaves s alone. Errors are [*pci.Reject], or what nodes returned.
func (s *Session) Apply(st *Step, nodes Nodes) (*Session, *Node, error) {
	tip, ok := s.Tip(st.StateHash)
	if !ok {
		return nil, nil, refuse(pci.RejectStateMismatch, ReasonNotATip)
	}
	n := &Node{Parents: []Hash{tip.Hash}, Region: st.Region, Session: s.ID, Clock: tip.Clock + 1, State: tip.State,
		Type: st.Type, Reason: st.Reason, Data: st.Data, TimeMillis: st.TimeMillis, Judged: st.Judged}
	consumed := []Hash{tip.Hash}
	switch st.Type {
	case Standard, Recovery:
		if err := checkStep(tip.State, st); err != nil {
			return nil, nil, err
		}
		n.State = st.To
	case Branch:
		if len(s.Tips) >= TipsMax {
			return nil, nil, refuse(pci.RejectInvariantFailed, ReasonTooManyTips)
		}
		consumed = nil
	case Merge:
		if err := s.merge(st, n); err != nil {
			return nil, nil, err
		}
		consumed = n.Parents
	case Rollback:
		a, err := s.ancestor(tip, st.Ancestor, nodes)
		if err != nil {
			return nil, nil, err
		}
		n.State = a.State
	default:
		return nil, nil, fmt.Errorf("apply a step of type %v to session %q: no such step", st.Type, s.ID)
	}
	return s.advance(n, consumed, nodes)
}

func checkStep(from State, st *Step) error {
	if st.Type == Recovery {
		if from != Failed || st.To != Recovered {
			return refuse(pci.RejectInvariantFailed, ReasonStepNotAllowed)
		}
		if st.Reason == "" {
			return refuse(pci.RejectInvariantFailed, ReasonRecoveryReason)
		}
	}
	if !StepAllowed(from, st.To) {
		return refuse(pci.RejectInvariantFailed, ReasonStepNotAllowed)
	}
	return nil
}

func (s *Session) merge(st *Step, n *Node) error {
	n.Parents = slices.Clone(st.Heads)
	slices.SortFunc(n.Parents, Hash.Compare)
	for _, h := range n.Parents {
		t, ok := s.Tip(h)
		if !ok {
			return refuse(pci.RejectStateMismatch, ReasonHeadNotATip)
		}
		if t.State != n.State {
			return refuse(pci.RejectInvariantFailed, ReasonHeadsDiffer)
		}
		n.Clock = max(n.Clock, t.Clock+1)
	}
	return nil
}

// advance takes the consumed tips out and puts the new node in. A node that exists
// already (the same branch twice in one millisecond) is refused: a tip is one node.
func (s *Session) advance(n *Node, consumed []Hash, nodes Nodes) (*Session, *Node, error) {
	tip := Tip{Hash: n.Hash(), State: n.State, Clock: n.Clock}
	// A step that consumes its parent cannot be made again: what is no tip any more never is one again.
	if len(consumed) == 0 {
		exists, err := nodes.HasNode(tip.Hash)
		if err != nil {
			return nil, nil, err
		}
		if exists {
			return nil, nil, refuse(pci.RejectInvariantFailed, ReasonNodeExists)
		}
	}
	next := *s
	next.Tips = make([]Tip, 0, len(s.Tips)+1)
	for _, t := range s.Tips {
		if !slices.Contains(consumed, t.Hash) {
			next.Tips = append(next.Tips, t)
		}
	}
	if n.State != Terminated {
		i, _ := slices.BinarySearchFunc(next.Tips, tip.Hash, func(t Tip, h Hash) int { return t.Hash.Compare(h) })
		next.Tips = slices.Insert(next.Tips, i, tip)
	}
	next.Nodes++
	next.Last = tip
	return &next, n, nil
}

// Tip finds a tip by its hash.
func (s *Session) Tip(h Hash) (Tip, bool) {
	i, ok := slices.BinarySearchFunc(s.Tips, h, func(t Tip, h Hash) int { return t.Hash.Compare(h) })
	if !ok {
		return Tip{}, false
	}
	return s.Tips[i], true
}

// ancestor walks back from a tip, breadth first, until it meets the node asked for. It looks
// at no more than RollbackNodesMax nodes, and at none that is not younger than the one asked
// for, which bounds what one proof may cost: those that are refused are not limited in number.
func (s *Session) ancestor(tip Tip, want Hash, nodes Nodes) (*Node, error) {
	known, err := nodes.HasNode(want)
	if err != nil {
		return nil, fmt.Errorf("look for node %v: %w", want, err)
	}
	if !known {
		return nil, refuse(pci.RejectInvariantFailed, ReasonNoAncestor)
	}
	a, err := nodes.Node(want)
	if err != nil {
		return nil, fmt.Errorf("look for node %v: %w", want, err)
	}
	if a.Session != s.ID || a.Clock >= tip.Clock {
		return nil, refuse(pci.RejectInvariantFailed, ReasonNoAncestor)
	}
	seen := map[Hash]struct{}{tip.Hash: {}}
	queue := []Hash{tip.Hash}
	for looked := 0; len(queue) > 0 && looked < RollbackNodesMax; looked++ {
		clock, parents, err := nodes.Lineage(queue[0])
		if err != nil {
			return nil, fmt.Errorf("walk back from node %v: %w", tip.Hash, err)
		}
		queue = queue[1:]
		if clock <= a.Clock {
			continue
		}
		for _, p := range parents {
			if p == want {
				return a, nil
			}
			if _, dup := seen[p]; !dup {
				seen[p] = struct{}{}
				queue = append(queue, p)
			}
		}
	}
	return nil, refuse(pci.RejectInvariantFailed, ReasonNoAncestor)
}
