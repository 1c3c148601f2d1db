// Package house checks what the project promises about its own source and that no
// linter knows: files that tell one story, packages that say what they are for, imports
// that stay off what a library must not pull in, documents whose links lead somewhere, a
// dependency list that tells the truth, and no trace of the machine that a change was
// made on.
//
// Each check takes the root of a tree and returns what it found, sorted; an empty result
// means that the rule holds. The checks read files (and Imports runs the go command); they
// change nothing. They are not a style guide: what golangci-lint can say is left to it.
package house

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	// FileLinesMax is how long a Go file may be, tests and generated files apart.
	FileLinesMax = 600
	// PackageCommentWordsMin is how many words a package comment has at least: enough
	// for one sentence that says more than the name.
	PackageCommentWordsMin = 8
	// fileBytesMax bounds what Traces reads of a file.
	fileBytesMax = 4 << 20
)

// Finding is one breach of a rule.
type Finding struct {
	Path string // slash-separated, relative to the root; an import path for Imports
	Line int    // 1-based; 0 when the finding is about the whole
	What string // what is wrong and what would be right
}

func (f Finding) String() string {
	if f.Line == 0 {
		return f.Path + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.What)
}

var errEmptyTree = errors.New("no file found: the check would have shown nothing")

// files lists the regular files under root for which keep holds, by their slash-separated
// path. The repository's own storage and what the Makefile builds are left out. A tree
// without any such file is an error, since a check of nothing proves nothing.
func files(root string, keep func(path string) bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() && (rel == ".git" || rel == "bin") {
			return filepath.SkipDir
		}
		if rel == ".git" { // in a working tree beside the repository, a file that names it
			return nil
		}
		if entry.Type().IsRegular() && keep(rel) {
			found = append(found, rel)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk %s: %w", root, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("walk %s: %w", root, errEmptyTree)
	}
	return found, nil
}

func isSource(path string) bool {
	return strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") &&
		!strings.Contains("/"+path, "/testdata/")
}

// FileLengths finds the Go files that are longer than FileLinesMax.
func FileLengths(root string) ([]Finding, error) {
	paths, err := files(root, isSource)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return nil, fmt.Errorf("measure file: %w", err)
		}
		lines := bytes.Count(text, []byte("\n"))
		if lines > FileLinesMax && !isGenerated(text) {
			findings = append(findings, Finding{path, 0,
				fmt.Sprintf("%d lines; a file tells one story in at most %d: split it", lines, FileLinesMax)})
		}
	}
	return findings, nil
}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func isGenerated(text []byte) bool {
	head, _, _ := bytes.Cut(text, []byte("\npackage "))
	return generatedLine.Match(head)
}

// PackageComments finds the packages that do not say what they are for: no package
// comment, more than one, or one of fewer than PackageCommentWordsMin words.
func PackageComments(root string) ([]Finding, error) {
	paths, err := files(root, isSource)
	if err != nil {
		return nil, err
	}
	comments := make(map[string][]string) // directory -> package comments
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil,
			parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read package clause: %w", err)
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		comments[dir] = append(comments[dir], commentTexts(file)...)
	}
	var findings []Finding
	for dir, texts := range comments {
		switch {
		case len(texts) == 0:
			findings = append(findings, Finding{dir, 0,
				"no package comment: say what it is for, what it promises, what it does not do"})
		case len(texts) > 1:
			findings = append(findings, Finding{dir, 0,
				fmt.Sprintf("%d package comments: a reader looks for one", len(texts))})
		case len(strings.Fields(texts[0])) < PackageCommentWordsMin:
			findings = append(findings, Finding{dir, 0,
				fmt.Sprintf("the package comment says no more than %q", strings.TrimSpace(texts[0]))})
		}
	}
	sortFindings(findings)
	return findings, nil
}

// commentTexts returns the package comment of a file, if it has one, as a slice so that
// callers can add up the files of a package.
func commentTexts(file *ast.File) []string {
	if file.Doc == nil || strings.TrimSpace(file.Doc.Text()) == "" {
		return nil
	}
	return []string{file.Doc.Text()}
}

func sortFindings(findings []Finding) {
	slices.SortFunc(findings, func(a, b Finding) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.What, b.What)
	})
}

// A trace is something that only the machine of one developer has.
type trace struct {
	what    string
	pattern *regexp.Regexp
}

// machineTraces returns what Traces looks for. One letter of each pattern stands in
// brackets so that this file passes its own check.
func machineTraces() []trace {
	return []trace{
		{"a path of somebody's machine", regexp.MustCompile(`(^|[^\w./-])/(wor[k]\b|roo[t]/|User[s]/)`)},
		{"a path of somebody's machine", regexp.MustCompile(`(^|[^\w.-])/tmp/b[z]\b`)},
		{"a folder beside the repository", regexp.MustCompile(`\.\./shar[e]d\b`)},
		{"a tool of somebody's machine", regexp.MustCompile(`\bfar[m]-[a-z]+\b|\.librar[y]/|\bissues sho[w] [0-9]`)},
		{"the host of a package registry", regexp.MustCompile(
			`\b(prox[y]\.golang\.org|sum\.golan[g]\.org|registr[y]\.npmjs\.org|de[b]\.debian\.org|files\.python[h]osted\.org)\b`)},
	}
}

// Traces finds text that only makes sense on the machine where it was written: absolute
// paths of a developer, folders beside the repository, hosts of package registries.
func Traces(root string) ([]Finding, error) {
	paths, err := files(root, func(path string) bool { return filepath.Base(path) != "go.sum" })
	if err != nil {
		return nil, err
	}
	traces := machineTraces()
	var findings []Finding
	for _, path := range paths {
		text, err := readText(filepath.Join(root, path))
		if err != nil {
			return nil, err
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			for _, trace := range traces {
				if match := trace.pattern.Find(line); match != nil {
					findings = append(findings, Finding{path, i + 1,
						fmt.Sprintf("%q is %s", strings.TrimSpace(string(match)), trace.what)})
				}
			}
		}
	}
	sortFindings(findings)
	return findings, nil
}

// readText returns the content of a text file, and nothing for one that is binary or
// larger than fileBytesMax.
func readText(path string) ([]byte, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("look at file: %w", err)
	}
	if stat.Size() > fileBytesMax {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 {
		return nil, nil
	}
	return text, nil
}
