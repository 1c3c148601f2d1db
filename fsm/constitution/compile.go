package constitution

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Policy is a compiled constitution: immutable, for concurrent use.
type Policy struct {
	constitution Constitution
	terms        []compiledTerm
	rules        []compiledRule
	lists        nameLists
	pool         sync.Pool // of *evaluation, so that evaluating allocates little
}

type compiledTerm struct {
	name    string
	program cel.Program
	native  native   // nil where only the program can compute it
	scan    *scanner // of the literals that rules need to find in this term
}

type compiledRule struct {
	Rule
	program cel.Program
	cover   cover
	may     *formula // whether the rule may hold; never false where it does or fails
}

// Compile checks the rules and makes them ready. An error is [Problems].
func (c *Constitution) Compile() (*Policy, error) {
	d := document{Constitution: *c}
	p, problems := d.compile()
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	return p, nil
}

// Constitution returns what the policy was compiled from.
func (p *Policy) Constitution() Constitution { return p.constitution }

// issuesMax bounds what is said about one expression.
const issuesMax = 3

type compiler struct {
	document *document
	problems Problems
	env      *cel.Env
	sizes    sizes
	total    uint64
	literals []*literals // by term
	lists    *nameLists
}

func (d *document) compile() (*Policy, Problems) {
	e, err := newEnv()
	if err != nil {
		return nil, Problems{{Message: "cannot make the environment of expressions: " + err.Error()}}
	}
	p := &Policy{constitution: d.Constitution, lists: nameLists{bits: make(map[string]uint64)}}
	c := &compiler{document: d, env: e, sizes: sizes{d.Terms}, lists: &p.lists}
	for i, t := range d.Terms {
		path := fmt.Sprintf("terms[%d].value", i)
		program, root := c.expression(path, t.Value, types.StringType)
		term := compiledTerm{name: t.Name, program: program}
		if root != nil {
			term.native, _ = c.native(root)
		}
		p.terms = append(p.terms, term)
		c.literals = append(c.literals, &literals{})
		if c.env, err = c.env.Extend(cel.Variable(t.Name, cel.StringType)); err != nil {
			c.fault(path, 1, 0, "cannot be declared: %v", err)
			return nil, c.problems
		}
	}
	for i, r := range d.Rules {
		program, root := c.expression(fmt.Sprintf("rules[%d].deny", i), r.Deny, types.BoolType)
		rule := compiledRule{Rule: r, program: program}
		if root != nil {
			rule.may = c.formula(root)
			rule.cover = coverOf(rule.may)
		}
		p.rules = append(p.rules, rule)
	}
	if c.total > TotalCostMax && len(c.problems) == 0 {
		c.fault("rules", 1, 0, "all expressions together may cost %d units: at most %d; shorten patterns, or ask fewer texts", c.total, TotalCostMax)
	}
	for i := range p.terms {
		p.terms[i].scan = newScanner(c.literals[i].texts)
	}
	p.pool.New = func() any { return newEvaluation(p) }
	return p, c.problems
}

// fault records a problem at a line (from 1) and column (from 0) of an expression.
func (c *compiler) fault(path string, line, column int, format string, args ...any) {
	p := Problem{Path: path, Message: strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")}
	if line < 1 { // CEL knows no place for some
		line, column = 1, 0
	}
	if at, ok := c.document.at[path]; ok && at.line > 0 {
		p.Line, p.Column = at.line+line-1, at.column+column
	}
	c.problems = append(c.problems, p)
}

// hint says what there is, where an expression asks for what is not.
func (c *compiler) hint(message string) string {
	if !strings.HasPrefix(message, "undeclared reference") {
		return ""
	}
	known := "action, data, agent, session"
	for _, t := range c.document.Terms[:len(c.literals)] {
		known += ", " + t.Name
	}
	return ": variables are " + known + "; functions are those of CEL without times, lowerAscii and bizra's own"
}

// expression compiles one expression; what it returns is nil where it has problems.
func (c *compiler) expression(path, text string, want *types.Type) (cel.Program, ast.Expr) {
	before := len(c.problems)
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil {
		for i, e := range issues.Errors() {
			if i == issuesMax {
				break // what follows an error of syntax is noise
			}
			c.fault(path, e.Location.Line(), e.Location.Column(), "%s%s", e.Message, c.hint(e.Message))
		}
		return nil, nil
	}
	if got := checked.OutputType(); !got.IsExactType(want) {
		c.fault(path, 1, 0, "gives %s: it must give %s", got, want)
		return nil, nil
	}
	native := checked.NativeRep()
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if message := c.refuse(e); message != "" {
			at := native.SourceInfo().GetStartLocation(e.ID())
			c.fault(path, at.Line(), at.Column(), "%s", message)
		}
	}))
	if len(c.problems) > before {
		return nil, nil
	}
	estimate, err := cost.Cost(native, c.sizes)
	switch {
	case err != nil:
		c.fault(path, 1, 0, "its cost cannot be bounded: %v", err)
	case estimate.Max > RuleCostMax:
		c.fault(path, 1, 0, "may cost %d units for the longest input: at most %d; shorten patterns, do not nest loops over data", estimate.Max, RuleCostMax)
	default:
		c.total += estimate.Max
	}
	program, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), withoutPattern())
	if err != nil {
		c.fault(path, 1, 0, "%v", err)
	}
	if len(c.problems) > before {
		return nil, nil
	}
	return program, native.Expr()
}

// refuse says what is wrong with a part of an expression that CEL would take.
func (c *compiler) refuse(e ast.Expr) string {
	switch e.Kind() {
	case ast.MapKind, ast.StructKind:
		return "a map or message cannot be written out here: its order would not be fixed"
	case ast.SelectKind:
		return refuseMember(e.AsSelect().Operand(), e.AsSelect().FieldName())
	case ast.CallKind:
		call := e.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case operators.Index:
			if name, ok := textLiteral(args[1]); ok {
				return refuseMember(args[0], name)
			}
		case "matches", "bizra.without":
			return refusePattern(args[len(args)-1])
		}
	}
	return ""
}

func refuseMember(operand ast.Expr, name string) string {
	if operand.Kind() != ast.IdentKind {
		return ""
	}
	var known string
	switch operand.AsIdent() {
	case "agent":
		switch name {
		case "id", "type", "owner":
			return ""
		}
		known = "id, type, owner"
	case "session":
		switch name {
		case "id", "state", "opener", "nodes":
			return ""
		}
		known = "id, state, opener, nodes"
	default:
		return ""
	}
	return fmt.Sprintf("%s has no member %s: it has %s", operand.AsIdent(), shortened(name), known)
}

func refusePattern(e ast.Expr) string {
	pattern, ok := textLiteral(e)
	if !ok {
		return "a pattern must be written out: what it costs must be known beforehand"
	}
	if len(pattern) > PatternBytesMax {
		return fmt.Sprintf("the pattern has %d bytes: at most %d", len(pattern), PatternBytesMax)
	}
	if _, err := compilePattern(pattern); err != nil {
		return err.Error()
	}
	if _, err := syntax.Parse(pattern, syntax.Perl&^syntax.UnicodeGroups); err != nil {
		return `a pattern cannot name a Unicode class such as \p{L}: what is in it depends on the version of Unicode that each node was built with; write ranges, such as [\x{c0}-\x{24f}]`
	}
	if insts, _ := patternInsts(e); insts > PatternInstsMax {
		return fmt.Sprintf("the pattern compiles to %d instructions: at most %d; use smaller repetitions", insts, PatternInstsMax)
	}
	return ""
}
