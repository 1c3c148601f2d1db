package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bizra/bizra/pci"
)

// States of a session in the ledger that the hook leads to.
const (
	stateInit       = "init"
	stateActive     = "active"
	stateComputing  = "computing"
	stateValidated  = "validated"
	stateCommitted  = "committed"
	stateSuspended  = "suspended"
	stateResumed    = "resumed"
	stateFailed     = "failed"
	stateRecovered  = "recovered"
	stateTerminated = "terminated"
)

// Observations that the NTU of a session is shown of a tool call.
const (
	observedDone    = 1.0
	observedUnknown = 0.5 // no result was reported
	observedFailed  = 0.0
)

// recordedBytesMax is how much text of one call a full record has; beyond it is a digest. An
// envelope has room for little more.
const recordedBytesMax = 32 << 10

const timeForm = "2006-01-02T15:04:05.000Z"

func timeText(t time.Time) string { return t.UTC().Format(timeForm) }

// Step is one transition of a session as it is to be proved: payload.data but for the session.
type Step struct {
	To   string          `json:"to"`
	Data json.RawMessage `json:"data"`
}

// stepData are the members of payload.data of a transition, in the form of the interface.
type stepData struct {
	To            string         `json:"to"`
	Session       string         `json:"session,omitempty"`
	Operation     string         `json:"operation"`
	OperationType string         `json:"operation_type"`
	Intent        string         `json:"intent"`
	Task          string         `json:"task,omitempty"`
	Reason        string         `json:"reason,omitempty"`
	Input         any            `json:"input"`
	Meta          map[string]any `json:"meta"`
	Observation   *float64       `json:"observation,omitempty"`
}

func (d *stepData) step() (Step, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return Step{}, fmt.Errorf("make a step to %s: %w", d.To, err)
	}
	return Step{To: d.To, Data: text}, nil
}

func transition(to string, op operation, input any, description string) *stepData {
	return &stepData{To: to, Operation: op.name, OperationType: op.typ, Intent: op.intent, Task: op.task, Input: input,
		Meta: map[string]any{"description": description}}
}

// recorded is what a proof has of a text: itself, or its digest.
type recorded struct {
	Tool   string          `json:"tool"`
	Text   json.RawMessage `json:"text,omitempty"` // the whole, in full records
	Digest string          `json:"digest,omitempty"`
	Ref    string          `json:"ref,omitempty"`
}

// record puts a text into a proof as the configuration wants it; how says what became of it.
func (h *Home) record(tool string, text []byte) (r recorded, how string, err error) {
	how = RecordDigest
	if h.Config.Record == RecordFull {
		// What the rules of a proof's form do not take, such as half a character, is digested.
		v, perr := pci.Parse(text, pci.Limits{BytesMax: recordedBytesMax, DepthMax: inputDepthMax})
		if perr == nil {
			return recorded{Tool: tool, Text: v.AppendCanonical(nil)}, RecordFull, nil
		}
		how = RecordDigest + ", since the text is longer than a proof may be, or has no form for one"
	}
	s, err := h.seal(text)
	return recorded{Tool: tool, Digest: s.Digest, Ref: s.Ref}, how, err
}

// call is a tool call that passed, or did not, before its result is known.
type call struct {
	At   string   `json:"at"`
	Tool string   `json:"tool"`
	Data stepData `json:"data"` // of the step to computing
}

// newCall makes the record of a call that was judged.
func (h *Home) newCall(e *Event, v *verdict, at time.Time) (*call, error) {
	input, how, err := h.record(e.Tool, e.Input.AppendCanonical(nil))
	if err != nil {
		return nil, err
	}
	d := transition(stateComputing, operationOf("use", e.Tool), input, "A tool call of an agent, as its CLI's hook saw it before it ran.")
	m := d.Meta
	m["cli_session"], m["event"], m["at"], m["record"] = e.Session, e.Name, timeText(at), how
	if e.Call != "" {
		m["call"] = e.Call
	}
	m["rules"] = v.where
	if v.policyHash != "" {
		m["judged_under"] = v.policyHash
	}
	if v.offline {
		m["offline"] = true
	}
	return &call{At: timeText(at), Tool: e.Tool, Data: *d}, nil
}

// denied is the record of a call that did not happen, as a proof that the region refuses too. In a full
// record its own rules do that; over a digest they see nothing, so the proof says what was found
// where the text was.
func (c *call) denied(v *verdict) (Step, error) {
	d := c.Data
	d.Meta["verdict"] = "denied"
	if v.rule != "" {
		d.Meta["rule"], d.Meta["dimension"] = v.rule, v.dimension
	}
	if in, ok := d.Input.(recorded); !ok || in.Text == nil || v.by == byHook {
		d.Meta["ethics_violation"] = true
	}
	return d.step()
}

// result are the two steps of a call that was let pass: that it was made, and what came of it.
func (h *Home) result(c *call, e *Event) ([]Step, error) {
	observed, to, told := observedDone, stateValidated, "done"
	if e.Failed {
		observed, to, told = observedFailed, stateFailed, "failed"
	}
	response := e.Response
	if response == nil {
		text, err := json.Marshal(e.Error)
		if err != nil {
			return nil, fmt.Errorf("record a result: %w", err)
		}
		response = text
	}
	output, how, err := h.record(c.Tool, response)
	if err != nil {
		return nil, err
	}
	r := transition(to, operationOf("return", c.Tool), output, "What a tool call of an agent returned, as its CLI's hook saw it.")
	r.Meta["event"], r.Meta["record"], r.Meta["result"] = e.Name, how, told
	if began, err := time.Parse(timeForm, c.At); err == nil {
		r.Meta["took_ms"] = max(time.Since(began).Milliseconds(), 0)
	}
	if e.Failed {
		r.Reason = "the tool failed"
	}
	return pair(c, r, observed)
}

// unresolved is the step of a call of which no result was heard before the turn ended. Whether it
// ran nobody knows, so the session rests and goes on, and the agent is not to blame.
func unresolved(c *call) (Step, error) {
	d, observed := c.Data, observedUnknown
	d.To, d.Task, d.Observation = stateSuspended, "", &observed
	d.Reason = "no result of a tool call was reported: the person refused it, or the CLI was ended"
	d.Meta["result"] = "unknown"
	return d.step()
}

func pair(c *call, r *stepData, observed float64) ([]Step, error) {
	d := c.Data
	d.Observation, r.Observation = &observed, &observed
	first, err1 := d.step()
	second, err2 := r.step()
	return []Step{first, second}, errors.Join(err1, err2)
}

// withheld are the steps of a call that was denied though nothing speaks against it: nobody could
// say whether something does. The session rests and goes on; the agent is not to blame.
func (c *call) withheld(v *verdict) (Step, error) {
	d := c.Data
	d.To, d.Task, d.Reason = stateSuspended, "", "a tool call was withheld: "+v.by
	d.Meta["verdict"] = "withheld"
	return d.step()
}
