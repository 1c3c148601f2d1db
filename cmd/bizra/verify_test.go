package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/internal/testregion"
)

// madeBundle is a bundle of session s1's last step, and the document of its federation.
func madeBundle(t testing.TB) (bundle, document []byte) {
	t.Helper()
	r := testregion.New(t, testfed.New(4, 1), "a")
	_, last := r.Session("alice", "s1")
	bundle, err := r.Bundle(r.Seal(), last.Index, "s1").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return bundle, r.Document().Canonical()
}

// writeBundle puts bundle.json and federation.json where a script runs.
func writeBundle(e *testscript.Env, bundle, document []byte) error {
	if err := os.WriteFile(filepath.Join(e.WorkDir, "bundle.json"), bundle, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.WorkDir, "federation.json"), document, 0o600)
}

// TestVerifyScripts runs testdata/verify, which has a bundle.json and a federation.json at hand.
func TestVerifyScripts(t *testing.T) {
	t.Parallel()
	bundle, document := madeBundle(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/verify",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               func(e *testscript.Env) error { return writeBundle(e, bundle, document) },
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "field": field},
	})
}
