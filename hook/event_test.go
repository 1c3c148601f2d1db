package hook

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func recordedEvent(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestEvents reads events as CLIs send them. Every file must have a row.
func TestEvents(t *testing.T) {
	rows := map[string]struct {
		kind   Kind
		tool   string
		failed bool
		says   string // in the input's canonical form, or the response
	}{
		"claude-pre-bash":               {BeforeTool, "Bash", false, `"command":"go test ./..."`},
		"claude-pre-write":              {BeforeTool, "Write", false, `"file_path":"/home/ada/shop/README.md"`},
		"claude-pre-mcp":                {BeforeTool, "mcp__github__create_issue", false, `"repo":"shop"`},
		"claude-post-bash":              {AfterTool, "Bash", false, `shop\t0.012s`},
		"claude-post-write":             {AfterTool, "Write", false, `"type":"create"`},
		"claude-post-interrupted":       {AfterTool, "Bash", true, `"interrupted":true`},
		"claude-post-failure":           {AfterTool, "Bash", true, `go build`},
		"claude-post-todo":              {AfterTool, "TodoWrite", false, `"newTodos"`},
		"claude-stop":                   {TurnEnd, "", false, ""},
		"claude-session-start":          {SessionBegin, "", false, ""},
		"claude-session-end":            {SessionEnd, "", false, ""},
		"claude-prompt":                 {Other, "", false, ""},
		"claude-recorded-pre-bash":      {BeforeTool, "Bash", false, `"command":"echo hello > out.txt && ls"`},
		"claude-recorded-pre-write":     {BeforeTool, "Write", false, `"file_path":"/home/ana/shop/notes.txt"`},
		"claude-recorded-post-bash":     {AfterTool, "Bash", false, `"stdout":"out.txt"`},
		"claude-recorded-post-write":    {AfterTool, "Write", false, `"type":"create"`},
		"claude-recorded-post-failure":  {AfterTool, "Bash", true, `cat no-such-file`},
		"claude-recorded-stop":          {TurnEnd, "", false, ""},
		"claude-recorded-session-start": {SessionBegin, "", false, ""},
		"claude-recorded-session-end":   {SessionEnd, "", false, ""},
		"claude-recorded-prompt":        {Other, "", false, ""},
		"codex-pre-bash":                {BeforeTool, "Bash", false, `"command":"cargo test"`},
		"gemini-before-shell":           {BeforeTool, "run_shell_command", false, `"command":"npm test"`},
		"gemini-after-shell":            {AfterTool, "run_shell_command", false, `12 passing`},
		"gemini-after-failed":           {AfterTool, "read_file", true, `file_not_found`},
		"gemini-after-agent":            {TurnEnd, "", false, ""},
	}
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) != len(rows) {
		t.Fatalf("%d files for %d rows: %v", len(files), len(rows), err)
	}
	for name, want := range rows {
		e, err := ParseEvent(recordedEvent(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := string(e.Input.AppendCanonical(nil)) + string(e.Response)
		if e.Kind != want.kind || e.Tool != want.tool || e.Failed != want.failed || e.Session == "" || !strings.Contains(text, want.says) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestBadEvents(t *testing.T) {
	pre := func(input string) string {
		return `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":` + input + `}`
	}
	for name, c := range map[string]struct {
		text string
		kind Kind
	}{
		"nothing":            {"", Other},
		"no object":          {"[]", Other},
		"no name":            {`{"session_id":"s"}`, Other},
		"no session":         {`{"hook_event_name":"PreToolUse","tool_name":"Bash"}`, BeforeTool},
		"no tool":            {`{"session_id":"s","hook_event_name":"PreToolUse"}`, BeforeTool},
		"a name twice":       {pre(`{"command":"ls","command":"rm -rf /"}`), BeforeTool},
		"a kind twice":       {`{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"rm -rf /"},"hook_event_name":"Notification"}`, Other},
		"an input twice":     {`{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"rm -rf /"},"tool_input":{}}`, Other},
		"a name in capitals": {`{"session_id":"s","HOOK_EVENT_NAME":"PreToolUse","tool_name":"Bash"}`, Other},
		"two events":         {pre(`{}`) + `{"hook_event_name":"Notification"}`, Other},
		"NUL behind it":      {pre(`{}`) + "\x00", Other},
		"bad UTF-8":          {pre("{\"command\":\"\xff\"}"), BeforeTool},
		"half a character":   {pre(`{"command":"\ud800"}`), BeforeTool},
		"too deep":           {pre(strings.Repeat("[", inputDepthMax+1) + strings.Repeat("]", inputDepthMax+1)), BeforeTool},
		"a long session":     {`{"session_id":"` + strings.Repeat("s", nameBytesMax+1) + `","hook_event_name":"Stop"}`, TurnEnd},
		"a long tool's name": {`{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"` + strings.Repeat("t", nameBytesMax+1) + `"}`, BeforeTool},
		"too long":           {pre(`{"command":"` + strings.Repeat("x", EventBytesMax) + `"}`), Other},
	} {
		e, err := ParseEvent([]byte(c.text))
		if !errors.Is(err, ErrEvent) || e == nil || e.Kind != c.kind {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	deep := strings.Repeat("[", inputDepthMax) + strings.Repeat("]", inputDepthMax)
	if e, err := ParseEvent([]byte(strings.Replace(pre(`{"command":"rm -rf /"}`), "}", `},"Tool_Input":{},"HOOK_EVENT_NAME":"Stop"`+"", 1))); err != nil || e.Kind != BeforeTool || len(e.Input.Members()) != 1 {
		t.Errorf("what is written otherwise counted: %+v, %v", e, err)
	}
	for name, text := range map[string]string{"as deep as may be": pre(deep), "no input": pre("null"), "a session at its limit": `{"session_id":"` + strings.Repeat("s", nameBytesMax) + `","hook_event_name":"Stop"}`} {
		if _, err := ParseEvent([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzEvent: whatever a CLI sends, the event is read or refused, and what was read can be recorded.
func FuzzEvent(f *testing.F) {
	files, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	h := newHome(f, Config{Record: RecordFull})
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEvent(text)
		if e == nil {
			t.Fatal("no event")
		}
		if err != nil || e.Kind != BeforeTool && e.Kind != AfterTool {
			return
		}
		qs, err := h.questions(e, "hook-00000000-s.1")
		for _, q := range qs {
			if len(q.Data) > judgedBytesMax+4<<10 || !json.Valid(q.Data) {
				t.Fatalf("a question of %d bytes", len(q.Data))
			}
		}
		if err != nil {
			return
		}
		if _, err := h.result(mustCall(t, h, e), e); err != nil {
			t.Fatal(err)
		}
	})
}
