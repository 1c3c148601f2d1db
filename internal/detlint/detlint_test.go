package detlint_test

import (
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/bizra/bizra/internal/detlint"
)

// root is the module's path: the zero Config is tested, as the command uses it.
const root = "github.com/bizra/bizra/"

func TestFindings(t *testing.T) {
	// least is a floor below what the want comments say, lest a package that is not looked at passes; 0 is exact.
	least := map[string]int{
		"fsm/clock":             20,
		"fsm/random":            10,
		"fsm/host":              20,
		"fsm/order":             15,
		"fsm/floats":            30,
		"fsm/faults":            15,
		"fsm/imports":           2,
		"pci":                   3,
		"fsm/store/pebblestore": 0,
		"node":                  0,
		"fsmother":              0,
		"internal/kit":          0,
	}
	var paths []string
	for path := range least {
		paths = append(paths, root+path)
	}
	results := analysistest.Run(t, analysistest.TestData(), detlint.New(detlint.Config{}), paths...)
	seen := map[string]bool{}
	for _, result := range results {
		path := strings.TrimPrefix(result.Action.Package.PkgPath, root)
		seen[path] = true
		want := least[path] // of what the go command makes for tests, none
		if n := len(result.Diagnostics); n < want || want == 0 && n > 0 {
			t.Errorf("%s: %d findings, want at least %d (none if 0)", path, n, want)
		}
	}
	for path := range least {
		if !seen[path] {
			t.Errorf("%s was not looked at", path)
		}
	}
}

func TestConfiguredPaths(t *testing.T) {
	config := detlint.Config{Covered: []string{root + "node"}, Exempt: []string{root + "fsm"}}
	results := analysistest.Run(discard{}, analysistest.TestData(), detlint.New(config), root+"node")
	if len(results) != 1 || len(results[0].Diagnostics) != 1 {
		t.Fatalf("%d results", len(results))
	}
	if got := results[0].Diagnostics[0].Message; got != "go: goroutines run in an order of their own" {
		t.Fatalf("reported %q", got)
	}
}

// discard is for a run whose findings no want comment expects.
type discard struct{}

func (discard) Errorf(string, ...any) {}
