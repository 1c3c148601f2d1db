package pci

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// FromGo makes a Value of what a Go program has at hand: nil, bool, string, int,
// int64, uint64, float64, json.Number, Value, and slices and maps (by string) of
// any of these. A float64 gets the signer's text, see [AppendFloat]. It is an error
// if a string is not valid UTF-8, a number is not finite or no JSON number, a type
// is another, or the whole is beyond the limits of an envelope.
func FromGo(x any) (Value, error) {
	text, err := appendGo(nil, x, 0)
	if err != nil {
		return Value{}, fmt.Errorf("making a JSON value: %w", err)
	}
	v, err := Parse(text, Limits{})
	if err != nil {
		return Value{}, fmt.Errorf("making a JSON value: %w", err)
	}
	return v, nil
}

// appendGo writes x as JSON; members come in any order, Parse sorts them.
func appendGo(dst []byte, x any, depth int) ([]byte, error) {
	if depth > DepthMax {
		return nil, Rejectf(RejectSchema, "arrays and objects are nested more than %d deep", DepthMax)
	}
	if len(dst) > EnvelopeBytesMax {
		return nil, Rejectf(RejectSchema, "the canonical form has more than %d bytes", EnvelopeBytesMax)
	}
	switch x := x.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, x), nil
	case string:
		if !utf8.ValidString(x) {
			return nil, Rejectf(RejectSchema, "the string %s is not valid UTF-8", quote(x))
		}
		return AppendString(dst, x), nil
	case int:
		return strconv.AppendInt(dst, int64(x), 10), nil
	case int64:
		return strconv.AppendInt(dst, x, 10), nil
	case uint64:
		return strconv.AppendUint(dst, x, 10), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, Rejectf(RejectSchema, "%v is no JSON number", x)
		}
		return AppendFloat(dst, x), nil
	case json.Number:
		if n, _ := numberLen(string(x)); n == 0 || n != len(x) {
			return nil, Rejectf(RejectSchema, "%s is no JSON number", quote(string(x)))
		}
		return append(dst, x...), nil
	case Value:
		return x.AppendCanonical(dst), nil
	case []any:
		return appendSlice(dst, x, depth)
	case []string:
		return appendSlice(dst, x, depth)
	case []Value:
		return appendSlice(dst, x, depth)
	case map[string]any:
		return appendMap(dst, x, depth)
	case map[string]string:
		return appendMap(dst, x, depth)
	case map[string]Value:
		return appendMap(dst, x, depth)
	}
	return nil, Rejectf(RejectSchema, "a Go value of type %T has no JSON form here", x)
}

func appendSlice[T any](dst []byte, elems []T, depth int) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, e := range elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendGo(dst, e, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap[T any](dst []byte, members map[string]T, depth int) (_ []byte, err error) {
	dst = append(dst, '{')
	first := true
	for name, m := range members { //detlint:ordered Parse sorts the members
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if dst, err = appendGo(dst, name, depth+1); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		if dst, err = appendGo(dst, m, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}
