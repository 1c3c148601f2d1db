package sim

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"
)

func profile(b *testing.B, name string) {
	for _, k := range []string{"heap", "goroutine"} {
		f, err := os.Create(name + "." + k)
		if err != nil {
			b.Fatal(err)
		}
		_ = pprof.Lookup(k).WriteTo(f, 0)
		_ = f.Close()
	}
}

var phase atomic.Pointer[string]

// cpuProfile is for another goroutine, outside of the bubble, where time passes.
func cpuProfile(_ *testing.B, name string) func() {
	phase.Store(&name)
	none := ""
	return func() { phase.Store(&none) }
}

func profiler() {
	prefix := os.Getenv("CROWD_PROFILE")
	was := ""
	var f *os.File
	for {
		time.Sleep(20 * time.Millisecond)
		p := phase.Load()
		if p == nil || *p == was || prefix == "" {
			continue
		}
		if was != "" {
			pprof.StopCPUProfile()
			_ = f.Close()
		}
		if was = *p; was != "" {
			f, _ = os.Create(prefix + "." + was)
			_ = pprof.StartCPUProfile(f)
		}
	}
}

func BenchmarkCrowd(b *testing.B) {
	c := crowd{regions: 4, voters: 3, members: 22, certificates: 4}
	if s := os.Getenv("CROWD"); s != "" {
		if _, err := fmt.Sscanf(s, "%d,%d,%d,%d", &c.regions, &c.voters, &c.members, &c.certificates); err != nil {
			b.Fatal(err)
		}
	}
	go profiler()
	for b.Loop() {
		c.arrived, c.messages = map[certificateID]map[*Node]time.Time{}, map[string]int{}
		if err := Run(func() error { return c.run(context.Background(), b, b.TempDir()) }); err != nil {
			b.Fatal(err)
		}
	}
}
