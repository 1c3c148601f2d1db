package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// health hears what Pebble has to say, as its logger and its event listener, and keeps the first thing that is fatal.
type health struct {
	log     *slog.Logger
	onFatal func(error)
	failure atomic.Pointer[error] // wraps ErrFailed
}

func (h *health) err() error {
	if e := h.failure.Load(); e != nil {
		return *e
	}
	return nil
}

// fail records the first failure and tells the owner of the store. Later ones are consequences, and a flush that fails is
// tried again at once and for ever, so they are not even logged.
func (h *health) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !h.failure.CompareAndSwap(nil, &err) {
		return
	}
	h.log.Error("The store has failed and takes no more calls. Stop the node and check its disk.", "err", cause)
	h.onFatal(err)
}

func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if errors.Is(err, pebble.ErrClosed) {
				return
			}
			h.fail(fmt.Errorf("in the background: %w", err))
		},
		DataCorruption: func(c pebble.DataCorruptionInfo) {
			h.fail(fmt.Errorf("file %s is corrupt: %w", c.Path, c.Details))
		},
		DiskSlow: func(d pebble.DiskSlowInfo) {
			h.log.Warn("The store's disk is slow.", "file", d.Path, "op", d.OpType.String(), "took", d.Duration)
		},
		LowDiskSpace: func(d pebble.LowDiskSpaceInfo) {
			h.log.Warn("The store's disk is nearly full.", "free_bytes", d.AvailBytes, "total_bytes", d.TotalBytes)
		},
		WriteStallBegin: func(w pebble.WriteStallBeginInfo) {
			h.log.Warn("Commits wait for the store's disk.", "reason", w.Reason)
		},
	}
}

// Infof implements pebble.Logger.
func (h *health) Infof(format string, args ...any) { h.log.Debug(fmt.Sprintf(format, args...)) }

// Errorf implements pebble.Logger.
func (h *health) Errorf(format string, args ...any) { h.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf implements pebble.Logger. Pebble's own ends the process here. This one freezes the disk (see freezingFS) and returns,
// so that the node can say why it stops; Pebble then gives the error back to its caller.
func (h *health) Fatalf(format string, args ...any) { h.fail(fmt.Errorf(format, args...)) }
