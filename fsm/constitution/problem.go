package constitution

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one fault of a document and what would be right.
type Problem struct {
	Line, Column int    // 1-based; 0 where the document was not YAML
	Path         string // the member, such as rules[3].deny; empty for the whole document
	Message      string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems are the faults of a document in the order in which they stand there; it is
// the error that [Parse], [ParseCanonical] and [Constitution.Compile] return.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.String())
	}
	return "constitution: " + strings.Join(lines, "\nconstitution: ")
}

// orNil is the error for the problems found, nil if there are none.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ps
}

type position struct{ line, column int }
