package session

import "fmt"

// State is what a session's node stands in.
type State uint8

// The states of a session.
const (
	Init State = iota
	Active
	Computing
	Validated
	Committed
	Suspended
	Resumed
	Failed
	Recovered
	Terminated
	stateCount
)

func (s State) String() string {
	switch s {
	case Init:
		return "init"
	case Active:
		return "active"
	case Computing:
		return "computing"
	case Validated:
		return "validated"
	case Committed:
		return "committed"
	case Suspended:
		return "suspended"
	case Resumed:
		return "resumed"
	case Failed:
		return "failed"
	case Recovered:
		return "recovered"
	case Terminated:
		return "terminated"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// ParseState is the inverse of [State.String]; ok is false for any other text.
func ParseState(name string) (s State, ok bool) {
	for s := Init; s < stateCount; s++ {
		if s.String() == name {
			return s, true
		}
	}
	return 0, false
}

// Successors lists the states that a standard step may lead to from s, in the
// order of their declaration.
func (s State) Successors() []State {
	switch s {
	case Init:
		return []State{Active, Terminated}
	case Active:
		return []State{Computing, Suspended, Failed, Terminated}
	case Computing:
		return []State{Validated, Failed}
	case Validated:
		return []State{Committed, Failed}
	case Committed:
		return []State{Active, Terminated}
	case Suspended:
		return []State{Resumed, Terminated}
	case Resumed:
		return []State{Active}
	case Failed:
		return []State{Recovered, Terminated}
	case Recovered:
		return []State{Active}
	default:
		return nil
	}
}

// StepAllowed reports whether a standard step may lead from one state to another.
func StepAllowed(from, to State) bool {
	for _, s := range from.Successors() {
		if s == to {
			return true
		}
	}
	return false
}

// Type is the kind of step that made a node.
type Type uint8

// The kinds of steps.
const (
	Genesis Type = iota
	Standard
	Recovery
	Branch
	Merge
	Rollback
	typeCount
)

func (t Type) String() string {
	switch t {
	case Genesis:
		return "genesis"
	case Standard:
		return "standard"
	case Recovery:
		return "recovery"
	case Branch:
		return "branch"
	case Merge:
		return "merge"
	case Rollback:
		return "rollback"
	default:
		return fmt.Sprintf("type(%d)", uint8(t))
	}
}

// ParseType is the inverse of [Type.String]; ok is false for any other text.
func ParseType(name string) (t Type, ok bool) {
	for t := Genesis; t < typeCount; t++ {
		if t.String() == name {
			return t, true
		}
	}
	return 0, false
}
