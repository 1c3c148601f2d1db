package constitution

import (
	"bytes"
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
	errTextList = errors.New("a list of texts is wanted")
	errTooLong  = fmt.Errorf("the text becomes longer than %d bytes", TextBytesMax)
)

// Texts returns, a line each, the texts and numbers under the members of v that have
// one of the names, at any depth. Within an object they come in the order of names.
// What is under args, argv and arguments continues the line, as the rest of a command
// does; of a list under these names, or under command and cmd, each element is quoted
// for a shell where it would not be one word.
func Texts(v pci.Value, names []string) string {
	return string(appendTexts(nil, v.AppendCanonical(nil), names))
}

// appendTexts works on canonical JSON as it stands, so that it need not be taken apart
// for every list of names.
func appendTexts(dst, text []byte, names []string) []byte {
	switch text[0] {
	case '[':
		for m := (members{}); m.next(text); {
			dst = appendTexts(dst, text[m.from:m.to], names)
		}
	case '{':
		dst = appendNamed(dst, text, names)
		for m := (members{}); m.next(text); {
			if c := text[m.from]; (c == '{' || c == '[') && indexName(names, text[m.nameFrom:m.nameTo]) < 0 {
				dst = appendTexts(dst, text[m.from:m.to], names)
			}
		}
	}
	return dst
}

// appendNamed appends what is under the names in one object.
func appendNamed(dst, text []byte, names []string) []byte {
	var found [textsNamesMax]members
	some := false
	for m := (members{}); m.next(text); {
		if i := indexName(names, text[m.nameFrom:m.nameTo]); i >= 0 && i < textsNamesMax {
			found[i], some = m, true
		}
	}
	for i := 0; some && i < len(names) && i < textsNamesMax; i++ {
		m := found[i]
		if m.to == 0 {
			continue
		}
		line := isArguments(names[i])
		if len(dst) > 0 {
			dst = append(dst, lineOrSpace(line))
		}
		dst = appendLeaves(dst, text[m.from:m.to], line || names[i] == "command" || names[i] == "cmd")
	}
	return dst
}

// textsNamesMax is how many names a list may have.
const textsNamesMax = 32

func indexName(names []string, name []byte) int {
	for i, n := range names {
		if n == string(name) {
			return i
		}
	}
	if bytes.IndexByte(name, '\\') >= 0 {
		return slices.Index(names, unquoted(name))
	}
	return -1
}

func isArguments(name string) bool { return name == "args" || name == "argv" || name == "arguments" }

func lineOrSpace(space bool) byte {
	if space {
		return ' '
	}
	return '\n'
}

func appendLeaves(dst, text []byte, words bool) []byte {
	switch text[0] {
	case '"':
		return appendUnquoted(dst, text[1:len(text)-1])
	case '[', '{':
		first := true
		for m := (members{}); m.next(text); {
			if !first {
				dst = append(dst, lineOrSpace(words))
			}
			first = false
			e := text[m.from:m.to]
			if words && text[0] == '[' && e[0] == '"' && bytes.ContainsAny(e[1:len(e)-1], " \\;|&<>()$`'*?#~") {
				dst = append(append(append(dst, '\''), strings.ReplaceAll(unquoted(e[1:len(e)-1]), "'", `'\''`)...), '\'')
			} else {
				dst = appendLeaves(dst, e, words)
			}
		}
		return dst
	case 't', 'f', 'n':
		return dst
	}
	return append(dst, text...)
}

func unquoted(inside []byte) string { return string(appendUnquoted(nil, inside)) }

// appendUnquoted appends what stands between the quotes of a JSON string.
func appendUnquoted(dst, inside []byte) []byte {
	if bytes.IndexByte(inside, '\\') < 0 {
		return append(dst, inside...)
	}
	quoted := append(append([]byte{'"'}, inside...), '"')
	v, err := pci.Parse(quoted, pci.Limits{BytesMax: len(quoted) + DocumentBytesMax})
	if err != nil {
		return append(dst, inside...) // cannot be: it was canonical
	}
	return append(dst, v.String()...)
}

// members walks an object or array in canonical JSON; the current member's name (of an
// object) and value are text[nameFrom:nameTo] and text[from:to].
type members struct{ nameFrom, nameTo, from, to int }

func (m *members) next(text []byte) bool {
	at := m.to + 1 // behind a comma
	if m.to == 0 {
		at = 1
	} else if text[m.to] != ',' {
		return false
	}
	if c := text[at]; c == ']' || c == '}' {
		return false
	}
	if text[0] == '{' {
		end := skipJSON(text, at)
		m.nameFrom, m.nameTo = at+1, end-1
		at = end + 1
	}
	m.from, m.to = at, skipJSON(text, at)
	return true
}

// skipJSON returns where the value that begins at i in canonical JSON ends.
func skipJSON(text []byte, i int) int {
	for depth := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i // of a number or a word at the end of its container
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// scopesMax is how many scopes a list and the lists in it may have.
const scopesMax = 64

// Within reports whether paths, one a line, by their letters alone, all lie in one of
// the scopes each. A relative path is taken from the first scope; ~ and a variable lie
// in a scope only if that begins the same way. Case does not count, of ASCII letters: which
// others are the same depends on the version of Unicode. The empty path lies
// anywhere.
func Within(paths string, scopes []string) bool {
	if paths == "" {
		return true
	}
	clean := make([]string, 0, len(scopes))
	for _, s := range scopes {
		clean = append(clean, cleanPath(s))
	}
	for paths != "" {
		var p string
		if p, paths, _ = strings.Cut(paths, "\n"); p != "" && !isWithin(p, clean) {
			return false
		}
	}
	return true
}

func isWithin(p string, scopes []string) bool {
	p = cleanPath(p)
	if !isRooted(p) && len(scopes) > 0 {
		p = cleanPath(scopes[0] + "/" + p)
	}
	for _, s := range scopes {
		if s == "/" && strings.HasPrefix(p, "/") || strings.HasPrefix(p, s) && (len(p) == len(s) || p[len(s)] == '/') {
			return true
		}
		if s == "." && !isRooted(p) && p != ".." && !strings.HasPrefix(p, "../") {
			return true
		}
	}
	return false
}

func cleanPath(p string) string {
	p, _ = lowerASCII(strings.ReplaceAll(p, `\`, "/"))
	p = strings.TrimPrefix(p, "file://")
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
