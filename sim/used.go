package sim

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bizra/bizra/sim/report"
)

// used is what a run costs the machine.
type used struct {
	wall, cpu  time.Duration
	goroutines int
	phases     []report.Phase
}

// take adds what was used since the last call to a phase, and to the whole.
func (u *used) take(phase string, wall, cpu time.Duration) {
	if k := len(u.phases); k == 0 || u.phases[k-1].Name != phase {
		u.phases = append(u.phases, report.Phase{Name: phase})
	}
	last := &u.phases[len(u.phases)-1]
	last.WallSeconds += (wall - u.wall).Seconds()
	last.CPUSeconds += (cpu - u.cpu).Seconds()
	u.wall, u.cpu = wall, cpu
}

// watchRun looks at a run in real time until the function that it gives is called, which says what was used.
func watchRun(r *run, progress func(Progress)) (stop func() used) {
	began, cpu := time.Now(), processTime()
	var u used
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			p := *r.now.Load()
			p.Goroutines = runtime.NumGoroutine()
			u.goroutines = max(u.goroutines, p.Goroutines)
			u.take(p.Phase, time.Since(began), processTime()-cpu)
			if progress != nil {
				progress(p)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() used {
		close(done)
		wg.Wait()
		u.take(r.now.Load().Phase, time.Since(began), processTime()-cpu)
		return u
	}
}

func (u used) into(r *report.Report) {
	r.WallSeconds, r.CPUSeconds, r.GoroutinesMax, r.PeakRSSBytes = u.wall.Seconds(), u.cpu.Seconds(), u.goroutines, peakMemory()
	r.Phases = u.phases
}

// processTime is the time that processors have spent on this process; 0 if the system does not say.
func processTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory is the most memory that this process has held, in bytes. Linux counts what the
// program that started it held to getrusage's figure, and only that from /proc is its own.
func peakMemory() int64 {
	if kib, ok := procField("/proc/self/status", "VmHWM"); ok {
		return kib << 10
	}
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss
	}
	return u.Maxrss << 10
}

// procField reads a number from one of the system's tables of names and values.
func procField(file, name string) (int64, bool) {
	text, ok := procText(file, name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, " kB"), 10, 64)
	return n, err == nil
}

func procText(file, name string) (string, bool) {
	f, err := os.Open(file) //nolint:gosec // of the system's own tables
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// machine is what this runs on.
func machine() report.Machine {
	m := report.Machine{CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	m.Model, _ = procText("/proc/cpuinfo", "model name")
	if kib, ok := procField("/proc/meminfo", "MemTotal"); ok {
		m.Memory = kib << 10
	}
	return m
}
