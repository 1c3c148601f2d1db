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
		if r.cover.excludes(e) || !r.may.eval(e) {
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
	e.in, e.listsKnown = in, false
	for i := range e.terms {
		e.terms[i].known, e.terms[i].scanned = false, false
	}
	return e
}

func (p *Policy) end(e *evaluation) {
	e.in = Input{}
	for i := range e.terms {
		e.terms[i].text, e.terms[i].value, e.terms[i].err = "", nil, nil
	}
	if e.text = e.text[:0]; cap(e.text) > keptBytesMax {
		e.text = nil
	}
	p.pool.Put(e)
}

// evaluation is what is known while the rules are asked about one proof; as the
// activation of CEL it hands out variables, and terms when they are first needed.
type evaluation struct {
	policy *Policy
	in     Input
	terms  []termState

	listsKnown bool
	lists      uint64 // of nameLists, that occur in the data
	text       []byte // payload.data in canonical form, once it was asked for
}

// keptBytesMax is how much scratch is kept from one proof to the next.
const keptBytesMax = 4 << 10

var errNoObject = errors.New("payload.data is not an object")

// canonical is payload.data in canonical form.
func (e *evaluation) canonical() []byte {
	if len(e.text) == 0 {
		e.text = e.in.Data.AppendCanonical(e.text)
	}
	return e.text
}

// occurs reports whether a name of a list may occur in the data.
func (e *evaluation) occurs(list int) bool {
	if list < 0 {
		return true
	}
	if !e.listsKnown {
		e.lists, e.listsKnown = e.policy.lists.occurring(e.canonical()), true
	}
	return e.lists&(1<<list) != 0
}

type termState struct {
	known, scanned bool
	text           string
	err            error
	value          ref.Val  // the same for CEL, once it asked
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
		if e.in.Data.Kind() != pci.ObjectKind {
			return types.WrapErr(errNoObject), true
		}
		return object{e.in.Data}, true
	case "agent":
		return agentView(e.in.Agent), true
	case "session":
		return sessionView(e.in.Session), true
	}
	for i := range e.policy.terms {
		if e.policy.terms[i].name == name {
			return e.term(i).forCEL(), true
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
	if f := e.policy.terms[i].native; f != nil {
		t.text, t.err = f(e)
	} else {
		t.text, t.err = e.interpret(e.policy.terms[i].program)
	}
	if t.err == nil && len(t.text) > TextBytesMax {
		t.err = errTooLong
	}
	if t.err != nil {
		t.text, t.err = "", fmt.Errorf("term %s: %w", e.policy.terms[i].name, t.err)
	}
	t.known = true
	return t
}

var errNoText = errors.New("the expression gave no text")

func (e *evaluation) interpret(program cel.Program) (string, error) {
	out, _, err := program.Eval(e)
	if err != nil {
		return "", fmt.Errorf("evaluate: %w", err)
	}
	s, ok := out.(types.String)
	if !ok {
		return "", errNoText
	}
	return string(s), nil
}

// forCEL is the term as CEL takes it.
func (t *termState) forCEL() ref.Val {
	switch {
	case t.value != nil:
	case t.err != nil:
		t.value = types.WrapErr(t.err)
	default:
		t.value = types.String(t.text)
	}
	return t.value
}

// literals reports whether one of the literals occurs in a term, by one pass over the
// text for all literals of all rules.
func (e *evaluation) literals(term int, mask []uint64) bool {
	t := e.term(term)
	if t.text == "" {
		return t.err != nil
	}
	if !t.scanned {
		clear(t.found)
		e.policy.terms[term].scan.scan(t.text, t.found)
		t.scanned = true
	}
	for i, m := range mask {
		if t.found[i]&m != 0 {
			return true
		}
	}
	return false
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
