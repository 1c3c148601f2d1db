package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim/report"
)

// child carries out one run in a process of its own, since memory and goroutines are a process's,
// and one process has one bubble.
func (s *settings) child(cmd *cobra.Command) (*report.Report, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start a run: %w", err)
	}
	c := exec.CommandContext(cmd.Context(), self, s.arguments()...) //nolint:gosec // this program itself
	c.Args[0] = os.Args[0]
	// Ctrl-C goes to this process alone, which hands it on once.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, cmd.ErrOrStderr()
	ran := c.Run()
	var rep report.Report
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil || rep.Schema != report.Schema {
		return nil, errors.Join(fmt.Errorf("a run with seed %d gave no report", s.seed), ran)
	}
	return &rep, cmd.Context().Err()
}

// arguments are those by which another process does one run as this one would.
func (s *settings) arguments() []string {
	args := []string{"--json", "--html=", "--seed=" + strconv.FormatUint(s.seed, 10), "--stall=" + s.stall.String(), "--memo=" + strconv.FormatBool(s.memo),
		"--small=" + strconv.FormatBool(s.small)}
	for _, f := range s.ofPlan() {
		if s.scenario == "" || s.given(f.name) {
			args = append(args, "--"+f.name+"="+f.value)
		}
	}
	if s.scenario != "" {
		args = append(args, "--scenario="+s.scenario)
	}
	if s.swarm {
		args = append(args, "--swarm")
	}
	return args
}

// repeat runs the plan some times with seeds that follow each other, and shows how much figures vary.
// The files are of the first run, the CSV of all.
func (s *settings) repeat(cmd *cobra.Command) error {
	var reports []*report.Report
	one := *s
	for i := range s.runs {
		one.seed = s.seed + uint64(i)
		rep, err := one.child(cmd)
		if rep != nil {
			reports = append(reports, rep)
		}
		if err != nil {
			return errors.Join(err, s.showRuns(cmd, reports))
		}
		if !s.json {
			fmt.Fprintf(cmd.ErrOrStderr(), "run %d of %d, seed %d: %.1f s, %d promises broken\n", i+1, s.runs, one.seed, rep.WallSeconds, rep.Violations)
		}
	}
	if err := s.showRuns(cmd, reports); err != nil {
		return err
	}
	if !report.NewRuns(reports).OK() {
		return errNotHeld
	}
	return nil
}

func (s *settings) showRuns(cmd *cobra.Command, reports []*report.Report) error {
	if len(reports) == 0 {
		return nil
	}
	runs := report.NewRuns(reports)
	if s.json {
		if err := printJSON(cmd.OutOrStdout(), runs); err != nil {
			return err
		}
	} else if err := errors.Join(reports[0].Table(cmd.OutOrStdout()), runs.Table(cmd.OutOrStdout())); err != nil {
		return err
	}
	return s.files(cmd, reports[0], reports)
}
