package constitution

import (
	"math/bits"
	"regexp"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// formula is a condition that is necessary for a rule to hold or to fail: where it is
// false, the rule is false and its expression need not be asked of CEL. It is made of
// the parts of the expression that ask a text for a pattern, a text or its length; a
// pattern is tried only where literals occur that it cannot do without.
type formula struct {
	kind  formulaKind
	term  int
	mask  []uint64 // of literals
	test  func(string) bool
	match func(*evaluation) bool
	parts []*formula
}

type formulaKind uint8

const (
	maybe    formulaKind = iota // nothing is known
	allOf                       // conjunction; of nothing: true
	anyOf                       // disjunction; of nothing: false
	inTerm                      // one of the literals in mask occurs in term
	testTerm                    // test holds for the term
	computed                    // match holds
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
		return e.literals(f.term, f.mask)
	case testTerm:
		t := e.term(f.term)
		return t.err != nil || f.test(t.text)
	case computed:
		return f.match(e)
	}
	return true
}

// cover is a disjunction of literals without which a formula is false: quicker to ask
// than the formula, for most rules and most proofs false.
type cover []*formula // each inTerm, at most one for a term; nil: none is known

func coverOf(f *formula) cover {
	switch f.kind {
	case inTerm:
		return cover{f}
	case allOf:
		var best cover
		for _, p := range f.parts {
			if c := coverOf(p); c != nil && (best == nil || c.literals() < best.literals()) {
				best = c
			}
		}
		return best
	case anyOf:
		union := cover{}
		for _, p := range f.parts {
			c := coverOf(p)
			if c == nil {
				return nil
			}
			for _, leaf := range c {
				union = union.with(leaf)
			}
		}
		return union
	}
	return nil
}

func (c cover) literals() int {
	n := 0
	for _, leaf := range c {
		for _, m := range leaf.mask {
			n += bits.OnesCount64(m)
		}
	}
	return n
}

func (c cover) with(leaf *formula) cover {
	for i, other := range c {
		if other.term == leaf.term {
			merged := &formula{kind: inTerm, term: leaf.term, mask: make([]uint64, max(len(leaf.mask), len(other.mask)))}
			for _, part := range []*formula{leaf, other} {
				for k, m := range part.mask {
					merged.mask[k] |= m
				}
			}
			c[i] = merged
			return c
		}
	}
	return append(c, leaf)
}

func (c cover) excludes(e *evaluation) bool {
	if c == nil {
		return false
	}
	for _, leaf := range c {
		if e.literals(leaf.term, leaf.mask) {
			return false
		}
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
				return c.occurrence(term, text, name == "matches")
			}
		}
		if computed, ok := c.native(call.Target()); ok && name == "matches" {
			return computedMatch(computed, call.Args()[0])
		}
	case operators.NotEquals, operators.Greater:
		return c.sizeFormula(call)
	case "bizra.card", "bizra.iban":
		if term, ok := c.termOf(call.Args()[0]); ok {
			test := HasCardNumber
			if name == "bizra.iban" {
				test = HasIBAN
			}
			return &formula{kind: testTerm, term: term, test: test}
		}
	}
	return &formula{kind: maybe}
}

// occurrence is that a text or a pattern occurs in a term; a pattern is only tried
// where its literals are.
func (c *compiler) occurrence(term int, text string, pattern bool) *formula {
	if !pattern {
		found := need{exact: []string{text}}.formula(term, c.literals[term])
		contains := &formula{kind: testTerm, term: term, test: func(s string) bool { return strings.Contains(s, text) }}
		return &formula{kind: allOf, parts: []*formula{found, contains}}
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return &formula{kind: maybe}
	}
	found := patternNeed(text).formula(term, c.literals[term])
	return &formula{kind: allOf, parts: []*formula{found, {kind: testTerm, term: term, test: re.MatchString}}}
}

func computedMatch(text native, pattern ast.Expr) *formula {
	p, ok := textLiteral(pattern)
	re, err := regexp.Compile(p)
	if !ok || err != nil {
		return &formula{kind: maybe}
	}
	return &formula{kind: computed, match: func(e *evaluation) bool {
		s, err := text(e)
		return err != nil || re.MatchString(s)
	}}
}

// sizeFormula reads term != ” and size(term) > n; a text has at least as many bytes as
// characters.
func (c *compiler) sizeFormula(call ast.CallExpr) *formula {
	left, right := call.Args()[0], call.Args()[1]
	least := 0
	if call.FunctionName() == operators.NotEquals {
		if text, ok := textLiteral(right); !ok || text != "" {
			return &formula{kind: maybe}
		}
	} else {
		n, ok := right.AsLiteral().(types.Int)
		if !ok || n < 0 || n > TextBytesMax || left.Kind() != ast.CallKind || left.AsCall().FunctionName() != "size" {
			return &formula{kind: maybe}
		}
		least = int(n)
		if left = left.AsCall().Target(); left == nil || !call.Args()[0].AsCall().IsMemberFunction() {
			left = call.Args()[0].AsCall().Args()[0]
		}
	}
	term, ok := c.termOf(left)
	if !ok {
		return &formula{kind: maybe}
	}
	longer := func(text string) bool { return len(text) > least }
	return &formula{kind: testTerm, term: term, test: longer}
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
)

// tells reports whether a literal is rare enough to look for: two characters, or a
// sign that few texts have.
func tells(text string) bool {
	return len(text) >= 2 || len(text) == 1 && strings.IndexByte("@$<>|*~^`?", text[0]) >= 0
}

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
		text := string(re.Rune)
		if re.Flags&syntax.FoldCase != 0 && !isASCII(text) {
			return need{}
		}
		return need{exact: []string{text}}
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

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
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
		f := &formula{kind: inTerm, term: term}
		for _, text := range n.exact {
			id, ok := l.id(text[:min(len(text), literalBytesMax)])
			if !tells(text) || !ok {
				return &formula{kind: maybe}
			}
			for len(f.mask) <= id/64 {
				f.mask = append(f.mask, 0)
			}
			f.mask[id/64] |= 1 << (id % 64)
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
