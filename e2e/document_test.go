package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/tour"
)

// standIn takes the place of the Makefile in the tour of the README: the program is built already.
const standIn = "build:\n\tmkdir -p bin && cp $(BIZRA_BUILT) bin/bizra && cp $(HOOK_BUILT) bin/bizra-hook\n"

// TestReadmeTour runs the tours of the documents, one after the other: both name the port that `bizra dev` takes.
func TestReadmeTour(t *testing.T) {
	root, err := proctest.Root()
	if err != nil {
		t.Fatal(err)
	}
	runTour(t, filepath.Join(root, "README.md"), 8)
	runTour(t, filepath.Join(root, "docs", "hooks.md"), 15)
}

// runTour runs the commands of a document, and fails unless there were some.
func runTour(t *testing.T, path string, commandsMin int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := tour.Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	commands := 0
	for _, b := range blocks {
		commands += len(b.Steps)
	}
	if commands < commandsMin {
		t.Errorf("%s has %d commands to run, at least %d are expected", path, commands, commandsMin)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(standIn), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	err = tour.Run(t.Context(), blocks, tour.Config{Dir: dir, Log: &log, Env: []string{"BIZRA_BUILT=" + built.bizra, "HOOK_BUILT=" + built.hook, "BIZRA_NODE=", "TERM=dumb", "MAKEFLAGS="}})
	if err != nil {
		t.Errorf("%s: %v\nwhat was run:\n%s", path, err, log.String())
	}
}

// TestDemo does not run beside others: its twelve processes are enough for a small machine.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	out, errOut, code := proctest.Run(t, "", built.demo, "--bizra", built.bizra, "--dir", dir)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, errOut)
	}
	for _, said := range []string{"What was done", "was killed with SIGKILL after", "What it proves", "Nothing acknowledged was lost", "What it does not prove",
		"All 12 can serve", "finality \"attested\"", "cosigned by", "evidence against d", "EVIDENCE", `bizra_attest_evidence{of="d",region="b"} 1`,
		"Region d: committed and no more", "valid, by federation document demo", "the bundle is not valid", "$ demo lie", "$ bizra bundle", "$ bizra verify",
		"$ bizra federation new", "$ bizra node", "$ kill -9", "$ bizra fsck", "REJECT_IHSAN_BELOW_MIN", "REJECT_SIGNATURE"} {
		if !strings.Contains(out, said) {
			t.Errorf("the demo does not say %q:\n%s", said, out)
		}
	}
	if exists(dir) {
		t.Error("the demo did not clean up")
	}
}

func TestDemoFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	if out, errOut, code := proctest.Run(t, "", built.demo, "--bizra", built.bizra, "--dir", filepath.Dir(dir)); code != 1 || !strings.Contains(errOut, "is there already") {
		t.Errorf("a folder that is there: exit code %d\n%s%s", code, out, errOut)
	}
	// A program whose nodes end at once.
	broken := filepath.Join(t.TempDir(), "bizra")
	script := "#!/bin/sh\nif [ \"$1\" = node ]; then echo 'the disk is on fire' >&2; exit 1; fi\nexec '" + built.bizra + "' \"$@\"\n"
	if err := os.WriteFile(broken, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := proctest.Run(t, "", built.demo, "--bizra", broken, "--dir", dir)
	if code != 1 || !strings.Contains(out, "FAILED in step 2") || !strings.Contains(errOut, "the disk is on fire") || !strings.Contains(errOut, dir) {
		t.Errorf("a demo whose nodes fail: exit code %d\n%s%s", code, out, errOut)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "a-1.log")); err != nil || !strings.Contains(string(log), "on fire") {
		t.Errorf("the log was not kept: %v", err)
	}
}

func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "run")
	out, code := interrupted(ctx, t, dir)
	if code != 1 || !strings.Contains(out, "FAILED in step") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	left, err := filepath.Glob(filepath.Join(dir, "federation", "*", "state", "LOCK"))
	if err != nil {
		t.Fatal(err)
	}
	for _, lock := range left {
		home := filepath.Dir(filepath.Dir(lock))
		if _, errOut, code := proctest.Run(t, "", built.bizra, "fsck", "--home", home); code != 0 && strings.Contains(errOut, "is running") {
			t.Errorf("the node of %s was left behind: %s", home, errOut)
		}
	}
}

// interrupted runs the demo until the context ends, then presses Ctrl-C.
func interrupted(ctx context.Context, t *testing.T, dir string) (output string, code int) {
	t.Helper()
	c := exec.CommandContext(ctx, built.demo, "--bizra", built.bizra, "--dir", dir)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = proctest.Patience
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}
