package constitution

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/bizra/bizra/pci"
)

// Limits of a folder of cases.
const (
	CaseFileBytesMax = 4 << 20
	CasesMax         = 20_000
)

// What a case expects.
const (
	ExpectPass = "pass"
	ExpectDeny = "deny"
)

// Case is one input and what should be said of it.
type Case struct {
	File   string // slash-separated, within the folder
	Line   int
	Name   string
	Input  Input
	Expect string // ExpectPass or ExpectDeny
	Rule   string // that should deny; empty: any
}

// Result is what a case came to.
type Result struct {
	Case    Case
	Verdict Verdict
	OK      bool
}

// Report is what a folder of cases came to.
type Report struct {
	Results                         []Result
	Passed, Denied                  int // cases that expect it, and it is so
	WronglyDenied, WronglyPassed    int
	OtherRule                       int // denied as expected, but by another rule than the case names
	rulesThatDecided, rulesOfPolicy []string
}

// OK reports whether every case came out as it expects.
func (r *Report) OK() bool { return r.WronglyDenied == 0 && r.WronglyPassed == 0 && r.OtherRule == 0 }

// Unused are the rules that decided no case, in the order of the document: nothing in
// the folder would notice if they were lost.
func (r *Report) Unused() []string {
	var unused []string
	for _, name := range r.rulesOfPolicy {
		if !slices.Contains(r.rulesThatDecided, name) {
			unused = append(unused, name)
		}
	}
	return unused
}

// String says what failed, a line each, and the counts.
func (r *Report) String() string {
	var b strings.Builder
	for _, res := range r.Results {
		if !res.OK {
			fmt.Fprintln(&b, res)
		}
	}
	fmt.Fprintf(&b, "%d cases: of %d that should pass %d do, of %d that should be denied %d are",
		len(r.Results), r.Passed+r.WronglyDenied, r.Passed, r.Denied+r.OtherRule+r.WronglyPassed, r.Denied+r.OtherRule)
	if r.OtherRule > 0 {
		fmt.Fprintf(&b, " (%d by another rule than expected)", r.OtherRule)
	}
	return b.String()
}

func (r Result) String() string {
	got := "no rule denies it"
	if r.Verdict.Denied() {
		got = "rule " + r.Verdict.Rule + " denies it"
		if r.Verdict.Error {
			got = "rule " + r.Verdict.Rule + " fails on it, which denies"
		}
	}
	want := "it should pass"
	if r.Case.Expect == ExpectDeny {
		want = "it should be denied"
		if r.Case.Rule != "" {
			want = "rule " + r.Case.Rule + " should"
		}
	}
	return fmt.Sprintf("%s:%d: %s: %s, %s", r.Case.File, r.Case.Line, r.Case.Name, got, want)
}

// RunCases reads the cases of a folder and of what is in it (files *.yaml, *.yml with one
// case or a list of them, *.ndjson with one a line) and evaluates each. A case has the
// members name, data, expect (pass or deny), and where they matter action
// (session.transition), rule, agent{id,type,owner} and session{id,state,opener,nodes}.
func (p *Policy) RunCases(folder fs.FS) (*Report, error) {
	cases, err := ReadCases(folder)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	return p.Run(cases), nil
}

// Run evaluates cases in their order.
func (p *Policy) Run(cases []Case) *Report {
	r := &Report{}
	for _, rule := range p.rules {
		r.rulesOfPolicy = append(r.rulesOfPolicy, rule.Name)
	}
	for _, c := range cases {
		res := Result{Case: c, Verdict: p.Evaluate(c.Input)}
		denied := res.Verdict.Denied()
		switch {
		case c.Expect == ExpectPass && denied:
			r.WronglyDenied++
		case c.Expect == ExpectPass:
			r.Passed++
			res.OK = true
		case !denied:
			r.WronglyPassed++
		case c.Rule != "" && res.Verdict.Rule != c.Rule:
			r.OtherRule++
		default:
			r.Denied++
			res.OK = true
		}
		if denied && !slices.Contains(r.rulesThatDecided, res.Verdict.Rule) {
			r.rulesThatDecided = append(r.rulesThatDecided, res.Verdict.Rule)
		}
		r.Results = append(r.Results, res)
	}
	return r
}

var errNoCases = errors.New("no case found: put files *.yaml or *.ndjson there")

// ReadCases reads the cases of a file system, sorted by file. To have found none is an
// error, since a test of nothing shows nothing.
func ReadCases(fsys fs.FS) ([]Case, error) {
	var cases []Case
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var read func(string, []byte) ([]Case, error)
		switch path.Ext(name) {
		case ".ndjson":
			read = readLines
		case ".yaml", ".yml":
			read = readYAMLCases
		}
		if entry.IsDir() || read == nil {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		if info.Size() > CaseFileBytesMax {
			return fmt.Errorf("%s has %d bytes: at most %d", name, info.Size(), CaseFileBytesMax)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		found, err := read(name, text)
		if err != nil {
			return err
		}
		if cases = append(cases, found...); len(cases) > CasesMax {
			return fmt.Errorf("more than %d cases", CasesMax)
		}
		return nil
	})
	if err == nil && len(cases) == 0 {
		err = errNoCases
	}
	return cases, err
}

func readLines(name string, text []byte) ([]Case, error) {
	var cases []Case
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, CaseFileBytesMax)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		v, err := pci.Parse(lines.Bytes(), pci.Limits{BytesMax: 2 * pci.EnvelopeBytesMax})
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		c, err := readCase(v)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		c.File, c.Line = name, n
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return cases, nil
}

func readYAMLCases(name string, text []byte) ([]Case, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		p := yamlProblem(err)
		return nil, fmt.Errorf("%s:%d: %s", name, p.Line, p.Message)
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	nodes := []*yaml.Node{document.Content[0]}
	if nodes[0].Kind == yaml.SequenceNode {
		nodes = nodes[0].Content
	}
	cases := make([]Case, 0, len(nodes))
	for _, n := range nodes {
		v, err := caseValue(n, 0)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n.Line, err)
		}
		value, err := pci.FromGo(v)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n.Line, err)
		}
		c, err := readCase(value)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n.Line, err)
		}
		c.File, c.Line = name, n.Line
		cases = append(cases, c)
	}
	return cases, nil
}

// caseValue is YAML as JSON, without what JSON has not.
func caseValue(n *yaml.Node, depth int) (any, error) {
	switch {
	case depth > pci.DepthMax:
		return nil, fmt.Errorf("nested more than %d deep", pci.DepthMax)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return nil, errors.New("anchors and aliases are not read: write the value out")
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := caseValue(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			m[n.Content[i].Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := caseValue(e, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	var v any
	switch n.Tag {
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		return v, nil
	}
	return n.Value, nil
}

func readCase(v pci.Value) (Case, error) {
	o := pci.ReadObject(v)
	c := Case{Name: o.Text("name", 256), Expect: o.Text("expect", 8), Rule: o.OptionalText("rule", NameBytesMax)}
	c.Input.Action = o.OptionalText("action", 128)
	if c.Input.Action == "" {
		c.Input.Action = "session.transition"
	}
	if c.Expect != ExpectPass && c.Expect != ExpectDeny {
		o.Fault("expect must be %s or %s", ExpectPass, ExpectDeny)
	}
	if c.Expect == ExpectPass && c.Rule != "" {
		o.Fault("rule says which rule should deny: leave it out where the case should pass")
	}
	data, ok := o.Any("data")
	if !ok || data.Kind() != pci.ObjectKind {
		o.Fault("data must be there, an object: the payload.data of a proof")
	}
	c.Input.Data = data
	if o.Has("agent") {
		a := o.Object("agent")
		c.Input.Agent = Agent{ID: a.OptionalText("id", 256), Type: a.OptionalText("type", 8), Owner: a.OptionalText("owner", 256)}
		_ = a.Done() // its fault is that of o
	}
	if o.Has("session") {
		s := o.Object("session")
		c.Input.Session = Session{ID: s.OptionalText("id", 128), State: s.OptionalText("state", 32),
			Opener: s.OptionalText("opener", 256), Nodes: s.OptionalInt("nodes", 0)}
		_ = s.Done() // its fault is that of o
	}
	return c, o.Done()
}
