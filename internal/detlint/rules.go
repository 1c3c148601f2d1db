package detlint

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"

	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// rule is the name by which a directive speaks of a kind of finding.
type rule string

const (
	ruleTime     rule = "time"
	ruleRand     rule = "rand"
	ruleEnv      rule = "env"
	ruleIO       rule = "io"
	ruleRuntime  rule = "runtime"
	ruleGo       rule = "go"
	ruleSelect   rule = "select"
	ruleSync     rule = "sync"
	ruleMapRange rule = "maprange"
	ruleMath     rule = "math"
	ruleFloat    rule = "float"
	ruleFloatInt rule = "floatint"
	ruleImport   rule = "import"
)

func (r rule) known() bool {
	switch r {
	case ruleTime, ruleRand, ruleEnv, ruleIO, ruleRuntime, ruleGo, ruleSelect, ruleSync, ruleMapRange, ruleMath, ruleFloat, ruleFloatInt, ruleImport:
		return true
	}
	return false
}

const (
	whyTime    = "take the time from the log entry"
	whyRand    = "replicas draw different numbers; derive them from the log entry"
	whyEnv     = "differs between hosts; what matters belongs into the log"
	whyIO      = "the outside answers each replica differently"
	whyRuntime = "differs between processes"
	whyMath    = "is not bit-equal on every processor"
)

// use checks what an identifier refers to, however it was imported or passed on.
func (c *checker) use(cursor inspector.Cursor, id *ast.Ident) {
	obj := c.pass.TypesInfo.Uses[id]
	if obj == nil || obj.Pkg() == nil || obj.Pkg() == c.pass.Pkg {
		return
	}
	switch obj.(type) {
	case *types.Func, *types.Var:
	default:
		return // types and constants do nothing by themselves
	}
	path, name := obj.Pkg().Path(), nameInPackage(obj)
	if name == "" {
		return
	}
	full := path[strings.LastIndex(path, "/")+1:] + "." + name
	r, why := judge(path, name)
	switch {
	case r == "":
	case path == "time" && strings.HasPrefix(name, "Unix") && calledWithUTC(cursor):
	case path == "maps" && isSorted(c.pass.TypesInfo, cursor):
	default:
		c.report(id.Pos(), r, full+": "+why)
	}
}

// nameInPackage is Name for a function or variable of the package, Type.Name for a method, empty for fields and methods of
// unnamed types.
func nameInPackage(obj types.Object) string {
	if fn, ok := obj.(*types.Func); ok {
		if recv := fn.Signature().Recv(); recv != nil {
			t := types.Unalias(recv.Type())
			if p, ok := t.(*types.Pointer); ok {
				t = types.Unalias(p.Elem())
			}
			if named, ok := t.(*types.Named); ok {
				return named.Obj().Name() + "." + fn.Name()
			}
			return ""
		}
		return fn.Name()
	}
	if obj.Parent() != obj.Pkg().Scope() {
		return ""
	}
	return obj.Name()
}

// judge returns the rule that forbids a function, method or variable, and why; no rule if it may be used.
func judge(path, name string) (rule, string) {
	switch path {
	case "time":
		return judgeTime(name)
	case "context":
		switch name {
		case "WithTimeout", "WithDeadline", "WithTimeoutCause", "WithDeadlineCause":
			return ruleTime, "watches the clock; " + whyTime
		}
	case "math/rand", "math/rand/v2", "crypto/rand", "hash/maphash":
		return ruleRand, whyRand
	case "crypto/ed25519", "crypto/rsa", "crypto/ecdsa":
		if name == "GenerateKey" {
			return ruleRand, whyRand
		}
	case "github.com/google/uuid":
		switch name {
		case "New", "NewString", "NewRandom", "NewRandomFromReader", "NewUUID", "NewV6", "NewV7", "NewV7FromReader", "NewDCEGroup", "NewDCEPerson", "NewDCESecurity", "NodeID":
			return ruleRand, whyRand
		}
	case "os":
		return judgeOS(name)
	case "fmt":
		switch name {
		case "Print", "Printf", "Println", "Scan", "Scanf", "Scanln":
			return ruleIO, whyIO
		}
	case "os/exec", "os/signal", "net", "net/http", "log", "io/ioutil", "path/filepath":
		if path == "path/filepath" && !touchesFiles(name) || path == "net" && (strings.HasPrefix(name, "Parse") || strings.Contains(name, "HostPort")) {
			return "", ""
		}
		return ruleIO, whyIO
	case "os/user", "syscall", "golang.org/x/sys/unix":
		return ruleEnv, whyEnv
	case "runtime", "runtime/debug", "runtime/metrics", "plugin":
		if name != "KeepAlive" && !strings.HasPrefix(name, "Error.") {
			return ruleRuntime, whyRuntime
		}
	case "reflect":
		return judgeReflect(name)
	case "maps":
		switch name {
		case "Keys", "Values", "All":
			return ruleMapRange, "yields in random order; wrap it in slices.Sorted, slices.SortedFunc or slices.SortedStableFunc"
		}
	case "sync":
		if name == "Map.Range" {
			return ruleMapRange, "visits in random order"
		}
	case "encoding/gob":
		return ruleMapRange, "writes maps in random order"
	case "math":
		return judgeMath(name)
	case "math/cmplx":
		return ruleMath, whyMath
	}
	return "", ""
}

func judgeTime(name string) (rule, string) {
	switch name {
	case "Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker":
		return ruleTime, whyTime
	case "Local", "LoadLocation", "Time.Local":
		return ruleTime, "the time zone is the machine's; use UTC"
	case "Unix", "UnixMilli", "UnixMicro":
		return ruleTime, "the result is in the machine's time zone; call .UTC() on it at once"
	}
	return "", ""
}

func judgeOS(name string) (rule, string) {
	switch name {
	case "Getenv", "LookupEnv", "Environ", "Expand", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv", "Args", "Hostname", "Executable",
		"Getpid", "Getppid", "Getuid", "Geteuid", "Getgid", "Getegid", "Getgroups", "Getwd", "Getpagesize",
		"TempDir", "UserHomeDir", "UserCacheDir", "UserConfigDir":
		return ruleEnv, whyEnv
	case "IsExist", "IsNotExist", "IsPermission", "IsTimeout", "IsPathSeparator", "NewSyscallError":
		return "", ""
	}
	if strings.HasPrefix(name, "Err") || strings.Contains(name, ".") {
		return "", "" // a file's methods need a file, and getting one is reported
	}
	return ruleIO, whyIO
}

func touchesFiles(name string) bool {
	switch name {
	case "Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir":
		return true
	}
	return false
}

func judgeReflect(name string) (rule, string) {
	switch name {
	case "Value.MapKeys", "Value.MapRange", "Value.Seq", "Value.Seq2":
		return ruleMapRange, "visits maps in random order"
	case "Value.Pointer", "Value.UnsafePointer", "Value.UnsafeAddr":
		return ruleRuntime, "addresses differ between processes"
	case "Select":
		return ruleSelect, "takes any of the cases that are ready"
	}
	return "", ""
}

// judgeMath allows what IEEE 754 defines to the last bit or what only takes numbers apart.
func judgeMath(name string) (rule, string) {
	switch name {
	case "Abs", "Ceil", "Copysign", "Dim", "Float32bits", "Float32frombits", "Float64bits", "Float64frombits", "Floor", "Frexp", "Ilogb",
		"Inf", "IsInf", "IsNaN", "Ldexp", "Logb", "Max", "Min", "Mod", "Modf", "NaN", "Nextafter", "Nextafter32", "Remainder", "Round",
		"RoundToEven", "Signbit", "Sqrt", "Trunc":
		return "", ""
	case "FMA":
		return ruleFloat, "rounds once where float64(x*y) + z rounds twice"
	}
	return ruleMath, whyMath
}

// calledWithUTC reports whether the function that cursor's identifier names is called and the result's UTC method is
// called at once.
func calledWithUTC(cursor inspector.Cursor) bool {
	call, ok := enclosingCall(cursor)
	if !ok {
		return false
	}
	selector, ok := call.Parent().Node().(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "UTC"
}

// isSorted reports whether the call of the function that cursor's identifier names is an argument of slices.Sorted or
// one of its sisters.
func isSorted(info *types.Info, cursor inspector.Cursor) bool {
	call, ok := enclosingCall(cursor)
	if !ok || call.ParentEdgeKind() != edge.CallExpr_Args {
		return false
	}
	outer, ok := call.Parent().Node().(*ast.CallExpr)
	if !ok {
		return false
	}
	fn := ast.Unparen(outer.Fun)
	if selector, ok := fn.(*ast.SelectorExpr); ok {
		fn = selector.Sel
	}
	id, ok := fn.(*ast.Ident)
	if !ok {
		return false
	}
	obj := info.Uses[id]
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == "slices" && strings.HasPrefix(obj.Name(), "Sorted")
}

// enclosingCall returns the call whose function is cursor's identifier, with or without its package's name.
func enclosingCall(cursor inspector.Cursor) (inspector.Cursor, bool) {
	if cursor.ParentEdgeKind() == edge.SelectorExpr_Sel {
		cursor = cursor.Parent()
	}
	if cursor.ParentEdgeKind() != edge.CallExpr_Fun {
		return inspector.Cursor{}, false
	}
	return cursor.Parent(), true
}

// call checks conversions from float to integer and formats that print addresses.
func (c *checker) call(call *ast.CallExpr) {
	info := c.pass.TypesInfo
	if to := info.Types[call.Fun]; to.IsType() && len(call.Args) == 1 {
		from := info.Types[call.Args[0]]
		if from.Value == nil && anyTerm(from.Type, isFloat) && anyTerm(to.Type, isInteger) {
			c.report(call.Pos(), ruleFloatInt, "NaN and what is out of range become different integers on different processors; check the range first and say so")
		}
		return
	}
	fn, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr)
	if !ok {
		return
	}
	if obj := info.Uses[fn.Sel]; obj == nil || obj.Pkg() == nil || obj.Pkg().Path() != "fmt" {
		return
	}
	for _, arg := range call.Args {
		if v := info.Types[arg].Value; v != nil && v.Kind() == constant.String && strings.Contains(constant.StringVal(v), "%p") {
			c.report(arg.Pos(), ruleRuntime, "%p prints an address, which differs between processes")
		}
	}
}
