package house

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// decoding is how source looks that takes bytes apart, as far as a pattern can tell.
const decoding = `json\.(Unmarshal|NewDecoder)\(|\.Unmarshal\(|yaml\.NewDecoder\(|BigEndian\.Uint|pem\.Decode\(|pci\.(Parse|Decode|DecodeCanonical)\(|tlog\.Parse|note\.Open\(|torchwood\.(Parse|Read)|ReadMessage\(`

// Decoders holds a document's table of decoders to the tree: each source file below the folders that takes bytes apart stands in
// its folder's row, and each fuzz target that a row names is declared in that row's folder, or in the one before its dot. Rows are `| folder | what | files | targets |`, with backquotes.
func Decoders(root, document string, folders []string) ([]Finding, error) {
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		return nil, fmt.Errorf("read the table of decoders: %w", err)
	}
	files, targets := decoderRows(string(text))
	if len(files) == 0 || len(targets) == 0 {
		return nil, fmt.Errorf("%s: %w", document, errEmptyTree)
	}
	var findings []Finding
	found := func(p, format string, args ...any) {
		findings = append(findings, Finding{Path: p, What: fmt.Sprintf(format, args...)})
	}
	decodes, declared, err := decodersOf(root, folders)
	if err != nil {
		return nil, err
	}
	for _, p := range decodes {
		if !slices.Contains(files, p) {
			found(p, "takes bytes apart, and the table of decoders in %s does not say which fuzz target tries it", document)
		}
	}
	for _, p := range files {
		if !slices.Contains(decodes, p) {
			found(document, "names %s, which takes no bytes apart", p)
		}
	}
	for _, target := range targets {
		if !slices.Contains(declared, target) {
			found(document, "names the fuzz target %s, which is not there", target)
		}
	}
	sortFindings(findings)
	return findings, nil
}

// decoderRows reads the table: files as paths, targets as folder.Name.
func decoderRows(document string) (paths, targets []string) {
	row := regexp.MustCompile("(?m)^\\| `([\\w/]+)` \\|[^|]*\\|([^|]*)\\|([^|]*)\\|$")
	quoted := regexp.MustCompile("`([\\w./]+)`")
	for _, m := range row.FindAllStringSubmatch(document, -1) {
		for _, file := range quoted.FindAllStringSubmatch(m[2], -1) {
			paths = append(paths, path.Join(m[1], file[1]))
		}
		for _, target := range quoted.FindAllStringSubmatch(m[3], -1) {
			if folder, name, elsewhere := strings.Cut(target[1], "."); elsewhere {
				targets = append(targets, folder+"."+name)
			} else {
				targets = append(targets, m[1]+"."+target[1])
			}
		}
	}
	return paths, targets
}

// decodersOf lists the source files that take bytes apart, and the fuzz targets that are declared.
func decodersOf(root string, folders []string) (decodes, declared []string, err error) {
	below := func(p string) bool {
		return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(p, f+"/") }) && strings.HasSuffix(p, ".go")
	}
	all, err := files(root, below)
	if err != nil {
		return nil, nil, err
	}
	takesApart, target := regexp.MustCompile(decoding), regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	for _, p := range all {
		text, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			return nil, nil, fmt.Errorf("look for decoders: %w", err)
		}
		if isSource(p) && takesApart.Match(text) {
			decodes = append(decodes, p)
		}
		if strings.HasSuffix(p, "_test.go") {
			for _, m := range target.FindAllSubmatch(text, -1) {
				declared = append(declared, path.Dir(p)+"."+string(m[1]))
			}
		}
	}
	return decodes, declared, nil
}
