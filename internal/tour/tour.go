// Package tour runs the commands that a document shows, and compares what they print
// with what the document says. So a README cannot promise what the program does not do.
//
// Of a Markdown document it takes the fenced blocks whose info string is `console tour`.
// A line that begins with "$ " is a command; lines that begin with "> " continue it, as
// do lines after one that ends in a backslash. What follows is the expected output:
// "…" within a line stands for any text, a line of "…" alone for any lines, and a command
// without expected output may print what it likes. A command must succeed, unless the
// next one is `echo $?`.
//
//	```console tour
//	$ bizra version
//	bizra … …
//	```
//
// All blocks share one shell, so that variables and the directory stay. A block marked
// `console tour background` holds one command that goes on, as in a terminal of its own:
// the tour goes on once its output begins as expected, and ends it with SIGINT, as
// Ctrl-C would. It must then end with exit code 0.
//
// It is for commands that a reader may type safely: whatever the document says is run.
package tour

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const (
	infoTour       = "console tour"
	infoBackground = "console tour background"
	anyText        = "…"
)

// Block is one fenced block of a tour.
type Block struct {
	Line       int // of its fence, from 1
	Background bool
	Steps      []Step
}

// Step is one command and what it should print.
type Step struct {
	Line    int // of the command, from 1
	Command string
	Want    []string // lines; none: anything
}

// ErrNoTour is returned for a document without a block to run.
var ErrNoTour = errors.New("the document has no block ```" + infoTour)

// Parse finds the blocks of a tour.
func Parse(markdown string) ([]Block, error) {
	var blocks []Block
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		info, fenced := strings.CutPrefix(lines[i], "```")
		if !fenced {
			continue
		}
		first := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			continue
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block that begins here does not end", first)
		}
		info = strings.TrimSpace(info)
		if info != infoTour && info != infoBackground {
			continue
		}
		b := Block{Line: first, Background: info == infoBackground}
		var err error
		if b.Steps, err = parseSteps(lines[first:i], first+1); err != nil {
			return nil, err
		}
		if len(b.Steps) == 0 || b.Background && len(b.Steps) != 1 {
			return nil, fmt.Errorf("line %d: a block has commands, and one in the background exactly one, not %d", first, len(b.Steps))
		}
		blocks = append(blocks, b)
	}
	if len(blocks) == 0 {
		return nil, ErrNoTour
	}
	return blocks, nil
}

func parseSteps(lines []string, at int) ([]Step, error) {
	var steps []Step
	goesOn := false
	for i, l := range lines {
		command, isCommand := strings.CutPrefix(l, "$ ")
		more, isMore := strings.CutPrefix(l, "> ")
		switch {
		case isCommand && !goesOn:
			steps = append(steps, Step{Line: at + i, Command: command})
			goesOn = strings.HasSuffix(command, `\`)
		case len(steps) == 0:
			return nil, fmt.Errorf("line %d: output before the first command: %q", at+i, l)
		case goesOn, isMore && len(steps[len(steps)-1].Want) == 0:
			if !isMore {
				more = l
			}
			steps[len(steps)-1].Command += "\n" + more
			goesOn = strings.HasSuffix(l, `\`)
		default:
			steps[len(steps)-1].Want = append(steps[len(steps)-1].Want, l)
		}
	}
	return steps, nil
}

// Match compares output with what was expected; nil if it fits.
func Match(want []string, output string) error {
	if len(want) == 0 {
		return nil
	}
	got := strings.Split(strings.TrimRight(output, "\n"), "\n")
	if matchLines(want, got) {
		return nil
	}
	return fmt.Errorf("the document shows\n\t%s\nand the command printed\n\t%s", strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
}

func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if strings.TrimSpace(want[0]) == anyText {
		for skip := range len(got) + 1 {
			if matchLines(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && linePattern(want[0]).MatchString(got[0]) && matchLines(want[1:], got[1:])
}

func linePattern(want string) *regexp.Regexp {
	parts := strings.Split(strings.TrimRight(want, " "), anyText)
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + `\s*$`)
}
