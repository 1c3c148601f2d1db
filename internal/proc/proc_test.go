package proc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/proc"
)

// standIn is a program that behaves as a node does towards this package.
func standIn(t *testing.T, script string) proc.Config {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "node")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return proc.Config{Binary: path, Home: "home", Log: filepath.Join(dir, "log")}
}

const (
	ready   = "echo ready a-1 /ip4/127.0.0.1/tcp/1/p2p/X http://127.0.0.1:2\n"
	forever = "while :; do sleep 0.05; done\n"
)

func start(t *testing.T, script string) *proc.Node {
	t.Helper()
	n, err := proc.Start(standIn(t, script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.End)
	return n
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestNodeIsStartedAndStopped(t *testing.T) {
	n := start(t, "trap 'echo bye >&2; exit 0' TERM\necho \"$@\" >&2\n"+ready+forever)
	r, err := n.Ready(soon(t))
	if err != nil || r != (proc.Ready{Name: "a-1", Address: "/ip4/127.0.0.1/tcp/1/p2p/X", HTTP: "http://127.0.0.1:2"}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if code := n.ExitCode(); code != -1 {
		t.Errorf("it runs, with exit code %d", code)
	}
	if err := n.Stop(soon(t)); err != nil {
		t.Fatal(err)
	}
	want := "node --home home --listen /ip4/127.0.0.1/tcp/0 --http 127.0.0.1:0\nbye\n"
	if got := n.Log(); got != want || n.ExitCode() != 0 {
		t.Errorf("it logged %q, exit code %d", got, n.ExitCode())
	}
	if err := n.Kill(); err == nil {
		t.Error("killing what has ended passes, so that a test could take it for a fault that happened")
	}
}

func TestNodeIsKilledAndPaused(t *testing.T) {
	n := start(t, ready+"while :; do echo tick >&2; sleep 0.02; done\n")
	if _, err := n.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Pause(), n.Resume(), n.Kill()); err != nil {
		t.Fatal(err)
	}
	if code := n.ExitCode(); code != -1 {
		t.Errorf("exit code %d of what a signal ended", code)
	}
}

func TestNodeFails(t *testing.T) {
	cases := map[string]struct {
		script string
		act    func(n *proc.Node, ctx context.Context) error
		want   string
	}{
		"ends before it listens":     {"echo no room >&2; exit 4", func(n *proc.Node, ctx context.Context) error { _, err := n.Ready(ctx); return err }, "no room"},
		"says something else":        {"echo hello; " + forever, func(n *proc.Node, ctx context.Context) error { _, err := n.Ready(ctx); return err }, `"hello"`},
		"does not end well":          {"trap 'exit 3' TERM\n" + ready + forever, func(n *proc.Node, ctx context.Context) error { return n.Stop(ctx) }, "exit status 3"},
		"ended by itself":            {"exit 0", func(n *proc.Node, _ context.Context) error { <-n.Exited(); return n.Kill() }, "had ended before"},
		"says nothing, and runs on":  {forever, func(n *proc.Node, _ context.Context) error { _, err := n.Ready(short(n)); return err }, "wait for the node"},
		"does not heed a SIGTERM":    {"trap '' TERM\n" + ready + forever, func(n *proc.Node, _ context.Context) error { return n.Stop(short(n)) }, "stop the node"},
		"closes its standard output": {"exec >&-; " + forever, func(n *proc.Node, _ context.Context) error { _, err := n.Ready(short(n)); return err }, "home"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := start(t, c.script)
			if strings.Contains(c.script, ready) {
				if _, err := n.Ready(soon(t)); err != nil { // its trap is set by then
					t.Fatal(err)
				}
			}
			if err := c.act(n, soon(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// short is a context that ends soon after the program was started.
func short(*proc.Node) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func TestPoll(t *testing.T) {
	count := 0
	if err := proc.Poll(soon(t), "count", func(context.Context) error {
		if count++; count < 3 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || count != 3 {
		t.Errorf("%d tries, %v", count, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := proc.Poll(ctx, "wait for nothing", func(context.Context) error { return errors.New("never") })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for nothing") || !strings.Contains(err.Error(), "never") {
		t.Errorf("%v", err)
	}
}
