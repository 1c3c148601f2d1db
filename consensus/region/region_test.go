package region

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/pci"
)

func TestRegionFoundsCommitsAndSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		for i := range 20 {
			if err := l.propose(time.Second, fmt.Sprintf("proof %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		entries := c.agree(time.Second)
		if entries[0] != "document" {
			t.Errorf("the first entry is %q, not the genesis", entries[0])
		}
		if len(entries) != 1+1+20 {
			t.Errorf("%d entries, want the genesis, the probe and 20 proofs", len(entries))
		}
		for _, n := range c.nodes {
			c.crash(n)
		}
		c.net.heal()
		for _, id := range c.ids {
			c.restart(c.nodes[id])
		}
		c.leader(10 * time.Second)
		if again := c.agree(5 * time.Second); !slices.Equal(again[:len(entries)], entries) {
			t.Errorf("after the restart the ledger begins %q, want %q", again, entries)
		}
		c.stop()
	})
}

func TestFailoverLosesNothingAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		var acked []string
		for round := range 5 {
			l := c.leader(10 * time.Second)
			for i := range 10 {
				proof := fmt.Sprintf("round %d proof %d", round, i)
				if err := l.propose(time.Second, proof); err != nil {
					t.Fatal(err)
				}
				acked = append(acked, proof)
			}
			c.crash(l)
			start := time.Now()
			if next := c.leader(5 * time.Second); next == l {
				t.Fatal("the crashed leader leads")
			}
			t.Logf("round %d: service was back after %v", round, time.Since(start))
			c.restart(l)
		}
		entries := c.agree(10 * time.Second)
		for _, a := range acked {
			if !slices.Contains(entries, a) {
				t.Errorf("acknowledged and lost: %q", a)
			}
		}
		c.stop()
	})
}

func TestMinorityRefusesAndNeverLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		old := c.leader(10 * time.Second)
		c.net.isolate(old.id, c.ids, true)
		// At once, while it still believes to lead.
		if !old.current().IsLeader() {
			t.Fatal("it should still believe that it leads")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := old.current().Read(ctx, func(StateMachine) error { return nil })
		if err == nil {
			t.Error("a read was answered by a leader without a majority")
		}
		if err := old.propose(5*time.Second, "lost"); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotCommitted) {
			t.Errorf("a proof on the minority side: %v", err)
		}
		now := c.leader(5 * time.Second)
		if now == old {
			t.Fatal("the isolated node leads")
		}
		if err := now.propose(time.Second, "kept"); err != nil {
			t.Fatal(err)
		}
		if err := old.propose(time.Second, "refused"); !errors.Is(err, ErrNotCommitted) || !errors.Is(err, ErrNotLeader) {
			t.Errorf("the deposed leader says %v, want not committed, not leader", err)
		}
		if c.net.held == 0 {
			t.Error("the cut held nothing back: the test did not test")
		}
		c.net.heal()
		entries := c.agree(10 * time.Second)
		if !slices.Contains(entries, "kept") || slices.Contains(entries, "refused") {
			t.Errorf("entries %q", entries)
		}
		c.stop()
	})
}

func TestReadSeesWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		var wg sync.WaitGroup
		var mu sync.Mutex
		reads := 0
		before := l.current().Status().LastIndex
		for i := range 32 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				proof := fmt.Sprintf("proof %d", i)
				if err := l.propose(5*time.Second, proof); err != nil {
					t.Error(err)
					return
				}
				err := l.current().Read(context.Background(), func(s StateMachine) error {
					if !slices.Contains(s.(*fakeState).entries(), proof) {
						return fmt.Errorf("%q is acknowledged and not seen", proof)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				reads++
				mu.Unlock()
			}()
		}
		wg.Wait()
		if reads != 32 {
			t.Errorf("%d reads", reads)
		}
		if used := l.current().Status().LastIndex - before; used > 32 {
			t.Errorf("32 proofs and 32 reads took %d log entries: nothing was shared", used)
		}
		c.stop()
	})
}

func TestProofsShareEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var batches []int
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.SealInterval = time.Hour
			cfg.Hooks.Committed = func(proofs, _ int, _ time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				batches = append(batches, proofs)
			}
		})
		c.start()
		l := c.leader(10 * time.Second)
		start := time.Now()
		if err := l.propose(time.Second, "alone"); err != nil {
			t.Fatal(err)
		}
		// One round trip of the network, and no wait for company.
		if took := time.Since(start); took > 2*c.net.latency {
			t.Errorf("one proof alone took %v", took)
		}
		mu.Lock()
		batches = nil
		mu.Unlock()
		const count = 5000
		var wg sync.WaitGroup
		for i := range count {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := l.propose(time.Minute, fmt.Sprintf("proof %d", i)); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		total := 0
		for _, b := range batches {
			total += b
			if b > fsm.BatchProofsMax {
				t.Errorf("an entry of %d proofs", b)
			}
		}
		if total != count || len(batches) > 30 {
			t.Errorf("%d proofs in %d entries %v, want %d in about 10", total, len(batches), batches, count)
		}
		c.stop()
	})
}

func TestSubmissionKeepsItsOrderAcrossEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		// Larger than one entry takes in bytes.
		var proofs [][]byte
		for i := range 40 {
			proofs = append(proofs, append(fmt.Appendf(nil, "%03d ", i), make([]byte, 30<<10)...))
		}
		receipts, err := l.current().intake.propose(context.Background(), proofs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := 40 * (30 << 10); want <= fsm.BatchBytesMax {
			t.Fatal("the submission fits one entry: the test does not test")
		}
		for i := range receipts[1:] {
			if receipts[i+1].Index != receipts[i].Index+1 {
				t.Errorf("proof %d has index %d, its successor %d", i, receipts[i].Index, receipts[i+1].Index)
			}
		}
		c.stop()
	})
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		overloaded := 0
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.QueueProofsMax = fsm.BatchProofsMax
			cfg.InFlightMax = 1
			cfg.Hooks.Overloaded = func(int) { overloaded++ }
		})
		c.start()
		l := c.leader(10 * time.Second)
		// Nothing commits while the followers do not answer.
		for _, o := range c.others(l) {
			c.net.setCut(o.id, l.id, true)
		}
		var refused *OverloadedError
		var wg sync.WaitGroup
		for i := range fsm.BatchProofsMax + 2 {
			wg.Add(1)
			go func() { defer wg.Done(); _ = l.propose(10*time.Second, fmt.Sprintf("proof %d", i)) }()
			synctest.Wait()
		}
		err := l.propose(time.Second, "one too many")
		if !errors.As(err, &refused) || !errors.Is(err, ErrNotCommitted) || refused.RetryAfter <= 0 {
			t.Errorf("a full queue says %v", err)
		}
		if overloaded == 0 {
			t.Error("the overload was not counted")
		}
		c.net.heal()
		wg.Wait()
		c.stop()
	})
}

func TestWrongClockStampsNothingAndHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var off time.Duration
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.Hooks.ClockOff = func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				off = d
			}
		})
		c.start()
		l := c.leader(10 * time.Second)
		l.skew.Store(int64(3 * time.Second))
		until(t, 10*time.Second, "the leader to refuse", func() bool {
			return errors.Is(l.propose(time.Second, "stamped wrongly"), ErrNotCommitted)
		})
		until(t, 20*time.Second, "another leader", func() bool { return !l.current().IsLeader() })
		now := c.leader(10 * time.Second)
		if now == l {
			t.Fatal("the node with the wrong clock leads and stamps")
		}
		mu.Lock()
		defer mu.Unlock()
		if off < 2900*time.Millisecond || off > 3100*time.Millisecond {
			t.Errorf("the clock was found off by %v, want about 3 s", off)
		}
		c.stop()
	})
}

func TestHungDiskDeposesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := make(chan error, 1)
		c := newCluster(t, 3, func(_ raft.ServerID, cfg *Config) {
			cfg.StoreLimit = 2 * time.Second
			cfg.OnFailure = func(err error) { failures <- err }
		})
		c.start()
		l := c.leader(10 * time.Second)
		hang := make(chan struct{})
		l.log.mu.Lock()
		l.log.hang = hang
		l.log.mu.Unlock()
		result := make(chan error, 1)
		go func() { result <- l.propose(time.Minute, "hung") }()
		next := c.leader(10 * time.Second)
		if next == l {
			t.Fatal("the leader with the hung disk still leads")
		}
		if err := <-failures; !errors.Is(err, ErrStalled) || !errors.Is(err, ErrFailed) {
			t.Errorf("it failed with %v", err)
		}
		l.log.mu.Lock()
		if l.log.hung == 0 {
			t.Error("nothing hung")
		}
		l.log.hang = nil
		l.log.mu.Unlock()
		close(hang)
		if err := <-result; !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotCommitted) {
			t.Errorf("the proof that hung: %v", err)
		}
		if err := l.current().Read(context.Background(), func(StateMachine) error { return nil }); !errors.Is(err, ErrFailed) {
			t.Errorf("a failed replica answers a read with %v", err)
		}
		c.stop()
	})
}

func TestFailingDiskStopsWithoutPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		broken := errors.New("input/output error")
		for _, n := range c.others(l) {
			n.log.mu.Lock()
			n.log.err = broken
			n.log.mu.Unlock()
			break
		}
		n := c.others(l)[0]
		// Its next append fails; then the leader goes, so its next term cannot be written either, over which Raft would panic.
		_ = l.propose(time.Second, "one")
		c.crash(l)
		until(t, 10*time.Second, "the replica to stop", func() bool { return errors.Is(n.current().Failed(), broken) })
		c.restart(l)
		c.leader(10 * time.Second)
		c.stop()
	})
}

func TestApplyErrorStopsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		diverged := errors.New("diverged")
		l.fake().mu.Lock()
		l.fake().onCmd = func(uint64) error { return diverged }
		l.fake().mu.Unlock()
		if err := l.propose(5*time.Second, "poison for one"); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("a proof that the replica could not apply: %v, want an unknown outcome", err)
		}
		if err := l.current().Failed(); !errors.Is(err, diverged) {
			t.Errorf("it failed with %v", err)
		}
		if next := c.leader(10 * time.Second); next == l {
			t.Fatal("the stopped replica leads")
		}
		c.stop()
	})
}

// hashicorp/raft #696: while leadership is handed to a voter that does not answer, Raft takes no writes; not for long.
func TestTransferToADeadVoterBlocksWritesBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		c.start()
		l := c.leader(10 * time.Second)
		dead := c.others(l)[0]
		c.net.isolate(dead.id, c.ids, true)
		start := time.Now()
		blocked := make(chan error, 1)
		go func() {
			<-time.After(100 * time.Millisecond)
			blocked <- l.propose(time.Second, "while handing over")
		}()
		if err := l.current().LeadershipTransfer(t.Context(), dead.id); err == nil {
			t.Error("leadership was handed to a dead voter")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it gave up after %v", took)
		}
		if err := <-blocked; !errors.Is(err, ErrNotCommitted) {
			t.Errorf("a proof during the transfer: %v; the test does not test", err)
		}
		until(t, 3*time.Second, "writes to go on", func() bool { return l.propose(time.Second, fmt.Sprint("at ", time.Now())) == nil })
		if err := l.current().Failed(); err != nil {
			t.Error(err)
		}
		c.stop()
	})
}

func TestSubmissionsSettle(t *testing.T) {
	for name, c := range map[string]struct {
		outcomes         []error
		certain, unknown bool
	}{
		"all committed":              {[]error{nil, nil}, false, false},
		"none committed":             {[]error{notCommitted(ErrNotLeader), notCommitted(ErrNotLeader)}, true, false},
		"first yes, then no":         {[]error{nil, notCommitted(ErrNotLeader)}, false, true},
		"first no, then yes":         {[]error{notCommitted(ErrNotLeader), nil}, false, true},
		"first no, then unknown":     {[]error{notCommitted(ErrNotLeader), unknownOutcome(raft.ErrLeadershipLost)}, false, true},
		"first unknown, then no":     {[]error{unknownOutcome(raft.ErrLeadershipLost), notCommitted(ErrNotLeader)}, false, true},
		"first yes, then unknown":    {[]error{nil, unknownOutcome(raft.ErrLeadershipLost)}, false, true},
		"overloaded is not in there": {[]error{&OverloadedError{}}, true, false},
	} {
		s := &submission{receipts: make([]fsm.Receipt, len(c.outcomes)), left: len(c.outcomes), done: make(chan struct{})}
		for _, o := range c.outcomes {
			s.settle(o)
		}
		select {
		case <-s.done:
		default:
			t.Errorf("%s: not done", name)
		}
		if errors.Is(s.err, ErrNotCommitted) != c.certain || errors.Is(s.err, ErrUnknownOutcome) != c.unknown {
			t.Errorf("%s: %v", name, s.err)
		}
	}
}

func TestLimitsOfASubmission(t *testing.T) {
	in := newIntake(Config{}.withDefaults(), nil)
	in.open()
	for name, proofs := range map[string][][]byte{
		"too many":  slices.Repeat([][]byte{[]byte("x")}, fsm.BatchProofsMax+1),
		"too large": {make([]byte, pci.EnvelopeBytesMax+1)},
	} {
		if _, err := in.propose(context.Background(), proofs, nil); !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrNotCommitted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config {
		return Config{Home: "h", Network: &memNode{newMemNet(0), "a"}, Founders: []raft.ServerID{"a"}, Document: []byte("d"),
			OpenState:   func(string) (StateMachine, error) { return nil, nil },
			VerifyState: func(string) (uint64, error) { return 0, nil }}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"Home": func(c *Config) { c.Home = "" }, "Network": func(c *Config) { c.Network = nil }, "Founders": func(c *Config) { c.Founders = nil },
		"Document": func(c *Config) { c.Document = nil }, "OpenState": func(c *Config) { c.OpenState = nil },
		"VerifyState": func(c *Config) { c.VerifyState = nil }, "StoreLimit": func(c *Config) { c.StoreLimit = -1 },
		"PeerPhase": func(c *Config) { c.Founders = []raft.ServerID{"a", "b"} }, "InFlightMax": func(c *Config) { c.InFlightMax = -1 },
		"QueueBytesMax": func(c *Config) { c.QueueBytesMax = queueBytesMin - 1 }, "TrailingBytes": func(c *Config) { c.TrailingBytes = markBytes - 1 },
		"RPCTimeout": func(c *Config) { c.RPCTimeout = time.Millisecond }, "Founders[1]": func(c *Config) { c.Founders = []raft.ServerID{"a", ""}; c.PeerPhase = noPhase; c.PeerClock = noClock },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func noPhase(context.Context, raft.ServerID) (Phase, error) { return PhaseUnknown, nil }
func noClock(context.Context, raft.ServerID) (int64, error) { return 0, nil }
