package order

import (
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

var lock sync.Mutex               // want `sync: package variable lock holds a sync.Mutex`
var seen atomic.Int64             // want `sync: package variable seen holds a atomic.Int64`
var pools = []*sync.Pool{}        // want `sync: package variable pools holds a sync.Pool`
var nested struct{ m sync.Map }   // want `sync: package variable nested holds a sync.Map`
var queue chan int                // want `sync: package variable queue holds a channel`
var byName map[string]*sync.Mutex // want `sync: package variable byName holds a sync.Mutex`

var limit = 3
var names = []string{"a"}
var _ sync.Locker = (*sync.Mutex)(nil)

type list struct{ next *list }

var head list

func forbidden(m map[string]int, named index, c chan int) {
	for k := range m { // want `maprange: a map is ranged over in random order`
		_ = k
	}
	for _, v := range m { // want `maprange: a map`
		_ = v
	}
	for k := range named { // want `maprange: a map`
		_ = k
	}
	for k := range maps.Keys(m) { // want `maprange: maps.Keys: yields in random order`
		_ = k
	}
	_ = slices.Collect(maps.Values(m)) // want `maprange: maps.Values`
	all := maps.All[map[string]int]    // want `maprange: maps.All`
	_ = all
	var shared sync.Map
	shared.Range(nil) // want `maprange: sync.Map.Range`
	go allowed(m, c)  // want `go: goroutines run in an order of their own`
	select {          // want `select: select takes any of the cases`
	case <-c:
	default:
	}
}

type index map[int]bool

func generic[M ~map[K]V, K comparable, V any](m M) {
	for k := range m { // want `maprange: a map`
		_ = k
	}
}

func genericSlice[S ~[]E, E any](s S) {
	for i := range s {
		_ = i
	}
}

func allowed(m map[string]int, c chan int) {
	n := 0
	for range m {
		n++
	}
	for _ = range m {
		n++
	}
	for i, k := range slices.Sorted(maps.Keys(m)) {
		_, _ = i, k
	}
	_ = slices.SortedFunc(maps.Values(m), func(a, b int) int { return a - b })
	keys := make([]string, 0, len(m))
	for k := range m { //detlint:ordered sorted right below
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for i := range 3 {
		_ = i
	}
	for v := range c {
		_ = v
	}
	clear(m)
	var mu sync.Mutex
	mu.Lock()
	mu.Unlock()
	_ = maps.Clone(m)
}
