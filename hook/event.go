package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bizra/bizra/pci"
)

// Limits of an event.
const (
	EventBytesMax   = 32 << 20 // a result of a tool may be long; what is longer is not read
	inputDepthMax   = 24       // of a tool's input, which is put a few levels deep into a proof
	nameBytesMax    = 256      // of ids and names of an event
	decisionTextMax = 4 << 10  // of a reason, as the CLI is told
)

// Kind is what an event is, whatever the CLI calls it.
type Kind string

// The kinds of events.
const (
	BeforeTool   Kind = "before-tool"
	AfterTool    Kind = "after-tool"
	SessionBegin Kind = "session-begin"
	TurnEnd      Kind = "turn-end"
	SessionEnd   Kind = "session-end"
	Other        Kind = "other" // of no interest: answered with nothing
)

// Event is what an agent CLI tells its hook.
type Event struct {
	Kind       Kind
	Name       string // as the CLI calls it
	Session    string // the CLI's own session
	Tool       string
	Call       string // the CLI's id of the tool call; "": it has none
	Input      pci.Value
	Response   []byte // of a tool, as it came; nil: none
	Error      string // of a tool that failed
	Failed     bool   // the CLI says so
	Directory  string
	Transcript string
}

// ErrEvent is returned, wrapped, for what is no event.
var ErrEvent = errors.New("not an event of an agent CLI")

// wireEvent is the outer object of an event by its members' names. Those that are not used are passed over: they grow.
type wireEvent map[string]json.RawMessage

// parseWire takes an event apart by names as they are. Decoding into a struct would take another case for the same name and the last of
// two, and what the hook takes to be of no interest is answered with nothing.
func parseWire(text []byte) (wireEvent, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is no JSON object"), err)
	}
	w := wireEvent{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder takes nothing else before a colon
		if _, twice := w[name]; twice {
			return nil, fmt.Errorf("it has the member %.40q twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		w[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return w, nil
}

// text is a member that is a string; "" where it is missing or null.
func (w wireEvent) text(name string) (string, error) {
	raw := given(w[name])
	if raw == nil {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// event reads what every event has.
func (w wireEvent) event() (*Event, error) {
	e := &Event{Kind: Other}
	var errs []error
	for name, into := range map[string]*string{"hook_event_name": &e.Name, "session_id": &e.Session, "tool_name": &e.Tool, "tool_use_id": &e.Call,
		"cwd": &e.Directory, "transcript_path": &e.Transcript} {
		var err error
		*into, err = w.text(name)
		errs = append(errs, err)
	}
	return e, errors.Join(errs...)
}

// kindOf knows the names that CLIs with this protocol give their events: those of Claude Code,
// which Codex and others share, and those of Gemini CLI.
func kindOf(name string) (kind Kind, failed bool) {
	switch name {
	case "PreToolUse", "BeforeTool":
		return BeforeTool, false
	case "PostToolUse", "AfterTool":
		return AfterTool, false
	case "PostToolUseFailure":
		return AfterTool, true
	case "SessionStart":
		return SessionBegin, false
	case "Stop", "AfterAgent":
		return TurnEnd, false
	case "SessionEnd":
		return SessionEnd, false
	}
	return Other, false
}

// ParseEvent reads an event. Of the outer object it takes the members that it knows; a tool's input
// is read as strictly as a proof, since the rules judge it: no name twice, no lone surrogates.
// An error wraps [ErrEvent]; the event is given as far as it could be read, so that a fault in
// what comes before a tool call can still be answered.
func ParseEvent(text []byte) (*Event, error) {
	if len(text) > EventBytesMax {
		return &Event{Kind: Other}, fmt.Errorf("%w: it has more than %d bytes", ErrEvent, EventBytesMax)
	}
	w, err := parseWire(text)
	if err != nil {
		return &Event{Kind: Other}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	e, err := w.event()
	if err != nil {
		return e, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	e.Kind, e.Failed = kindOf(e.Name)
	if e.Response = given(w["tool_response"]); e.Response == nil {
		e.Response = given(w["tool_output"]) // as some call it
	}
	e.Error = textOf(given(w["error"]))
	if e.Name == "" || e.Session == "" && e.Kind != Other {
		return e, fmt.Errorf("%w: it needs hook_event_name and session_id", ErrEvent)
	}
	for name, text := range map[string]string{"hook_event_name": e.Name, "session_id": e.Session, "tool_name": e.Tool, "tool_use_id": e.Call} {
		if len(text) > nameBytesMax {
			return e, fmt.Errorf("%w: %s has %d bytes, at most %d", ErrEvent, name, len(text), nameBytesMax)
		}
	}
	if e.Kind != BeforeTool && e.Kind != AfterTool {
		return e, nil
	}
	if e.Tool == "" {
		return e, fmt.Errorf("%w: %s needs tool_name", ErrEvent, e.Name)
	}
	input := given(w["tool_input"])
	if input == nil {
		input = []byte("{}")
	}
	if e.Input, err = pci.Parse(input, pci.Limits{BytesMax: EventBytesMax, DepthMax: inputDepthMax}); err != nil {
		return e, fmt.Errorf("%w: tool_input: %w", ErrEvent, err)
	}
	e.judgeResponse()
	return e, nil
}

// given is nil for what is absent or null.
func given(raw json.RawMessage) []byte {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

// textOf is a JSON string's text, and of anything else its JSON.
func textOf(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// judgeResponse reads from a result whether the tool failed, where the tool says so.
func (e *Event) judgeResponse() {
	var r struct {
		Interrupted bool            `json:"interrupted"`
		IsError     bool            `json:"is_error"`
		IsErrorToo  bool            `json:"isError"`
		Success     *bool           `json:"success"`
		ExitCode    *int            `json:"exit_code"`
		ExitCodeToo *int            `json:"exitCode"`
		Error       json.RawMessage `json:"error"`
	}
	if len(e.Response) == 0 || e.Response[0] != '{' || json.Unmarshal(e.Response, &r) != nil {
		e.Failed = e.Failed || e.Error != ""
		return
	}
	bad := func(code *int) bool { return code != nil && *code != 0 }
	e.Failed = e.Failed || e.Error != "" || r.Interrupted || r.IsError || r.IsErrorToo || r.Success != nil && !*r.Success || bad(r.ExitCode) || bad(r.ExitCodeToo) ||
		!emptyText(given(r.Error))
}

func emptyText(raw []byte) bool { return raw == nil || string(raw) == `""` || string(raw) == "false" }

// gemini reports whether the event is in Gemini CLI's words, which are answered in its own.
func (e *Event) gemini() bool { return e.Name == "BeforeTool" || e.Name == "AfterTool" }

// words are the parts of a name, in small letters of ASCII.
func words(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
