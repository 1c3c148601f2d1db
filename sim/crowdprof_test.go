package sim

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
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

func BenchmarkCrowd(b *testing.B) {
	c := crowd{regions: 4, voters: 3, members: 22, certificates: 4}
	if s := os.Getenv("CROWD"); s != "" {
		if _, err := fmt.Sscanf(s, "%d,%d,%d,%d", &c.regions, &c.voters, &c.members, &c.certificates); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		c.arrived, c.messages = map[certificateID]map[*Node]time.Time{}, map[string]int{}
		if err := Run(func() error { return c.run(context.Background(), b, b.TempDir()) }); err != nil {
			b.Fatal(err)
		}
	}
}
