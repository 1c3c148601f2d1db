package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CLI is an agent CLI whose settings [Install] knows.
type CLI string

// The CLIs.
const (
	Claude CLI = "claude" // Claude Code: .claude/settings.json
	Gemini CLI = "gemini" // Gemini CLI: .gemini/settings.json
)

// hookSeconds is how long a CLI is told to wait for the hook; it goes on without it afterwards, so it is
// above what the hook allows itself.
const hookSeconds = 60

const backupSuffix = ".before-bizra"

// Settings is a settings file of a CLI with the hook in it, or to be put there.
type Settings struct {
	CLI     CLI
	Project string // the directory whose settings they are
	Local   bool   // settings.local.json, which is one person's; Claude Code only
	Program string // that the CLI is to run, absolute
	Args    []string
	Home    string // absolute
	// NoFailures leaves out PostToolUseFailure, which older versions of Claude Code do not know.
	NoFailures bool
}

// File is the settings file.
func (s *Settings) File() string {
	if s.CLI == Gemini {
		return filepath.Join(s.Project, ".gemini", "settings.json")
	}
	name := "settings.json"
	if s.Local {
		name = "settings.local.json"
	}
	return filepath.Join(s.Project, ".claude", name)
}

// command is what the CLI's shell is given.
func (s *Settings) command() string {
	parts := append(append([]string{s.Program}, s.Args...), "--home", s.Home)
	for i, p := range parts {
		parts[i] = "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	return strings.Join(parts, " ")
}

// mark is what tells the hook's entries from others, whatever program runs them.
func (s *Settings) mark() string {
	return "--home' '" + strings.ReplaceAll(s.Home, "'", `'\''`) + "'"
}

// events are those that the hook wants, and whether each is about a tool.
func (s *Settings) events() map[string]bool {
	if s.CLI == Gemini {
		return map[string]bool{"BeforeTool": true, "AfterTool": true, "AfterAgent": false, "SessionStart": false, "SessionEnd": false}
	}
	e := map[string]bool{"PreToolUse": true, "PostToolUse": true, "PostToolUseFailure": true, "Stop": false, "SessionStart": false, "SessionEnd": false}
	if s.NoFailures {
		delete(e, "PostToolUseFailure")
	}
	return e
}

// entry is one element of an event's list.
type entry struct {
	Matcher string  `json:"matcher,omitempty"`
	Hooks   []shell `json:"hooks"`
}

type shell struct {
	Type    string `json:"type"`
	Command string `json:"command"`
	Timeout int    `json:"timeout"`
}

// settingsFile is a settings file taken apart as far as the hook is concerned; all else stays as it is.
type settingsFile struct {
	top   map[string]json.RawMessage
	hooks map[string]json.RawMessage
}

func parseSettings(text []byte) (*settingsFile, error) {
	f := &settingsFile{top: map[string]json.RawMessage{}, hooks: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(text)) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(text, &f.top); err != nil {
		return nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	if raw, has := f.top["hooks"]; has {
		if err := json.Unmarshal(raw, &f.hooks); err != nil {
			return nil, fmt.Errorf("its member hooks is no object: %w", err)
		}
	}
	if f.top == nil || f.hooks == nil {
		return nil, errors.New("it is null, or its member hooks is")
	}
	return f, nil
}

// without takes the hook's entries out of all lists, and says whether there were any.
func (f *settingsFile) without(mark string) (had bool, err error) {
	for event, raw := range f.hooks {
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return had, fmt.Errorf("hooks.%s is no list: %w", event, err)
		}
		kept := make([]json.RawMessage, 0, len(list))
		for _, e := range list {
			if !isOurs(e, mark) {
				kept = append(kept, e)
			}
		}
		if len(kept) == len(list) {
			continue
		}
		had = true
		if len(kept) == 0 {
			delete(f.hooks, event)
			continue
		}
		text, err := encode(kept)
		if err != nil {
			return had, err
		}
		f.hooks[event] = text
	}
	return had, nil
}

// isOurs: an entry that was written by [Install] has one command.
func isOurs(raw json.RawMessage, mark string) bool {
	var e entry
	return json.Unmarshal(raw, &e) == nil && len(e.Hooks) == 1 && strings.Contains(e.Hooks[0].Command, mark)
}

// with puts the hook's entries behind what is there.
func (f *settingsFile) with(s *Settings) error {
	seconds := hookSeconds
	if s.CLI == Gemini {
		seconds *= 1000 // which counts milliseconds
	}
	for event, tool := range s.events() {
		e := entry{Hooks: []shell{{Type: "command", Command: s.command(), Timeout: seconds}}}
		if tool {
			e.Matcher = "*"
		}
		var list []json.RawMessage
		if raw, has := f.hooks[event]; has {
			if err := json.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("hooks.%s is no list: %w", event, err)
			}
		}
		text, err := encode(e)
		if err != nil {
			return err
		}
		if f.hooks[event], err = encode(append(list, text)); err != nil {
			return err
		}
	}
	return nil
}

func (f *settingsFile) text() ([]byte, error) {
	delete(f.top, "hooks")
	if len(f.hooks) > 0 {
		raw, err := encode(f.hooks)
		if err != nil {
			return nil, err
		}
		f.top["hooks"] = raw
	}
	text, err := encode(f.top)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Indent(&b, append(text, '\n'), "", "  ")
	return b.Bytes(), err
}

// encode is JSON with <, > and & as they are: commands are full of them.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// Install puts the hook into the CLI's settings, behind what is there; installed again, it replaces
// itself. The file as it was is kept beside it.
func (s *Settings) Install() error {
	text, err := os.ReadFile(s.File())
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return fmt.Errorf("read the CLI's settings: %w", err)
	}
	f, err := parseSettings(text)
	installed := false
	if err == nil {
		installed, err = f.without(s.mark())
	}
	if err == nil {
		err = f.with(s)
	}
	if err != nil {
		return fmt.Errorf("%s is left as it is: %w", s.File(), err)
	}
	if err := os.MkdirAll(filepath.Dir(s.File()), 0o755); err != nil { //nolint:gosec // the project's own, as it would make it
		return fmt.Errorf("make the folder of the CLI's settings: %w", err)
	}
	backup := s.File() + backupSuffix
	if _, err := os.Stat(backup); errors.Is(err, fs.ErrNotExist) && !absent && !installed {
		if err := writeDurably(backup, text); err != nil {
			return err
		}
	}
	return s.write(f)
}

func (s *Settings) write(f *settingsFile) error {
	text, err := f.text()
	if err != nil {
		return fmt.Errorf("write the CLI's settings: %w", err)
	}
	return s.replace(text)
}

// replace puts a text in the file's place, with the file's own mode. Where a link stands, it stays, and what it leads to is replaced.
func (s *Settings) replace(text []byte) error {
	path := s.File()
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode := fs.FileMode(0o644) // settings are for all who have the project
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := writeDurably(path, text); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("write the CLI's settings: %w", err)
	}
	return nil
}

// Uninstall takes the hook out of the CLI's settings. Where nothing else was changed since, the
// file is byte for byte what it was before; one that held nothing else is deleted.
func (s *Settings) Uninstall() error {
	text, err := os.ReadFile(s.File())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the CLI's settings: %w", err)
	}
	f, err := parseSettings(text)
	if err == nil {
		_, err = f.without(s.mark())
	}
	if err != nil {
		return fmt.Errorf("%s is left as it is: %w", s.File(), err)
	}
	now, err := f.text()
	if err != nil {
		return fmt.Errorf("write the CLI's settings: %w", err)
	}
	backup := s.File() + backupSuffix
	before, berr := os.ReadFile(backup) //nolint:gosec // beside the settings that the command line names
	switch {
	case berr == nil && sameSettings(before, now):
		if err := s.replace(before); err != nil {
			return err
		}
	case berr != nil && string(bytes.TrimSpace(now)) == "{}":
		return removeDurably(s.File())
	default:
		if err := s.write(f); err != nil {
			return err
		}
	}
	if berr == nil {
		return removeDurably(backup)
	}
	return nil
}

// sameSettings compares two files but for spacing and the order of members.
func sameSettings(a, b []byte) bool {
	x, errX := parseSettings(a)
	y, errY := parseSettings(b)
	if errX != nil || errY != nil {
		return false
	}
	first, errX := x.text()
	second, errY := y.text()
	if errX != nil || errY != nil {
		return false
	}
	var u, v bytes.Buffer
	return json.Compact(&u, first) == nil && json.Compact(&v, second) == nil && bytes.Equal(u.Bytes(), v.Bytes())
}
