package linear

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model by itself, on histories of three operations.
func TestModel(t *testing.T) {
	op := func(in Input, out Output, call, ret int64) Operation {
		return Operation{Input: in, Output: out, Call: call, Return: ret}
	}
	read := func(head string, call, ret int64) Operation {
		return op(Input{Read: true}, Output{Head: head}, call, ret)
	}
	open := op(Input{}, Output{Won: true, Head: "a"}, 0, 10)
	for name, c := range map[string]struct {
		ops  []Operation
		want porcupine.CheckResult
	}{
		"read during the step sees either":    {[]Operation{open, read("", 1, 9), read("a", 2, 8)}, porcupine.Ok},
		"read after the step misses it":       {[]Operation{open, read("", 11, 12)}, porcupine.Illegal},
		"two steps win from one head":         {[]Operation{open, op(Input{}, Output{Won: true, Head: "b"}, 1, 9)}, porcupine.Illegal},
		"one wins, one loses":                 {[]Operation{open, op(Input{}, Output{}, 1, 9)}, porcupine.Ok},
		"a step loses though nothing changed": {[]Operation{open, op(Input{Expect: "a"}, Output{}, 11, 12)}, porcupine.Illegal},
		"a head goes back": {[]Operation{open, op(Input{Expect: "a"}, Output{Won: true, Head: "b"}, 11, 12),
			read("a", 13, 14)}, porcupine.Illegal},
		"an unknown step takes effect late": {[]Operation{open, op(Input{Expect: "a"}, Output{Won: true, Head: "b"}, 11, math.MaxInt64),
			read("a", 13, 14), read("b", 15, 16)}, porcupine.Ok},
	} {
		if got := Explained(c.ops, time.Minute); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
