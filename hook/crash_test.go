package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/bizra/bizra/internal/testnode"
)

// The test's program is the hook where these say so: it kills itself at the n-th point of a run.
const (
	crashAt   = "BIZRA_TEST_CRASH_AT" // 0: never
	crashHome = "BIZRA_TEST_CRASH_HOME"
)

// crashing is the hook in a process of its own.
func crashing() int {
	at, err := strconv.Atoi(os.Getenv(crashAt))
	if err != nil {
		return ExitFailed
	}
	reached := func(string) {
		if at--; at == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	return Run(context.Background(), Options{Dir: os.Getenv(crashHome), In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Local: here, Reached: reached})
}

// process runs the hook in a process of its own; killed says that it came to its n-th point.
func process(t *testing.T, h *Home, event string, at int) (out string, killed bool) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), crashAt+"="+strconv.Itoa(at), crashHome+"="+h.Dir)
	c.Stdin = strings.NewReader(event)
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	err := c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status, isWait := exit.Sys().(syscall.WaitStatus)
		if isWait && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return o.String(), true
		}
	}
	if err != nil {
		t.Errorf("%v: %s%s", err, o.String(), e.String())
	}
	return o.String(), false
}

// TestKilled kills the hook at every point of the recording of a denial, of a call and of a turn's end, one
// after the other, and each time lets it go on: nothing is lost, doubled or reordered.
func TestKilled(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	kills := 0
	for _, event := range []struct{ name, before, text, want string }{
		{"denial", "", bashBefore("%s", "t1", "rm -rf /"), "open active computing!FATE_VIOLATION"},
		{"call", bashBefore("%s", "t2", "ls"), bashAfter("%s", "t2", "ls", wentWell), "open active computing validated"},
		{"end", bashBefore("%s", "t3", "ls"), stop("%s"), "open active suspended terminated"},
	} {
		for at, killed := 1, true; killed; at++ {
			session := fmt.Sprintf("%s-%d", event.name, at)
			_, seen := ledgerFrom(t, n, 1<<40)
			if event.before != "" {
				tell(t, h, fmt.Sprintf(event.before, session))
			}
			if _, killed = process(t, h, fmt.Sprintf(event.text, session), at); killed {
				kills++
			} else if at < 10 {
				t.Errorf("%s: only %d points", event.name, at-1)
			}
			if _, err := h.Flush(t.Context()); err != nil {
				t.Fatalf("%s, killed at point %d: %v", event.name, at, err)
			}
			// At the first point nothing was written yet, and nobody can know. A turn's end is told
			// again when the CLI's session ends.
			if at == 1 || event.name == "end" {
				tell(t, h, fmt.Sprintf(event.text, session))
			}
			if proofs, _ := ledgerFrom(t, n, seen); story(proofs) != event.want {
				t.Errorf("%s, killed at point %d: the ledger has %s, want %s", event.name, at, story(proofs), event.want)
			}
		}
	}
	if kills < 30 {
		t.Errorf("only %d kills", kills)
	}
}

// TestAtOnce runs many hook processes at once, of several sessions, and kills some: each session's
// calls are in the ledger once and whole.
func TestAtOnce(t *testing.T) {
	n := region(t)
	h := newHome(t, Config{Nodes: []string{n.URL}})
	const sessions, calls = 3, 4
	var wg sync.WaitGroup
	for s := range sessions {
		for c := range calls {
			wg.Go(func() {
				session, call := fmt.Sprintf("s%d", s), fmt.Sprintf("t%d-%d", s, c)
				process(t, h, bashBefore(session, call, "ls"), 0)
				if out, killed := process(t, h, bashAfter(session, call, "ls", wentWell), 3+c); !killed && out != "{}\n" {
					t.Errorf("%s: %q", call, out)
				}
			})
		}
	}
	wg.Wait()
	if _, err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkCalls(t, n, sessions, calls)
}

func checkCalls(t *testing.T, n *testnode.Node, sessions, calls int) {
	t.Helper()
	perSession := map[string][]recordedProof{}
	for _, p := range ledger(t, n) {
		perSession[p.session] = append(perSession[p.session], p)
	}
	if len(perSession) != sessions {
		t.Errorf("%d sessions, want %d", len(perSession), sessions)
	}
	for session, proofs := range perSession {
		seen := map[any]int{}
		for _, p := range proofs {
			if p.name != "SUCCESS" {
				t.Errorf("%s: %s to %s", session, p.name, p.to)
			}
			if meta, ok := p.data["meta"].(map[string]any); ok && p.to == stateComputing {
				seen[meta["call"]]++
			}
		}
		for call, times := range seen {
			if times != 1 {
				t.Errorf("%s: call %v is there %d times", session, call, times)
			}
		}
		if len(seen) != calls {
			t.Errorf("%s: %d calls, want %d: %s", session, len(seen), calls, story(proofs))
		}
	}
}
