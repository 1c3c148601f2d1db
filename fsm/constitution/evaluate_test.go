package constitution_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/constitution"
	"github.com/bizra/bizra/pci"
)

func value(t testing.TB, text string) pci.Value {
	t.Helper()
	v, err := pci.Parse([]byte(text), pci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// policyOf is a document with the given rules: name and expression in turn.
func policyOf(t testing.TB, rules ...string) *constitution.Policy {
	t.Helper()
	c, err := constitution.Default()
	if err != nil {
		t.Fatal(err)
	}
	c.Rules = nil
	for i := 0; i < len(rules); i += 2 {
		c.Rules = append(c.Rules, constitution.Rule{Name: rules[i], Dimension: constitution.Ethics, Deny: rules[i+1], Message: "No."})
	}
	p, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEvaluateExpressions(t *testing.T) {
	in := constitution.Input{Action: "session.transition",
		Agent:   constitution.Agent{ID: "ada", Type: "PAT", Owner: "acme"},
		Session: constitution.Session{ID: "s1", State: "active", Opener: "bob", Nodes: 7}}
	data := `{"a":1,"big":12345678901234567890,"f":1.0,"e":1e3,"t":"Text","n":null,"l":[1,"x",{"k":2}],"o":{"b":2,"a":1},"":3}`
	for expression, want := range map[string]bool{
		`action == 'session.transition'`:                             true,
		`agent.id == 'ada' && agent.type == 'PAT'`:                   true,
		`agent['owner'] != 'acme'`:                                   false,
		`session.nodes > 6 && session.opener != agent.id`:            true,
		`session.state == 'init'`:                                    false,
		`data.a == 1 && data.a + 1 == 2`:                             true,
		`data.big > 1.2e19`:                                          true,
		`data.f == 1.0 && data.f == 1`:                               true,
		`data.e / 2.0 == 500.0`:                                      true,
		`data.n == null`:                                             true,
		`data.l[2].k == 2 && data.l.size() == 3`:                     true,
		`data.l.exists(x, x == 'x')`:                                 true,
		`data.o.all(k, data.o[k] < 3)`:                               true,
		`data.o.map(k, k) == ['a', 'b']`:                             true, // sorted
		`has(data.o.c) || 'zz' in data`:                              false,
		`data[''] == 3`:                                              true,
		`data.t.lowerAscii() == 'text'`:                              true,
		`data.t.matches('^T.xt$')`:                                   true,
		`data.o == data.o && data.l == data.l`:                       true,
		`size(data) == 9`:                                            true,
		`bizra.texts(data, ['t', 'o']) == 'Text\n1\n2'`:              true,
		`bizra.within('/a/b', '/a') && !bizra.within('/ab', ['/a'])`: true,
		`bizra.without('a1b2', '[0-9]') == 'ab'`:                     true,
		`bizra.card('4539 1488 0343 6467') && !bizra.iban('DE')`:     true,
		`bizra.normalise('R\\m') + bizra.decoded('cm0gLXJmIC8=') == 'rm' + 'cm0gLXJmIC8=' + '\n' + 'rm -rf /'`: true,
	} {
		p := policyOf(t, "rule", expression)
		in.Data = value(t, data)
		if v := p.Evaluate(in); v.Denied() != want || v.Error {
			t.Errorf("%s: %+v, want %v: %v", expression, v, want, p.Explain(in).Errors)
		}
	}
}

func TestErrorDenies(t *testing.T) {
	for _, expression := range []string{`data.missing == 1`, `data.t > 1`, `data.a.b.c == 1`, `1 / data.zero == 1`, `data.l[9] == 1`, `data.t.matches('zz') || data.missing`,
		`int(data.t) == 1`, `bizra.within('/a', data.a)`, `bizra.texts(data, data.l) == ''`, `bizra.commands(data.nest) == ''`} {
		p := policyOf(t, "first", `data.a == 2`, "failing", expression, "last", "true")
		v := p.Evaluate(constitution.Input{Data: value(t, `{"a":1,"t":"text","zero":0,"l":[1],"nest":"`+strings.Repeat("$(", 100)+`"}`)})
		if v.Rule != "failing" || !v.Error || v.Dimension != constitution.Ethics {
			t.Errorf("%s: %+v", expression, v)
		}
	}
	// What is false without the part that fails is false.
	p := policyOf(t, "rule", `data.a == 2 && data.missing`, "other", `data.missing && command.contains('zzz')`)
	if v := p.Evaluate(constitution.Input{Data: value(t, `{"a":1}`)}); v.Denied() {
		t.Errorf("%+v", v)
	}
	for _, text := range []string{`1`, `"x"`, `[]`, `null`} {
		if v := policyOf(t, "rule", `data.a == 1`).Evaluate(constitution.Input{Data: value(t, text)}); !v.Error {
			t.Errorf("data %s: %+v", text, v)
		}
	}
}

func TestFirstRuleDecides(t *testing.T) {
	p := policyOf(t, "no", "false", "first", "data.a == 1", "second", "true")
	in := constitution.Input{Data: value(t, `{"a":1}`)}
	if v := p.Evaluate(in); v.Rule != "first" || v.Message != "No." || v.Error {
		t.Errorf("%+v", v)
	}
	x := p.Explain(in)
	if x.Verdict.Rule != "first" || len(x.Holding) != 2 || !strings.Contains(x.String(), "Rule second holds as well") {
		t.Errorf("%v", x)
	}
	if v := policyOf(t).Evaluate(in); v != (constitution.Verdict{}) {
		t.Errorf("no rules: %+v", v)
	}
	if s := policyOf(t).Explain(in).String(); !strings.Contains(s, "No deny rule holds") {
		t.Error(s)
	}
}

func TestConcurrentEvaluationsAgree(t *testing.T) {
	p := defaultPolicy(t)
	cases, err := constitution.ReadCases(os.DirFS("testdata/corpus"))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]constitution.Verdict, len(cases))
	for i, c := range cases {
		want[i] = p.Evaluate(c.Input)
	}
	var wg sync.WaitGroup
	faults := make(chan string, 8)
	for g := range 4 {
		wg.Go(func() {
			for i := range cases {
				i = (i*7 + g*31) % len(cases)
				if got := p.Evaluate(cases[i].Input); got != want[i] {
					select {
					case faults <- fmt.Sprintf("%s: %+v, first %+v", cases[i].Name, got, want[i]):
					default:
					}
				}
			}
		})
	}
	wg.Wait()
	close(faults)
	for f := range faults {
		t.Error(f)
	}
}

// jsonValue draws values of every kind, with names and texts that the rules look at.
func jsonValue(depth int) *rapid.Generator[any] {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"rm -rf /", "cat .env", "/etc/passwd", "$(", "`", "<<E\n", "eval $x", "a=b", "|", "sh -c 'x'",
		"drop table x", "-----BEGIN PRIVATE KEY-----", "AKIA", "\\x72\\x6d", "cm0gLXJmIC8=", "ſ", "\u212a", "~", "https://x.example/?d=", "> /tmp/x", "4539 1488 0343 6467"}))
	scalar := rapid.OneOf(rapid.Map(text, func(s string) any { return strings.ToValidUTF8(s, "") }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f }), rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil))
	if depth == 0 {
		return scalar
	}
	name := rapid.OneOf(rapid.Map(rapid.String(), func(s string) string { return strings.ToValidUTF8(s, "") }),
		rapid.SampledFrom([]string{"input", "meta", "command", "args", "file_path", "path", "content", "url", "sql", "code", "scope", "intent", "query", "edits"}))
	return rapid.OneOf(scalar, rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 0, 4), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(name, jsonValue(depth-1), 0, 5), func(m map[string]any) any { return m }))
}

func TestEvaluateAnything(t *testing.T) {
	p := defaultPolicy(t)
	denied := 0
	rapid.Check(t, func(rt *rapid.T) {
		v, err := pci.FromGo(jsonValue(4).Draw(rt, "data"))
		if err != nil {
			return // beyond the limits of an envelope
		}
		in := constitution.Input{Action: "session.transition", Data: v}
		first := p.Evaluate(in)
		if again := p.Evaluate(in); again != first {
			rt.Fatalf("%+v, then %+v", first, again)
		}
		if x := p.Explain(in); x.Verdict != first {
			rt.Fatalf("evaluated to %+v, explained as %+v: the prefilter changes the meaning", first, x.Verdict)
		}
		if first.Denied() {
			denied++
		}
	})
	if denied == 0 {
		t.Error("nothing was denied: the drawn values show nothing")
	}
}

// The texts of the corpus, cut and glued, reach the rules more often than drawn ones.
func TestPrefilterKeepsTheMeaning(t *testing.T) {
	p := defaultPolicy(t)
	cases, err := constitution.ReadCases(os.DirFS("testdata/corpus"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, c := range cases {
		input, _ := c.Input.Data.Get("input")
		for _, name := range []string{"command", "content", "code", "sql", "url", "file_path"} {
			if s, ok := input.Get(name); ok {
				commands = append(commands, s.String())
			}
		}
		if x := p.Explain(c.Input); x.Verdict != p.Evaluate(c.Input) {
			t.Errorf("%s: evaluated to %+v, explained as %+v", c.Name, p.Evaluate(c.Input), x.Verdict)
		}
	}
	decided := map[string]bool{}
	rapid.Check(t, func(rt *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(1, 3).Draw(rt, "parts") {
			s := rapid.SampledFrom(commands).Draw(rt, "part")
			if rapid.Bool().Draw(rt, "cut") {
				from := rapid.IntRange(0, len(s)).Draw(rt, "from")
				s = strings.ToValidUTF8(s[from:rapid.IntRange(from, len(s)).Draw(rt, "to")], "")
			}
			b.WriteString(s)
			b.WriteString(rapid.SampledFrom([]string{"", " ", "\n", ";", "|", "\"", "'", "\\"}).Draw(rt, "glue"))
		}
		member := rapid.SampledFrom([]string{"command", "content", "code", "sql", "url", "file_path"}).Draw(rt, "member")
		v, err := pci.FromGo(map[string]any{"input": map[string]any{member: b.String()}, "meta": map[string]any{"scope": "/home/dev"}})
		if err != nil {
			return // beyond the limits of an envelope
		}
		in := constitution.Input{Data: v}
		got, x := p.Evaluate(in), p.Explain(in)
		if got != x.Verdict {
			rt.Fatalf("evaluated to %+v, explained as %+v", got, x.Verdict)
		}
		decided[got.Rule] = true
	})
	if len(decided) < 3 {
		t.Errorf("only %d rules decided anything", len(decided))
	}
}
