package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bizra/bizra/internal/proctest"
	"github.com/bizra/bizra/internal/workload"
)

// Small enough that a few hundred proofs outrun what the log keeps.
const (
	snapshotEntries = 24
	trailingEntries = 4
)

// moment is one point in the putting in place of a received snapshot, as the home shows it.
type moment struct {
	name string
	seen func(home string) bool
	// finished says that a start after this moment must go on with the swap, instead of
	// dropping what was received.
	finished bool
}

func moments() []moment {
	received := func(home string) bool {
		found, err := filepath.Glob(filepath.Join(home, "snapshots", "incoming-*.pointer"))
		return err == nil && len(found) > 0
	}
	marked := func(home string) bool { return exists(filepath.Join(home, "snapshots", "swap")) }
	return []moment{
		{"received, not marked yet", func(home string) bool { return received(home) && !marked(home) }, false},
		{"marked", marked, true},
		{"the old state is moved away", func(home string) bool { return marked(home) && exists(filepath.Join(home, "snapshots", "replaced")) }, true},
	}
}

func TestSnapshotCatchUpKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	r := found(t, "--snapshot-entries", fmt.Sprint(snapshotEntries), "--trailing-entries", fmt.Sprint(trailingEntries), "--seal-interval", "50ms")
	var record workload.Record
	slow := r.Voters[2]
	agent := r.Agent("agent", &record, r.Voters[0], r.Voters[1])
	w, err := agent.Open(t.Context(), "long")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range moments() {
		hit := false
		for attempt := 1; attempt <= 8 && !hit; attempt++ {
			slow.AwaitSize(int64(record.Len()))
			slow.Kill()
			outrun(t, w, r.Others(slow))
			if hit = killAt(t, slow, m); hit {
				t.Logf("killed when %s, in attempt %d", m.name, attempt)
				checkHalfway(t, r, slow, m)
			}
			log := len(slow.Log())
			slow.Start()
			slow.AwaitSize(int64(record.Len()) + 1) // and the genesis
			if hit {
				checkResumed(t, slow, m, slow.Log()[log:])
			}
		}
		if !hit {
			t.Errorf("no kill fell into the moment: %s", m.name)
		}
	}
	// Once more without being disturbed.
	slow.Kill()
	outrun(t, w, r.Others(slow))
	log := len(slow.Log())
	slow.Start()
	slow.AwaitSize(int64(record.Len()) + 1)
	if text := slow.Log()[log:]; !strings.Contains(text, "Installed remote snapshot") {
		t.Errorf("the voter was not caught up by a snapshot:\n%s", text)
	}
	checkVoters(t, r.Voters, record.Acked())
	checkDisks(t, r, r.Voters, record.Acked())
}

// outrun writes until each voter that is up has taken two more snapshots: after the
// second its log begins behind what the voter that is down had last.
func outrun(t *testing.T, w *workload.Walk, up []*proctest.Node) {
	t.Helper()
	taken := make([]int, len(up))
	last := make([]string, len(up))
	for i, v := range up {
		last[i] = pointerOf(t, v)
	}
	steps := 0
	for slices.Min(taken) < 2 {
		if _, err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i, v := range up {
			if now := pointerOf(t, v); now != last[i] {
				last[i] = now
				taken[i]++
			}
		}
		if steps++; steps > 1000 {
			t.Fatalf("%d proofs and no snapshot: %v were taken", steps, taken)
		}
	}
}

// pointerOf is the record of the last snapshot that a voter took.
func pointerOf(t *testing.T, n *proctest.Node) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.Home, "snapshots", "pointer"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// killAt starts the voter, which is caught up by a snapshot, and kills it at a moment.
// It reports whether the home shows that the kill fell into it.
func killAt(t *testing.T, n *proctest.Node, m moment) bool {
	t.Helper()
	n.StartUnready()
	came := spin(10*time.Second, func() bool { return m.seen(n.Home) })
	n.Kill()
	if !came {
		t.Logf("%s: the moment was not seen", m.name)
		return false
	}
	return m.seen(n.Home)
}

// checkHalfway has fsck look at a home as the kill left it: the old state is sound, and
// one that is only half replaced is not called damaged.
func checkHalfway(t *testing.T, r *proctest.Region, n *proctest.Node, m moment) {
	t.Helper()
	out, errOut, code := r.Bizra("fsck", "--home", n.Home)
	if m.finished && (code == 0 || !strings.Contains(errOut, "start its node once")) || !m.finished && code != 0 {
		t.Errorf("killed when %s, fsck says (exit code %d):\n%s%s", m.name, code, out, errOut)
	}
}

// checkResumed checks what the start after the kill did.
func checkResumed(t *testing.T, n *proctest.Node, m moment, log string) {
	t.Helper()
	if finished := strings.Contains(log, "finishing the swap of a received snapshot"); finished != m.finished {
		t.Errorf("killed when %s, the next start went on with the swap: %v\n%s", m.name, finished, log)
	}
	left, err := os.ReadDir(filepath.Join(n.Home, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() == "swap" || e.Name() == "replaced" {
			t.Errorf("killed when %s, %s is still there after the next start", m.name, e.Name())
		}
	}
}
