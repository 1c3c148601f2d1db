package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim/report"
)

// Exit codes, which scripts rely on.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errNotHeld ends a run that was carried out, and in which a promise broke.
var errNotHeld = errors.New("a promise broke: the report says which")

// run is the program with its arguments and streams.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(errOut, "bizra-sim: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(errOut, "See `%s --help`.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

func newRootCommand() *cobra.Command {
	s := &settings{}
	root := &cobra.Command{Use: "bizra-sim", Short: "Run a whole federation in one process and in virtual time",
		Long: `bizra-sim runs the nodes of a federation, as cmd/bizra runs them, in one process and in virtual
time, over latencies measured between 33 cloud regions. It gives them proofs to commit, makes go
wrong what a scenario says, holds every node to what the federation promises, and reports.

Without flags: 10,000 nodes in 100 regions of 5 voters and 95 members, 100 signed proofs a virtual
second, 20 certificates. It takes minutes, and some gigabytes of memory.

Exit codes: 0 done and every promise held, 1 a promise broke, the run failed or was interrupted, 2 used wrongly.
Ctrl-C ends a run and reports what there is; again, it ends the program.`,
		Example: `  bizra-sim --nodes 10000                      # the default: minutes
  bizra-sim --nodes 400 --certificates 8       # seconds
  bizra-sim --nodes 1000 --runs 5              # how much figures vary from run to run
  bizra-sim --nodes 400 --json | jq .propagation_ms
  bizra-sim --nodes 400 --seed 7 --html spread.html --csv spread.csv
  bizra-sim --scenario leader-churn            # what goes wrong: bizra-sim scenarios lists it
  bizra-sim --swarm --seed 7                   # a small federation and its faults, drawn from the seed
  bizra-sim cost                               # what a node costs, from 100 nodes to 10,000
  bizra-sim yardsticks                         # runs of full size beside their bounds
  bizra-sim market                             # the compute market, calmly and under attack`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.simulate(cmd) }}
	s.flags(root)
	root.AddCommand(newCostCommand(), newYardsticksCommand(), newMarketCommand(), newScenariosCommand())
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	return root
}

// nothing refuses arguments.
func nothing(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is no command of %s", args[0], cmd.CommandPath())
	}
	return nil
}

// simulate runs what the flags ask for and shows it.
func (s *settings) simulate(cmd *cobra.Command) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.runs > 1 {
		return s.repeat(cmd)
	}
	rep, err := s.once(cmd)
	if rep == nil {
		return err
	}
	if shown := s.show(cmd, rep); shown != nil {
		return errors.Join(err, shown)
	}
	if err == nil && !rep.OK() {
		return errNotHeld
	}
	return err
}

// show writes a report in every form that was asked for.
func (s *settings) show(cmd *cobra.Command, rep *report.Report) error {
	if s.json {
		if err := printJSON(cmd.OutOrStdout(), rep); err != nil {
			return err
		}
	} else if err := rep.Table(cmd.OutOrStdout()); err != nil {
		return err
	}
	return s.files(cmd, rep, []*report.Report{rep})
}

// files writes the files that were asked for: a page of one run, the figures of all.
func (s *settings) files(cmd *cobra.Command, rep *report.Report, all []*report.Report) error {
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{{s.csv, func(w io.Writer) error { return report.CSV(w, all...) }}, {s.html, rep.HTML}} {
		if f.path == "" {
			continue
		}
		if err := writeFile(f.path, f.write); err != nil {
			return err
		}
		if !s.json {
			fmt.Fprintf(cmd.OutOrStdout(), "%-11s%s\n", "written", f.path)
		}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".bizra-sim-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
