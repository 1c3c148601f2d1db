package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/gate"
)

func newConstitutionTestCommand() *cobra.Command {
	c := &cobra.Command{Use: "test FILE|- --cases DIR", Short: "Run a folder of cases against a constitution", Args: takes("a constitution"),
		Long: `test asks the deny rules about every case below DIR (files *.yaml with one case or a list
of them, *.ndjson with one a line) and says which came out otherwise than expected, and which
rules decided no case, so that nothing in the folder would notice if they were lost. A case is

  name: what it is
  expect: deny            # or pass
  rule: delete-system     # that should deny; may be left out
  data: {…}               # payload.data, as it is signed

with action, agent and session where they matter. The exit code is 1 if any came out otherwise.

Beside the rules it reports how many of the cases that should pass would pass the whole gate,
that is also the four scores, and what would raise that. The scores measure how a proof is
written, such as whether the intent's words are in the operation's name: an agent or its hook
can mend that, the rules are for what it does.`,
		Example: `  bizra constitution test policy.yaml --cases cases/
  bizra constitution default | bizra constitution test - --cases fsm/constitution/testdata/corpus --json`,
		RunE: runConstitutionTest}
	c.Flags().String("cases", "", "folder with the cases")
	c.Flags().Float64("snr", client.SNRScoreDefault, "snr_score that the cases claim")
	return c
}

// caseReport is what a folder of cases came to.
type caseReport struct {
	OK          bool         `json:"ok"`
	Cases       int          `json:"cases"`
	ExpectPass  int          `json:"expect_pass"`
	Passed      int          `json:"passed"`
	ExpectDeny  int          `json:"expect_deny"`
	Denied      int          `json:"denied"`
	OtherRule   int          `json:"other_rule"`
	UnusedRules []string     `json:"unused_rules"`
	Failed      []failedCase `json:"failed"`
	WholeGate   gate.Survey  `json:"whole_gate"`
}

type failedCase struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Name    string `json:"name"`
	Expect  string `json:"expect"`
	Rule    string `json:"rule,omitempty"` // that was to deny it
	Denied  string `json:"denied_by,omitempty"`
	Message string `json:"message"`
}

func runConstitutionTest(cmd *cobra.Command, args []string) error {
	dir, err := need(cmd, "cases", "name the folder with the cases")
	if err != nil {
		return err
	}
	snr, err := score(cmd, "snr")
	if err != nil {
		return err
	}
	g, err := readGate(cmd, args[0])
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return fmt.Errorf("--cases %s is no folder: put cases into one, as files *.yaml or *.ndjson", dir)
	}
	cases, err := constitution.ReadCases(os.DirFS(dir))
	if err != nil {
		return fmt.Errorf("read the cases of %s: %w", dir, err)
	}
	run := g.Policy().Run(cases)
	report := caseReport{OK: run.OK(), Cases: len(cases), ExpectPass: run.Passed + run.WronglyDenied, Passed: run.Passed,
		ExpectDeny: run.Denied + run.OtherRule + run.WronglyPassed, Denied: run.Denied + run.OtherRule, OtherRule: run.OtherRule,
		UnusedRules: append([]string{}, run.Unused()...), Failed: []failedCase{}}
	for _, r := range run.Results {
		if !r.OK {
			report.Failed = append(report.Failed, failedCase{r.Case.File, r.Case.Line, r.Case.Name, r.Case.Expect, r.Case.Rule, r.Verdict.Rule, r.String()})
		}
	}
	if report.WholeGate, err = g.Survey(cases, snr); err != nil {
		return err
	}
	if err := show(cmd, report, func(w io.Writer) error { return writeReport(w, run, report.WholeGate) }); err != nil {
		return err
	}
	if !run.OK() {
		return fmt.Errorf("%d of %d cases came out otherwise than they expect", len(report.Failed), len(cases))
	}
	return nil
}

func writeReport(w io.Writer, run *constitution.Report, s gate.Survey) error {
	fmt.Fprintln(w, run)
	if unused := run.Unused(); len(unused) > 0 {
		fmt.Fprintf(w, "rules that decided no case: %s\n", strings.Join(unused, ", "))
	} else {
		fmt.Fprintln(w, "every rule decided a case")
	}
	if s.Malformed > 0 {
		fmt.Fprintf(w, "%d cases that should pass have data that no transition has (session and to are wanted): the whole gate was not asked about them\n", s.Malformed)
	}
	if s.Cases == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nthe whole gate, rules and scores, at snr_score %v: of %d transitions that should pass %d do (%.1f %%); the median composite is %.3f\n",
		s.SNR, s.Cases, s.Passed, 100*float64(s.Passed)/float64(s.Cases), s.Median)
	for _, f := range s.Shortfalls {
		fmt.Fprintf(w, "  %d fall short in %s, %d of them in nothing else: %s\n", f.Needed, f.Part, f.Alone, remedy(f.Part))
	}
	_, err := fmt.Fprintf(w, "  or in the constitution: 99 of 100 pass with fate_min %.2f, or with composite.rule %s and fate_min %.2f (at the present fate_min %d of them)\n",
		s.FateMin, s.OtherComposite, s.OtherFateMin, s.OtherPassed)
	return err
}

// remedy says what a sender can do about a part that its proofs lack.
func remedy(p fate.Part) string {
	switch p {
	case fate.PartIntent:
		return "name the operation with the intent's words, or declare the intent in the operation's"
	case fate.PartType:
		return "say operation_type"
	case fate.PartInput:
		return "give input, or a digest of it"
	case fate.PartDescription:
		return "give meta.description or meta.rationale"
	case fate.PartName:
		return "name the operation"
	case fate.PartMetadata:
		return "give meta"
	case fate.PartSNR:
		return "a higher snr_score, where the work supports it"
	case fate.PartRule:
		return "a deny rule holds"
	default:
		return "the sender's own meta says so"
	}
}

// score is a flag's score, above 0 and at most 1.
func score(cmd *cobra.Command, name string) (float64, error) {
	v, err := cmd.Flags().GetFloat64(name)
	if err != nil {
		return 0, err
	}
	if !(v > 0 && v <= 1) {
		return 0, usagef("--%s %v: it must be above 0 and at most 1", name, v)
	}
	return v, nil
}
