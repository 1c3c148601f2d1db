package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// An ImportRule keeps packages free of others, however many imports lie between them.
type ImportRule struct {
	Packages  []string // as the go command takes them: ./pci, ./fsm/ledger
	Forbidden []string // import path prefixes, matched at a slash or the end
	Why       string
}

// Imports finds the packages of a rule that reach something forbidden, and shows by which
// chain of imports. Test files are not followed. It runs `go list` in root; a package of
// the rule that does not exist is an error.
func Imports(root string, rule ImportRule) ([]Finding, error) {
	graph, starts, err := importGraph(root, rule.Packages)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, start := range starts {
		for _, chain := range forbiddenChains(graph, start, rule.Forbidden) {
			findings = append(findings, Finding{start, 0,
				fmt.Sprintf("%s, but it imports %s", rule.Why, strings.Join(chain[1:], " → "))})
		}
	}
	sortFindings(findings)
	return findings, nil
}

// importGraph returns who imports whom below the packages, and the packages' import paths.
func importGraph(root string, packages []string) (graph map[string][]string, starts []string, err error) {
	args := append([]string{"list", "-deps", "-json=ImportPath,Imports,DepOnly"}, packages...)
	command := exec.Command("go", args...)
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	graph = make(map[string][]string)
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var listed struct {
			ImportPath string
			Imports    []string
			DepOnly    bool
		}
		err := decoder.Decode(&listed)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the output of go list: %w", err)
		}
		graph[listed.ImportPath] = listed.Imports
		if !listed.DepOnly {
			starts = append(starts, listed.ImportPath)
		}
	}
	if len(starts) == 0 {
		return nil, nil, fmt.Errorf("go list %v: %w", packages, errEmptyTree)
	}
	return graph, starts, nil
}

// forbiddenChains returns, for each forbidden prefix that start reaches, a shortest chain
// of imports from start to it, both ends included.
func forbiddenChains(graph map[string][]string, start string, forbidden []string) [][]string {
	from := map[string]string{start: ""}
	queue := []string{start}
	met := make(map[string]bool) // prefixes already reported
	var chains [][]string
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		prefix := matchingPrefix(at, forbidden)
		if prefix != "" && at != start {
			if !met[prefix] {
				met[prefix] = true
				chains = append(chains, chainTo(from, at))
			}
			continue
		}
		for _, next := range graph[at] {
			if _, seen := from[next]; !seen {
				from[next] = at
				queue = append(queue, next)
			}
		}
	}
	return chains
}

func matchingPrefix(path string, prefixes []string) string {
	for _, prefix := range prefixes {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return prefix
		}
	}
	return ""
}

func chainTo(from map[string]string, at string) []string {
	var chain []string
	for ; at != ""; at = from[at] {
		chain = append(chain, at)
	}
	slices.Reverse(chain)
	return chain
}

// Dependencies compares a go.mod with the table of a document that explains it: each direct
// requirement must have a row `| module | version | …`, and each row must be a requirement,
// with the version in force.
func Dependencies(root, modPath, docPath string) ([]Finding, error) {
	modText, err := os.ReadFile(filepath.Join(root, modPath))
	if err != nil {
		return nil, fmt.Errorf("read requirements: %w", err)
	}
	mod, err := modfile.Parse(modPath, modText, nil)
	if err != nil {
		return nil, fmt.Errorf("parse requirements: %w", err)
	}
	doc, err := os.ReadFile(filepath.Join(root, docPath))
	if err != nil {
		return nil, fmt.Errorf("read the list of dependencies: %w", err)
	}
	rows := dependencyRows(string(doc))
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", docPath, errEmptyTree)
	}
	var findings []Finding
	for _, require := range mod.Require {
		row, ok := rows[require.Mod.Path]
		delete(rows, require.Mod.Path)
		switch {
		case !ok && require.Indirect:
			continue
		case !ok:
			findings = append(findings, Finding{docPath, 0,
				fmt.Sprintf("%s has no row: say what it is for and why this one", require.Mod.Path)})
		case row.version != require.Mod.Version:
			findings = append(findings, Finding{docPath, row.line,
				fmt.Sprintf("says %s %s, %s says %s", require.Mod.Path, row.version, modPath, require.Mod.Version)})
		}
	}
	for module, row := range rows {
		findings = append(findings, Finding{docPath, row.line,
			fmt.Sprintf("%s is no requirement of %s", module, modPath)})
	}
	sortFindings(findings)
	return findings, nil
}

type dependencyRow struct {
	version string
	line    int
}

// dependencyRows reads the table rows whose first cell is a module path in backquotes and
// whose second is a version.
func dependencyRows(doc string) map[string]dependencyRow {
	rows := make(map[string]dependencyRow)
	for i, line := range strings.Split(doc, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		module := strings.TrimSpace(cells[1])
		if !strings.HasPrefix(module, "`") || !strings.HasSuffix(module, "`") || !strings.Contains(module, ".") {
			continue
		}
		rows[strings.Trim(module, "`")] = dependencyRow{strings.TrimSpace(cells[2]), i + 1}
	}
	return rows
}
