package sim

import "runtime"

// Bounds of what a run may grow by from its first look on. What a ledger itself takes is allowed for.
const (
	heapGrowthMax      = 0.5       // part of what there was
	heapSlackBytes     = 128 << 20 // pools, and what is garbage until it is looked for twice
	entryBytesMax      = 24 << 10  // of an entry with its indices, nodes of trees and undo, at one holder
	goroutineGrowthMax = 0.5
	goroutineSlack     = 2000
)

// bounds: memory, goroutines and what waits in the network do not grow but by what ledgers hold.
type bounds struct {
	promise
	first *size
	look  func() size
}

// size is how big a world is.
type size struct {
	heapBytes  int64
	goroutines int
	queueBytes int   // of the fullest stream
	held       int64 // entries, each as often as it is held
}

// audit compares with the first look, which is taken when nodes are connected.
func (b *bounds) audit() error {
	is := b.look()
	if b.first == nil {
		b.first = &is
		return nil
	}
	b.checks.Add(1)
	was := b.first
	allowed := was.heapBytes + int64(heapGrowthMax*float64(was.heapBytes)) + heapSlackBytes + (is.held-was.held)*entryBytesMax
	if is.heapBytes > allowed {
		b.breaks("the heap has grown from %d MiB to %d MiB while %d entries came in: up to %d MiB are allowed",
			was.heapBytes>>20, is.heapBytes>>20, is.held-was.held, allowed>>20)
	}
	if most := was.goroutines + int(goroutineGrowthMax*float64(was.goroutines)) + goroutineSlack; is.goroutines > most {
		b.breaks("goroutines have grown from %d to %d: up to %d are allowed", was.goroutines, is.goroutines, most)
	}
	if most := b.auditor.world.net.QueueBytesMax(); is.queueBytes > most {
		b.breaks("a stream holds %d bytes unread: up to %d are allowed", is.queueBytes, most)
	}
	return nil
}

// measure looks at a world as it is.
func (b *bounds) measure() size {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := b.auditor.world
	s := size{heapBytes: int64(m.HeapAlloc), goroutines: runtime.NumGoroutine(), queueBytes: w.net.QueueBytes()} //nolint:gosec // a heap of less than 8 EiB
	for _, region := range w.names {
		holders := int64(len(w.regions[region]) + (len(w.names)-1)*w.cfg.Voters)
		s.held += holders * b.auditor.ledgerSize(region)
	}
	return s
}
