package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/bizra/bizra/fsm/budget"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/pci"
)

// sessionRecord is what the state holds of a session: the session proper, and what the
// layers keep of it.
type sessionRecord struct {
	_        struct{} `cbor:",toarray"`
	Session  session.Session
	Unit     []byte  // NTU over the observations of its transitions; empty before the first
	Failed   int64   // steps to failed
	SNRSum   float64 // of the claimed snr_scores of the transitions taken
	SNRCount int64
	Budgets  []tipBudget // of those tips that have one
}

// tipBudget is what one tip has left. It goes by the tip, since branches spend apart.
type tipBudget struct {
	_          struct{} `cbor:",toarray"`
	Tip        session.Hash
	Task       string
	Tier       string
	TimeMillis int64
	Tokens     int64
	Iterations int64
	Depth      int64
	Tracks     int64
}

func (r *sessionRecord) budgetOf(tip session.Hash) *Budget {
	i := slices.IndexFunc(r.Budgets, func(b tipBudget) bool { return b.Tip == tip })
	if i < 0 {
		return nil
	}
	b := &r.Budgets[i]
	task, _ := budget.ParseTask(b.Task) // what this program wrote
	tier, _ := budget.ParseTier(b.Tier)
	return &Budget{Task: task, Tier: tier, Left: budget.Remaining{TimeMillis: b.TimeMillis, Tokens: b.Tokens, Iterations: b.Iterations, Depth: b.Depth, Tracks: b.Tracks}}
}

// setBudgets gives a new tip its budget and forgets those of nodes that are no tips any more.
func (r *sessionRecord) setBudgets(tip session.Hash, left *Budget) {
	r.Budgets = slices.DeleteFunc(r.Budgets, func(b tipBudget) bool {
		_, is := r.Session.Tip(b.Tip)
		return !is
	})
	if _, is := r.Session.Tip(tip); !is || left == nil {
		return
	}
	l := left.Left
	r.Budgets = append(r.Budgets, tipBudget{Tip: tip, Task: left.Task.String(), Tier: left.Tier.String(), TimeMillis: l.TimeMillis,
		Tokens: l.Tokens, Iterations: l.Iterations, Depth: l.Depth, Tracks: l.Tracks})
}

func (r *sessionRecord) unit() (ntu.Unit, error) {
	if len(r.Unit) == 0 {
		return ntu.New(ntu.Config{})
	}
	var u ntu.Unit
	err := u.UnmarshalBinary(r.Unit)
	return u, err
}

// work is what a transition says of the work behind it.
type work struct {
	operation   fate.Operation // but for its SNR score
	input       pci.Value
	task        budget.Task
	use         budget.Use
	gap         float64
	hasGap      bool
	observation float64
	observed    bool
}

// observation is what the session's unit is shown: the transition's own, or its snr_score.
func (j *judgement) observation() float64 {
	if j.act.work.observed {
		return j.act.work.observation
	}
	return j.env.Metadata.SNRScore
}

// observe shows the session's unit what the transition observed.
func (m *Machine) observe(j *judgement, rec *sessionRecord) (ntu.Unit, error) {
	defer m.layer(LayerNTU)()
	u, err := rec.unit()
	if err != nil {
		return u, fmt.Errorf("read the unit of session %q: %w", rec.Session.ID, err)
	}
	state, err := u.Observe(j.observation())
	if err != nil {
		return u, fmt.Errorf("observe a step of session %q: %w", rec.Session.ID, err)
	}
	j.act.step.NTU = &state
	return u, nil
}

// OperationOf is what FATE scores of a transition: payload.data and metadata.snr_score of its envelope,
// whose id, timestamp and head stand for execution id, timestamp and trace. The error is a
// [*pci.Reject] where the data is not a transition's.
func OperationOf(data pci.Value, snr float64) (fate.Operation, error) {
	o := pci.ReadObject(data)
	a := action{name: ActionSessionTransition}
	a.readStep(o)
	if err := o.Done(); err != nil {
		return fate.Operation{}, err
	}
	return a.work.scored(snr), nil
}

func (w *work) scored(snr float64) fate.Operation {
	o := w.operation
	o.SNR, o.HasSNR = snr, true
	o.HasExecutionID, o.HasTimestamp, o.HasTrace = true, true, true
	return o
}

// FatePolicy is the gate FATE of a constitution: its composite and the least that passes.
func FatePolicy(law *constitution.Constitution) (fate.Policy, error) {
	c := fate.Config{Rule: fate.Product, Threshold: law.Thresholds.FateMin}
	if law.Composite.Rule == constitution.Geometric {
		w := law.Composite.Weights
		c.Rule = fate.Geometric
		c.Weights[fate.Fidelity], c.Weights[fate.Accountability] = w.Fidelity, w.Accountability
		c.Weights[fate.Transparency], c.Weights[fate.Ethics] = w.Transparency, w.Ethics
	}
	p, err := fate.New(c)
	if err != nil {
		return p, fmt.Errorf("constitution: %w", err)
	}
	return p, nil
}

// judgeFate is the gate FATE. The rules are asked about every action of a session; the scores are those of
// a transition, for no other action declares an operation.
func (m *Machine) judgeFate(j *judgement, s *session.Session, tip session.Tip) error {
	defer m.layer(LayerFATE)()
	in := constitution.Input{Action: j.act.name, Data: j.env.Payload.Data,
		Agent: constitution.Agent{ID: j.who.agent.ID, Type: j.who.agent.Type, Owner: j.who.agent.Owner}}
	if s != nil {
		in.Session = constitution.Session{ID: s.ID, State: tip.State.String(), Opener: s.Opener, Nodes: int64(s.Nodes)} //nolint:gosec // nodes are counted one by one
	}
	denied := m.policy.Evaluate(in)
	transition := j.act.name == ActionSessionTransition
	if !transition && !denied.Denied() {
		return nil
	}
	operation := j.act.work.scored(j.env.Metadata.SNRScore)
	if !transition {
		operation = soundOperation(j.act.name)
	}
	var v fate.Verdict
	if denied.Denied() {
		dimension, _ := fate.ParseDimension(string(denied.Dimension)) // one of the four: the constitution was checked
		v = m.fate.Judge(&operation, fate.Denial{Dimension: dimension, Rule: denied.Rule})
	} else {
		v = m.fate.Judge(&operation)
	}
	j.out.Fate = &v
	j.act.step.Fate = &session.Scored{Scores: v.Scores, Composite: v.Composite}
	switch {
	case v.Passed:
		return nil
	case v.Rule != "":
		return refuse(pci.RejectFateViolation, reasonFateRule)
	default:
		return refuse(pci.RejectFateViolation, reasonFate)
	}
}

// soundOperation scores 1 throughout: of an action that declares no operation only a rule can say no.
func soundOperation(name string) fate.Operation {
	return fate.Operation{Name: name, Type: "session", Intent: name, SNR: 1, HasSNR: true, HasExecutionID: true, HasTimestamp: true,
		HasTrace: true, HasInput: true, HasDescription: true}
}

// spend is the gate BUDGET: it allocates where a standard step enters computing, charges
// what the step used, and gives what is left to the node that it made.
func (m *Machine) spend(j *judgement, rec *sessionRecord, u *ntu.Unit) error {
	defer m.layer(LayerBudget)()
	st := &j.act.step
	left := rec.budgetOf(st.StateHash)
	if st.Type == session.Merge {
		left = rec.least(st.Heads)
	}
	if st.Type == session.Standard && st.To == session.Computing {
		a, err := allocate(j, rec)
		if err != nil {
			return err
		}
		left = &Budget{Task: a.Task, Tier: a.Tier, Left: a.Remaining(), Allocated: &a}
		if err := u.Resize(a.NTUWindow); err != nil {
			return fmt.Errorf("resize the unit of session %q: %w", rec.Session.ID, err)
		}
	}
	j.out.Budget = left
	if j.act.work.use == (budget.Use{}) {
		return nil
	}
	if left == nil {
		return refuse(pci.RejectBudgetExceeded, reasonBudgetNone)
	}
	after, err := left.Left.Charge(j.act.work.use)
	var over *budget.Exceeded
	if errors.As(err, &over) {
		left.Over = &Over{Part: over.Part, Asked: over.Asked, Left: over.Left}
		return refuse(pci.RejectBudgetExceeded, reasonBudgetOver)
	}
	if err != nil {
		return err
	}
	left.Left = after
	return nil
}

// least is what a merge of tips has left: the least of each part, nothing if one of them has no budget.
func (r *sessionRecord) least(heads []session.Hash) *Budget {
	var all *Budget
	for _, h := range heads {
		b := r.budgetOf(h)
		if b == nil {
			return nil
		}
		if all == nil {
			all = b
			continue
		}
		all.Left = all.Left.Least(b.Left)
		if b.Tier < all.Tier {
			all.Task, all.Tier = b.Task, b.Tier
		}
	}
	return all
}

func allocate(j *judgement, rec *sessionRecord) (budget.Allocation, error) {
	w := &j.act.work
	text := ""
	if w.operation.HasInput {
		text = string(w.input.AppendCanonical(nil))
	}
	measured, err := budget.Measure(text)
	if err != nil {
		return budget.Allocation{}, fmt.Errorf("measure an input: %w", err)
	}
	a, err := budget.Allocate(budget.Request{Task: w.task, Text: measured, KnowledgeGap: w.gap, HasKnowledgeGap: w.hasGap,
		Attempts: rec.Failed, History: budget.History{Sum: rec.SNRSum, Count: rec.SNRCount}})
	if err != nil {
		return budget.Allocation{}, fmt.Errorf("allocate a budget: %w", err)
	}
	return a, nil
}
