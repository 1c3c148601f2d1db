// Package linear is the model by which the history of a session is judged: one line per head. A
// session's head is a register that is read, and compared and swapped; porcupine looks for an
// order of what clients saw that explains it and respects real time. What steps that have no
// known outcome did, the caller must find out from the ledger.
package linear

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

// Input is what a client asks: to read a session's head, or to step from the head that it expects.
type Input struct {
	Read   bool
	Expect string // "" opens the session
}

// Output is the answer.
type Output struct {
	Won  bool   // of a step
	Head string // that a read saw, or a step made
}

// Operation is an operation of a client with its times, in any unit.
type Operation = porcupine.Operation

// Model is that of one session.
func Model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			in, out := input.(Input), output.(Output) //nolint:errcheck // operations are made of these alone
			switch {
			case in.Read:
				return out.Head == state, state
			case out.Won:
				return in.Expect == state, out.Head
			default:
				return in.Expect != state, state
			}
		},
		DescribeOperation: func(input, output any) string {
			in, out := input.(Input), output.(Output) //nolint:errcheck // operations are made of these alone
			if in.Read {
				return fmt.Sprintf("read %.6s", out.Head)
			}
			return fmt.Sprintf("step from %.6s: %v %.6s", in.Expect, out.Won, out.Head)
		},
	}
}

// Explained looks for an order that explains a session's history; unknown if none was found within the limit.
func Explained(history []Operation, limit time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(Model(), history, limit)
}

// OutcomeOf says whether a step won; ok is false if it was refused for what no other step can have caused.
func OutcomeOf(r *fsm.Receipt) (won, ok bool) {
	switch r.Code {
	case pci.Success:
		return true, true
	case pci.RejectStateMismatch:
		return false, true
	case pci.RejectInvariantFailed: // opened already
		return false, r.Action == fsm.ActionSessionOpen
	default:
		return false, false
	}
}

// Next is where a session goes, round and round.
func Next(state string) string {
	return map[string]string{"init": "active", "active": "computing", "computing": "validated", "validated": "committed", "committed": "active"}[state]
}
