package hook

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Exit codes of the protocol.
const (
	ExitDone    = 0
	ExitFailed  = 1 // told to the person; the CLI goes on
	ExitBlocked = 2 // the tool call does not happen; standard error says why
)

// Answer is what the CLI is told.
type Answer struct {
	Denied  bool
	Allowed bool   // explicitly, which also answers the CLI's own question to the person
	Reason  string // of a denial, or of an allowance
	Context string // added to what the agent knows when a session begins
	Warning string // shown to the person
}

// specific is the part of an answer that depends on the event.
type specific struct {
	Event    string `json:"hookEventName"`
	Decision string `json:"permissionDecision,omitempty"`
	Reason   string `json:"permissionDecisionReason,omitempty"`
	Context  string `json:"additionalContext,omitempty"`
}

// output is an answer in JSON; decision and reason stand at the top for Gemini CLI.
type output struct {
	Decision string    `json:"decision,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"systemMessage,omitempty"`
	Specific *specific `json:"hookSpecificOutput,omitempty"`
}

// write tells the CLI. Whatever goes wrong with that, a denial ends with the exit code that blocks.
func (a *Answer) write(e *Event, out, errOut io.Writer) int {
	var o output
	o.Message = a.Warning
	decision := ""
	switch {
	case a.Denied:
		decision = "deny"
	case a.Allowed:
		decision = "allow"
	}
	reason := clip(a.Reason, decisionTextMax)
	switch {
	case decision == "" && a.Context == "":
	case e.gemini():
		o.Decision, o.Reason = decision, reason
	default:
		o.Specific = &specific{Event: e.Name, Decision: decision, Reason: reason, Context: a.Context}
	}
	text, err := json.Marshal(o)
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", text)
	}
	if err != nil && a.Denied {
		return block(errOut, a.Reason)
	}
	if err != nil {
		return ExitFailed
	}
	return ExitDone
}

// block denies by exit code, which needs no more of the CLI than that it looks at it.
func block(errOut io.Writer, reason string) int {
	_, _ = fmt.Fprintf(errOut, "bizra hook: %s\n", clip(reason, decisionTextMax)) // the exit code says what matters
	return ExitBlocked
}

func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
