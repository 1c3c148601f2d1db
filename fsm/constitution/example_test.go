package constitution_test

import (
	"fmt"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

func Example() {
	c, err := constitution.Parse([]byte(`
version: 2
terms:
  - name: command
    value: bizra.commands(bizra.texts(data, ['command']))
rules:
  - name: no-force-push
    dimension: accountability
    deny: command.matches('(?m)^git push .*--force( |$)') && agent.type == 'PAT'
    message: Use a new commit.
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	policy, err := c.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, command := range []string{"git push origin HEAD", `sudo g"i"t push --force origin main`} {
		data, err := pci.FromGo(map[string]any{"input": map[string]any{"command": command}})
		if err != nil {
			fmt.Println(err)
			return
		}
		v := policy.Evaluate(constitution.Input{Action: "session.transition", Data: data, Agent: constitution.Agent{Type: "PAT"}})
		fmt.Printf("%s: denied %v by %q\n", command, v.Denied(), v.Rule)
	}
	// Output:
	// git push origin HEAD: denied false by ""
	// sudo g"i"t push --force origin main: denied true by "no-force-push"
}

func ExampleLint() {
	for _, problem := range constitution.Lint([]byte("version: 2\nthresholds:\n  ihsan_min: 95\n")) {
		fmt.Println(problem)
	}
	// Output:
	// line 3, column 14: thresholds.ihsan_min: is 95: it must be from 0 to 1
}
