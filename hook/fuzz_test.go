package hook

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzSettings: what the hook is put into and taken out of is afterwards what it was, whatever else is in it.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{"", "{}", before, `{"hooks":{"Stop":[]}}`, `{"hooks":{"PreToolUse":[{"hooks":[{"command":"x"}]},3,null]}}`, "null", "[]"} {
		f.Add([]byte(seed))
	}
	s := &Settings{CLI: Claude, Project: "/p", Program: "/bin/bizra-hook", Home: "/p/.bizra"}
	f.Fuzz(func(t *testing.T, text []byte) {
		was, err := parseSettings(text)
		if err != nil {
			return
		}
		if _, err := was.without(s.mark()); err != nil {
			return
		}
		first, err := was.text()
		if err != nil {
			t.Fatal(err)
		}
		now, err := parseSettings(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := now.with(s); err != nil {
			return // an event's list is none
		}
		full, err := now.text()
		if err != nil || !bytes.Contains(full, []byte("bizra-hook")) {
			t.Fatalf("%s: %v", full, err)
		}
		again, err := parseSettings(full)
		if err == nil {
			_, err = again.without(s.mark())
		}
		if err != nil {
			t.Fatal(err)
		}
		if last, err := again.text(); err != nil || !sameSettings(first, last) && !strings.Contains(string(first), "[]") {
			t.Fatalf("%s became %s: %v", first, last, err)
		}
	})
}

// FuzzHome: whatever stands in the files of a home, they are read or refused.
func FuzzHome(f *testing.F) {
	f.Add([]byte(`{"version":1,"seq":1,"kind":"call","steps":[{"to":"computing","data":{}}],"turn":{"cli":"s","number":1}}`))
	f.Add([]byte(`{"version":1,"nodes":["http://127.0.0.1:1"],"agent_id":"a"}`))
	f.Add([]byte(`{"session":"s","text":"x","sealed":{"digest":"","ref":""}}`))
	f.Add([]byte("null"))
	h := newHome(f, Config{})
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := parseConfig(text); err == nil && c.Validate() != nil {
			t.Fatalf("%+v was taken", c)
		}
		for _, path := range []string{h.path(dirOutbox, "0000000000000001-x.json"), h.path(fileMemory), h.path(FileLog), h.path(filePolicy), h.path(dirSessions, keyOf("s")+".json"), h.path(fileSequence)} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Dir(h.pendingPath("s", "c")), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.pendingPath("s", "c"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := h.load("0000000000000001-x.json")
		if err == nil && (i.Version != itemVersion) {
			t.Fatalf("%+v was taken", i)
		}
		// An error of any of these is an answer; a panic is none.
		_, _ = h.Status()
		_, _ = h.recall()
		_, _ = h.knownPolicy()
		_, _ = h.current("s")
		_, _ = h.pending("s")
		_, _ = h.number(nil)
		var out bytes.Buffer
		if err := ServeJudge(t.Context(), bytes.NewReader(text), &out, here); err == nil && !json.Valid(out.Bytes()) {
			t.Fatalf("judged: %s", out.String())
		}
	})
}
