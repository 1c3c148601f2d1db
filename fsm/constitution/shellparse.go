package constitution

import "strings"

// parser reads one text into pipelines and hands each to its shell.
type parser struct {
	shell  *shell
	text   string
	pos    int
	depth  int
	stages []stage
	cur    stage
	heres  []heredoc // whose bodies follow the line
	buf    []byte    // for the word being read
	fn     string    // the function whose definition began last
}

type heredoc struct {
	delimiter string
	literal   bool // the delimiter is quoted: nothing in the body is expanded
	stage     int
}

func (p *parser) peek(n int) byte {
	if p.pos+n < len(p.text) {
		return p.text[p.pos+n]
	}
	return 0
}

func (p *parser) parse() error {
	for p.pos < len(p.text) {
		if err := p.token(); err != nil {
			return err
		}
	}
	return p.endPipeline()
}

func (p *parser) token() error {
	switch c := p.text[p.pos]; c {
	case ' ', '\t', '\r':
		p.pos++
	case '\n':
		p.pos++
		if err := p.readHeredocs(); err != nil {
			return err
		}
		return p.endPipeline()
	case '#':
		for p.pos < len(p.text) && p.text[p.pos] != '\n' {
			p.pos++
		}
	case ';', '(', ')':
		p.pos++
		return p.endPipeline()
	case '&':
		if p.peek(1) == '>' {
			p.pos++
			return nil // &> is > with standard error
		}
		p.pos++
		if p.fn != "" && p.calls(p.fn) {
			if err := p.shell.emitText("", "forkbomb"); err != nil {
				return err
			}
		}
		return p.endPipeline()
	case '|':
		if p.peek(1) == '|' {
			p.pos += 2
			return p.endPipeline()
		}
		p.pos++
		if p.peek(0) == '&' {
			p.pos++
		}
		if len(p.stages) == 0 && len(p.cur.words) == 0 && !p.cur.isHere {
			p.cur.words = []word{{text: "()"}} // what comes out of a group of commands
		}
		p.endStage()
	case '<', '>':
		return p.redirection(c)
	default:
		return p.word()
	}
	return nil
}

// calls reports whether the pipeline being read is of more than one call of a function.
func (p *parser) calls(name string) bool {
	n := 0
	for _, st := range append(p.stages[:len(p.stages):len(p.stages)], p.cur) {
		if st = stripped(st); len(st.words) > 0 && st.words[0].text == name {
			n++
		}
	}
	return n > 1
}

func (p *parser) redirection(c byte) error {
	if n := len(p.cur.words); n > 0 && p.pos > 0 && isDigit(p.text[p.pos-1]) {
		if w := p.cur.words[n-1].text; len(w) == 1 && isDigit(w[0]) {
			p.cur.words = p.cur.words[:n-1] // 2> is about a file descriptor
		}
	}
	p.pos++
	switch {
	case p.peek(0) == '(':
		return p.processSubstitution()
	case c == '<' && p.peek(0) == '<' && p.peek(1) == '<':
		p.pos += 2
		p.blanks()
		words, err := p.words()
		if err != nil {
			return err
		}
		for _, w := range words {
			p.cur.here, p.cur.isHere = p.cur.here+plain(w.text), true
		}
		return nil
	case c == '<' && p.peek(0) == '<':
		p.pos++
		if p.peek(0) == '-' {
			p.pos++
		}
		p.blanks()
		words, err := p.words()
		if err != nil || len(words) == 0 {
			return err
		}
		p.heres = append(p.heres, heredoc{delimiter: plain(words[0].text), literal: words[0].quoted, stage: len(p.stages)})
		return nil
	}
	sign := string(c)
	for p.peek(0) == c || p.peek(0) == '|' {
		p.pos++
	}
	if p.peek(0) == '&' {
		p.pos++
		if d := p.peek(0); isDigit(d) || d == '-' {
			p.pos++
			return nil
		}
	}
	p.cur.words = append(p.cur.words, word{text: sign, redir: true})
	p.blanks()
	return nil
}

func (p *parser) blanks() {
	for p.peek(0) == ' ' || p.peek(0) == '\t' {
		p.pos++
	}
}

func (p *parser) processSubstitution() error {
	inner := p.parenthesised()
	if err := p.shell.run(inner, p.depth+1); err != nil {
		return err
	}
	p.cur.words = append(p.cur.words, word{text: "<()", inner: []string{inner}})
	return nil
}

// parenthesised reads from an opening parenthesis beyond the closing one, and returns
// what is between. Quotes count.
func (p *parser) parenthesised() string {
	start := p.pos + 1
	open := 0
	for ; p.pos < len(p.text); p.pos++ {
		switch p.text[p.pos] {
		case '\\':
			p.pos = min(p.pos+1, len(p.text)-1)
		case '\'':
			if end := strings.IndexByte(p.text[p.pos+1:], '\''); end >= 0 {
				p.pos += end + 1
			}
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				p.pos++
				return p.text[start : p.pos-1]
			}
		}
	}
	p.pos = len(p.text)
	return p.text[min(start, len(p.text)):]
}

// readHeredocs takes the bodies of the here-documents of the line that just ended.
func (p *parser) readHeredocs() error {
	for _, h := range p.heres {
		var body []string
		for p.pos < len(p.text) {
			line, _, _ := strings.Cut(p.text[p.pos:], "\n")
			p.pos = min(p.pos+len(line)+1, len(p.text))
			if strings.TrimSpace(line) == h.delimiter {
				break
			}
			body = append(body, line)
		}
		text := strings.Join(body, "\n")
		if !h.literal {
			var err error
			if text, err = p.expanded(text); err != nil {
				return err
			}
		}
		if h.stage < len(p.stages) {
			p.stages[h.stage].here, p.stages[h.stage].isHere = text, true
		} else {
			p.cur.here, p.cur.isHere = text, true
		}
	}
	p.heres = nil
	return nil
}

// expanded replaces variables and substitutions in the body of a here-document, which
// a shell runs even where the document is only text.
func (p *parser) expanded(text string) (string, error) {
	if !strings.ContainsAny(text, "$`") {
		return text, nil
	}
	if p.depth >= shellDepthMax {
		return "", errShellDepth
	}
	if err := p.shell.spend(len(text)); err != nil {
		return "", err
	}
	sub := &parser{shell: p.shell, text: text, depth: p.depth}
	var b []byte
	var w word
	for sub.pos < len(text) {
		switch c := text[sub.pos]; {
		case c == '\\' && sub.pos+1 < len(text):
			b = append(b, text[sub.pos:sub.pos+2]...)
			sub.pos += 2
		case c == '$' || c == '`':
			var err error
			if b, err = sub.dollar(b, &w, true); err != nil {
				return "", err
			}
		default:
			b = append(b, c)
			sub.pos++
		}
	}
	return plain(string(b)), nil
}

func (p *parser) endStage() {
	if len(p.cur.words) > 0 || p.cur.isHere {
		p.stages = append(p.stages, p.cur)
	}
	p.cur = stage{}
}

func (p *parser) endPipeline() error {
	p.endStage()
	stages := p.stages
	p.stages = nil
	if len(stages) == 0 {
		return nil
	}
	return p.shell.pipeline(stages, p.depth)
}

// word reads the words that begin here: one, or more if a variable is split.
func (p *parser) word() error {
	words, err := p.words()
	if err != nil {
		return err
	}
	p.pos = min(p.pos, len(p.text)) // a backslash at the end escapes nothing
	if len(words) == 1 && !words[0].quoted && p.isDefinition() {
		p.fn = words[0].text
		return nil
	}
	p.cur.words = append(p.cur.words, words...)
	return nil
}

// isDefinition reads the () after the name of a function that is being defined.
func (p *parser) isDefinition() bool {
	rest := strings.TrimLeft(p.text[p.pos:], " \t")
	if len(p.cur.words) > 0 || !strings.HasPrefix(rest, "(") {
		return false
	}
	inside := strings.TrimLeft(rest[1:], " \t")
	if !strings.HasPrefix(inside, ")") {
		return false
	}
	p.pos = len(p.text) - len(inside) + 1
	return true
}

func (p *parser) words() ([]word, error) {
	w := word{}
	b := p.buf[:0]
	start := p.pos
loop:
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\r', '\n', ';', '&', '|', '<', '>', '(', ')':
			break loop
		case '\\':
			if p.pos++; p.pos < len(p.text) && p.text[p.pos] != '\n' {
				b = appendMarked(b, p.text[p.pos])
				w.quoted = true
			}
			p.pos = min(p.pos+1, len(p.text))
		case '\'':
			w.quoted = true
			rest := p.text[p.pos+1:]
			end := strings.IndexByte(rest, '\'')
			if end < 0 {
				end = len(rest)
			}
			b = appendMarkedText(b, rest[:end])
			p.pos = min(p.pos+end+2, len(p.text))
		case '"':
			w.quoted = true
			var err error
			if b, err = p.doubleQuoted(b, &w); err != nil {
				return nil, err
			}
		case '$', '`':
			var err error
			if b, err = p.dollar(b, &w, false); err != nil {
				return nil, err
			}
		default:
			b = append(b, c)
			p.pos++
		}
	}
	if p.pos == start {
		p.pos++
	}
	p.buf = b[:0]
	if len(b) == 0 && !w.quoted {
		return nil, nil // of a continued line, or of variables that are empty
	}
	w.text = string(b)
	return splitWord(w), nil
}

func appendMarked(b []byte, c byte) []byte {
	switch c {
	case ' ', '\t':
		c = spaceMark
	case '\n':
		c = newlineMark
	}
	return append(b, c)
}

func appendMarkedText(b []byte, s string) []byte {
	for i := range len(s) {
		b = appendMarked(b, s[i])
	}
	return b
}

// splitWord applies what a shell does to a word that is not quoted: it splits where a
// variable brought blanks in, expands {a,b} that is a whole word, and reads [x] as x.
func splitWord(w word) []word {
	if strings.IndexByte(w.text, splitMark) >= 0 {
		var words []word
		for _, part := range strings.Split(w.text, "\x00") {
			if part != "" {
				words = append(words, word{text: part, quoted: w.quoted, inner: w.inner})
			}
		}
		return words
	}
	if w.quoted {
		return []word{w}
	}
	if n := len(w.text); n > 2 && w.text[0] == '{' && w.text[n-1] == '}' && strings.IndexByte(w.text, ',') > 0 {
		var words []word
		for _, part := range strings.Split(w.text[1:n-1], ",") {
			if part != "" {
				words = append(words, word{text: part, inner: w.inner})
			}
		}
		return words
	}
	if i := strings.IndexByte(w.text, '['); i >= 0 {
		for ; i >= 0 && i+2 < len(w.text); i = nextBracket(w.text, i) {
			if w.text[i+2] == ']' && w.text[i+1] != '!' {
				w.text = w.text[:i] + w.text[i+1:i+2] + w.text[i+3:]
			}
		}
	}
	return []word{w}
}

func nextBracket(s string, after int) int {
	i := strings.IndexByte(s[after+1:], '[')
	if i < 0 {
		return -1
	}
	return after + 1 + i
}

func (p *parser) doubleQuoted(b []byte, w *word) ([]byte, error) {
	for p.pos++; p.pos < len(p.text); {
		switch c := p.text[p.pos]; c {
		case '"':
			p.pos++
			return b, nil
		case '\\':
			next := p.peek(1)
			p.pos = min(p.pos+2, len(p.text))
			switch next {
			case '\n', 0:
			case '"', '\\', '$', '`':
				b = append(b, next)
			default:
				b = appendMarked(append(b, '\\'), next)
			}
		case '$', '`':
			var err error
			if b, err = p.dollar(b, w, true); err != nil {
				return nil, err
			}
		default:
			b = appendMarked(b, c)
			p.pos++
		}
	}
	return b, nil
}
