package constitution

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"

	"github.com/bizra/bizra/pci"
)

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	textNode            // a scalar that is a text by its form: quoted, a block, or a JSON string
	mapNode
	listNode
)

// node is a document before its members are looked at: the same for YAML and JSON.
type node struct {
	kind    nodeKind
	text    string // of a scalar
	names   []*node
	values  []*node // of the names of a mapping, or the elements of a sequence
	at      position
	literal position // where the first byte of the text stands; differs from at for blocks and quotes
}

func (n *node) what() string {
	switch n.kind {
	case mapNode:
		return "a mapping"
	case listNode:
		return "a sequence"
	case textNode:
		return "the text " + strconv.Quote(shortened(n.text))
	}
	return strconv.Quote(shortened(n.text))
}

func shortened(s string) string {
	const bytesMax = 40
	if len(s) <= bytesMax {
		return s
	}
	return strings.ToValidUTF8(s[:bytesMax], "") + "…"
}

// parseYAML reads one YAML document, without what would let a document say something
// that it does not show: anchors, aliases, merge keys, tags, several documents.
func parseYAML(text []byte) (*node, Problems) {
	if len(text) > DocumentBytesMax {
		return nil, Problems{{Line: 1, Column: 1, Message: fmt.Sprintf("the document has %d bytes: at most %d", len(text), DocumentBytesMax)}}
	}
	if !utf8.Valid(text) {
		return nil, Problems{{Line: 1, Column: 1, Message: "the document is not valid UTF-8"}}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, Problems{yamlProblem(err)}
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, Problems{{Line: second.Line, Column: second.Column, Message: "a second document: a constitution is one document, without ---"}}
	}
	if len(document.Content) != 1 {
		return nil, Problems{{Line: 1, Column: 1, Message: "the document is empty"}}
	}
	r := yamlReader{lines: strings.Split(string(text), "\n")}
	n := r.read(document.Content[0], "", 0)
	return n, r.problems
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n\s*)?(?:line (\d+): )?(.*)`)

func yamlProblem(err error) Problem {
	if errors.Is(err, io.EOF) {
		return Problem{Line: 1, Column: 1, Message: "the document is empty"}
	}
	p := Problem{Line: 1, Column: 1, Message: "not YAML: " + err.Error()}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		p.Message = "not YAML: " + m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			p.Line = n
		}
	}
	return p
}

type yamlReader struct {
	lines    []string
	problems Problems
}

func (r *yamlReader) fault(y *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: y.Line, Column: y.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (r *yamlReader) read(y *yaml.Node, path string, depth int) *node {
	n := &node{at: position{y.Line, y.Column}, literal: position{y.Line, y.Column}}
	switch {
	case depth > depthMax:
		r.fault(y, path, "nested more than %d deep", depthMax)
		return n
	case y.Kind == yaml.AliasNode:
		r.fault(y, path, "an alias (*%s): write the value out, so that it can be read where it counts", y.Value)
		return n
	case y.Anchor != "":
		r.fault(y, path, "an anchor (&%s): write the value out wherever it counts", y.Anchor)
	case y.Style&yaml.TaggedStyle != 0:
		r.fault(y, path, "a tag (%s): leave it out, the member's type is fixed", y.Tag)
	}
	switch y.Kind {
	case yaml.MappingNode:
		n.kind = mapNode
		for i := 0; i+1 < len(y.Content); i += 2 {
			r.readMember(n, y.Content[i], y.Content[i+1], path, depth)
		}
	case yaml.SequenceNode:
		n.kind = listNode
		for i, e := range y.Content {
			n.values = append(n.values, r.read(e, path+"["+strconv.Itoa(i)+"]", depth+1))
		}
	default:
		n.text = y.Value
		if y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			n.kind = textNode
			n.literal = r.textStart(y)
		}
	}
	return n
}

func (r *yamlReader) readMember(n *node, name, value *yaml.Node, path string, depth int) {
	member := name.Value
	if path != "" {
		member = path + "." + member
	}
	switch {
	case name.Kind != yaml.ScalarNode:
		r.fault(name, path, "the name of a member must be a plain word")
		return
	case name.Value == "<<" && name.Style == 0:
		r.fault(name, path, "a merge key (<<): write the members out")
		return
	}
	for _, other := range n.names {
		if other.text == name.Value {
			r.fault(name, member, "stands twice: first in line %d", other.at.line)
			return
		}
	}
	key := r.read(name, member, depth+1)
	n.names = append(n.names, key)
	n.values = append(n.values, r.read(value, member, depth+1))
}

// textStart finds where a text's first byte is, for the positions of faults within it.
func (r *yamlReader) textStart(y *yaml.Node) position {
	if y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		return position{y.Line, y.Column + 1}
	}
	for i := y.Line; i < len(r.lines); i++ {
		if l := strings.TrimLeft(r.lines[i], " "); l != "" {
			return position{i + 1, len(r.lines[i]) - len(l) + 1}
		}
	}
	return position{y.Line, y.Column}
}

// valueNode is the tree of a JSON value, which has no positions.
func valueNode(v pci.Value) *node {
	n := &node{}
	switch v.Kind() {
	case pci.ObjectKind:
		n.kind = mapNode
		for _, m := range v.Members() {
			n.names = append(n.names, &node{kind: textNode, text: m.Name})
			n.values = append(n.values, valueNode(m.Value))
		}
	case pci.ArrayKind:
		n.kind = listNode
		for _, e := range v.Elems() {
			n.values = append(n.values, valueNode(e))
		}
	case pci.StringKind:
		n.kind, n.text = textNode, v.String()
	default:
		n.text = string(v.AppendCanonical(nil))
	}
	return n
}
