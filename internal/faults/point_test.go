package faults

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const trace = `101 openat(AT_FDCWD, "/home/raft/raft.db", O_RDWR|O_CREAT, 0600) = 5
102 pwrite64(5, "x"..., 4096, 0 <unfinished ...>
101 pwrite64(5, "y"..., 4096, 4096)  = 4096
102 <... pwrite64 resumed>)             = 4096
101 pwrite64(5, "z"..., 4096, 8192)  = 4096
101 --- SIGURG {si_signo=SIGURG} ---
101 fdatasync(5)                        = 0
103 getpid()                            = 1
101 +++ exited with 0 +++
`

func TestPoints(t *testing.T) {
	points, err := Points(strings.NewReader(trace))
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{}
	for _, c := range []struct {
		call string
		n    int
	}{{"fdatasync", 1}, {"openat", 1}, {"pwrite64", 1}, {"pwrite64", 2}} {
		want = append(want, Point{c.call, c.n, EIO}, Point{c.call, c.n, ENOSPC}, Point{c.call, c.n, Kill})
	}
	if !slices.Equal(points, want) {
		t.Errorf("%v\nwant %v", points, want)
	}
	if got := points[1].Inject(); got != "inject=fdatasync:error=ENOSPC:when=1" {
		t.Error(got)
	}
}

func TestSample(t *testing.T) {
	points, err := Points(strings.NewReader(trace))
	if err != nil {
		t.Fatal(err)
	}
	draw := func(count int) []Point { return Sample(points, count, rand.New(rand.NewPCG(1, 2))) }
	if !slices.Equal(draw(5), draw(5)) {
		t.Error("a seed draws twice")
	}
	some := draw(3)
	seen := map[string]bool{}
	for _, p := range some {
		seen[p.Call] = true
	}
	if len(some) != 3 || len(seen) != 3 {
		t.Errorf("%v: not one of each call", some)
	}
	if got := draw(1000); len(got) != len(points) {
		t.Errorf("%d of %d points", len(got), len(points))
	}
}
