package faults

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// Fault is what happens at a call.
type Fault string

// The faults, in strace's words.
const (
	EIO    Fault = "error=EIO"
	ENOSPC Fault = "error=ENOSPC"
	Kill   Fault = "signal=SIGKILL"
)

// Point is one fault: in every thread of the process at its Nth call of this kind. strace counts the calls of each
// thread, and a call is the Nth of its thread for some N, so all points together meet every call.
type Point struct {
	Call  string
	N     int
	Fault Fault
}

// Inject is the point as strace's option -e takes it.
func (p Point) Inject() string { return fmt.Sprintf("inject=%s:%s:when=%d", p.Call, p.Fault, p.N) }

// String names the point.
func (p Point) String() string { return fmt.Sprintf("%s %d %s", p.Call, p.N, p.Fault) }

// calls are the system calls by which a node uses a file system, and whether one may find no room.
func calls() map[string]bool {
	m := map[string]bool{}
	for _, c := range strings.Fields("openat write pwrite64 pwritev writev fsync fdatasync ftruncate fallocate rename renameat renameat2 mkdirat link linkat") {
		m[c] = true
	}
	for _, c := range strings.Fields("read pread64 close fstat newfstatat statx statfs fstatfs getdents64 unlinkat lseek flock fcntl fchmodat sync_file_range") {
		m[c] = false
	}
	return m
}

// traced is the list of calls as strace's option -e takes it.
func traced() string { return "trace=" + strings.Join(slices.Sorted(maps.Keys(calls())), ",") }

var traceLine = regexp.MustCompile(`^(\d+)\s+(\w+)\(`)

// Points reads what strace wrote of a run and returns every point of it, sorted.
func Points(trace io.Reader) ([]Point, error) {
	type threadCall struct{ thread, call string }
	count := map[threadCall]int{}
	most := map[string]int{}
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue // the end of a call that another interrupted, a signal, an exit
		}
		at := threadCall{m[1], m[2]}
		count[at]++
		most[at.call] = max(most[at.call], count[at])
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what strace wrote: %w", err)
	}
	var points []Point
	for call, noRoom := range calls() {
		for n := 1; n <= most[call]; n++ {
			points = append(points, Point{call, n, EIO}, Point{call, n, Kill})
			if noRoom {
				points = append(points, Point{call, n, ENOSPC})
			}
		}
	}
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(cmp.Compare(a.Call, b.Call), cmp.Compare(a.N, b.N), cmp.Compare(a.Fault, b.Fault))
	})
	return points, nil
}

// Sample draws some of the points, as many of rare calls as of frequent ones.
func Sample(points []Point, count int, rng *rand.Rand) []Point {
	if count >= len(points) {
		return points
	}
	byCall := map[string][]Point{}
	for _, p := range points {
		byCall[p.Call] = append(byCall[p.Call], p)
	}
	names := slices.Sorted(maps.Keys(byCall))
	for _, name := range names {
		rng.Shuffle(len(byCall[name]), func(i, j int) { byCall[name][i], byCall[name][j] = byCall[name][j], byCall[name][i] })
	}
	var drawn []Point
	for round := 0; len(drawn) < count; round++ {
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			if list := byCall[name]; round < len(list) && len(drawn) < count {
				drawn = append(drawn, list[round])
			}
		}
	}
	return drawn
}
