package constitution

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/bizra/bizra/pci"
)

// Input is what rules are asked about.
type Input struct {
	Action  string    // payload.action
	Data    pci.Value // payload.data, an object
	Agent   Agent
	Session Session // zero where the action has no session
}

// Agent is who signed the proof.
type Agent struct{ ID, Type, Owner string }

// Session is the session that the proof acts on, as it was before.
type Session struct {
	ID, State, Opener string
	Nodes             int64 // made so far
}

// Verdict is the rule that decided; the zero Verdict is that none did.
type Verdict struct {
	Rule      string
	Dimension Dimension
	Message   string
	Error     bool // the rule's expression failed, which denies
}

// Denied reports whether a rule decided.
func (v Verdict) Denied() bool { return v.Rule != "" }

// Evaluate asks the rules in the order of the document and returns the first that
// holds, or whose expression fails.
func (p *Policy) Evaluate(in Input) Verdict {
	e := p.begin(in)
	defer p.end(e)
	for i := range p.rules {
		r := &p.rules[i]
		if !r.may.eval(e) {
			continue
		}
		if holds, err := e.holds(r); holds || err != nil {
			return r.verdict(err)
		}
	}
	return Verdict{}
}

func (r *compiledRule) verdict(err error) Verdict {
	v := Verdict{Rule: r.Name, Dimension: r.Dimension, Message: r.Message, Error: err != nil}
	if v.Error {
		v.Message = "This rule could not be applied to the proof, which denies it. " + r.Message
	}
	return v
}

func (p *Policy) begin(in Input) *evaluation {
	e, ok := p.pool.Get().(*evaluation)
	if !ok {
		e = newEvaluation(p)
	}
	e.in = in
	e.data = view(in.Data)
	if in.Data.Kind() != pci.ObjectKind {
		e.data = types.NewErr("payload.data is not an object")
	}
	for i := range e.terms {
		e.terms[i].known, e.terms[i].scanned = false, false
	}
	return e
}

func (p *Policy) end(e *evaluation) {
	e.in, e.data = Input{}, nil
	for i := range e.terms {
		e.terms[i].text, e.terms[i].value = "", nil
	}
	p.pool.Put(e)
}

// evaluation is what is known while the rules are asked about one proof; as the
// activation of CEL it hands out variables, and terms when they are first needed.
type evaluation struct {
	policy *Policy
	in     Input
	data   ref.Val
	terms  []termState
}

type termState struct {
	known, scanned bool
	value          ref.Val // a types.String, or a *types.Err
	text           string
	found          []uint64 // bits by literal
}

func newEvaluation(p *Policy) *evaluation {
	e := &evaluation{policy: p, terms: make([]termState, len(p.terms))}
	for i := range e.terms {
		e.terms[i].found = make([]uint64, p.terms[i].scan.words())
	}
	return e
}

// ResolveName implements cel.Activation.
func (e *evaluation) ResolveName(name string) (any, bool) {
	switch name {
	case "action":
		return types.String(e.in.Action), true
	case "data":
		return e.data, true
	case "agent":
		return agentView(e.in.Agent), true
	case "session":
		return sessionView(e.in.Session), true
	}
	for i := range e.policy.terms {
		if e.policy.terms[i].name == name {
			return e.term(i).value, true
		}
	}
	return nil, false
}

// Parent implements cel.Activation.
func (*evaluation) Parent() cel.Activation { return nil }

var _ cel.Activation = (*evaluation)(nil)

func agentView(a Agent) map[string]string {
	return map[string]string{"id": a.ID, "type": a.Type, "owner": a.Owner}
}

func sessionView(s Session) map[string]any {
	return map[string]any{"id": s.ID, "state": s.State, "opener": s.Opener, "nodes": s.Nodes}
}

// term computes a term at most once.
func (e *evaluation) term(i int) *termState {
	t := &e.terms[i]
	if t.known {
		return t
	}
	out, _, err := e.policy.terms[i].program.Eval(e)
	if err == nil && !types.IsUnknownOrError(out) {
		if s, ok := out.(types.String); ok && len(s) <= TextBytesMax {
			t.value, t.text, t.known = out, string(s), true
			return t
		}
		err = fmt.Errorf("the text has more than %d bytes", TextBytesMax)
	}
	if err == nil {
		err = errors.New("no text")
	}
	t.value, t.text, t.known = types.WrapErr(fmt.Errorf("term %s: %w", e.policy.terms[i].name, err)), "", true
	return t
}

// failed reports whether a term has no text.
func (t *termState) failed() bool { return types.IsError(t.value) }

// literal reports whether a literal occurs in a term, by one pass over the text for
// all literals of all rules.
func (e *evaluation) literal(term, id int) bool {
	t := e.term(term)
	if !t.scanned {
		clear(t.found)
		e.policy.terms[term].scan.scan(t.text, t.found)
		t.scanned = true
	}
	return t.found[id/64]&(1<<(id%64)) != 0
}

var errNotBoolean = errors.New("the rule gave no boolean")

func (e *evaluation) holds(r *compiledRule) (bool, error) {
	out, _, err := r.program.Eval(e)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, errNotBoolean
	}
	return bool(b), nil
}
