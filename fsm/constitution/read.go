package constitution

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/bizra/bizra/pci"
)

// document is a constitution with what is known of where its members stand.
type document struct {
	Constitution
	at map[string]position // by path; of expressions, where their first byte stands
}

// Parse reads a document from YAML (of which JSON is a part). An error is [Problems].
// Rules are compiled too: what Parse returns is a document that a region could adopt.
func Parse(text []byte) (*Constitution, error) {
	d, problems := parse(text)
	if len(problems) == 0 {
		_, problems = d.compile()
	}
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	return &d.Constitution, nil
}

func parse(text []byte) (*document, Problems) {
	root, problems := parseYAML(text)
	if len(problems) > 0 {
		// JSON is YAML but for characters that it writes as two escapes.
		v, err := pci.Parse(text, pci.Limits{BytesMax: DocumentBytesMax, DepthMax: depthMax})
		if err != nil {
			return nil, problems
		}
		root = valueNode(v)
	}
	d, problems := readDocument(root)
	if len(problems) > 0 {
		return nil, problems
	}
	if n := len(d.Canonical()); n > DocumentBytesMax {
		return nil, Problems{{Line: 1, Column: 1, Message: fmt.Sprintf("the canonical form has %d bytes: at most %d", n, DocumentBytesMax)}}
	}
	return d, nil
}

// ParseCanonical reads the form of a document that replicated state holds, and refuses
// one that is not exactly its own canonical form. An error is [Problems], or a
// [*pci.Reject] where the text is no JSON.
func ParseCanonical(text []byte) (*Constitution, error) {
	v, err := pci.Parse(text, pci.Limits{BytesMax: DocumentBytesMax, DepthMax: depthMax})
	if err != nil {
		return nil, fmt.Errorf("read constitution: %w", err)
	}
	return FromValue(v)
}

// FromValue is [ParseCanonical] for a value that is already parsed, such as a member
// of the federation document.
func FromValue(v pci.Value) (*Constitution, error) {
	p, err := PolicyOf(v)
	if err != nil {
		return nil, err
	}
	c := p.Constitution()
	return &c, nil
}

// PolicyOf is [FromValue] and [Constitution.Compile] in one, for who needs both.
func PolicyOf(v pci.Value) (*Policy, error) {
	d, problems := readDocument(valueNode(v))
	if len(problems) == 0 && !bytes.Equal(d.Canonical(), v.AppendCanonical(nil)) {
		problems = Problems{{Message: "not in canonical form: members are missing, or numbers are not written as this program writes them"}}
	}
	var p *Policy
	if len(problems) == 0 {
		p, problems = d.compile()
	}
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	return p, nil
}

type reader struct {
	problems Problems
	at       map[string]position
}

func (r *reader) fault(n *node, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.at.line, Column: n.at.column, Path: path, Message: fmt.Sprintf(format, args...)})
}

func readDocument(root *node) (*document, Problems) {
	r := &reader{at: make(map[string]position)}
	c := withDefaults()
	m := r.mapping(root, "", "version", "thresholds", "limits", "breaker", "composite", "terms", "rules")
	if m == nil {
		return nil, r.problems
	}
	version := int64(0)
	if m.get("version") == nil {
		r.fault(root, "version", "is missing: this program reads version %d", Version)
	} else if m.int("version", &version, 0, math.MaxInt64); version != Version && len(r.problems) == 0 {
		r.fault(m.get("version"), "version", "%d is not known to this program: it reads version %d; a newer bizra may read it", version, Version)
	}
	r.readThresholds(m.get("thresholds"), &c.Thresholds)
	if l := r.mapping(m.get("limits"), "limits", "refusals_per_minute", "state_mismatches_per_minute", "open_registration"); l != nil {
		l.int("refusals_per_minute", &c.Limits.RefusalsPerMinute, 1, countMax)
		l.int("state_mismatches_per_minute", &c.Limits.StateMismatchesPerMinute, 1, countMax)
		l.bool("open_registration", &c.Limits.OpenRegistration)
	}
	r.readBreaker(m.get("breaker"), &c.Breaker)
	r.readComposite(m.get("composite"), &c.Composite)
	c.Terms = r.readTerms(m.get("terms"))
	c.Rules = r.readRules(m.get("rules"))
	return &document{c, r.at}, r.problems
}

func (r *reader) readThresholds(n *node, t *Thresholds) {
	m := r.mapping(n, "thresholds", "ihsan_min", "snr_min", "fate_min", "timestamp_window_ms", "nonce_window_ms",
		"measured_snr_margin", "measured_after")
	if m == nil {
		return
	}
	m.float("ihsan_min", &t.IhsanMin, 1)
	m.float("snr_min", &t.SNRMin, 1)
	if m.float("fate_min", &t.FateMin, 1); t.FateMin == 0 {
		r.fault(m.get("fate_min"), "thresholds.fate_min", "is 0: it must be above, so that a rule can deny")
	}
	m.int("timestamp_window_ms", &t.TimestampWindowMillis, 1_000, TimestampWindowMillisMax)
	m.int("nonce_window_ms", &t.NonceWindowMillis, 1_000, 24*3_600_000)
	m.float("measured_snr_margin", &t.MeasuredSNRMargin, 1)
	m.int("measured_after", &t.MeasuredAfter, 0, countMax)
	// Or else a forgotten nonce could be replayed while its timestamp is still valid.
	if t.NonceWindowMillis <= 2*t.TimestampWindowMillis {
		at := m.get("nonce_window_ms")
		if at == nil {
			at = m.get("timestamp_window_ms")
		}
		r.fault(at, "thresholds.nonce_window_ms", "%d is too short: it must be longer than twice timestamp_window_ms, so at least %d",
			t.NonceWindowMillis, 2*t.TimestampWindowMillis+1)
	}
}

// muteMillisMax is a week: nobody is locked out for ever.
const muteMillisMax = 7 * 24 * 3_600_000

// restoreMax is below the reputation that an agent has which only succeeds, 0.83.
const restoreMax = 0.8

func (r *reader) readBreaker(n *node, b *Breaker) {
	m := r.mapping(n, "breaker", "after", "throttle_below", "mute_below", "restore_above", "throttled_per_minute", "mute_after",
		"mute_ms", "mute_ms_max", "probation_failures")
	if m == nil {
		return
	}
	m.int("after", &b.After, 1, countMax)
	m.float("throttle_below", &b.ThrottleBelow, restoreMax)
	m.float("mute_below", &b.MuteBelow, restoreMax)
	m.float("restore_above", &b.RestoreAbove, restoreMax)
	m.int("throttled_per_minute", &b.ThrottledPerMinute, 1, countMax)
	m.int("mute_after", &b.MuteAfter, 1, countMax)
	m.int("mute_ms", &b.MuteMillis, 1_000, muteMillisMax)
	m.int("mute_ms_max", &b.MuteMillisMax, 1_000, muteMillisMax)
	m.int("probation_failures", &b.ProbationFailures, 1, countMax)
	switch {
	case len(r.problems) > 0:
	case b.MuteBelow > b.ThrottleBelow:
		r.fault(n, "breaker.mute_below", "is %v: it must be at most throttle_below, which is %v", b.MuteBelow, b.ThrottleBelow)
	case b.RestoreAbove <= b.ThrottleBelow:
		r.fault(n, "breaker.restore_above", "is %v: it must be above throttle_below, which is %v", b.RestoreAbove, b.ThrottleBelow)
	case b.MuteMillisMax < b.MuteMillis:
		r.fault(n, "breaker.mute_ms_max", "is %d: it must be at least mute_ms, which is %d", b.MuteMillisMax, b.MuteMillis)
	}
}

func (r *reader) readComposite(n *node, c *Composite) {
	m := r.mapping(n, "composite", "rule", "weights")
	if m == nil {
		return
	}
	if at := m.get("rule"); at != nil {
		m.text("rule", &c.Rule, NameBytesMax)
		if c.Rule != Product && c.Rule != Geometric {
			r.fault(at, "composite.rule", "%q is not known: it must be %s or %s", c.Rule, Product, Geometric)
		}
	}
	w := r.mapping(m.get("weights"), "composite.weights", "fidelity", "accountability", "transparency", "ethics")
	if w == nil {
		return
	}
	w.float("fidelity", &c.Weights.Fidelity, weightMax)
	w.float("accountability", &c.Weights.Accountability, weightMax)
	w.float("transparency", &c.Weights.Transparency, weightMax)
	w.float("ethics", &c.Weights.Ethics, weightMax)
	switch {
	case c.Weights == (Weights{}):
		r.fault(m.get("weights"), "composite.weights", "all are 0: at least one must be above")
	case c.Rule == Product && c.Weights != Weights{1, 1, 1, 1}:
		r.fault(m.get("weights"), "composite.weights", "count only under the rule %s: under %s they are 1", Geometric, Product)
	}
}

func (r *reader) readTerms(n *node) []Term {
	elems := r.sequence(n, "terms", TermsMax)
	terms := make([]Term, 0, len(elems))
	for i, e := range elems {
		path := fmt.Sprintf("terms[%d]", i)
		m := r.mapping(e, path, "name", "value")
		if m == nil {
			continue
		}
		var t Term
		if at := m.required("name", "value"); at != nil {
			m.text("name", &t.Name, NameBytesMax)
			if !isTermName(t.Name) {
				r.fault(at, path+".name", "%q is no name: lower-case letters, digits and _, a letter first; words of CEL and action, data, agent, session are taken", t.Name)
			} else if slices.ContainsFunc(terms, func(o Term) bool { return o.Name == t.Name }) {
				r.fault(at, path+".name", "%q is the name of an earlier term: each needs its own", t.Name)
			}
		}
		m.expression("value", &t.Value)
		terms = append(terms, t)
	}
	return terms
}

func (r *reader) readRules(n *node) []Rule {
	elems := r.sequence(n, "rules", RulesMax)
	rules := make([]Rule, 0, len(elems))
	for i, e := range elems {
		path := fmt.Sprintf("rules[%d]", i)
		m := r.mapping(e, path, "name", "dimension", "deny", "message")
		if m == nil {
			continue
		}
		var rule Rule
		if at := m.required("name", "dimension", "deny", "message"); at != nil {
			m.text("name", &rule.Name, NameBytesMax)
			if !isRuleName(rule.Name) {
				r.fault(at, path+".name", "%q is no name: lower-case letters, digits and -, a letter first", rule.Name)
			} else if slices.ContainsFunc(rules, func(o Rule) bool { return o.Name == rule.Name }) {
				r.fault(at, path+".name", "%q is the name of an earlier rule: each needs its own, receipts name it", rule.Name)
			}
		}
		if at := m.get("dimension"); at != nil {
			var d string
			m.text("dimension", &d, NameBytesMax)
			rule.Dimension = Dimension(d)
			switch rule.Dimension {
			case Fidelity, Accountability, Transparency, Ethics:
			default:
				r.fault(at, path+".dimension", "%q is not known: it must be fidelity, accountability, transparency or ethics", d)
			}
		}
		m.expression("deny", &rule.Deny)
		m.text("message", &rule.Message, MessageBytesMax)
		rule.Message = strings.TrimSpace(rule.Message)
		rules = append(rules, rule)
	}
	return rules
}

var (
	ruleNamePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	termNamePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

func isRuleName(s string) bool { return ruleNamePattern.MatchString(s) }

func isTermName(s string) bool {
	switch s {
	case "action", "data", "agent", "session", "bizra", "has", "all", "exists", "exists_one", "filter", "map", // CEL's and ours
		"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
		"namespace", "null", "package", "return", "true", "var", "void", "while",
		"bool", "bytes", "double", "dyn", "int", "list", "null_type", "string", "type", "uint", "size":
		return false
	}
	return termNamePattern.MatchString(s)
}

// mapping is one mapping that is being read.
type mapping struct {
	r    *reader
	n    *node
	path string
}

// mapping checks that a node is a mapping of known members; nil if it is none or absent.
func (r *reader) mapping(n *node, path string, known ...string) *mapping {
	if n == nil {
		return nil
	}
	if n.kind != mapNode {
		r.fault(n, path, "must be a mapping with the members %s, not %s", strings.Join(known, ", "), n.what())
		return nil
	}
	m := &mapping{r, n, path}
	for _, name := range n.names {
		if !slices.Contains(known, name.text) {
			r.fault(name, m.member(shortened(name.text)), "is not known here: the members are %s", strings.Join(known, ", "))
		}
	}
	return m
}

func (r *reader) sequence(n *node, path string, countMax int) []*node {
	if n == nil {
		return nil
	}
	if n.kind != listNode {
		r.fault(n, path, "must be a sequence, not %s", n.what())
		return nil
	}
	if len(n.values) > countMax {
		r.fault(n.values[countMax], path, "has %d elements: at most %d", len(n.values), countMax)
		return nil
	}
	return n.values
}

func (m *mapping) member(name string) string {
	if m.path == "" {
		return name
	}
	return m.path + "." + name
}

func (m *mapping) get(name string) *node {
	for i, n := range m.n.names {
		if n.text == name {
			return m.n.values[i]
		}
	}
	return nil
}

// required reports the members that are missing and returns the first of them.
func (m *mapping) required(names ...string) (first *node) {
	for _, name := range names {
		if m.get(name) == nil {
			m.r.fault(m.n, m.member(name), "is missing")
		}
	}
	return m.get(names[0])
}

func (m *mapping) text(name string, to *string, bytesMax int) {
	n := m.get(name)
	switch {
	case n == nil:
	case n.kind == mapNode || n.kind == listNode:
		m.r.fault(n, m.member(name), "must be a text, not %s", n.what())
	case strings.TrimSpace(n.text) == "":
		m.r.fault(n, m.member(name), "is empty")
	case len(n.text) > bytesMax:
		m.r.fault(n, m.member(name), "has %d bytes: at most %d", len(n.text), bytesMax)
	default:
		*to = n.text
	}
}

// expression reads the text of a CEL expression, without white space around it.
func (m *mapping) expression(name string, to *string) {
	m.text(name, to, ExpressionBytesMax)
	if n := m.get(name); n != nil && *to != "" {
		right := strings.TrimLeftFunc(*to, unicode.IsSpace)
		lead := (*to)[:len(*to)-len(right)]
		*to = strings.TrimSpace(right)
		at := n.literal
		if at.line > 0 {
			at.line += strings.Count(lead, "\n")
			at.column += len(lead) - strings.LastIndexByte(lead, '\n') - 1
		}
		m.r.at[m.member(name)] = at
	}
}

func (m *mapping) int(name string, to *int64, low, high int64) {
	n := m.get(name)
	if n == nil {
		return
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 10, 64)
	if n.kind != scalarNode || err != nil {
		m.r.fault(n, m.member(name), "must be a whole number, not %s", n.what())
		return
	}
	if v < low || v > high {
		m.r.fault(n, m.member(name), "is %d: it must be from %d to %d", v, low, high)
		return
	}
	*to = v
}

var floatPattern = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// float reads a number from 0 on.
func (m *mapping) float(name string, to *float64, high float64) {
	n := m.get(name)
	if n == nil {
		return
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if n.kind != scalarNode || err != nil || !floatPattern.MatchString(n.text) {
		m.r.fault(n, m.member(name), "must be a number, not %s", n.what())
		return
	}
	if !(v >= 0 && v <= high) {
		m.r.fault(n, m.member(name), "is %s: it must be from 0 to %v", n.text, high)
		return
	}
	*to = v + 0 // a negative zero has another canonical form
}

func (m *mapping) bool(name string, to *bool) {
	n := m.get(name)
	if n == nil {
		return
	}
	if n.kind != scalarNode || n.text != "true" && n.text != "false" {
		m.r.fault(n, m.member(name), "must be true or false, not %s", n.what())
		return
	}
	*to = n.text == "true"
}
