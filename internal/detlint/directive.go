package detlint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
)

const directivePrefix = "//detlint:"

// directive is one exemption, or the fault that makes it none.
type directive struct {
	pos         token.Pos
	rule        rule
	fault       string
	first, last int // lines that it covers
	used        bool
}

type directives []*directive

// allow reports whether a directive covers f, and marks it as used.
func (ds directives) allow(fset *token.FileSet, f finding) bool {
	line := fset.Position(f.pos).Line
	var narrowest *directive
	for _, d := range ds {
		if d.fault != "" || d.rule != f.rule || line < d.first || line > d.last {
			continue
		}
		if narrowest == nil || d.last-d.first < narrowest.last-narrowest.first {
			narrowest = d
		}
	}
	if narrowest == nil {
		return false
	}
	narrowest.used = true
	return true
}

func (ds directives) reportFaults(pass *analysis.Pass) {
	for _, d := range ds {
		switch {
		case d.fault != "":
			pass.Reportf(d.pos, "%s", d.fault)
		case !d.used:
			pass.Reportf(d.pos, "this directive allows nothing: there is no %s finding in its reach", d.rule)
		}
	}
}

func readDirectives(pass *analysis.Pass, file *ast.File) (directives, error) {
	var found directives
	var source []byte
	for _, group := range file.Comments {
		for _, comment := range group.List {
			text, ok := strings.CutPrefix(comment.Text, directivePrefix)
			if !ok {
				continue
			}
			if source == nil {
				name := pass.Fset.Position(file.Package).Filename
				var err error
				if source, err = pass.ReadFile(name); err != nil {
					return nil, fmt.Errorf("reading %s for its directives: %w", name, err)
				}
			}
			d := parseDirective(text)
			d.pos = comment.Pos()
			d.first, d.last = reach(pass.Fset, file, source, group, comment)
			found = append(found, d)
		}
	}
	return found, nil
}

// parseDirective reads what follows the prefix.
func parseDirective(text string) *directive {
	verb, rest, _ := strings.Cut(text, " ")
	d := &directive{}
	switch verb {
	case "ordered":
		d.rule = ruleMapRange
	case "allow":
		var name string
		name, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
		d.rule = rule(name)
		if !d.rule.known() {
			d.fault = fmt.Sprintf("directive for an unknown rule %q", name)
			return d
		}
	default:
		d.fault = fmt.Sprintf("unknown directive %s%s", directivePrefix, verb)
		return d
	}
	if strings.TrimSpace(rest) == "" {
		d.fault = "directive without a reason"
	}
	return d
}

// reach returns the lines that a directive covers: the file if it stands above the package clause, the function if it
// stands in its comment, the line before which it stands alone, else its own line.
func reach(fset *token.FileSet, file *ast.File, source []byte, group *ast.CommentGroup, comment *ast.Comment) (first, last int) {
	line := func(pos token.Pos) int { return fset.Position(pos).Line }
	if comment.Pos() < file.Package {
		return 1, line(file.FileEnd)
	}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Doc == group {
			return line(fn.Pos()), line(fn.End())
		}
	}
	at := fset.Position(comment.Pos())
	before := source[at.Offset-(at.Column-1) : at.Offset]
	if len(bytes.TrimSpace(before)) > 0 {
		return at.Line, at.Line
	}
	next := line(group.End()) + 1
	return next, next
}
