// Package detlint is a go/analysis analyzer that keeps the state machine deterministic: every replica, on every
// processor, must compute the same bytes from the same log.
//
// In the packages it covers (fsm/... and pci, without their test files) it reports
//
//	time      the clock, timers, the machine's time zone
//	rand      randomness, seeded by the machine or not
//	env       environment, arguments, names and numbers of the host and the process
//	io        files, network, other processes, standard output
//	runtime   what differs between processes: addresses, number of processors, operating system
//	go        every start of a goroutine
//	select    every choice among channels
//	sync      package-level variables that hold locks, atomics, pools or channels
//	maprange  iteration over maps in an order that shows
//	math      functions of package math that are not exact, and so not equal on every processor
//	float     products that the compiler may fuse with a sum, complex arithmetic
//	floatint  conversions from float to integer, undefined outside the integer's range
//	import    packages of this project that are not covered themselves
//
// A line that is right all the same says why:
//
//	//detlint:allow <rule> <reason>
//	//detlint:ordered <reason>        short for allow maprange
//
// on the line or on its own above it, in the comment of a function for all of it, or above the package clause for all
// of the file. A directive without a reason, with an unknown rule, or that allows nothing is reported itself.
//
// On float: the language permits fusing x*y + z "possibly across statements" and names the explicit conversion as the
// only thing that prevents it (specification, Floating-point operators). So it is every product that has to be written
// float64(x*y), not only those with a sum next to them; products inside a larger product or quotient need none.
//
// It looks at the source of the covered packages only. What a library does inside, and what a caller hands in behind
// an interface or as a function, it cannot see.
package detlint

import (
	"cmp"
	"errors"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// Config says which packages are covered. The zero Config is the one for this project.
type Config struct {
	// Module is the path below which an import is one of the project's own.
	Module string
	// Covered and Exempt are import paths, each with everything below it. What is exempt is not covered.
	Covered, Exempt []string
}

func (c Config) withDefaults() Config {
	if c.Module == "" {
		c.Module = "github.com/bizra/bizra"
	}
	if c.Covered == nil {
		c.Covered = []string{c.Module + "/fsm", c.Module + "/pci"}
	}
	if c.Exempt == nil {
		// The disk itself, and the tests that every store has to pass.
		c.Exempt = []string{c.Module + "/fsm/store/pebblestore", c.Module + "/fsm/store/storetest"}
	}
	return c
}

func (c Config) covers(path string) bool {
	if strings.HasSuffix(path, ".test") {
		return false // the main package that the go command makes for a test
	}
	below := func(root string) bool { return isBelow(path, root) }
	return slices.ContainsFunc(c.Covered, below) && !slices.ContainsFunc(c.Exempt, below)
}

func isBelow(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// New returns the analyzer.
func New(config Config) *analysis.Analyzer {
	config = config.withDefaults()
	return &analysis.Analyzer{
		Name:     "detlint",
		Doc:      "report what could make two replicas of the state machine differ",
		Requires: []*analysis.Analyzer{inspect.Analyzer},
		Run: func(pass *analysis.Pass) (any, error) {
			if !config.covers(pass.Pkg.Path()) {
				return nil, nil
			}
			return nil, check(pass, config)
		},
	}
}

// finding is one thing that a rule forbids, before directives are considered.
type finding struct {
	pos  token.Pos
	rule rule
	text string
}

// checker goes over the files of one package.
type checker struct {
	pass     *analysis.Pass
	config   Config
	findings []finding
}

func (c *checker) report(pos token.Pos, r rule, text string) {
	c.findings = append(c.findings, finding{pos, r, text})
}

func check(pass *analysis.Pass, config Config) error {
	syntax, ok := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	if !ok {
		return errors.New("the inspect pass gave no syntax")
	}
	for cursor := range syntax.Root().Children() {
		file, ok := cursor.Node().(*ast.File)
		if !ok || strings.HasSuffix(pass.Fset.Position(file.Package).Filename, "_test.go") {
			continue
		}
		c := &checker{pass: pass, config: config}
		c.file(cursor, file)
		directives, err := readDirectives(pass, file)
		if err != nil {
			return err
		}
		for _, f := range c.findings {
			if !directives.allow(pass.Fset, f) {
				pass.Reportf(f.pos, "%s: %s", f.rule, f.text)
			}
		}
		directives.reportFaults(pass)
	}
	return nil
}

func (c *checker) file(root inspector.Cursor, file *ast.File) {
	for _, spec := range file.Imports {
		c.importSpec(spec)
	}
	for _, decl := range file.Decls {
		if vars, ok := decl.(*ast.GenDecl); ok && vars.Tok == token.VAR {
			c.packageVars(vars)
		}
	}
	for cursor := range root.Preorder((*ast.Ident)(nil), (*ast.GoStmt)(nil), (*ast.SelectStmt)(nil), (*ast.RangeStmt)(nil),
		(*ast.BinaryExpr)(nil), (*ast.AssignStmt)(nil), (*ast.CallExpr)(nil)) {
		switch node := cursor.Node().(type) {
		case *ast.Ident:
			c.use(cursor, node)
		case *ast.GoStmt:
			c.report(node.Pos(), ruleGo, "goroutines run in an order of their own")
		case *ast.SelectStmt:
			c.report(node.Pos(), ruleSelect, "select takes any of the cases that are ready")
		case *ast.RangeStmt:
			c.rangeStmt(node)
		case *ast.BinaryExpr:
			c.product(cursor, node)
		case *ast.AssignStmt:
			c.productAssign(node)
		case *ast.CallExpr:
			c.call(node)
		}
	}
	slices.SortStableFunc(c.findings, func(a, b finding) int { return cmp.Compare(a.pos, b.pos) })
}

func (c *checker) importSpec(spec *ast.ImportSpec) {
	path, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return // the compiler has said so already
	}
	switch {
	case isBelow(path, c.config.Module) && !c.config.covers(path):
		c.report(spec.Pos(), ruleImport, path+" is not checked for determinism")
	case path == "unsafe":
		c.report(spec.Pos(), ruleRuntime, "with package unsafe addresses become values")
	}
}

// packageVars reports variables of a package that would let one call see another's timing.
func (c *checker) packageVars(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		values, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for _, name := range values.Names {
			obj := c.pass.TypesInfo.Defs[name]
			if obj == nil || name.Name == "_" {
				continue
			}
			if part := synchronises(obj.Type(), 0); part != "" {
				c.report(name.Pos(), ruleSync, "package variable "+name.Name+" holds a "+part+", shared by every state machine of the process")
			}
		}
	}
}

// typeNestingMax ends the search in recursive types.
const typeNestingMax = 8

// synchronises names the part of t, if any, by which goroutines meet.
func synchronises(t types.Type, nesting int) string {
	if nesting > typeNestingMax {
		return ""
	}
	if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() != nil {
		if path := named.Obj().Pkg().Path(); path == "sync" || path == "sync/atomic" {
			return path[strings.LastIndex(path, "/")+1:] + "." + named.Obj().Name()
		}
	}
	switch under := t.Underlying().(type) {
	case *types.Chan:
		return "channel"
	case *types.Pointer:
		return synchronises(under.Elem(), nesting+1)
	case *types.Slice:
		return synchronises(under.Elem(), nesting+1)
	case *types.Array:
		return synchronises(under.Elem(), nesting+1)
	case *types.Map:
		return synchronises(under.Elem(), nesting+1)
	case *types.Struct:
		for field := range under.Fields() {
			if part := synchronises(field.Type(), nesting+1); part != "" {
				return part
			}
		}
	}
	return ""
}

func (c *checker) rangeStmt(node *ast.RangeStmt) {
	if !anyTerm(c.pass.TypesInfo.TypeOf(node.X), isMap) {
		return
	}
	if isBlank(node.Key) && isBlank(node.Value) {
		return // counts, whatever the order
	}
	c.report(node.Pos(), ruleMapRange, "a map is ranged over in random order; range over slices.Sorted(maps.Keys(m)), or say why the order does not show")
}

func isBlank(e ast.Expr) bool {
	if e == nil {
		return true
	}
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}

func isMap(t types.Type) bool {
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// anyTerm reports whether is holds for t or, where t is a type parameter, for a type that it may stand for.
func anyTerm(t types.Type, is func(types.Type) bool) bool {
	if t == nil {
		return false
	}
	parameter, ok := types.Unalias(t).(*types.TypeParam)
	if !ok {
		return is(t)
	}
	return anyTermOf(parameter.Constraint(), is)
}

func anyTermOf(constraint types.Type, is func(types.Type) bool) bool {
	switch u := constraint.Underlying().(type) {
	case *types.Interface:
		for embedded := range u.EmbeddedTypes() {
			if union, ok := embedded.(*types.Union); ok {
				for term := range union.Terms() {
					if anyTermOf(term.Type(), is) {
						return true
					}
				}
			} else if anyTermOf(embedded, is) {
				return true
			}
		}
		return false
	default:
		return is(constraint)
	}
}
