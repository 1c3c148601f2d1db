package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/gate"
)

func newConstitutionCommand() *cobra.Command {
	return group("constitution", "Read, check, test and explain the policy by which proofs are judged",
		`A constitution is a YAML document: thresholds, limits, how the scores are combined, and deny
rules in CEL. It is part of the federation document; "bizra federation amend" and "bizra
federation adopt" put a changed one in force.`,
		`  bizra constitution default > policy.yaml
  bizra constitution lint policy.yaml
  bizra constitution test policy.yaml --cases cases/`,
		newConstitutionDefaultCommand(), newConstitutionLintCommand(), newConstitutionHashCommand(),
		newConstitutionTestCommand(), newConstitutionExplainCommand())
}

func newConstitutionDefaultCommand() *cobra.Command {
	return &cobra.Command{Use: "default", Short: "Print the default constitution, a start for one's own", Args: takes(),
		Example: "  bizra constitution default > policy.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !asJSON(cmd) {
				_, err := cmd.OutOrStdout().Write(constitution.DefaultText())
				return err
			}
			c, err := constitution.Default()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", c.Canonical())
			return err
		}}
}

// readConstitutionText reads a constitution's file, or standard input for "-".
func readConstitutionText(cmd *cobra.Command, path string) ([]byte, error) {
	return readBounded(cmd, path, constitution.DocumentBytesMax, "constitution", "`bizra constitution default` prints one to start from")
}

// readBounded reads a file that the command line names, or standard input for "-".
func readBounded(cmd *cobra.Command, path string, bytesMax int64, what, hint string) (text []byte, err error) {
	in := io.NopCloser(cmd.InOrStdin())
	if path != "-" {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no file %s: %s", path, hint)
		}
		if err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no file: name the %s itself, or - for standard input", path, what)
		}
		if err == nil {
			in, err = os.Open(path) //nolint:gosec // the file that the command line names
		}
		if err != nil {
			return nil, fmt.Errorf("read the %s: %w", what, err)
		}
	}
	text, err = io.ReadAll(io.LimitReader(in, bytesMax+1))
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	if int64(len(text)) > bytesMax {
		return nil, fmt.Errorf("%s has more than %d bytes, which is all that a %s may have", path, bytesMax, what)
	}
	return text, nil
}

// readConstitution reads a constitution and checks it; an error names its faults with their places.
func readConstitution(cmd *cobra.Command, path string) (*constitution.Constitution, error) {
	text, err := readConstitutionText(cmd, path)
	if err != nil {
		return nil, err
	}
	c, err := constitution.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no constitution that a region could adopt; `bizra constitution lint` lists its faults:\n%w", path, err)
	}
	return c, nil
}

// readGate is readConstitution, made ready to judge.
func readGate(cmd *cobra.Command, path string) (*gate.Gate, error) {
	c, err := readConstitution(cmd, path)
	if err != nil {
		return nil, err
	}
	return gate.New(c)
}

type lintProblem struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

func newConstitutionLintCommand() *cobra.Command {
	return &cobra.Command{Use: "lint FILE|-", Short: "Say what is wrong with a constitution, with line and column", Args: takes("a constitution"),
		Long: `lint reads a constitution as a region that is to adopt it would, compiles its rules and bounds
what they cost. Each fault stands on a line of its own: file, line, column, member, what is
wrong and what would be right. The exit code is 1 if there is one.`,
		Example: `  bizra constitution lint policy.yaml
  bizra constitution default | bizra constitution lint -`,
		RunE: runConstitutionLint}
}

// lintReport is what lint found.
type lintReport struct {
	File       string        `json:"file"`
	Sound      bool          `json:"sound"`
	PolicyHash string        `json:"policy_hash,omitempty"`
	Rules      int           `json:"rules"`
	Problems   []lintProblem `json:"problems"`
}

func runConstitutionLint(cmd *cobra.Command, args []string) error {
	text, err := readConstitutionText(cmd, args[0])
	if err != nil {
		return err
	}
	report := lintReport{File: args[0], Problems: []lintProblem{}}
	c, err := constitution.Parse(text)
	problems, faulty := errors.AsType[constitution.Problems](err)
	for _, p := range problems {
		report.Problems = append(report.Problems, lintProblem(p))
	}
	switch {
	case err == nil:
		report.Sound, report.PolicyHash, report.Rules = true, c.PolicyHash(), len(c.Rules)
	case !faulty:
		return err
	}
	if err := show(cmd, report, report.writeTo); err != nil {
		return err
	}
	if !report.Sound {
		return fmt.Errorf("%s has %d faults and cannot be adopted", args[0], len(problems))
	}
	return nil
}

func (r *lintReport) writeTo(w io.Writer) error {
	for _, p := range r.Problems {
		place := r.File
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", r.File, p.Line, p.Column)
		}
		if p.Path != "" {
			place += ": " + p.Path
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", place, p.Message); err != nil {
			return err
		}
	}
	if !r.Sound {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is sound: %d rules, policy hash %s\n", r.File, r.Rules, r.PolicyHash)
	return err
}

func newConstitutionHashCommand() *cobra.Command {
	return &cobra.Command{Use: "hash FILE|-", Short: "Print the policy hash of a constitution", Args: takes("a constitution"),
		Long: `hash prints the 64 digits that every proof carries as payload.policy_hash while this
constitution is in force. Spacing, comments and the order of members do not change it.`,
		Example: "  bizra constitution hash policy.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readConstitution(cmd, args[0])
			if err != nil {
				return err
			}
			return show(cmd, map[string]string{"policy_hash": c.PolicyHash()}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, c.PolicyHash())
				return err
			})
		}}
}
