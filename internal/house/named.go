package house

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// NamedTests reports the tests that a document names in backquotes and that no test
// file below root declares.
func NamedTests(root, document string) ([]Finding, error) {
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", document, err)
	}
	declared := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declaration.FindAllSubmatch(source, -1) {
			declared[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for tests: %w", err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) == 0 {
		return nil, fmt.Errorf("%s names no test", document)
	}
	var findings []Finding
	for _, m := range named {
		if !declared[string(m[1])] {
			findings = append(findings, Finding{Path: document, What: "names " + string(m[1]) + ", which no test file declares"})
		}
	}
	return findings, nil
}
