package pci

import (
	"math"
	"strconv"
	"strings"
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds of JSON values.
const (
	NullKind Kind = iota
	BoolKind
	NumberKind
	StringKind
	ArrayKind
	ObjectKind
)

// String returns a name for messages, with its article.
func (k Kind) String() string {
	switch k {
	case NullKind:
		return "null"
	case BoolKind:
		return "a boolean"
	case NumberKind:
		return "a number"
	case StringKind:
		return "a string"
	case ArrayKind:
		return "an array"
	case ObjectKind:
		return "an object"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Value is one JSON value, held as its canonical text: number tokens stay as they
// were received, and two values are equal if and only if == says so. A Value is
// immutable; the zero Value is null.
type Value struct {
	kind Kind
	text string // canonical; "" for null
}

// Member is one member of an object.
type Member struct {
	Name  string
	Value Value
}

// Parse reads one JSON value, strictly: no duplicate names, no lone surrogates,
// valid UTF-8, no number beyond a float64, nothing after the value, nothing over
// the limits. An error is a [*Reject] with [RejectSchema] that names the byte.
func Parse(text []byte, lim Limits) (Value, error) {
	canonical, kind, err := canonicalise(text, lim)
	if err != nil {
		return Value{}, err
	}
	return newValue(kind, string(canonical)), nil
}

// newValue wraps canonical text; null has one representation, so that == works.
func newValue(kind Kind, text string) Value {
	if kind == NullKind {
		return Value{}
	}
	return Value{kind: kind, text: text}
}

// Kind returns the type of the value.
func (v Value) Kind() Kind { return v.kind }

// Bool returns true for the value true, and false for everything else.
func (v Value) Bool() bool { return v.kind == BoolKind && v.text == "true" }

// String returns the text of a string, and "" for a value of another kind.
func (v Value) String() string {
	if v.kind != StringKind {
		return ""
	}
	return unescape(v.text[1 : len(v.text)-1])
}

// NumberText returns the token of a number as it was received, and "" for a value
// of another kind.
func (v Value) NumberText() string {
	if v.kind != NumberKind {
		return ""
	}
	return v.text
}

// Float64 returns the float64 nearest to a number; ok is false for a value of
// another kind.
func (v Value) Float64() (f float64, ok bool) {
	if v.kind != NumberKind {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// Int64 returns a whole number; ok is false for a value of another kind, for a
// number written with a point or an exponent, and beyond 64 bits.
func (v Value) Int64() (n int64, ok bool) {
	if v.kind != NumberKind {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil
}

// Elems returns the elements of an array, and nil for a value of another kind.
func (v Value) Elems() []Value {
	if v.kind != ArrayKind {
		return nil
	}
	var elems []Value
	for i := 1; v.text[i] != ']'; {
		end := skip(v.text, i)
		elems = append(elems, valueAt(v.text[i:end]))
		if i = end; v.text[i] == ',' {
			i++
		}
	}
	return elems
}

// Members returns the members of an object, sorted by code point of their names,
// and nil for a value of another kind.
func (v Value) Members() []Member {
	var members []Member
	for c := v.cursor(); c.next(); {
		members = append(members, Member{Name: unescape(c.name), Value: c.value()})
	}
	return members
}

// Get returns the member of an object by its name; ok is false if there is none or
// the value is no object.
func (v Value) Get(name string) (member Value, ok bool) {
	for c := v.cursor(); c.next(); {
		if unescape(c.name) == name {
			return c.value(), true
		}
	}
	return Value{}, false
}

// AppendCanonical appends the canonical form.
func (v Value) AppendCanonical(dst []byte) []byte {
	if v.kind == NullKind {
		return append(dst, "null"...)
	}
	return append(dst, v.text...)
}

// MarshalJSON returns the canonical form.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendCanonical(nil), nil }

// UnmarshalJSON is [Parse] with the limits of an envelope.
func (v *Value) UnmarshalJSON(text []byte) error {
	parsed, err := Parse(text, Limits{})
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}

// cursor walks the members of an object in canonical text.
type cursor struct {
	text string
	pos  int    // of the next name, or of the closing brace
	name string // the inside of the current name, escapes and all

	// The current member is text[start:to], its value text[from:to].
	start, from, to int
}

// cursor stands before the first member; that of anything but an object has none.
func (v Value) cursor() cursor {
	if v.kind != ObjectKind {
		return cursor{text: "{}", pos: 1}
	}
	return cursor{text: v.text, pos: 1}
}

func (c *cursor) next() bool {
	if c.text[c.pos] == '}' {
		return false
	}
	nameEnd := skip(c.text, c.pos)
	c.name = c.text[c.pos+1 : nameEnd-1]
	c.start, c.from = c.pos, nameEnd+1
	c.to = skip(c.text, c.from)
	c.pos = c.to
	if c.text[c.pos] == ',' {
		c.pos++
	}
	return true
}

func (c *cursor) value() Value { return valueAt(c.text[c.from:c.to]) }

// valueAt wraps the canonical text of one value.
func valueAt(text string) Value {
	switch text[0] {
	case '{':
		return Value{kind: ObjectKind, text: text}
	case '[':
		return Value{kind: ArrayKind, text: text}
	case '"':
		return Value{kind: StringKind, text: text}
	case 't', 'f':
		return Value{kind: BoolKind, text: text}
	case 'n':
		return Value{}
	}
	return Value{kind: NumberKind, text: text}
}

// skip returns where the value that begins at i in canonical text ends.
func skip(text string, i int) int {
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
	default:
		for i < len(text) && text[i] != ',' && text[i] != '}' && text[i] != ']' {
			i++
		}
		return i
	}
	for depth := 0; ; {
		switch text[i] {
		case '"':
			i = skipString(text, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
}

// skipString looks for the quote that ends a string: the first with an even number
// of backslashes before it.
func skipString(text string, i int) int {
	for i++; ; {
		quote := i + strings.IndexByte(text[i:], '"')
		slash := quote
		for text[slash-1] == '\\' {
			slash--
		}
		i = quote + 1
		if (quote-slash)%2 == 0 {
			return i
		}
	}
}
