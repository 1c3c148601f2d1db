package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// What a region is filled with: agents that each open sessions, lead them some steps, and open others.
const (
	growthProofs   = 20_000 // unless BIZRA_OPERATIONS says otherwise
	growthAgents   = 8
	growthSessions = 128 // of an agent at a time, so that a request has as many proofs
	growthSteps    = 9   // of a session

	// With fewer proofs a node of default settings takes no snapshot, so it is told to take one more often.
	growthSnapshots       = 200_000
	growthSnapshotEntries = 16
	// With fewer entries its caches are not full yet, and memory grows for that.
	growthCachesFull = 100_000
)

// Bounds of what may be larger at the last mark, against the mark at a tenth of it.
const (
	growthMemory      = 1.25     // times, beside growthMemoryBytes
	growthMemoryBytes = 32 << 20 // by which two runs of the same may differ
	growthSnapshot    = 256      // bytes
	growthRestart     = time.Second
	growthRestarts    = 3 // times, beside growthRestart
)

// BenchmarkGrowth fills a region of real processes and looks, at a hundredth, at a tenth and at the end, at what its leader
// takes: memory, what a snapshot costs, disk, and time to start again after it was killed. It fails where what must not
// grow with the ledger does. BIZRA_OPERATIONS is how many proofs, BIZRA_VOTERS how many voters (1).
func BenchmarkGrowth(b *testing.B) {
	proofs, voters := environment(b, "BIZRA_OPERATIONS", growthProofs), environment(b, "BIZRA_VOTERS", 1)
	for b.Loop() {
		flags := []string{"--log", "warn"}
		if proofs < growthSnapshots {
			flags = append(flags, "--snapshot-entries", fmt.Sprint(growthSnapshotEntries))
		}
		r := proctest.Found(b, proctest.Options{Binary: built.bizra, Voters: voters, Flags: flags})
		g := &growth{b: b, r: r, until: proofs}
		for i := range growthAgents {
			a := r.Agent(fmt.Sprintf("agent-%d", i), &workload.Record{}, r.Voters...)
			g.agents = append(g.agents, a)
		}
		for _, mark := range []int{proofs / 100, proofs / 10, proofs} {
			g.fill(mark)
			g.mark()
		}
		g.table()
		g.judge()
	}
}

func environment(tb testing.TB, name string, otherwise int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s=%q is no number above 0", name, text)
	}
	return n
}

type growth struct {
	b      *testing.B
	r      *proctest.Region
	agents []*workload.Agent
	until  int // proofs

	mu     sync.Mutex
	begun  int // proofs submitted
	opened int // sessions
	rounds []took

	marks []grown
	from  snapshotsTaken // at the last mark
}

type took struct {
	proofs int
	time   time.Duration
}

// grown is what a leader takes with so many entries.
type grown struct {
	entries       int64
	rate          float64 // proofs a second since the last mark
	rss, heap     int64   // bytes: of the process without files, and in use on Go's heap
	peak          int64   // bytes resident since it started
	snapshots     int64   // since the last mark
	snapshotTime  time.Duration
	snapshotBytes int64
	state, raft   int64 // bytes on disk
	restart       time.Duration
}

// fill submits until so many proofs were.
func (g *growth) fill(until int) {
	g.b.Helper()
	from, began := g.begun, time.Now()
	var work sync.WaitGroup
	faults := make([]error, len(g.agents))
	for i, a := range g.agents {
		work.Go(func() {
			for faults[i] == nil && g.more(until) {
				faults[i] = g.lead(a)
			}
		})
	}
	work.Wait()
	for _, err := range faults {
		if err != nil {
			g.b.Fatal(err)
		}
	}
	g.rounds = append(g.rounds, took{g.begun - from, time.Since(began)})
}

func (g *growth) more(until int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun >= until {
		return false
	}
	g.begun += growthSessions * (1 + growthSteps)
	return true
}

// lead opens sessions and leads them to the end of their steps.
func (g *growth) lead(a *workload.Agent) error {
	g.mu.Lock()
	first := g.opened
	g.opened += growthSessions
	g.mu.Unlock()
	ids := make([]string, growthSessions)
	for i := range ids {
		ids[i] = fmt.Sprintf("session-%d", first+i)
	}
	mine := *a
	mine.Record = &workload.Record{} // let go of with the sessions
	walks, err := mine.OpenAll(g.b.Context(), ids)
	for range growthSteps {
		if err == nil {
			err = workload.StepAll(g.b.Context(), walks)
		}
	}
	return err
}

// mark looks at the leader, kills it and starts it again.
func (g *growth) mark() {
	g.b.Helper()
	leader := g.r.Leader()
	s, err := leader.Status(g.b.Context())
	if err != nil {
		g.b.Fatal(err)
	}
	last := g.rounds[len(g.rounds)-1]
	m := grown{entries: s.Ledger.Size, rate: float64(last.proofs) / last.time.Seconds()}
	if m.entries < int64(g.begun) {
		g.b.Fatalf("%d entries of %d proofs that were acknowledged", m.entries, g.begun)
	}
	metrics := scrape(g.b, leader.Ready.HTTP)
	m.heap = int64(metrics["go_memstats_heap_inuse_bytes"])
	pid := leader.Process().PID()
	m.rss, m.peak = resident(g.b, pid, "RssAnon"), resident(g.b, pid, "VmHWM")
	taken := snapshotsTaken{metrics["bizra_raft_snapshot_seconds_count"], metrics["bizra_raft_snapshot_seconds_sum"]}
	m.snapshots = int64(taken.count - g.from.count)
	if m.snapshots > 0 {
		m.snapshotTime = time.Duration((taken.seconds - g.from.seconds) / (taken.count - g.from.count) * float64(time.Second))
	}
	m.snapshotBytes, m.state, m.raft = sizeOf(g.b, leader.Home, "snapshots"), sizeOf(g.b, leader.Home, "state"), sizeOf(g.b, leader.Home, "raft")
	leader.Kill()
	began := time.Now()
	leader.Start()
	leader.AwaitReady()
	m.restart = time.Since(began)
	leader.AwaitSize(m.entries)
	g.from = snapshotsTaken{} // counted from the start of the process
	g.marks = append(g.marks, m)
	fmt.Fprintf(os.Stderr, "growth: %d of %d proofs in\n", g.begun, g.until) // the table comes at the end, which may be far
}

type snapshotsTaken struct{ count, seconds float64 }

// scrape reads a node's metrics that have no labels.
func scrape(tb testing.TB, url string) map[string]float64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), proctest.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	found := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, text, ok := strings.Cut(lines.Text(), " "); ok {
			if v, err := strconv.ParseFloat(text, 64); err == nil {
				found[name] = v
			}
		}
	}
	return found
}

// resident is a line of /proc/PID/status, in bytes.
func resident(tb testing.TB, pid int, name string) int64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib << 10
		}
	}
	tb.Fatalf("process %d has no %s", pid, name)
	return 0
}

// sizeOf adds up the files below a folder of a home whose node may be at work.
func sizeOf(tb testing.TB, home, folder string) (bytes int64) {
	tb.Helper()
	err := filepath.WalkDir(filepath.Join(home, folder), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil { // else it is gone by now
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return bytes
}

func (g *growth) table() {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "entries\tproofs/s\tmemory MiB\theap MiB\tpeak MiB\tsnapshots\teach ms\tsnapshot B\tstate MiB\traft log MiB\trestart s\t")
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	for _, m := range g.marks {
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%.1f\t%d\t%.0f\t%.0f\t%.2f\t\n", m.entries, m.rate, mib(m.rss), mib(m.heap), mib(m.peak),
			m.snapshots, float64(m.snapshotTime.Microseconds())/1000, m.snapshotBytes, mib(m.state), mib(m.raft), m.restart.Seconds())
	}
	_ = w.Flush() // into memory
	g.b.Logf("\n%s", text.String())
}

// judge fails where something grew that must not.
func (g *growth) judge() {
	g.b.Helper()
	before, after := g.marks[1], g.marks[2]
	if limit := int64(growthMemory*float64(before.rss)) + growthMemoryBytes; before.entries >= growthCachesFull && after.rss > limit {
		g.b.Errorf("memory grew from %d to %d bytes with the ledger, at most %d", before.rss, after.rss, limit)
	}
	if after.snapshots == 0 {
		g.b.Errorf("no snapshot was taken")
	}
	if after.snapshotBytes > before.snapshotBytes+growthSnapshot {
		g.b.Errorf("a snapshot grew from %d to %d bytes with the ledger", before.snapshotBytes, after.snapshotBytes)
	}
	if limit := growthRestarts*before.restart + growthRestart; after.restart > limit {
		g.b.Errorf("starting again took %v with a tenth of the ledger, %v with all of it, at most %v", before.restart, after.restart, limit)
	}
}
