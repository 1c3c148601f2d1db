// Package vectors reads the cases that the reference implementation computed, for
// the tests of any package of this module.
//
// The files lie in testdata/vectors at the root of the module. The environment
// variable BIZRA_VECTORS names another folder, so that new cases can be tried
// without touching the tree. Each file's "about" says how to read it.
package vectors

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Load decodes one file of vectors into dst, with numbers that land in an any as
// [json.Number]. It ends the test if the file cannot be read.
func Load(t testing.TB, name string, dst any) {
	t.Helper()
	dir, err := folder()
	if err != nil {
		t.Fatalf("finding the vectors: %v", err)
	}
	f, err := os.Open(filepath.Join(dir, name)) //nolint:gosec // a test names the file
	if err != nil {
		t.Fatalf("reading vectors: %v", err)
	}
	defer f.Close()
	decoder := json.NewDecoder(f)
	decoder.UseNumber()
	if err := decoder.Decode(dst); err != nil {
		t.Fatalf("decoding vectors %s: %v", f.Name(), err)
	}
}

// folder returns BIZRA_VECTORS if that is set, else the folder of the module that
// the working directory of the test lies in.
func folder() (string, error) {
	if dir := os.Getenv("BIZRA_VECTORS"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return filepath.Join(dir, "testdata", "vectors"), nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || parent == dir {
			return "", fmt.Errorf("looking for go.mod in %s: %w", dir, err)
		}
		dir = parent
	}
}
