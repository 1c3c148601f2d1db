package constitution

import (
	"regexp/syntax"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// formula is a condition that is necessary for a rule to hold or to fail: where it is
// false, the rule is false and its expression need not be asked. It is made of the
// parts of the expression that ask a term for a pattern or a text; a pattern can match
// only where literals that it cannot do without occur.
type formula struct {
	kind     formulaKind
	term, id int
	test     func(string) bool
	parts    []*formula
}

type formulaKind uint8

const (
	maybe     formulaKind = iota // nothing is known
	allOf                        // conjunction; of nothing: true
	anyOf                        // disjunction; of nothing: false
	inTerm                       // the literal id occurs in term
	testTerm                     // test holds for the term
	evenIfBad                    // parts[0], or the term failed, which the expression must say
)

func (f *formula) eval(e *evaluation) bool {
	switch f.kind {
	case allOf:
		for _, p := range f.parts {
			if !p.eval(e) {
				return false
			}
		}
		return true
	case anyOf:
		for _, p := range f.parts {
			if p.eval(e) {
				return true
			}
		}
		return false
	case inTerm:
		return e.literal(f.term, f.id)
	case testTerm:
		return f.test(e.term(f.term).text)
	case evenIfBad:
		return e.term(f.term).failed() || f.parts[0].eval(e)
	}
	return true
}

// literals are the texts that rules look for in one term.
type literals struct {
	texts []string
	bytes int
}

// literalsBytesMax bounds the automaton that finds them; a pattern whose literals do
// not fit is simply asked every time.
const literalsBytesMax = 32 << 10

func (l *literals) id(text string) (id int, ok bool) {
	for i, t := range l.texts {
		if t == text {
			return i, true
		}
	}
	if l.bytes += len(text); l.bytes > literalsBytesMax {
		return 0, false
	}
	l.texts = append(l.texts, text)
	return len(l.texts) - 1, true
}

// formula reads an expression. CEL's && is false if either side is, even if the other
// fails; so one side that is known to be false decides.
func (c *compiler) formula(e ast.Expr) *formula {
	if e.Kind() != ast.CallKind {
		return &formula{kind: maybe}
	}
	call := e.AsCall()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		f := &formula{kind: allOf}
		if name == operators.LogicalOr {
			f.kind = anyOf
		}
		for _, a := range call.Args() {
			f.parts = append(f.parts, c.formula(a))
		}
		return f
	case "matches", "contains":
		if term, ok := c.termOf(call.Target()); ok && call.IsMemberFunction() {
			if text, ok := textLiteral(call.Args()[0]); ok {
				n := need{exact: []string{text}}
				if name == "matches" {
					n = patternNeed(text)
				}
				return &formula{kind: evenIfBad, term: term, parts: []*formula{n.formula(term, c.literals[term])}}
			}
		}
	case "bizra.card", "bizra.iban":
		if term, ok := c.termOf(call.Args()[0]); ok {
			test := HasCardNumber
			if name == "bizra.iban" {
				test = HasIBAN
			}
			return &formula{kind: evenIfBad, term: term, parts: []*formula{{kind: testTerm, term: term, test: test}}}
		}
	}
	return &formula{kind: maybe}
}

func (c *compiler) termOf(e ast.Expr) (int, bool) {
	if e == nil || e.Kind() != ast.IdentKind {
		return 0, false
	}
	for i, t := range c.document.Terms {
		if t.Name == e.AsIdent() {
			return i, true
		}
	}
	return 0, false
}

const (
	exactMax        = 48 // alternatives that are kept apart
	literalBytesMax = 32 // longer ones are cut: a part of what is needed is needed too
	literalBytesMin = 2  // shorter ones occur everywhere
)

// need is what every match of a pattern contains: one of the exact texts in full, if
// there are any, else what the conjunction says.
type need struct {
	exact []string
	all   []need // conjunction; with neither: nothing is known
	any   []need // disjunction
}

func patternNeed(pattern string) need {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return need{}
	}
	return needOf(re.Simplify())
}

func needOf(re *syntax.Regexp) need {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return need{exact: []string{""}}
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return need{}
		}
		return need{exact: []string{string(re.Rune)}}
	case syntax.OpCharClass:
		return classNeed(re.Rune)
	case syntax.OpCapture:
		return needOf(re.Sub[0])
	case syntax.OpPlus:
		n := needOf(re.Sub[0])
		return need{all: []need{n}} // once or more: no longer exact
	case syntax.OpQuest:
		if n := needOf(re.Sub[0]); n.exact != nil && len(n.exact) < exactMax {
			return need{exact: append([]string{""}, n.exact...)}
		}
	case syntax.OpConcat:
		return concatNeed(re.Sub)
	case syntax.OpAlternate:
		return alternateNeed(re.Sub)
	}
	return need{}
}

func classNeed(ranges []rune) need {
	var exact []string
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i+1]-ranges[i] > 8 {
			return need{}
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			exact = append(exact, string(r))
		}
	}
	if len(exact) == 0 || len(exact) > 8 {
		return need{}
	}
	return need{exact: exact}
}

func concatNeed(subs []*syntax.Regexp) need {
	var all []need
	run := []string{""}
	flush := func() {
		all = append(all, need{exact: run})
		run = []string{""}
	}
	for _, sub := range subs {
		n := needOf(sub)
		if n.exact == nil {
			flush()
			all = append(all, n)
			continue
		}
		if len(run)*len(n.exact) > exactMax {
			flush()
		}
		var crossed []string
		for _, a := range run {
			for _, b := range n.exact {
				crossed = append(crossed, a+b)
			}
		}
		run = crossed
	}
	if len(all) == 0 {
		return need{exact: run}
	}
	flush()
	return need{all: all}
}

func alternateNeed(subs []*syntax.Regexp) need {
	exact, each := []string{}, make([]need, 0, len(subs))
	for _, sub := range subs {
		n := needOf(sub)
		each = append(each, n)
		if exact != nil && n.exact != nil && len(exact)+len(n.exact) <= exactMax {
			exact = append(exact, n.exact...)
		} else {
			exact = nil
		}
	}
	if exact != nil {
		return need{exact: exact}
	}
	return need{any: each}
}

// formula says where a match can be.
func (n need) formula(term int, l *literals) *formula {
	switch {
	case n.exact != nil:
		f := &formula{kind: anyOf}
		for _, text := range n.exact {
			id, ok := l.id(text[:min(len(text), literalBytesMax)])
			if len(text) < literalBytesMin || !ok {
				return &formula{kind: maybe}
			}
			f.parts = append(f.parts, &formula{kind: inTerm, term: term, id: id})
		}
		return f
	case n.all != nil:
		f := &formula{kind: allOf}
		for _, part := range n.all {
			if p := part.formula(term, l); p.kind != maybe {
				f.parts = append(f.parts, p)
			}
		}
		if len(f.parts) == 0 {
			return &formula{kind: maybe}
		}
		return f
	case n.any != nil:
		f := &formula{kind: anyOf}
		for _, part := range n.any {
			p := part.formula(term, l)
			if p.kind == maybe {
				return p
			}
			f.parts = append(f.parts, p)
		}
		return f
	}
	return &formula{kind: maybe}
}
