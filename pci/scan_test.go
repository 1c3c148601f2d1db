package pci

import (
	"errors"
	"strings"
	"testing"
)

func TestParseCanonical(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`null`, `null`},
		{" \t\r\n true \n", `true`},
		{`false`, `false`},
		{`0`, `0`},
		{`-0`, `-0`},
		{`-0.0`, `-0.0`},
		{`1.50`, `1.50`},
		{`1E+5`, `1E+5`},
		{`1e-999`, `1e-999`},
		{`12345678901234567890123`, `12345678901234567890123`},
		{`1.7976931348623157e308`, `1.7976931348623157e308`},
		{strings.Repeat("9", 308), strings.Repeat("9", 308)},
		{`[ ]`, `[]`},
		{`{ }`, `{}`},
		{`[1 , "a" ,null]`, `[1,"a",null]`},
		{`"\u0041\/\u002f\""`, `"A//\""`},
		{`"\b\f\n\r\t\u0008\u000C"`, `"\b\f\n\r\t\b\f"`},
		{`"\u0000\u001F` + "\x7f" + `"`, `"\u0000\u001f\u007f"`},
		{`"é€😀"`, `"\u00e9\u20ac\ud83d\ude00"`},
		{`"\u00E9\uD83D\uDE00\uFFFF"`, `"\u00e9\ud83d\ude00\uffff"`},
		{`"\udbff\udfff\ud800\udc00"`, `"\udbff\udfff\ud800\udc00"`},
		{`{"b":1,"a":2}`, `{"a":2,"b":1}`},
		{`{"a":{"d":1,"c":[{"f":1,"e":2}]},"":0}`, `{"":0,"a":{"c":[{"e":2,"f":1}],"d":1}}`},
		{`{"aa":1,"a":2}`, `{"a":2,"aa":1}`},
		// An escape begins with a backslash, which sorts before letters; what it means does not.
		{`{"é":1,"z":2,"\"":3,"\\":4,"a":5}`, `{"\"":3,"\\":4,"a":5,"z":2,"\u00e9":1}`},
		// U+1F600 comes after U+FB33, though its first UTF-16 unit comes before it.
		{"{\"\U0001f600\":1,\"\ufb33\":2}", `{"\ufb33":2,"\ud83d\ude00":1}`},
	} {
		v, err := Parse([]byte(c.text), Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := string(v.AppendCanonical(nil)); got != c.want {
			t.Errorf("%s: canonical form %s, want %s", c.text, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, ` `, `x`, "\ufeff{}", "\x00", `nul`, `nullx`, `True`, `NaN`, `Infinity`, `-Infinity`, `undefined`, `'a'`,
		`01`, `-`, `+1`, `.5`, `1.`, `1.e5`, `1e`, `1e+`, `0x10`, `1_000`, `1,`, `--1`, `-01`,
		`1e999`, `-1e309`, `1.8e308`, strings.Repeat("9", 310), `[1e400]`,
		`"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\u`, `"\`, "\"\n\"", "\"\x1f\"", "\"a\x00\"",
		`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\ud800a"`, `"\ud800\u0041"`, `"\ud83d\ude0"`, `"\ude00\ud83d"`, `"\ud83dx\ude00"`,
		"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "\"\x80\"",
		`[`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `]`, `[1}`,
		`{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a":1]`, `{null:1}`,
		`{"a":1,"a":1}`, `{"a":1,"b":2,"a":3}`, `{"a":1,"\u0061":2}`, `{"é":1,"\u00e9":2}`, `{"":1,"":2}`, `[{"x":{"/":1,"\/":2}}]`,
		`{} {}`, `1 2`, `{}x`, "{}\x00", `// c` + "\n{}", `{} /* c */`,
	} {
		_, err := Parse([]byte(text), Limits{})
		if CodeOf(err) != RejectSchema {
			t.Errorf("%q: %v, want %v", text, err, RejectSchema)
		}
	}
}

func TestParseNamesTheDuplicate(t *testing.T) {
	_, err := Parse([]byte(`{"b":1,"note":2,"a":0,"note":3}`), Limits{})
	var r *Reject
	if !errors.As(err, &r) || !strings.Contains(r.Detail, `"note" twice`) {
		t.Errorf("error %v does not name the member", err)
	}
}

func TestParseLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	mixed := func(n int) string { return strings.Repeat(`[{"a":`, n/2) + "1" + strings.Repeat("}]", n/2) }
	// 16 KiB as received, 49,141+n bytes in canonical form.
	escaping := func(n int) string {
		return `["` + strings.Repeat("a", n) + `","` + strings.Repeat("é", 8189) + `"]`
	}
	for _, c := range []struct {
		name string
		text string
		lim  Limits
		ok   bool
	}{
		{"depth at the limit", nest(DepthMax), Limits{}, true},
		{"depth above the limit", nest(DepthMax + 1), Limits{}, false},
		{"objects count like arrays", mixed(DepthMax), Limits{}, true},
		{"objects count like arrays, above", "[" + mixed(DepthMax) + "]", Limits{}, false},
		{"siblings do not add up", "[" + nest(DepthMax-1) + "," + nest(DepthMax-1) + "]", Limits{}, true},
		{"depth limit of the caller", nest(3), Limits{DepthMax: 3}, true},
		{"depth limit of the caller, above", nest(4), Limits{DepthMax: 3}, false},
		{"scalars have no depth", "1", Limits{DepthMax: 1}, true},
		{"bytes at the limit", `"` + strings.Repeat("a", EnvelopeBytesMax-2) + `"`, Limits{}, true},
		{"bytes above the limit", `"` + strings.Repeat("a", EnvelopeBytesMax-1) + `"`, Limits{}, false},
		{"white space counts as received", strings.Repeat(" ", EnvelopeBytesMax-1) + "1", Limits{}, true},
		{"white space counts as received, above", strings.Repeat(" ", EnvelopeBytesMax) + "1", Limits{}, false},
		{"canonical form at the limit", escaping(11), Limits{}, true},
		{"canonical form above the limit", escaping(12), Limits{}, false},
		{"bytes limit of the caller", `"abc"`, Limits{BytesMax: 5}, true},
		{"bytes limit of the caller, above", `"abcd"`, Limits{BytesMax: 5}, false},
		{"canonical limit of the caller", `"€"`, Limits{BytesMax: 8}, true},
		{"canonical limit of the caller, above", `"€"`, Limits{BytesMax: 7}, false},
		{"more than an envelope for other documents", `"` + strings.Repeat("a", EnvelopeBytesMax) + `"`, Limits{BytesMax: 1 << 20}, true},
	} {
		v, err := Parse([]byte(c.text), c.lim)
		if c.ok && err != nil || !c.ok && CodeOf(err) != RejectSchema {
			t.Errorf("%s: error %v, want ok %v", c.name, err, c.ok)
		}
		if err == nil && len(v.AppendCanonical(nil)) > c.lim.withDefaults().BytesMax {
			t.Errorf("%s: accepted with %d canonical bytes", c.name, len(v.AppendCanonical(nil)))
		}
	}
	// The case above must sit on the limit exactly, or it shows less than it says.
	v, err := Parse([]byte(escaping(11)), Limits{})
	if err != nil || len(v.AppendCanonical(nil)) != EnvelopeBytesMax {
		t.Errorf("the canonical form at the limit has %d bytes, %v", len(v.AppendCanonical(nil)), err)
	}
}

func TestPlainLen(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			text := []byte(strings.Repeat("a", 24))
			text[at] = byte(c)
			want := at
			if plain(byte(c)) {
				want = len(text)
			}
			if got := plainLen(text); got != want {
				t.Errorf("byte %#x at %d: %d, want %d", c, at, got, want)
			}
		}
	}
	if n := plainLen([]byte("\x1f ~\x7f\"\\\x80\xff")); n != 0 {
		t.Errorf("%d bytes in front of a control character", n)
	}
}

func TestManyMembersSort(t *testing.T) {
	const count = 3000
	var in, want strings.Builder
	name := func(i int) string {
		return string(rune('a'+i/676)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))
	}
	for i := range count {
		in.WriteString(`,"` + name(count-1-i) + `": [ ]`)
		want.WriteString(`,"` + name(i) + `":[]`)
	}
	v, err := Parse([]byte("{"+in.String()[1:]+"}"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(v.AppendCanonical(nil)); got != "{"+want.String()[1:]+"}" {
		t.Errorf("members out of order: %.80s", got)
	}
	if n := len(v.Members()); n != count {
		t.Errorf("%d members, want %d", n, count)
	}
}
