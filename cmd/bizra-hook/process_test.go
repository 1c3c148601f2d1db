package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/hook"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testnode"
)

// programs builds the hook, and beside it bizra, which judges where no node does.
func programs(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if out, err := exec.Command("go", "build", "-o", dir+"/", "github.com/bizra/bizra/cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

func start(t testing.TB, cfg hook.Config) (*testnode.Node, *hook.Home) {
	t.Helper()
	n, err := testnode.Start(t.Context(), testfed.Lenient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	cfg.Nodes, cfg.AgentID = []string{n.URL}, "builder"
	h, err := hook.Create(t.TempDir()+"/.bizra", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n, h
}

func before(call, command string) string {
	return fmt.Sprintf(`{"session_id":"s1","transcript_path":"/t.jsonl","cwd":"/p","permission_mode":"default","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":%q,"description":"a call"},"tool_use_id":%q}`, command, call)
}

func runProcess(t testing.TB, program, home, event string) (out, errOut string, code int) {
	t.Helper()
	out, errOut, code, _ = runMeasured(t, program, home, event)
	return out, errOut, code
}

// runMeasured runs the hook on an event, and says how much processor time it took.
func runMeasured(t testing.TB, program, home, event string) (out, errOut string, code int, cpu time.Duration) {
	t.Helper()
	c := exec.Command(program, "--home", home)
	c.Stdin = strings.NewReader(event)
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode(), c.ProcessState.UserTime() + c.ProcessState.SystemTime()
}

// TestProcess: the small program gates, and where no node answers it has bizra judge.
func TestProcess(t *testing.T) {
	dir := programs(t, "bizra-hook", "bizra")
	program := filepath.Join(dir, "bizra-hook")
	n, h := start(t, hook.Config{Offline: hook.OfflineLocal})
	if _, err := h.Learn(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{true, false} {
		if out, errOut, code := runProcess(t, program, h.Dir, before("t1", "ls")); code != 0 || out != "{}\n" {
			t.Errorf("node up %v: %d %s%s", up, code, out, errOut)
		}
		if out, errOut, code := runProcess(t, program, h.Dir, before("t2", "rm -rf /")); code != 0 || !strings.Contains(out, `"deny"`) || !strings.Contains(out, "delete-system") {
			t.Errorf("node up %v: %d %s%s", up, code, out, errOut)
		}
		if err := n.Down(); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string][]string{"no home": nil, "an unknown flag": {"--hom", "x"}, "an argument": {"--home", h.Dir, "x"}, "a home that is none": {"--home", dir}} {
		c := exec.Command(program, args...)
		c.Stdin = strings.NewReader(before("t3", "ls"))
		out, err := c.CombinedOutput()
		if c.ProcessState == nil || c.ProcessState.ExitCode() != hook.ExitBlocked || len(out) == 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if err := os.Remove(filepath.Join(dir, "bizra")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if out, errOut, code := runProcess(t, program, h.Dir, before("t4", "ls")); code != 0 || !strings.Contains(out, `"deny"`) {
		t.Errorf("without anybody to judge: %d %s%s", code, out, errOut)
	}
}

// BenchmarkPreToolUse is a decision as the CLI waits for it: a whole process, from its start to its
// end, on a node that is warm.
func BenchmarkPreToolUse(b *testing.B) {
	program := filepath.Join(programs(b, "bizra-hook"), "bizra-hook")
	_, h := start(b, hook.Config{})
	event := before("t1", "go test ./... && git status")
	for range 50 {
		runProcess(b, program, h.Dir, event)
	}
	took := make([]time.Duration, 0, b.N)
	var cpu time.Duration
	for b.Loop() {
		began := time.Now()
		out, errOut, code, used := runMeasured(b, program, h.Dir, event)
		took, cpu = append(took, time.Since(began)), cpu+used
		if code != 0 || out != "{}\n" {
			b.Fatalf("%d %s%s", code, out, errOut)
		}
	}
	slices.Sort(took)
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	b.ReportMetric(millis(cpu)/float64(len(took)), "cpu-ms")
	b.ReportMetric(millis(took[len(took)/2]), "p50-ms")
	b.ReportMetric(millis(took[len(took)*99/100]), "p99-ms")
}
