package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bizra": func() { os.Exit(mainCode()) }})
}

// TestScripts runs testdata/script: the commands as a person types them, and what
// they say. Besides testscript's own commands there are
//
//	exits CODE bizra …   the command ends with this code
//	eventually COMMAND …  the command succeeds before long
//	startnode HOME NAME [ARG] starts, with entries open to all if $OPEN_ENTRIES says so, the node of a home in the test's process, joining the
//	                     first one started; its URL is in $NAME, its multiaddr in $NAME_ADDR
//	stopnode NAME        stops it
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("BIZRA_NODE", "http://127.0.0.1:1") // nobody listens there
			e.Values[nodesOf{}] = map[string]*node.Node{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "eventually": eventually, "startnode": startNode, "stopnode": stopNode, "field": field,
		},
	})
}

// exits runs a command and demands its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		code = exit.ExitCode()
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%v ended with %d, want %s", args[1:], code, args[0])
	}
}

// eventually runs a command until it succeeds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually COMMAND ARG…")
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(nodeReadyWithin); ; <-tick.C {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: %v", args, err)
		}
	}
}

// field sets a variable to a member of the JSON object on the last command's output.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE MEMBER")
	}
	var v map[string]any
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if err := json.Unmarshal([]byte(text[strings.LastIndex(text, "\n")+1:]), &v); err != nil {
		ts.Fatalf("the output is no JSON object: %v", err)
	}
	value, ok := v[args[1]]
	if !ok {
		ts.Fatalf("the output has no member %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

type nodesOf struct{}

const nodeReadyWithin = 60 * time.Second

func startNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: startnode HOME NAME [JOIN]")
	}
	cfg := node.Config{Home: ts.MkAbs(args[0]), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, HTTP: "127.0.0.1:0", Version: "test"}
	cfg.Raft.HeartbeatTimeout, cfg.Raft.ElectionTimeout, cfg.Raft.LeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 150*time.Millisecond
	cfg.API.OpenEntries = ts.Getenv("OPEN_ENTRIES") == "true"
	if len(args) == 3 {
		cfg.Join = []string{args[2]}
	}
	ctx, cancel := context.WithTimeout(context.Background(), nodeReadyWithin)
	defer cancel()
	n, err := node.Start(ctx, cfg)
	ts.Check(err)
	nodes := ts.Value(nodesOf{}).(map[string]*node.Node)
	nodes[args[1]] = n
	ts.Defer(func() { stop(ts, args[1]) })
	ts.Setenv(args[1], n.HTTPAddress())
	ts.Setenv(args[1]+"_ADDR", n.Addresses()[0])
	c, err := client.New(client.Config{URLs: []string{n.HTTPAddress()}})
	ts.Check(err)
	defer c.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := c.Status(ctx)
		if err == nil && s.Ready {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("node %s is not ready after %v: %+v %v", args[1], nodeReadyWithin, s, err)
		}
	}
}

func stopNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stopnode NAME")
	}
	stop(ts, args[0])
}

func stop(ts *testscript.TestScript, name string) {
	nodes := ts.Value(nodesOf{}).(map[string]*node.Node)
	if n := nodes[name]; n != nil {
		delete(nodes, name)
		ts.Check(n.Close(context.Background()))
	}
}

// TestCommands holds what every command owes its user.
func TestCommands(t *testing.T) {
	seen := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		seen++
		if c.Short == "" || c.Example == "" || c.RunE == nil || c.Args == nil {
			t.Errorf("%s: Short, Example, RunE and Args must be there", c.CommandPath())
		}
		if strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short is a phrase, without a full stop", c.CommandPath())
		}
		if c.InheritedFlags().Lookup("json") == nil && c.Flags().Lookup("json") == nil && c.PersistentFlags().Lookup("json") == nil {
			t.Errorf("%s: no --json", c.CommandPath())
		}
		if !strings.Contains(c.Example, "bizra "+strings.TrimPrefix(c.CommandPath(), "bizra ")) && c.HasParent() {
			t.Errorf("%s: the example does not show it: %s", c.CommandPath(), c.Example)
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(newRootCommand())
	if seen < 25 {
		t.Errorf("%d commands were looked at", seen)
	}
}

// TestJSONErrors: with --json an error is one JSON object.
func TestJSONErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		exit int
	}{
		{[]string{"keygen", "--json"}, exitUsage},
		{[]string{"--json", "session", "show"}, exitUsage},
		{[]string{"keygen", "--json", "--out", filepath.Join(t.TempDir(), "no", "such", "folder.key")}, exitFailure},
	} {
		var out, errOut bytes.Buffer
		code := run(t.Context(), c.args, strings.NewReader(""), &out, &errOut)
		var e struct {
			Error string
			Exit  int
		}
		if err := json.Unmarshal(errOut.Bytes(), &e); err != nil || code != c.exit || e.Exit != c.exit || e.Error == "" || out.Len() != 0 {
			t.Errorf("%v: %d, %q, %q", c.args, code, out.String(), errOut.String())
		}
	}
}
