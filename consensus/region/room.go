package region

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// What a leader does when the disk fills: it takes no proofs while there is still room for what cannot wait (the log of what is
// under way, seals, compaction of the state, a snapshot), and takes them again by itself when there is more room. Voters whose
// disks are low but who do not lead go on as long as they can.
const (
	diskFreeMinDefault = 512 << 20        // bytes
	diskInterval       = time.Second      // between looks
	roomBackShare      = 4                // proofs are taken again with a quarter more than the least, so that it does not flutter
	roomRetryAfter     = 30 * time.Second // told to who was turned away
)

// room watches how much may still be written below a home.
type room struct {
	dir       string
	min       int64 // bytes; negative: whatever is free
	freeBytes func(dir string) (int64, error)
	logger    *slog.Logger

	free  atomic.Int64 // at the last look, -1 before the first
	short atomic.Bool
}

func newRoom(cfg Config) *room {
	r := &room{dir: cfg.Home, min: cfg.DiskFreeMin, freeBytes: cfg.FreeBytes, logger: cfg.Logger}
	r.free.Store(-1)
	return r
}

// enough is what must be free for proofs to be taken again.
func (r *room) enough() int64 { return r.min + r.min/roomBackShare }

// look asks the file system. When it does not say, things stay as they are.
func (r *room) look() {
	free, err := r.freeBytes(r.dir)
	if err != nil {
		r.logger.Warn("the file system does not say how much is free", "error", err)
		return
	}
	r.free.Store(free)
	switch was := r.short.Load(); {
	case r.min >= 0 && !was && free < r.min:
		r.short.Store(true)
		r.logger.Error("the disk is nearly full: this node takes no proofs when it leads", "free_bytes", free, "least", r.min, "until", r.enough())
	case was && (r.min < 0 || free >= r.enough()):
		r.short.Store(false)
		r.logger.Info("there is room on the disk again", "free_bytes", free)
	}
}

// refusal is why no proofs are taken, nil while they are.
func (r *room) refusal() error {
	if !r.short.Load() {
		return nil
	}
	return &OverloadedError{RetryAfter: roomRetryAfter, Cause: fmt.Errorf("%w: %d MiB are free, proofs are taken again at %d MiB: free some, or give the disk more",
		ErrDiskLow, r.free.Load()>>20, r.enough()>>20)}
}

// watchRoom looks until the region ends.
func (r *Region) watchRoom() {
	ticker := time.NewTicker(diskInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.room.look()
		case <-r.closing:
			return
		}
	}
}
