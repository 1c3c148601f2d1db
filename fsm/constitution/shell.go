package constitution

import (
	"errors"
	"fmt"
	"strings"
)

const (
	workBytesMax  = 512 << 10 // read in all: text, what is within it, values of variables
	shellDepthMax = 6         // commands within commands
	shellVarsMax  = 256
	writesMax     = 1024
)

var (
	errShellDepth = fmt.Errorf("commands stand within each other more than %d deep", shellDepthMax)
	errShellWork  = fmt.Errorf("reading the commands takes more than %d bytes of work", workBytesMax)
	errShellMany  = errors.New("the commands use too many variables or files to follow")
)

// Bytes that stand in a word, while it is read, for blanks that do not end it, and for
// one that does though it came out of a variable.
const (
	splitMark   = 0x00
	spaceMark   = 0x01
	newlineMark = 0x02
)

// shownSpace is how a blank inside a word is shown.
const shownSpace = "\u00a0"

// Commands reads a text as a shell would and returns a line in small letters for every
// pipeline in it: its words with one space between them and no quotes, stages joined by
// " | ". A blank inside a word is shown as U+00A0, so that a sentence in quotes is one
// word. What does not change the meaning of a command is taken away: its path, sudo, env, xargs, nohup and
// their like before it, keywords, comments, assignments. What hides it is undone:
// quotes and backslashes inside words, $IFS, variables that the text itself assigns,
// $'…', {a,b}, [x], echo and printf inside $( ), look-alikes. Commands within commands
// (sh -c, eval, ssh, $( ), <( ), here-documents, what echo or a decoder with a known
// input pipes into a shell) follow as lines of their own; a line "code …" is what
// python -c and its like are given. A function that pipes into itself is shown as
// "forkbomb"; "??" stands before a command whose name cannot be told.
//
// It follows the text, it runs nothing: what comes out of files, the network or the
// environment stays as it is written. It is an error if the text nests or grows beyond
// the bounds of this package.
func Commands(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	s := &shell{}
	if err := s.run(fold(text), 0); err != nil {
		return "", err
	}
	return strings.ToValidUTF8(string(s.out), "?"), nil
}

// Writes returns the paths that the commands in a text write to, in their order, as far
// as they stand there: of redirections, tee, cp, mv, ln, install, dd, sed -i, touch,
// mkdir, rm, truncate, curl -o and the like. A relative path follows cd. The null device
// and the terminal are left out, and paths that begin with a variable other than HOME.
func Writes(text string) ([]string, error) {
	s := &shell{wantWrites: true}
	if err := s.run(fold(text), 0); err != nil {
		return nil, err
	}
	return s.writes, nil
}

type binding struct{ name, value string }

// shell is the state of reading one text.
type shell struct {
	out    []byte
	vars   []binding
	writes []string
	cwd    string
	work   int

	wantWrites bool
}

func (s *shell) lookup(name string) (string, bool) {
	for i := len(s.vars) - 1; i >= 0; i-- {
		if s.vars[i].name == name {
			return s.vars[i].value, true
		}
	}
	return "", false
}

func (s *shell) assign(name, value string) error {
	for i := range s.vars {
		if s.vars[i].name == name {
			s.vars[i].value = value
			return nil
		}
	}
	if len(s.vars) >= shellVarsMax {
		return errShellMany
	}
	s.vars = append(s.vars, binding{name, value})
	return nil
}

func (s *shell) spend(n int) error {
	if s.work += n + 16; s.work > workBytesMax {
		return errShellWork
	}
	return nil
}

// run reads the commands of one text.
func (s *shell) run(text string, depth int) error {
	if depth > shellDepthMax {
		return errShellDepth
	}
	if err := s.spend(len(text)); err != nil {
		return err
	}
	p := &parser{shell: s, text: text, depth: depth}
	return p.parse()
}

// emit adds a line for a pipeline.
func (s *shell) emit(stages []stage) error {
	if len(s.out) > 0 {
		s.out = append(s.out, '\n')
	}
	start := len(s.out)
	for i, st := range stages {
		if i > 0 {
			s.out = append(s.out, " | "...)
		}
		for j, w := range st.words {
			if j > 0 {
				s.out = append(s.out, ' ')
			}
			s.out = appendShown(s.out, w.text)
		}
	}
	if len(s.out) == start && start > 0 {
		s.out = s.out[:start-1]
	}
	if len(s.out) > TextBytesMax {
		return errTooLong
	}
	return s.spend(len(s.out) - start)
}

// emitText adds a line as it is, with blanks as blanks.
func (s *shell) emitText(prefix, text string) error {
	text, _ = Normalise(strings.Map(func(r rune) rune {
		if r == '\n' || r == newlineMark || r == spaceMark {
			return ' '
		}
		return r
	}, text))
	if len(s.out) > 0 {
		s.out = append(s.out, '\n')
	}
	s.out = append(append(s.out, prefix...), text...)
	if len(s.out) > TextBytesMax {
		return errTooLong
	}
	return s.spend(len(text))
}

func appendShown(out []byte, word string) []byte {
	for i := range len(word) {
		switch c := word[i]; {
		case c == spaceMark || c == newlineMark || c == ' ' || c == '\n':
			out = append(out, shownSpace...)
		case c == splitMark:
			out = append(out, ' ')
		case 'A' <= c && c <= 'Z':
			out = append(out, c+'a'-'A')
		default:
			out = append(out, c)
		}
	}
	return out
}

// plain is a word with its blanks as they were.
func plain(word string) string {
	if strings.IndexByte(word, spaceMark) < 0 && strings.IndexByte(word, newlineMark) < 0 && strings.IndexByte(word, splitMark) < 0 {
		return word
	}
	return strings.NewReplacer("\x01", " ", "\x02", "\n", "\x00", " ").Replace(word)
}

// word is one word of a command, with the marks above.
type word struct {
	text   string
	quoted bool     // in part at least
	inner  []string // texts of the substitutions in it whose outcome is not known
	redir  bool     // the sign of a redirection
}

// stage is one command of a pipeline.
type stage struct {
	words  []word
	here   string // what it is given on standard input by the text
	isHere bool
}
