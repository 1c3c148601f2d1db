package detlint

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/ast/inspector"
)

func isFloat(t types.Type) bool   { return hasKind(t, types.IsFloat) }
func isComplex(t types.Type) bool { return hasKind(t, types.IsComplex) }
func isInteger(t types.Type) bool { return hasKind(t, types.IsInteger) }

func hasKind(t types.Type, kind types.BasicInfo) bool {
	basic, ok := t.Underlying().(*types.Basic)
	return ok && basic.Info()&kind != 0
}

const whyComplex = "complex arithmetic is made of products and sums that may be fused"

// product reports a float product whose rounding the compiler may leave out.
func (c *checker) product(cursor inspector.Cursor, node *ast.BinaryExpr) {
	value := c.pass.TypesInfo.Types[node]
	if value.Value != nil || node.Op != token.MUL && node.Op != token.QUO {
		return
	}
	switch {
	case anyTerm(value.Type, isComplex):
		c.report(node.Pos(), ruleFloat, whyComplex)
	case node.Op == token.MUL && anyTerm(value.Type, isFloat) && !c.isRounded(cursor):
		c.report(node.Pos(), ruleFloat, "the product may be fused with a sum, even in a later statement; write float64(x*y)")
	}
}

// isRounded reports whether what happens to the product at cursor first is a conversion, or another product or a
// quotient, neither of which is fused.
func (c *checker) isRounded(cursor inspector.Cursor) bool {
	for {
		cursor = cursor.Parent()
		switch parent := cursor.Node().(type) {
		case *ast.ParenExpr:
		case *ast.UnaryExpr: // a sign changes no rounding
		case *ast.BinaryExpr:
			return parent.Op == token.MUL || parent.Op == token.QUO
		case *ast.CallExpr:
			to := c.pass.TypesInfo.Types[parent.Fun]
			return to.IsType() && anyTerm(to.Type, isFloat)
		default:
			return false
		}
	}
}

// productAssign reports x *= y, which leaves no place for the conversion.
func (c *checker) productAssign(node *ast.AssignStmt) {
	if node.Tok != token.MUL_ASSIGN && node.Tok != token.QUO_ASSIGN {
		return
	}
	t := c.pass.TypesInfo.TypeOf(node.Lhs[0])
	switch {
	case anyTerm(t, isComplex):
		c.report(node.Pos(), ruleFloat, whyComplex)
	case node.Tok == token.MUL_ASSIGN && anyTerm(t, isFloat):
		c.report(node.Pos(), ruleFloat, "the product may be fused with a sum in a later statement; write x = float64(x*y)")
	}
}
