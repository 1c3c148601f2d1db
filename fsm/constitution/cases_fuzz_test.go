package constitution_test

import (
	"testing"
	"testing/fstest"

	"github.com/bizra/bizra/fsm/constitution"
)

// FuzzCases: a file of cases gives cases that name it, or an error.
func FuzzCases(f *testing.F) {
	f.Add([]byte("- name: x\n  action: session.transition\n  expect: allow\n"), true)
	f.Add([]byte("a: &x [*x]\n"), true)
	f.Add([]byte("? {a: b}\n: - - - 1e400\n"), true)
	f.Add([]byte(`{"name":"x","action":"session.open","data":{},"expect":"deny"}`+"\n\n{"), false)
	f.Fuzz(func(t *testing.T, text []byte, yaml bool) {
		name := "cases.ndjson"
		if yaml {
			name = "cases.yaml"
		}
		cases, err := constitution.ReadCases(fstest.MapFS{name: {Data: text}})
		if (err == nil) != (len(cases) > 0) {
			t.Fatalf("%d cases, %v", len(cases), err)
		}
		for _, c := range cases {
			if c.File != name || c.Line < 1 {
				t.Fatalf("a case of %s:%d", c.File, c.Line)
			}
		}
	})
}
