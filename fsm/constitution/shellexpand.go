package constitution

import (
	"strconv"
	"strings"
)

// dollar reads what begins with $ or a back quote and appends what it stands for.
func (p *parser) dollar(b []byte, w *word, quoted bool) ([]byte, error) {
	if p.text[p.pos] == '`' {
		rest := p.text[p.pos+1:]
		end := strings.IndexByte(rest, '`')
		if end < 0 {
			end = len(rest)
		}
		p.pos = min(p.pos+end+2, len(p.text))
		return p.substitution(b, w, rest[:end], quoted)
	}
	p.pos++
	switch c := p.peek(0); {
	case c == '(' && p.peek(1) == '(':
		p.parenthesised()
		return append(b, '0'), nil
	case c == '(':
		return p.substitution(b, w, p.parenthesised(), quoted)
	case c == '\'' && !quoted:
		w.quoted = true
		return p.ansiQuoted(b), nil
	case c == '"' && !quoted:
		w.quoted = true
		return p.doubleQuoted(b, w)
	case c == '{':
		return p.braced(b, quoted)
	case c == '@' || c == '*' || isDigit(c) || c == '#' || c == '?' || c == '!' || c == '-' || c == '$':
		p.pos++
		return b, nil // of a script's arguments nothing is known
	case isName(c, true):
		start := p.pos
		for p.pos < len(p.text) && isName(p.text[p.pos], false) {
			p.pos++
		}
		return p.variable(b, p.text[start:p.pos], quoted)
	}
	return append(b, '$'), nil
}

func isName(c byte, first bool) bool {
	return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' || !first && isDigit(c)
}

// ansiQuoted reads $'…'.
func (p *parser) ansiQuoted(b []byte) []byte {
	for p.pos++; p.pos < len(p.text); {
		c := p.text[p.pos]
		if c == '\'' {
			p.pos++
			return b
		}
		if v, n := escapeAt(p.text[p.pos:]); n > 0 && c == '\\' && v < 0x7f {
			b = appendMarked(b, byte(v))
			p.pos += n
			continue
		}
		if c == '\\' && p.pos+1 < len(p.text) {
			p.pos++
			switch c = p.text[p.pos]; c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			}
		}
		b = appendMarked(b, c)
		p.pos++
	}
	return b
}

// braced reads ${…}.
func (p *parser) braced(b []byte, quoted bool) ([]byte, error) {
	start := p.pos + 1
	end := strings.IndexByte(p.text[start:], '}')
	if end < 0 {
		p.pos = len(p.text)
		return b, nil
	}
	body := p.text[start : start+end]
	p.pos = start + end + 1
	body = strings.TrimPrefix(body, "!")
	n := 0
	for n < len(body) && isName(body[n], n == 0) {
		n++
	}
	name, op := body[:n], body[n:]
	if op == "" {
		return p.variable(b, name, quoted)
	}
	value, known := p.shell.lookup(name)
	switch {
	case strings.HasPrefix(strings.TrimPrefix(op, ":"), "?"):
		return p.variable(b, name, quoted)
	case name == "" || op == "[@]" || op == "[*]":
		return b, nil
	case op[0] == ':' && len(op) > 1 && isDigit(op[1]):
		return p.value(b, substring(value, op[1:]), quoted)
	case !known && strings.ContainsRune(":-=+", rune(op[0])):
		alternative := strings.Trim(strings.TrimLeft(op, ":-=+"), `"'`)
		return p.value(b, alternative, quoted)
	case known:
		return p.value(b, value, quoted)
	}
	return p.variable(b, name, quoted)
}

// substring is ${name:offset:length}.
func substring(value, op string) string {
	from, count, _ := strings.Cut(op, ":")
	i, err := strconv.Atoi(from)
	if err != nil || i > len(value) {
		return ""
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > len(value)-i {
		n = len(value) - i
	}
	return value[i : i+n]
}

func (p *parser) variable(b []byte, name string, quoted bool) ([]byte, error) {
	if name == "IFS" {
		if quoted {
			return append(b, spaceMark), nil
		}
		return append(b, splitMark), nil
	}
	if value, ok := p.shell.lookup(name); ok {
		return p.value(b, value, quoted)
	}
	// One that is set nowhere, between letters, only splits a word that would be known.
	if len(b) > 0 && isName(b[len(b)-1], true) && isName(p.peek(0), true) {
		return b, nil
	}
	return append(append(b, '$'), name...), nil
}

func (p *parser) value(b []byte, value string, quoted bool) ([]byte, error) {
	if err := p.shell.spend(len(value)); err != nil {
		return nil, err
	}
	if quoted {
		return appendMarkedText(b, value), nil
	}
	separators, ok := p.shell.lookup("IFS")
	if !ok {
		separators = " \t\n"
	}
	for i := range len(value) {
		c := value[i]
		if strings.IndexByte(separators, c) >= 0 {
			c = splitMark
		}
		b = append(b, c)
	}
	return b, nil
}

func (p *parser) substitution(b []byte, w *word, inner string, quoted bool) ([]byte, error) {
	if err := p.shell.run(inner, p.depth+1); err != nil {
		return nil, err
	}
	if value, ok, err := p.shell.outcome(inner, p.depth+1); err != nil {
		return nil, err
	} else if ok {
		return p.value(b, value, quoted)
	}
	w.inner = append(w.inner, inner)
	return append(b, "$()"...), nil
}

// outcome is what a command that only prints what stands in it would print.
func (s *shell) outcome(text string, depth int) (string, bool, error) {
	trimmed := strings.TrimLeft(text, " \t")
	if !strings.HasPrefix(trimmed, "echo") && !strings.HasPrefix(trimmed, "printf") && !strings.Contains(trimmed, "<<<") {
		return "", false, nil
	}
	if err := s.spend(len(text)); err != nil {
		return "", false, err
	}
	// A shell of its own, so that what was shown once is not shown again.
	scratch := &shell{vars: s.vars[:len(s.vars):len(s.vars)], work: s.work}
	p := &parser{shell: scratch, text: text, depth: depth}
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case '\n', ';', '&', '(', ')':
			return "", false, nil // more than one pipeline
		}
		if err := p.token(); err != nil {
			return "", false, err
		}
	}
	p.endStage()
	s.work = scratch.work
	value, ok := printed(p.stages)
	return value, ok, nil
}

// printed is what a pipeline prints if it begins with a text that stands in it, and
// goes on with decoders.
func printed(stages []stage) (string, bool) {
	if len(stages) == 0 {
		return "", false
	}
	value, ok := printedFirst(stages[0])
	if !ok {
		return "", false
	}
	for _, st := range stages[1:] {
		if value, ok = filtered(st, value); !ok {
			return "", false
		}
	}
	return value, true
}

func printedFirst(st stage) (string, bool) {
	st = stripped(st)
	if len(st.words) == 0 {
		return "", false
	}
	args := st.words[1:]
	for i, w := range args {
		if w.redir {
			args = args[:i]
			break
		}
	}
	switch commandName(st.words[0].text) {
	case "echo":
		for len(args) > 0 && len(args[0].text) <= 3 && strings.HasPrefix(args[0].text, "-") {
			args = args[1:]
		}
		parts := make([]string, 0, len(args))
		for _, a := range args {
			parts = append(parts, plain(a.text))
		}
		return unescape(strings.Join(parts, " ")), true
	case "printf":
		return formatted(args)
	}
	if st.isHere {
		return filtered(st, st.here)
	}
	return "", false
}

// formatted is printf with the verbs for texts; a format is used again while there are
// arguments.
func formatted(args []word) (string, bool) {
	if len(args) == 0 {
		return "", false
	}
	format := unescape(strings.ReplaceAll(plain(args[0].text), `\n`, "\n"))
	args = args[1:]
	var b []byte
	for {
		before := len(args)
		for i := 0; i < len(format); i++ {
			if format[i] != '%' || i+1 == len(format) || strings.IndexByte("sbq", format[i+1]) < 0 {
				b = append(b, format[i])
				continue
			}
			i++
			if len(args) > 0 {
				b = append(b, unescape(plain(args[0].text))...)
				args = args[1:]
			}
		}
		if len(b) > TextBytesMax {
			return "", false
		}
		if len(args) == 0 || len(args) == before {
			return string(b), true
		}
	}
}

// filtered is what a decoder makes of its input.
func filtered(st stage, input string) (string, bool) {
	st = stripped(st)
	if len(st.words) == 0 {
		return input, true
	}
	has := func(flags ...string) bool {
		for _, w := range st.words[1:] {
			for _, f := range flags {
				if w.text == f {
					return true
				}
			}
		}
		return false
	}
	compact := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '=' || r == '\t' {
			return -1
		}
		return r
	}, input)
	switch commandName(st.words[0].text) {
	case "base64", "openssl":
		if has("-d", "-D", "--decode", "-di") {
			return decodeBase64(compact)
		}
	case "xxd":
		if has("-r", "-rp", "-pr") && len(compact)%2 == 0 {
			return decodeHex(compact)
		}
	case "rev":
		return reversed(input), true
	case "cat", "tee":
		return input, true
	case "tr":
		return rotated(st, input)
	}
	return "", false
}

func reversed(s string) string {
	runes := []rune(s)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}

// rotated is tr -d, and tr with sets of equal length.
func rotated(st stage, input string) (string, bool) {
	if len(st.words) != 3 {
		return "", false
	}
	from, to := expandSet(plain(st.words[1].text)), expandSet(plain(st.words[2].text))
	if st.words[1].text == "-d" {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(to, r) {
				return -1
			}
			return r
		}, input), true
	}
	if len(from) != len(to) {
		return "", false
	}
	return strings.Map(func(r rune) rune {
		if i := strings.IndexRune(from, r); i >= 0 && r < 0x80 {
			return rune(to[i])
		}
		return r
	}, input), true
}

// expandSet writes out the ranges of ASCII characters in a set of tr.
func expandSet(set string) string {
	var b []byte
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' && set[i] <= set[i+2] && set[i+2] < 0x80 {
			for c := set[i]; c <= set[i+2]; c++ {
				b = append(b, c)
			}
			i += 2
			continue
		}
		b = append(b, set[i])
	}
	return string(b)
}
