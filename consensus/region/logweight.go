package region

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// logWeight knows how many bytes the newest entries of a log take, so that the log is bounded by what it takes on the disk and
// not by the number of its entries alone: an entry may hold one proof or half a megabyte of them. What was stored before this
// node started weighs nothing.
type logWeight struct {
	mu    sync.Mutex
	total uint64 // stored since the start
	marks []mark // oldest first
}

// mark says what had been stored with an entry.
type mark struct{ index, total uint64 }

// markBytes is how far apart marks are: how finely the log is cut.
const markBytes = 1 << 20

// add takes up entries that were stored; the marks that nobody asks for any more, beyond bytesMax, go.
func (w *logWeight) add(logs []*raft.Log, bytesMax uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, log := range logs {
		for len(w.marks) > 0 && w.marks[len(w.marks)-1].index >= log.Index { // written anew
			w.marks = w.marks[:len(w.marks)-1]
		}
		w.total += uint64(logBytes(log)) //nolint:gosec // never negative
		if len(w.marks) == 0 || w.total-w.marks[len(w.marks)-1].total >= markBytes {
			w.marks = append(w.marks, mark{log.Index, w.total})
		}
	}
	beyond := 0
	for beyond < len(w.marks)-1 && w.total-w.marks[beyond+1].total > bytesMax {
		beyond++
	}
	w.marks = slices.Delete(w.marks, 0, beyond)
}

// stored is how many bytes were stored since the start.
func (w *logWeight) stored() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

// within is the first of the newest entries that together take no more than so many bytes, rounded to marks; 0 if all that is
// known of do.
func (w *logWeight) within(bytesMax uint64) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, m := range w.marks {
		if w.total-m.total > bytesMax {
			continue
		}
		if i == 0 {
			return 0
		}
		return m.index + 1
	}
	return 0
}
