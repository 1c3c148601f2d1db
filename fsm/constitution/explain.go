package constitution

import (
	"fmt"
	"strings"
)

// Explanation says how a proof fares under every rule.
type Explanation struct {
	Verdict Verdict
	Terms   []TermText
	Holding []Verdict // every rule that holds or fails, the deciding one first
	Errors  []string  // what failed, for those of Holding with Error, in their order
}

// TermText is a term and what it was computed to for a proof, or why it failed.
type TermText struct{ Name, Text, Error string }

// Explain evaluates every rule, not only up to the first that decides, and shows the
// terms. It is for people, and slow: what decides is what [Policy.Evaluate] says.
func (p *Policy) Explain(in Input) Explanation {
	e := p.begin(in)
	defer p.end(e)
	var x Explanation
	for i := range p.rules {
		holds, err := e.holds(&p.rules[i])
		if !holds && err == nil {
			continue
		}
		x.Holding = append(x.Holding, p.rules[i].verdict(err))
		if err != nil {
			x.Errors = append(x.Errors, err.Error())
		}
	}
	if len(x.Holding) > 0 {
		x.Verdict = x.Holding[0]
	}
	for i := range p.terms {
		t := e.term(i)
		text := TermText{Name: p.terms[i].name, Text: t.text}
		if t.err != nil {
			text.Error = t.err.Error()
		}
		x.Terms = append(x.Terms, text)
	}
	return x
}

// String tells a person which rule decides, what else holds, and what the terms are.
func (x Explanation) String() string {
	var b strings.Builder
	if !x.Verdict.Denied() {
		b.WriteString("No deny rule holds: what remains are the scores.\n")
	}
	failed := 0
	for i, v := range x.Holding {
		verb := "holds as well"
		if i == 0 {
			verb = "decides"
		}
		fmt.Fprintf(&b, "Rule %s %s: %s becomes 0. %s\n", v.Rule, verb, v.Dimension, v.Message)
		if v.Error {
			fmt.Fprintf(&b, "  It failed: %s\n", x.Errors[failed])
			failed++
		}
	}
	for _, t := range x.Terms {
		switch {
		case t.Error != "":
			fmt.Fprintf(&b, "Term %s failed: %s\n", t.Name, t.Error)
		case t.Text != "":
			fmt.Fprintf(&b, "Term %s:\n  %s\n", t.Name, strings.ReplaceAll(t.Text, "\n", "\n  "))
		}
	}
	return b.String()
}

// Lint returns the faults of a document, none if a region could adopt it.
func Lint(text []byte) Problems {
	d, problems := parse(text)
	if len(problems) == 0 {
		_, problems = d.compile()
	}
	_ = problems.orNil() // sorts
	return problems
}

// Hash returns the policy hash of a document. An error is [Problems].
func Hash(text []byte) (string, error) {
	c, err := Parse(text)
	if err != nil {
		return "", err
	}
	return c.PolicyHash(), nil
}
