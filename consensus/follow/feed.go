package follow

import "sync"

// Feed tells streams that there is something new. Safe for concurrent use.
type Feed struct {
	mu      sync.Mutex
	size    int64
	changed chan struct{} // closed and replaced by Advance
	told    map[*func()]struct{}
}

// NewFeed makes a feed of a ledger with so many entries.
func NewFeed(size int64) *Feed { return &Feed{size: size, changed: make(chan struct{})} }

// Advance says that the ledger now has so many entries, or has a new seal at the same
// size. It is called after they can be read, and never blocks.
func (f *Feed) Advance(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size = size
	f.stir()
}

// Stir has those who wait look again, for something that is no entry and no seal.
func (f *Feed) Stir() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stir()
}

// stir is called under mu.
func (f *Feed) stir() {
	close(f.changed)
	f.changed = make(chan struct{})
	for look := range f.told {
		(*look)()
	}
}

// tell has look called, which must not block, by each further Advance and Stir, until forget is called.
func (f *Feed) tell(look func()) (forget func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told == nil {
		f.told = make(map[*func()]struct{})
	}
	f.told[&look] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.told, &look)
	}
}

// Size is what Advance said last.
func (f *Feed) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// Changed is closed by the next Advance. Who takes it before reading the ledger misses nothing.
func (f *Feed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}
