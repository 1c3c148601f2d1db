package constitution

import (
	"math"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/bizra/bizra/pci"
)

// Bounds of what expressions cost, in the units of CEL's static estimate, where a text
// is as long as an envelope allows and a term as TextBytesMax.
const (
	TextBytesMax    = 96 << 10   // of a term's text, and of what a function of ours makes
	RuleCostMax     = 20_000_000 // of one rule or term
	TotalCostMax    = 200_000_000
	PatternBytesMax = 2 << 10 // of a regular expression
	PatternInstsMax = 4_000   // of its compiled form: repetitions count
)

// newEnv declares what expressions may use: of CEL's standard library what is a
// function of its arguments alone (no times, no durations), and our own functions.
func newEnv() (*cel.Env, error) {
	subset := env.NewLibrarySubset()
	for _, name := range []string{
		operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.NotStrictlyFalse, operators.Conditional,
		operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
		operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate,
		operators.In, operators.Index,
		"size", "contains", "startsWith", "endsWith", "matches", "int", "double", "string", "dyn",
	} {
		subset.AddIncludedFunctions(env.NewFunction(name))
	}
	texts := cel.ListType(cel.StringType)
	return cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(subset)),
		cel.ParserExpressionSizeLimit(ExpressionBytesMax),
		cel.ParserRecursionLimit(64),
		cel.ExpressionNodeLimit(4_000),
		cel.Variable("action", cel.StringType),
		cel.Variable("data", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("agent", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("session", cel.MapType(cel.StringType, cel.DynType)),
		cel.Function("lowerAscii", cel.MemberOverload("string_lower_ascii", []*cel.Type{cel.StringType}, cel.StringType,
			cel.UnaryBinding(overText(lowerASCII)))),
		cel.Function("bizra.texts",
			cel.Overload("bizra_texts", []*cel.Type{cel.DynType, texts}, cel.StringType, cel.BinaryBinding(celTexts))),
		textFunction("bizra.normalise", Normalise),
		textFunction("bizra.decoded", Decoded),
		textFunction("bizra.commands", Commands),
		textFunction("bizra.quoted", Quoted),
		textFunction("bizra.writes", writesText),
		cel.Function("bizra.within",
			cel.Overload("bizra_within_text", []*cel.Type{cel.StringType, cel.DynType}, cel.BoolType, cel.BinaryBinding(celWithin))),
		cel.Function("bizra.without",
			cel.Overload("bizra_without", []*cel.Type{cel.StringType, cel.StringType}, cel.StringType, cel.BinaryBinding(celWithout))),
		predicate("bizra.card", HasCardNumber),
		predicate("bizra.iban", HasIBAN),
	)
}

func overloadID(name string) string { return strings.ReplaceAll(name, ".", "_") }

func textFunction(name string, f func(string) (string, error)) cel.EnvOption {
	return cel.Function(name, cel.Overload(overloadID(name), []*cel.Type{cel.StringType}, cel.StringType, cel.UnaryBinding(overText(f))))
}

func predicate(name string, f func(string) bool) cel.EnvOption {
	return cel.Function(name, cel.Overload(overloadID(name), []*cel.Type{cel.StringType}, cel.BoolType,
		cel.UnaryBinding(func(v ref.Val) ref.Val {
			s, ok := v.(types.String)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			return types.Bool(f(string(s)))
		})))
}

func overText(f func(string) (string, error)) func(ref.Val) ref.Val {
	return func(v ref.Val) ref.Val {
		s, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		out, err := f(string(s))
		if err != nil {
			return types.WrapErr(err)
		}
		return types.String(out)
	}
}

func lowerASCII(s string) (string, error) {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s), nil
}

func celTexts(v, names ref.Val) ref.Val {
	list, err := textList(names)
	if err != nil {
		return types.WrapErr(err)
	}
	o, ok := v.(object)
	if !ok {
		return types.String("") // nothing has members here
	}
	return types.String(Texts(o.v, list))
}

func writesText(text string) (string, error) {
	paths, err := Writes(text)
	return strings.Join(paths, "\n"), err
}

func celWithin(path, scope ref.Val) ref.Val {
	p, ok := path.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(path)
	}
	scopes, err := appendScopes(nil, scope, 0)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(Within(string(p), scopes))
}

// appendScopes takes a text, or a list of texts and of such lists.
func appendScopes(scopes []string, v ref.Val, depth int) ([]string, error) {
	switch v := v.(type) {
	case types.String:
		return append(scopes, string(v)), nil
	case traits.Lister:
		n, ok := v.Size().(types.Int)
		if !ok || depth > 1 || n > scopesMax {
			return nil, errTextList
		}
		for i := types.Int(0); i < n; i++ {
			var err error
			if scopes, err = appendScopes(scopes, v.Get(i), depth+1); err != nil {
				return nil, err
			}
		}
		return scopes, nil
	}
	return nil, errTextList
}

func textList(v ref.Val) ([]string, error) {
	l, ok := v.(traits.Lister)
	if !ok {
		return nil, errTextList
	}
	n, ok := l.Size().(types.Int)
	if !ok {
		return nil, errTextList
	}
	list := make([]string, 0, n)
	for i := types.Int(0); i < n; i++ {
		s, ok := l.Get(i).(types.String)
		if !ok {
			return nil, errTextList
		}
		list = append(list, string(s))
	}
	return list, nil
}

// sizes bounds, for the static estimate of costs, how long texts, lists and maps are.
type sizes struct{ terms []Term }

func (s sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	limit := uint64(pci.EnvelopeBytesMax)
	if path := n.Path(); len(path) == 1 {
		for _, t := range s.terms {
			if t.Name == path[0] {
				limit = TextBytesMax
			}
		}
	}
	size := cost.RangedSizeEstimate(0, limit)
	if t := n.Type(); t != nil {
		switch t.Kind() {
		case types.BoolKind, types.IntKind, types.DoubleKind, types.UintKind, types.NullTypeKind:
			one := cost.FixedSizeEstimate(1)
			return &one
		case types.ListKind, types.MapKind, types.DynKind:
			inner := cost.RangedSizeEstimate(0, pci.EnvelopeBytesMax)
			size.Key, size.Elem = &inner, &inner
		}
	}
	return &size
}

// EstimateCallCost declares what our functions cost, and counts a regular expression
// by its compiled form, since a repetition is short to write and long to run.
func (sizes) EstimateCallCost(function, _ string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	text := cost.RangedSizeEstimate(0, TextBytesMax)
	per := func(units uint64, result *cost.SizeEstimate) *cost.CallEstimate {
		return &cost.CallEstimate{CostEstimate: cost.RangedCostEstimate(1, units), ResultSize: result}
	}
	switch function {
	case "lowerAscii", "bizra.texts", "bizra.normalise", "bizra.quoted":
		return per(TextBytesMax/10, &text)
	case "bizra.decoded":
		return per(TextBytesMax, &text)
	case "bizra.commands", "bizra.writes":
		return per(workBytesMax/10, &text)
	case "bizra.within": // each of the paths with each of the scopes
		return per(TextBytesMax/10*scopesMax, nil)
	case "bizra.card", "bizra.iban":
		return per(TextBytesMax/10, nil)
	case "bizra.without":
		return per(matchCost(args[len(args)-1]), &text)
	case "matches":
		if target != nil || len(args) == 2 {
			return per(matchCost(args[len(args)-1]), nil)
		}
	}
	return nil
}

// matchCost follows CEL's model, a tenth for each byte of the text times a quarter for
// each byte of the pattern, with instructions for bytes.
func matchCost(pattern cost.AstNode) uint64 {
	insts, ok := patternInsts(pattern.Expr())
	if !ok {
		return math.MaxUint64
	}
	return TextBytesMax / 10 * (insts/4 + 1)
}

func patternInsts(e ast.Expr) (uint64, bool) {
	pattern, ok := textLiteral(e)
	if !ok {
		return 0, false
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, false
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0, false
	}
	return uint64(len(prog.Inst)), true
}

func textLiteral(e ast.Expr) (string, bool) {
	if e == nil || e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
