package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// idle waits while nothing happens and returns what the voter that takes most memory takes then, as the
// operating system counts it (resident set).
func (r *region) idle(ctx context.Context, wait time.Duration) (bytes int64, err error) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for _, v := range r.voters {
		text := field(fmt.Sprintf("/proc/%d/status", v.PID()), "VmRSS")
		kib, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the memory of process %d, which needs Linux: %q: %w", v.PID(), text, err)
		}
		bytes = max(bytes, kib<<10)
	}
	return bytes, nil
}
