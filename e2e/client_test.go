package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
	"github.com/bizra/bizra/pci"
)

func TestClientsInOtherLanguages(t *testing.T) {
	t.Parallel()
	r := found(t)
	var record workload.Record
	agent := r.Agent("polyglot", &record, r.Voters[0])
	t.Run("as json.dumps writes", func(t *testing.T) { asPythonWrites(t, r, agent) })
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("there is no python3 here: its part is left to the twin of json.dumps")
		return
	}
	t.Run("python", func(t *testing.T) { pythonSubmits(t, r, agent, python) })
}

// asPythonWrites posts an envelope as json.dumps writes it: with spaces, in an order of
// its own, everything beyond ASCII escaped.
func asPythonWrites(t *testing.T, r *proctest.Region, agent *workload.Agent) {
	opened := mustAck(t, agent, workload.OpenStep(r.Name, "dumps"))
	env, err := agent.Sign(workload.Step{Action: "session.transition", Head: opened.Receipt.Head, Data: map[string]any{
		"session": "dumps", "to": "active", "operation": "naïve_😀_\"quoted\"_\\_/_\x7f", "intent": "naïve 😀 \u2028 \"quoted\" \\ / \x7f \t",
		"operation_type": "read", "input": 1e-7, "meta": map[string]any{"description": "π", "zeta": 1, "Alpha": []any{1.5, -0.25, true, nil}, "π": "ü"}}})
	if err != nil {
		t.Fatal(err)
	}
	wire := dumps(t, env.Canonical())
	if bytes.Equal(wire, env.Canonical()) || !bytes.Contains(wire, []byte(`": `)) || !bytes.Contains(wire, []byte(`\ud83d\ude00`)) || !isASCII(wire) {
		t.Fatalf("this is not how json.dumps writes: %s", wire)
	}
	res, err := http.Post(r.Voters[1].Ready.HTTP+"/v1/proofs", "application/json; charset=utf-8", bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got client.Receipt
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	digest := env.Digest()
	if res.StatusCode != http.StatusOK || !got.Accepted() || got.Digest != hex.EncodeToString(digest[:]) || got.State != "active" {
		t.Fatalf("answered %d %+v", res.StatusCode, got)
	}
	acked := workload.Acked{Envelope: env, Receipt: got}
	checkVoters(t, r.Voters, []workload.Acked{opened, acked})
}

func isASCII(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 })
}

// dumps is the twin of Python's json.dumps: ", " and ": " between, members in an order of
// its own (here the reverse of the canonical one), escapes beyond ASCII, numbers as they are.
func dumps(t *testing.T, canonical []byte) []byte {
	t.Helper()
	v, err := pci.Parse(canonical, pci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return appendDumped(nil, v)
}

func appendDumped(b []byte, v pci.Value) []byte {
	switch v.Kind() {
	case pci.ObjectKind:
		b = append(b, '{')
		members := v.Members()
		slices.Reverse(members)
		for i, m := range members {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendDumpedString(b, m.Name), ": "...)
			b = appendDumped(b, m.Value)
		}
		return append(b, '}')
	case pci.ArrayKind:
		b = append(b, '[')
		for i, e := range v.Elems() {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendDumped(b, e)
		}
		return append(b, ']')
	case pci.StringKind:
		return appendDumpedString(b, v.String())
	default:
		return v.AppendCanonical(b)
	}
}

func appendDumpedString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, unit := range utf16.Encode([]rune(s)) {
		switch c := rune(unit); {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n' || c == '\r' || c == '\t' || c == '\b' || c == '\f':
			b = append(b, '\\', map[rune]byte{'\n': 'n', '\r': 'r', '\t': 't', '\b': 'b', '\f': 'f'}[c])
		case c >= ' ' && c < 0x7f || c == 0x7f: // Python leaves U+007F as it is
			b = append(b, byte(c))
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(b, '"')
}

// pythonSubmits runs the example of docs/http.md on Python's standard library alone.
func pythonSubmits(t *testing.T, r *proctest.Region, agent *workload.Agent, python string) {
	root, err := proctest.Root()
	if err != nil {
		t.Fatal(err)
	}
	seed := agent.Signer.Key.Seed()
	out, errOut, code := proctest.Run(t, hex.EncodeToString(seed[:]), python, filepath.Join("testdata", "pure.py"),
		filepath.Join(root, "docs", "examples", "submit.py"), r.Voters[2].Ready.HTTP, agent.Signer.AgentID)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errOut)
	}
	want := []string{"init", "active", "computing", "validated"}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d receipts, want %d:\n%s%s", len(lines), len(want), out, errOut)
	}
	for i, line := range lines {
		var got client.Receipt
		if err := json.Unmarshal([]byte(line), &got); err != nil || !got.Accepted() || got.State != want[i] {
			t.Errorf("receipt %d: %s, %v", i, line, err)
		}
		again, err := r.Voters[0].Client().Receipt(t.Context(), got.Digest)
		if err != nil || again.Head != got.Head {
			t.Errorf("another voter's receipt %d: %+v, %v", i, again, err)
		}
	}
}
