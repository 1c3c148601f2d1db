package tour_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bizra/bizra/internal/tour"
)

const document = `# A tour

` + "```console" + `
$ false # not marked, so not run
` + "```" + `

` + "```console tour" + `
$ mkdir -p inside && cd inside
$ export GREETING="good day"
$ printf 'one\ntwo\nthree\nfour'
one
…
four
$ echo "at $(date)" \
    and \
    more
at … and more
$ cat <<END
> $GREETING
> END
good day
` + "```" + `

` + "```console tour background" + `
$ sh -c 'trap "exit 0" INT; echo ready "$GREETING" in "$(basename "$PWD")"; while :; do sleep 0.05; done'
ready good day in …
` + "```" + `

` + "```console tour" + `
$ basename "$PWD"
inside
$ ls nowhere
…nowhere…
$ echo $?
2
$ true
` + "```" + `
`

func TestTour(t *testing.T) {
	blocks, err := tour.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 3 || len(blocks[0].Steps) != 5 || !blocks[1].Background || len(blocks[2].Steps) != 4 {
		t.Fatalf("parsed %+v", blocks)
	}
	var log strings.Builder
	if err := tour.Run(t.Context(), blocks, tour.Config{Dir: t.TempDir(), Log: &log}); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if !strings.Contains(log.String(), "good day") || strings.Contains(log.String(), "not marked") {
		t.Errorf("the log does not tell what was run:\n%s", log.String())
	}
}

func TestTourFails(t *testing.T) {
	block := func(info string, lines ...string) string {
		return "```" + info + "\n" + strings.Join(lines, "\n") + "\n```\n"
	}
	cases := map[string]struct{ document, err string }{
		"another output":         {block("console tour", "$ echo two", "one"), "the command printed\n\ttwo"},
		"more output":            {block("console tour", "$ printf 'a\\nb\\n'", "a"), "the document shows"},
		"less output":            {block("console tour", "$ true", "a"), "the document shows"},
		"exit code":              {block("console tour", "$ echo why; false", "why"), "exit code 1:\nwhy"},
		"the shell ends":         {block("console tour", "$ exit 3"), "the shell has ended"},
		"background ends":        {block("console tour background", "$ echo no", "yes"), "it has ended"},
		"background ends badly":  {block("console tour background", "$ sh -c 'trap \"exit 7\" INT; echo up; while :; do sleep 0.05; done'", "up"), "exit status 7"},
		"no block":               {"# Text\n", tour.ErrNoTour.Error()},
		"no command":             {block("console tour", "output"), "output before the first command"},
		"empty":                  {"```console tour\n```\n", "a block has commands"},
		"two in the background":  {block("console tour background", "$ true", "$ true"), "exactly one, not 2"},
		"a block without an end": {"```console tour\n$ true\n", "does not end"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			blocks, err := tour.Parse(c.document)
			if err == nil {
				err = tour.Run(t.Context(), blocks, tour.Config{Dir: t.TempDir()})
			}
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want one that says %q", err, c.err)
			}
		})
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	blocks, err := tour.Parse("```console tour background\n$ sh -c 'trap \"touch ended; exit 0\" INT; echo up; while :; do sleep 0.05; done'\nup\n```\n" +
		"```console tour\n$ false\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := tour.Run(t.Context(), blocks, tour.Config{Dir: dir}); err == nil {
		t.Error("a failing command passed")
	}
	if _, err := os.Stat(filepath.Join(dir, "ended")); errors.Is(err, os.ErrNotExist) {
		t.Error("what ran in the background was not ended")
	}
}
