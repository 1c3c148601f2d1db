package hook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func settings(t *testing.T, cli CLI) *Settings {
	t.Helper()
	project := t.TempDir()
	return &Settings{CLI: cli, Project: project, Program: "/opt/it's here/bizra-hook", Home: filepath.Join(project, ".bizra")}
}

func put(t *testing.T, s *Settings, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.File()), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.File(), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// before is a settings file as a project has it: with a hook of its own, a number that a float
// would change, and spacing that nobody else would choose.
const before = `{"permissions": {"allow":["Bash(go test:*)"]},   "big": 12345678901234567890,
 "hooks": {"PreToolUse": [{"matcher":"Bash","hooks":[{"type":"command","command":"./check.sh <a&b>"}]}]} }
`

// TestInstall: what is there stays and comes first, twice is once, and undone it is byte for byte
// what it was.
func TestInstall(t *testing.T) {
	s := settings(t, Claude)
	put(t, s, before)
	for range 2 {
		if err := s.Install(); err != nil {
			t.Fatal(err)
		}
	}
	var got struct {
		Big         json.Number        `json:"big"`
		Permissions json.RawMessage    `json:"permissions"`
		Hooks       map[string][]entry `json:"hooks"`
	}
	text := read(t, s.File())
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Big != "12345678901234567890" || !strings.Contains(string(got.Permissions), "go test") || !strings.Contains(text, "<a&b>") {
		t.Errorf("what was there was changed: %s", text)
	}
	if pre := got.Hooks["PreToolUse"]; len(pre) != 2 || pre[0].Matcher != "Bash" || pre[1].Matcher != "*" || pre[1].Hooks[0].Timeout != hookSeconds ||
		pre[1].Hooks[0].Command != `'/opt/it'\''s here/bizra-hook' '--home' '`+s.Home+`'` {
		t.Errorf("PreToolUse: %+v", pre)
	}
	for event := range s.events() {
		if list := got.Hooks[event]; len(list) == 0 || !strings.Contains(list[len(list)-1].Hooks[0].Command, "bizra-hook") {
			t.Errorf("%s: %+v", event, list)
		}
	}
	info, err := os.Stat(s.File())
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if kept := read(t, s.File()+backupSuffix); kept != before {
		t.Errorf("the backup is %q", kept)
	}
	if err := s.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if text := read(t, s.File()); text != before {
		t.Errorf("undone it is %q", text)
	}
	if _, err := os.Stat(s.File() + backupSuffix); err == nil {
		t.Error("the backup was left behind")
	}
}

// What was changed by others since stays when the hook goes.
func TestUninstallKeepsChanges(t *testing.T) {
	s := settings(t, Claude)
	put(t, s, before)
	if err := s.Install(); err != nil {
		t.Fatal(err)
	}
	put(t, s, strings.Replace(read(t, s.File()), `"big"`, `"new": true, "big"`, 1))
	if err := s.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if text := read(t, s.File()); !strings.Contains(text, `"new": true`) || !strings.Contains(text, "check.sh") || strings.Contains(text, "bizra-hook") {
		t.Errorf("it is %s", text)
	}
}

func TestInstallWithoutSettings(t *testing.T) {
	for _, cli := range []CLI{Claude, Gemini} {
		s := settings(t, cli)
		s.NoFailures = true
		if err := s.Uninstall(); err != nil {
			t.Errorf("nothing to undo: %v", err)
		}
		if err := s.Install(); err != nil {
			t.Fatal(err)
		}
		if text := read(t, s.File()); strings.Contains(text, "PostToolUseFailure") || !strings.Contains(text, `"SessionStart"`) {
			t.Errorf("%s: %s", cli, text)
		}
		if err := s.Uninstall(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.File()); err == nil {
			t.Errorf("%s: a file that held nothing else was left: %s", cli, read(t, s.File()))
		}
	}
	s := settings(t, Claude)
	s.Local = true
	if !strings.HasSuffix(s.File(), ".claude/settings.local.json") {
		t.Errorf("one's own settings are in %s", s.File())
	}
}

// A file that cannot be understood is left as it is.
func TestInstallLeavesFaultyFiles(t *testing.T) {
	for _, text := range []string{"{", "[]", "null", `{"hooks": []}`, `{"hooks": null}`, `{"hooks": {"PreToolUse": {}}}`} {
		s := settings(t, Claude)
		put(t, s, text)
		if err := s.Install(); err == nil || !strings.Contains(err.Error(), "left as it is") {
			t.Errorf("install into %q: %v", text, err)
		}
		if err := s.Uninstall(); err == nil {
			t.Errorf("uninstall from %q: no error", text)
		}
		if got := read(t, s.File()); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
