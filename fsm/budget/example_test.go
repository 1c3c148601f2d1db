package budget_test

import (
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/budget"
)

// A task gets its budget, spends some, and asks for more than is left.
func Example() {
	text, err := budget.Measure(`{"question":"why do the replicas differ?"}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	allocation, err := budget.Allocate(budget.Request{Task: budget.Debug, Text: text, Attempts: 9})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v for %v: complexity %.3f, %d ms, %d tokens\n", allocation.Tier, allocation.Task, allocation.Complexity, allocation.TimeMillis, allocation.Tokens)
	left, err := allocation.Remaining().Charge(budget.Use{TimeMillis: 60_000, Tokens: 20_000, Iterations: 1})
	fmt.Println(left.Tokens, "tokens left,", err)
	_, err = left.Charge(budget.Use{Tokens: 20_000})
	fmt.Println(err, errors.Is(err, budget.ErrExceeded))
	// Output:
	// macro for debug: complexity 0.651, 835714 ms, 26666 tokens
	// 6666 tokens left, <nil>
	// budget exceeded: tokens 20000, 6666 left true
}

// A task that has failed before, with poor results, is allowed more thought.
func ExampleAllocate() {
	history, err := budget.History{}.Add(0.2)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range []budget.Request{
		{Task: budget.Reason, Text: budget.Text{Length: 400, Entropy: 0.8}},
		{Task: budget.Reason, Text: budget.Text{Length: 9000, Entropy: 0.9}, Attempts: 9, History: history, KnowledgeGap: 0.9, HasKnowledgeGap: true},
	} {
		a, err := budget.Allocate(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%.3f %v %.1f s\n", a.Complexity, a.Tier, a.TimeSeconds)
	}
	// Output:
	// 0.421 meso 72.9 s
	// 0.780 macro 728.6 s
}

// A merge has no more left than the line of work that has the least.
func ExampleMerge() {
	fmt.Printf("%+v\n", budget.Merge(
		budget.Remaining{TimeMillis: 900, Tokens: 10, Iterations: 2, Depth: 4, Tracks: 2},
		budget.Remaining{TimeMillis: 500, Tokens: 70, Iterations: 3, Depth: 6, Tracks: 3},
	))
	// Output: {TimeMillis:500 Tokens:10 Iterations:2 Depth:4 Tracks:2}
}

func ExampleMeasure() {
	for _, s := range []string{"", "aaaa", "abab", "aaab", "Grüße"} {
		m, err := budget.Measure(s)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q %d %.4f\n", s, m.Length, m.Entropy)
	}
	// Output:
	// "" 0 0.5000
	// "aaaa" 4 0.0000
	// "abab" 4 1.0000
	// "aaab" 4 0.8113
	// "Grüße" 5 1.0000
}
