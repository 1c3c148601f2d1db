package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bizra-sim": func() { os.Exit(mainCode()) }})
}

// TestScripts runs testdata/script: the commands as a person types them, and what they say. Besides
// testscript's own commands there are
//
//	exits CODE bizra-sim …    the command ends with this code
//	field PATH TEST VALUE     the JSON object on the last command's output has this member, dots go
//	                          into it; TEST is is, above, below
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireUniqueNames: true, RequireExplicitExec: true,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "field": field}})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
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

func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field PATH is|above|below VALUE")
	}
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("the output is no JSON: %v", err)
	}
	for name := range strings.SplitSeq(args[0], ".") {
		switch of := v.(type) {
		case map[string]any:
			v = of[name]
		case []any:
			i, err := strconv.Atoi(name)
			ts.Check(err)
			if i >= len(of) {
				ts.Fatalf("%s: there are %d", args[0], len(of))
			}
			v = of[i]
		default:
			ts.Fatalf("there is no %s", args[0])
		}
	}
	is, number := v.(float64)
	want, err := strconv.ParseFloat(args[2], 64)
	switch {
	case args[1] == "is" && fmt.Sprint(v) == args[2]:
	case args[1] == "above" && number && err == nil && is > want:
	case args[1] == "below" && number && err == nil && is < want:
	default:
		ts.Fatalf("%s is %v, want it %s %s", args[0], v, args[1], args[2])
	}
}

// TestCommands holds what every command owes its user.
func TestCommands(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || c.RunE == nil || c.Args == nil || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short (a phrase), Long, RunE and Args must be there", c.CommandPath())
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: the example does not show it: %s", c.CommandPath(), c.Example)
		}
		if c.Flags().Lookup("json") == nil {
			t.Errorf("%s: no --json", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(newRootCommand())
}

// TestFlags that are wrong are said to be, with what would be right.
func TestFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"--engine model", "comes later"},
		{"--engine unreal", "real or model"},
		{"--nodes 10 --regions 4 --voters 3", "from 12 to"},
		{"--nodes 1000000", "from 500 to"},
		{"--regions 150 --nodes 1500", "from 1 to 149"},
		{"--regions -1", "from 1 to 149"},
		{"--voters 11", "from 1 to 9"},
		{"--certificates 0", "from 1 to 10000"},
		{"--certificates 10001", "from 1 to 10000"},
		{"--rate 0", "from 1 to 100000"},
		{"--duration 25h", "up to 24h"},
		{"--runs 101", "from 1 to 100"},
		{"--stall 0s", "must be positive"},
		{"--seed x", "invalid"},
		{"400", "no command"},
		{"cost --sizes 300,100", "the fewest first"},
		{"cost --sizes 80", "from 100 to"},
		{"yardsticks --only 7", "there are 20, 100, 30000, growth"},
	} {
		var errOut strings.Builder
		if code := run(t.Context(), strings.Fields(c.args), io.Discard, &errOut); code != exitUsage || !strings.Contains(errOut.String(), c.says) {
			t.Errorf("%s: exit %d, %q, want %q", c.args, code, errOut.String(), c.says)
		}
	}
}

// TestShape is how nodes are shared out where nothing is said.
func TestShape(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ nodes, regions, voters int }{
		{10_000, 100, 5}, {30_000, 100, 5}, {3000, 30, 5}, {1000, 10, 5}, {400, 4, 5}, {100, 4, 5}, {20, 4, 5}, {19, 4, 3}, {12, 4, 3}, {11, 4, 1}, {4, 4, 1},
	} {
		s := &settings{}
		s.flags(&cobra.Command{})
		s.nodes = c.nodes
		if err := s.check(); err != nil || s.regions != c.regions || s.voters != c.voters {
			t.Errorf("%d nodes: %d regions of %d voters, %v; want %d of %d", c.nodes, s.regions, s.voters, err, c.regions, c.voters)
		}
	}
}
