package constitution

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/bizra/bizra/pci"
)

var (
	errTextList  = errors.New("a list of texts is wanted")
	errManyLines = fmt.Errorf("the text has more than %d lines", writesMax)
	errTooLong   = fmt.Errorf("the text becomes longer than %d bytes", TextBytesMax)
)

// Texts returns, a line each, the texts and numbers under the members of v that have
// one of the names, at any depth. Within an object they come in the order of names.
// What is under args, argv and arguments continues the line, as the rest of a command
// does; of a list under these names, or under command and cmd, each element is quoted
// for a shell where it would not be one word.
func Texts(v pci.Value, names []string) string {
	var b strings.Builder
	appendTexts(&b, v, names)
	return b.String()
}

func appendTexts(b *strings.Builder, v pci.Value, names []string) {
	switch v.Kind() {
	case pci.ArrayKind:
		for _, e := range v.Elems() {
			appendTexts(b, e, names)
		}
	case pci.ObjectKind:
		members := v.Members()
		for _, name := range names {
			i, ok := slices.BinarySearchFunc(members, name, func(m pci.Member, name string) int { return strings.Compare(m.Name, name) })
			if !ok {
				continue
			}
			line := isArguments(name)
			if b.Len() > 0 {
				b.WriteByte(lineOrSpace(line))
			}
			appendLeaves(b, members[i].Value, line || name == "command" || name == "cmd")
		}
		for _, m := range members {
			if !slices.Contains(names, m.Name) {
				appendTexts(b, m.Value, names)
			}
		}
	}
}

func isArguments(name string) bool { return name == "args" || name == "argv" || name == "arguments" }

func lineOrSpace(space bool) byte {
	if space {
		return ' '
	}
	return '\n'
}

func appendLeaves(b *strings.Builder, v pci.Value, words bool) {
	switch v.Kind() {
	case pci.StringKind:
		b.WriteString(v.String())
	case pci.NumberKind:
		b.WriteString(v.NumberText())
	case pci.ArrayKind:
		for i, e := range v.Elems() {
			if i > 0 {
				b.WriteByte(lineOrSpace(words))
			}
			if s := e.String(); words && strings.ContainsAny(s, " \t\n;|&<>()$`\"'*?#~") {
				b.WriteString("'" + strings.ReplaceAll(s, "'", `'\''`) + "'")
			} else {
				appendLeaves(b, e, words)
			}
		}
	case pci.ObjectKind:
		for i, m := range v.Members() {
			if i > 0 {
				b.WriteByte(lineOrSpace(words))
			}
			appendLeaves(b, m.Value, words)
		}
	}
}

// Within reports whether a path, by its letters alone, lies in one of the scopes. A
// relative path is taken from the first scope; ~ and a variable lie in a scope only if
// that begins the same way. Case does not count. The empty path lies anywhere.
func Within(p string, scopes []string) bool {
	if p == "" {
		return true
	}
	p = cleanPath(p)
	if !isRooted(p) && len(scopes) > 0 {
		p = cleanPath(scopes[0] + "/" + p)
	}
	for _, s := range scopes {
		s = cleanPath(s)
		if s == "/" && strings.HasPrefix(p, "/") || p == s || strings.HasPrefix(p, s+"/") {
			return true
		}
		if s == "." && !isRooted(p) && p != ".." && !strings.HasPrefix(p, "../") {
			return true
		}
	}
	return false
}

func cleanPath(p string) string {
	p = strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(p, `\`, "/")), "file://")
	p = strings.Replace(p, "${home}", "~", 1)
	return path.Clean(strings.Replace(p, "$home", "~", 1))
}

func isRooted(p string) bool {
	return p != "" && (p[0] == '/' || p[0] == '~' || p[0] == '$') || len(p) > 1 && p[1] == ':'
}

func compilePattern(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("not a regular expression (RE2): %w", err)
	}
	return re, nil
}

// celWithout is only reached where the pattern was not compiled beforehand, see withoutPattern.
func celWithout(text, pattern ref.Val) ref.Val {
	s, ok := text.(types.String)
	p, ok2 := pattern.(types.String)
	if !ok || !ok2 {
		return types.MaybeNoSuchOverloadErr(text)
	}
	re, err := compilePattern(string(p))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(re.ReplaceAllLiteralString(string(s), ""))
}

// withoutPattern compiles the pattern of bizra.without once, as CEL does for matches.
func withoutPattern() cel.ProgramOption {
	return cel.OptimizeRegex(&interpreter.RegexOptimization{Function: "bizra.without", RegexIndex: 1,
		Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
			re, err := compilePattern(pattern)
			if err != nil {
				return nil, err
			}
			return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
				if len(args) != 2 {
					return types.NoSuchOverloadErr()
				}
				s, ok := args[0].(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(args[0])
				}
				return types.String(re.ReplaceAllLiteralString(string(s), ""))
			}), nil
		}})
}
