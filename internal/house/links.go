package house

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Links finds the relative links of the Markdown files under root that lead nowhere: to a
// file that is not there, out of the repository, or to a heading that the target does not
// have. Links to other sites are not followed.
func Links(root string) ([]Finding, error) {
	paths, err := files(root, func(path string) bool {
		return strings.HasSuffix(path, ".md") && !strings.Contains("/"+path, "/testdata/")
	})
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, path := range paths {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return nil, fmt.Errorf("read document: %w", err)
		}
		for _, link := range links(string(text)) {
			if what := followLink(root, path, link.target); what != "" {
				findings = append(findings, Finding{path, link.line, what})
			}
		}
	}
	sortFindings(findings)
	return findings, nil
}

type link struct {
	target string
	line   int
}

var (
	inlineLink     = regexp.MustCompile(`\]\(\s*<?([^()\s<>]+)>?(?:\s+"[^"]*")?\s*\)`)
	referenceLink  = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)>?`)
	inlineCode     = regexp.MustCompile("`[^`]*`")
	headingLine    = regexp.MustCompile(`^ {0,3}#{1,6}\s+(.*?)\s*#*$`)
	headingLinkish = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// links returns the targets of a document, outside code.
func links(text string) []link {
	var found []link
	for i, line := range proseLines(text) {
		line = inlineCode.ReplaceAllString(line, "")
		for _, match := range inlineLink.FindAllStringSubmatch(line, -1) {
			found = append(found, link{match[1], i + 1})
		}
		if match := referenceLink.FindStringSubmatch(line); match != nil {
			found = append(found, link{match[1], i + 1})
		}
	}
	return found
}

// proseLines splits a document into lines, with those of fenced code blocks left empty.
func proseLines(text string) []string {
	lines := strings.Split(text, "\n")
	fence := ""
	for i, line := range lines {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case fence != "":
			lines[i] = ""
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
			lines[i] = ""
		}
	}
	return lines
}

// followLink returns what is wrong with a link in the document at from, or nothing.
func followLink(root, from, target string) string {
	parsed, err := url.Parse(target)
	if err != nil {
		return fmt.Sprintf("link %q is no URL", target)
	}
	if parsed.Scheme != "" || parsed.Host != "" {
		return ""
	}
	at := from
	if parsed.Path != "" {
		if path.IsAbs(parsed.Path) {
			return fmt.Sprintf("link %q is absolute: make it relative to this file", target)
		}
		at = path.Join(path.Dir(from), parsed.Path)
	}
	if at == ".." || strings.HasPrefix(at, "../") {
		return fmt.Sprintf("link %q leaves the repository", target)
	}
	if _, err := os.Stat(filepath.Join(root, at)); err != nil {
		return fmt.Sprintf("link %q leads to no file", target)
	}
	if parsed.Fragment == "" || !strings.HasSuffix(at, ".md") {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(root, at))
	if err != nil {
		return fmt.Sprintf("link %q: %v", target, err)
	}
	if !anchors(string(text))[parsed.Fragment] {
		return fmt.Sprintf("link %q: %s has no such heading", target, at)
	}
	return ""
}

// anchors returns the fragments by which a document's headings can be linked to, made the
// way GitHub makes them.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, line := range proseLines(text) {
		match := headingLine.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		slug := headingSlug(headingLinkish.ReplaceAllString(match[1], "$1"))
		unique := slug
		for n := 1; found[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", slug, n)
		}
		found[unique] = true
	}
	return found
}

func headingSlug(heading string) string {
	var slug strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			slug.WriteRune(r)
		case r == ' ':
			slug.WriteByte('-')
		}
	}
	return slug.String()
}
