package constitution

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/bizra/bizra/pci"
)

// native is an expression for a text that is computed without CEL's interpreter. It is
// made for those that consist of literals, earlier terms, +, ?: over a pattern, and our
// own functions, where it is the same calls in the same order; a test holds it to what
// the interpreter says.
type native func(*evaluation) (string, error)

func (c *compiler) native(e ast.Expr) (native, bool) {
	if s, ok := textLiteral(e); ok {
		return func(*evaluation) (string, error) { return s, nil }, true
	}
	if i, ok := c.termOf(e); ok {
		return func(ev *evaluation) (string, error) {
			t := ev.term(i)
			return t.text, t.err
		}, true
	}
	if e.Kind() != ast.CallKind {
		return nil, false
	}
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	switch name := call.FunctionName(); name {
	case "bizra.normalise":
		return c.nativeUnary(args[0], Normalise)
	case "bizra.decoded":
		return c.nativeUnary(args[0], Decoded)
	case "bizra.commands":
		return c.nativeUnary(args[0], Commands)
	case "bizra.quoted":
		return c.nativeUnary(args[0], Quoted)
	case "bizra.writes":
		return c.nativeUnary(args[0], writesText)
	case "lowerAscii":
		return c.nativeUnary(args[0], lowerASCII)
	case "bizra.without":
		pattern, ok := textLiteral(args[1])
		re, err := compilePattern(pattern)
		if !ok || err != nil {
			return nil, false
		}
		return c.nativeUnary(args[0], func(s string) (string, error) { return re.ReplaceAllLiteralString(s, ""), nil })
	case "bizra.texts":
		return c.nativeTexts(args)
	case operators.Add:
		return c.nativeSum(args)
	case operators.Conditional:
		return c.nativeChoice(args)
	}
	return nil, false
}

func (c *compiler) nativeUnary(arg ast.Expr, f func(string) (string, error)) (native, bool) {
	inner, ok := c.native(arg)
	if !ok {
		return nil, false
	}
	return func(ev *evaluation) (string, error) {
		s, err := inner(ev)
		if err != nil {
			return "", err
		}
		return f(s)
	}, true
}

func (c *compiler) nativeSum(args []ast.Expr) (native, bool) {
	left, ok := c.native(args[0])
	right, ok2 := c.native(args[1])
	if !ok || !ok2 {
		return nil, false
	}
	return func(ev *evaluation) (string, error) {
		a, err := left(ev)
		if err != nil {
			return "", err
		}
		b, err := right(ev)
		if err != nil {
			return "", err
		}
		return a + b, nil
	}, true
}

func (c *compiler) nativeChoice(args []ast.Expr) (native, bool) {
	holds, ok := c.nativeMatch(args[0])
	yes, ok2 := c.native(args[1])
	no, ok3 := c.native(args[2])
	if !ok || !ok2 || !ok3 {
		return nil, false
	}
	return func(ev *evaluation) (string, error) {
		h, err := holds(ev)
		if err != nil {
			return "", err
		}
		if h {
			return yes(ev)
		}
		return no(ev)
	}, true
}

func (c *compiler) nativeMatch(e ast.Expr) (func(*evaluation) (bool, error), bool) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "matches" || !e.AsCall().IsMemberFunction() {
		return nil, false
	}
	term, ok := c.termOf(e.AsCall().Target())
	if !ok {
		return nil, false
	}
	match := c.formula(e)
	return func(ev *evaluation) (bool, error) {
		if err := ev.term(term).err; err != nil {
			return false, err
		}
		return match.eval(ev), nil
	}, true
}

// nativeTexts is bizra.texts(data, […]). Most names occur in no member of most proofs:
// which do is found once for all lists.
func (c *compiler) nativeTexts(args []ast.Expr) (native, bool) {
	if args[0].Kind() != ast.IdentKind || args[0].AsIdent() != "data" || args[1].Kind() != ast.ListKind {
		return nil, false
	}
	var names []string
	for _, e := range args[1].AsList().Elements() {
		name, ok := textLiteral(e)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	list := c.lists.add(names)
	return func(ev *evaluation) (string, error) {
		if ev.in.Data.Kind() != pci.ObjectKind {
			return "", errNoObject
		}
		if !ev.occurs(list) {
			return "", nil
		}
		return string(appendTexts(nil, ev.canonical(), names)), nil
	}, true
}

// nameLists says for names of members in which lists of bizra.texts they stand.
type nameLists struct {
	count int
	bits  map[string]uint64
}

// add returns the number of a list, -1 beyond the 64 that are followed.
func (l *nameLists) add(names []string) int {
	if l.count >= 64 {
		return -1
	}
	for _, name := range names {
		l.bits[name] |= 1 << l.count
	}
	l.count++
	return l.count - 1
}

// occurring returns the lists of which a name occurs in canonical JSON. A name that is
// written with an escape counts for all.
func (l *nameLists) occurring(text []byte) uint64 {
	var found uint64
	for i := 0; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		start := i + 1
		escaped := false
		for i = start; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' {
				escaped = true
				i++
			}
		}
		if i+1 >= len(text) || text[i+1] != ':' {
			continue // a value
		}
		if escaped {
			return ^uint64(0)
		}
		found |= l.bits[string(text[start:i])]
	}
	return found
}
