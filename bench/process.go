package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// timed runs a load, waits until all servers have what the leader has, and counts what their processors did for it.
func timed(ctx context.Context, l load, servers []int, ask ask, settle func(context.Context) error) (measured, error) {
	serversBefore, err1 := processorMicros(servers...)
	clientsBefore, err2 := processorMicros(os.Getpid())
	if err := errors.Join(err1, err2); err != nil {
		return measured{}, err
	}
	m, err := run(ctx, l, ask)
	if err != nil {
		return m, err
	}
	clientsAfter, err1 := processorMicros(os.Getpid())
	err2 = settle(ctx)
	serversAfter, err3 := processorMicros(servers...)
	operations := float64(l.Requests * l.PerRequest)
	m.ServerMicros, m.ClientMicros = (serversAfter-serversBefore)/operations, (clientsAfter-clientsBefore)/operations
	return m, errors.Join(err1, err2, err3)
}

// tickMicros is the unit in which Linux tells programs processor time, whatever the kernel's own.
const tickMicros = 10_000

// processorMicros is the processor time that processes have used so far.
func processorMicros(pids ...int) (micros float64, err error) {
	for _, pid := range pids {
		text := read(fmt.Sprintf("/proc/%d/stat", pid))
		// The second field, the program's name in parentheses, may hold anything; user and system time are the 14th and 15th.
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) < 13 {
			return 0, fmt.Errorf("read the processor time of process %d, which needs Linux: %q", pid, text)
		}
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
			}
			micros += float64(ticks) * tickMicros
		}
	}
	return micros, nil
}
