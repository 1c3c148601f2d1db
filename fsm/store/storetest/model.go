package storetest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bizra/bizra/fsm/store"
)

const snapshotsMax = 4

// model drives one store and, beside it, the plainest thing that does the same.
type model struct {
	backend   Backend
	store     store.Store
	state     map[string]string
	snapshots []modelSnapshot
	reopened  *int // over all runs
}

type modelSnapshot struct {
	snap  store.Snapshot
	state map[string]string
}

func runModel(t *testing.T, b Backend) {
	reopened := 0
	rapid.Check(t, func(t *rapid.T) {
		m := &model{backend: b, store: must(b.Open())(t), state: map[string]string{}, reopened: &reopened}
		t.Repeat(map[string]func(*rapid.T){
			"commit":     m.commit,
			"get":        m.get,
			"iterate":    m.iterate,
			"snapshot":   m.snapshot,
			"read old":   m.readOld,
			"release":    m.release,
			"checkpoint": m.checkpoint,
			"sync":       func(t *rapid.T) { noError(t, m.store.Sync()) },
			"reopen":     m.reopen,
		})
		wantAll(t, m.store, m.state)
		m.releaseAll(t)
		noError(t, m.store.Close())
	})
	if b.Reopen != nil && reopened == 0 {
		t.Fatalf("no run reopened its store")
	}
}

// keys are few, so that writes meet, and lie close together.
func drawKey(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a\x00\x{7f}]{1,3}`).Draw(t, label)
}

func (m *model) commit(t *rapid.T) {
	var writes []store.Write
	for range rapid.IntRange(0, 12).Draw(t, "writes") {
		key := drawKey(t, "key")
		if rapid.Bool().Draw(t, "delete") {
			writes = append(writes, del(key))
			delete(m.state, key)
			continue
		}
		value := strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 2, 5000}).Draw(t, "length"))
		writes = append(writes, set(key, value))
		m.state[key] = value
	}
	noError(t, m.store.Commit(writes))
}

func (m *model) get(t *rapid.T) {
	key := drawKey(t, "key")
	got, err := m.store.Get([]byte(key))
	want, ok := m.state[key]
	if !ok {
		isError(t, err, store.ErrNotFound)
		return
	}
	noError(t, err)
	if string(got) != want {
		t.Fatalf("Get(%q) has %d bytes, want %d", key, len(got), len(want))
	}
}

// iterate makes the same moves over a range and over a sorted slice.
func (m *model) iterate(t *rapid.T) {
	var bounds [2][]byte
	for i := range bounds {
		if rapid.Bool().Draw(t, "bound") {
			bounds[i] = []byte(drawKey(t, "bound"))
		}
	}
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(m.state)) {
		if key >= string(bounds[0]) && (bounds[1] == nil || key < string(bounds[1])) {
			keys = append(keys, key)
		}
	}
	it := must(m.store.Iter(bounds[0], bounds[1]))(t)
	at := -1 // off
	for range rapid.IntRange(1, 20).Draw(t, "moves") {
		var moved bool
		move := rapid.SampledFrom([]string{"First", "Last", "SeekGE", "Next", "Next", "Next", "Prev", "Prev", "Prev"}).Draw(t, "move")
		switch move {
		case "First":
			moved, at = it.First(), 0
		case "Last":
			moved, at = it.Last(), len(keys)-1
		case "SeekGE":
			key := drawKey(t, "seek")
			moved = it.SeekGE([]byte(key))
			at, _ = slices.BinarySearch(keys, key)
		case "Next":
			moved = it.Next()
			if at >= 0 {
				at++
			}
		case "Prev":
			moved = it.Prev()
			if at >= 0 {
				at--
			}
		}
		if at >= len(keys) {
			at = -1
		}
		if moved != (at >= 0) {
			t.Fatalf("%s reports %v, want %v", move, moved, at >= 0)
		}
		if moved && (string(it.Key()) != keys[at] || string(it.Value()) != m.state[keys[at]]) {
			t.Fatalf("%s ends on %q, want %q", move, it.Key(), keys[at])
		}
		if !moved && it.Key() != nil {
			t.Fatalf("%s ends nowhere, but Key is %q", move, it.Key())
		}
	}
	noError(t, it.Err())
	noError(t, it.Close())
}

func (m *model) snapshot(t *rapid.T) {
	if len(m.snapshots) == snapshotsMax {
		m.release(t)
	}
	m.snapshots = append(m.snapshots, modelSnapshot{must(m.store.Snapshot())(t), maps.Clone(m.state)})
}

func (m *model) readOld(t *rapid.T) {
	for _, s := range m.snapshots {
		wantAll(t, s.snap, s.state)
	}
}

func (m *model) release(t *rapid.T) {
	if len(m.snapshots) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.snapshots)-1).Draw(t, "snapshot")
	wantAll(t, m.snapshots[i].snap, m.snapshots[i].state)
	noError(t, m.snapshots[i].snap.Close())
	m.snapshots = slices.Delete(m.snapshots, i, i+1)
}

func (m *model) releaseAll(t *rapid.T) {
	for _, s := range m.snapshots {
		wantAll(t, s.snap, s.state)
		noError(t, s.snap.Close())
	}
	m.snapshots = nil
}

func (m *model) checkpoint(t *rapid.T) {
	dir := m.backend.NewDir()
	noError(t, m.store.Checkpoint(dir))
	copied := must(m.backend.OpenCheckpoint(dir))(t)
	wantAll(t, copied, m.state)
	noError(t, copied.Close())
}

func (m *model) reopen(t *rapid.T) {
	if m.backend.Reopen == nil {
		return
	}
	m.releaseAll(t)
	m.store = must(m.backend.Reopen(m.store))(t)
	*m.reopened++
	wantAll(t, m.store, m.state)
}
