package vectors_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/bizra/bizra/internal/vectors"
)

func TestLoadFromModule(t *testing.T) {
	var file struct{ About string }
	vectors.Load(t, "canonical.json", &file)
	if file.About == "" {
		t.Error("canonical.json has no about")
	}
}

func TestLoadFromEnvironment(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own.json"), []byte(`{"n": 1e400}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BIZRA_VECTORS", dir)
	var file map[string]any
	vectors.Load(t, "own.json", &file)
	if file["n"] != json.Number("1e400") {
		t.Errorf("n is %v (%T), not the number token", file["n"], file["n"])
	}
}
