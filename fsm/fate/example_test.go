package fate_test

import (
	"fmt"

	"github.com/bizra/bizra/fsm/fate"
)

// An operation is refused, mended as the verdict says, and passes.
func Example() {
	policy, err := fate.New(fate.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	operation := fate.Operation{
		Name: "file_read", Type: "tool", HasInput: true, SNR: 0.97, HasSNR: true,
		HasExecutionID: true, HasTimestamp: true, HasTrace: true,
	}
	verdict := policy.Judge(&operation)
	fmt.Printf("passed %t with %.3f, weakest %v\n", verdict.Passed, verdict.Composite, verdict.Weakest)
	for _, gap := range verdict.Gaps {
		fmt.Printf("%v (then %.3f, required %t)\n", gap, gap.Composite, gap.Required)
	}
	operation.Intent = "read file"
	operation.HasDescription = true
	verdict = policy.Judge(&operation)
	fmt.Printf("passed %t with %.3f\n", verdict.Passed, verdict.Composite)
	// Output:
	// passed false with 0.550, weakest fidelity
	// fidelity: give intent (then 0.786, required true)
	// transparency: give a description or a rationale (then 0.970, required true)
	// passed true with 0.970
}

// A constitution may choose the geometric mean, and weights.
func ExampleNew() {
	policy, err := fate.New(fate.Config{Rule: fate.Geometric, Weights: [4]float64{1, 1, 1, 3}, Threshold: 0.9})
	if err != nil {
		fmt.Println(err)
		return
	}
	scores := fate.Scores{Fidelity: 0.7, Accountability: 1, Transparency: 1, Ethics: 0.99}
	composite := policy.Composite(scores)
	fmt.Printf("%.4f %t\n", composite, policy.Passes(composite))
	// Output:
	// 0.9376 true
}

// A rule of the constitution denies, whatever the scores are.
func ExampleDenial() {
	policy, err := fate.New(fate.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	operation := fate.Operation{
		Name: "shell_run", Type: "tool", Intent: "run shell", HasInput: true, HasDescription: true, SNR: 1, HasSNR: true,
		HasExecutionID: true, HasTimestamp: true, HasTrace: true,
	}
	verdict := policy.Judge(&operation, fate.Denial{Dimension: fate.Ethics, Rule: "destructive-shell"})
	fmt.Println(verdict.Passed, verdict.Rule, verdict.Gaps[0])
	// Output:
	// false destructive-shell ethics: the rule "destructive-shell" denies this
}

// Words that are used often are split once.
func ExampleSplitWords() {
	words := fate.Words{Intent: fate.SplitWords("Read the FILE"), Name: fate.SplitWords("file_read")}
	fmt.Println(words.Intent, words.Name)
	operation := fate.Operation{Name: "file_read"}
	fmt.Printf("%.2f\n", operation.ScoresOf(words).Fidelity)
	// Output:
	// [read the file] [file read]
	// 0.90
}
