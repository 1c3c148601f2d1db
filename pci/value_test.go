package pci

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) Value {
	t.Helper()
	v, err := Parse([]byte(text), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestValueReads(t *testing.T) {
	v := parse(t, `{"s":"a\n\u00e9\ud83d\ude00\\\"","n":1.50,"i":-7,"t":true,"f":false,"z":null,"a":[1,[2,"]"],{"k":"}"},""],"o":{"\"q\\":1}}`)
	if v.Kind() != ObjectKind || len(v.Members()) != 8 {
		t.Fatalf("%v with %d members", v.Kind(), len(v.Members()))
	}
	get := func(name string) Value {
		m, ok := v.Get(name)
		if !ok {
			t.Fatalf("no member %s", name)
		}
		return m
	}
	if got := get("s").String(); got != "a\né😀\\\"" {
		t.Errorf("string %q", got)
	}
	if f, ok := get("n").Float64(); !ok || f != 1.5 || get("n").NumberText() != "1.50" {
		t.Errorf("number %v %v %q", f, ok, get("n").NumberText())
	}
	if _, ok := get("n").Int64(); ok {
		t.Error("1.50 passed as a whole number")
	}
	if i, ok := get("i").Int64(); !ok || i != -7 {
		t.Errorf("whole number %d %v", i, ok)
	}
	if !get("t").Bool() || get("f").Bool() || get("z").Bool() {
		t.Error("wrong boolean")
	}
	if k := get("z").Kind(); k != NullKind {
		t.Errorf("null is %v", k)
	}
	elems := get("a").Elems()
	if len(elems) != 4 || elems[1].Elems()[1].String() != "]" || elems[3].Kind() != StringKind {
		t.Errorf("elements %v", elems)
	}
	if m := get("o").Members(); len(m) != 1 || m[0].Name != `"q\` {
		t.Errorf("members %v", m)
	}
	if _, ok := get("o").Get(`"q\`); !ok {
		t.Error("a name with escapes is not found")
	}
	if _, ok := get("o").Get(`\"q\\`); ok {
		t.Error("a name is found by its escaped form")
	}
	if _, ok := v.Get("none"); ok {
		t.Error("a member is found that is not there")
	}
}

func TestValueOfAnotherKind(t *testing.T) {
	for _, text := range []string{`null`, `true`, `1`, `"1"`, `[]`, `{}`} {
		v := parse(t, text)
		if v.Kind() != StringKind && v.String() != "" {
			t.Errorf("%s: String %q", text, v.String())
		}
		if v.Kind() != NumberKind {
			_, isFloat := v.Float64()
			_, isInt := v.Int64()
			if isFloat || isInt || v.NumberText() != "" {
				t.Errorf("%s passes for a number", text)
			}
		}
		if v.Elems() != nil || v.Members() != nil {
			t.Errorf("%s has elements or members", text)
		}
		if _, ok := v.Get("a"); ok {
			t.Errorf("%s has a member", text)
		}
	}
	var zero Value
	if zero.Kind() != NullKind || string(zero.AppendCanonical(nil)) != "null" || zero != parse(t, "null") {
		t.Error("the zero Value is not null")
	}
	if _, ok := parse(t, "9223372036854775808").Int64(); ok {
		t.Error("2^63 passed as an int64")
	}
}

func TestValueInEncodingJSON(t *testing.T) {
	type box struct{ V Value }
	text, err := json.Marshal(box{parse(t, `{"b":1,"a":[true]}`)})
	if err != nil || string(text) != `{"V":{"a":[true],"b":1}}` {
		t.Errorf("%s, %v", text, err)
	}
	var b box
	if err := json.Unmarshal([]byte(`{"V":{"b" : 1.0}}`), &b); err != nil || b.V != parse(t, `{"b":1.0}`) {
		t.Errorf("%v, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"V":{"a":1,"a":2}}`), &b); CodeOf(err) != RejectSchema {
		t.Errorf("a duplicate passed through encoding/json: %v", err)
	}
}

func TestFromGo(t *testing.T) {
	v, err := FromGo(map[string]any{
		"é": []any{nil, true, "x\x00", 1, int64(-2), uint64(math.MaxUint64), 0.5, 1.0, json.Number("1.50")},
		"v": parse(t, `{"b":1,"a":2}`), "s": []string{"a"}, "m": map[string]string{"k": "w"},
		"l": []Value{{}, parse(t, "3")}, "o": map[string]Value{"k": {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"l":[null,3],"m":{"k":"w"},"o":{"k":null},"s":["a"],"v":{"a":2,"b":1},"\u00e9":[null,true,"x\u0000",1,-2,18446744073709551615,0.5,1.0,1.50]}`
	if got := string(v.AppendCanonical(nil)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

func TestFromGoRefuses(t *testing.T) {
	loop := map[string]any{}
	loop["self"] = loop
	for name, x := range map[string]any{
		"NaN": math.NaN(), "infinity": math.Inf(-1), "bad UTF-8": "a\xff", "bad UTF-8 in a name": map[string]any{"\xff": 1},
		"two numbers": json.Number("1,2"), "no number": json.Number(""), "infinite number": json.Number("1e999"), "hex number": json.Number("0x1"),
		"another type": struct{}{}, "a channel": []any{make(chan int)}, "cycle": loop,
		"too long": strings.Repeat("a", EnvelopeBytesMax), "too many": make([]any, EnvelopeBytesMax),
		"too deep": parse(t, strings.Repeat("[", DepthMax)+strings.Repeat("]", DepthMax)),
	} {
		if name == "too deep" {
			x = []any{x}
		}
		_, err := FromGo(x)
		var r *Reject
		if !errors.As(err, &r) || r.Code != RejectSchema {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppendFloat(t *testing.T) {
	for _, c := range []struct {
		f    float64
		want string
	}{
		{0, "0.0"}, {math.Copysign(0, -1), "-0.0"}, {1, "1.0"}, {-1, "-1.0"}, {0.1, "0.1"}, {0.95, "0.95"},
		{1e15, "1000000000000000.0"}, {9999999999999998, "9999999999999998.0"}, {1e16, "1e+16"}, {1e22, "1e+22"}, {-1.5e16, "-1.5e+16"},
		{1e-4, "0.0001"}, {0.00012345, "0.00012345"}, {9.999e-5, "9.999e-05"}, {1e-5, "1e-05"}, {1e-7, "1e-07"}, {-1e-7, "-1e-07"},
		{5e-324, "5e-324"}, {math.MaxFloat64, "1.7976931348623157e+308"}, {123456789.125, "123456789.125"}, {1e100, "1e+100"},
		{math.NaN(), "null"}, {math.Inf(1), "null"}, {math.Inf(-1), "null"},
	} {
		if got := string(AppendFloat([]byte("x."), c.f)); got != "x."+c.want {
			t.Errorf("%v: %s, want %s", c.f, got[2:], c.want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ s, want string }{
		{"", `""`}, {"a/b", `"a/b"`}, {"\"\\\b\f\n\r\t", `"\"\\\b\f\n\r\t"`}, {"\x00\x1f\x7f", `"\u0000\u001f\u007f"`},
		{"~\u0080é\u2028\uffff", `"~\u0080\u00e9\u2028\uffff"`}, {"\U00010000\U0010ffff", `"\ud800\udc00\udbff\udfff"`}, {"a\xffb", `"a\ufffdb"`},
	} {
		if got := string(AppendString(nil, c.s)); got != c.want {
			t.Errorf("%q: %s, want %s", c.s, got, c.want)
		}
	}
}
