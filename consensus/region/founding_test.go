package region

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestFoundingWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		started := make(chan error, 3)
		for _, id := range c.ids[:2] {
			r := c.prepare(c.nodes[id])
			go func() { started <- r.Start(context.Background()) }()
		}
		<-time.After(time.Minute)
		select {
		case err := <-started:
			t.Fatalf("a founding voter did not wait for the third: %v", err)
		default:
		}
		for _, id := range c.ids[:2] {
			n := c.nodes[id]
			if p := n.current().Phase(); p != PhaseFounding {
				t.Errorf("%s is %v", id, p)
			}
			if there, _ := exists(filepath.Join(n.home, FoundingName)); !there {
				t.Errorf("%s has deleted its founding file", id)
			}
		}
		go func() { started <- c.prepare(c.nodes[c.ids[2]]).Start(context.Background()) }()
		for range 3 {
			if err := <-started; err != nil {
				t.Fatal(err)
			}
		}
		c.leader(10 * time.Second)
		c.agree(5 * time.Second)
		for _, n := range c.nodes {
			if there, _ := exists(filepath.Join(n.home, FoundingName)); there {
				t.Errorf("%s still has its founding file", n.id)
			}
			if p := n.current().Phase(); p != PhasePast {
				t.Errorf("%s is %v", n.id, p)
			}
		}
		c.stop()
	})
}

func TestFoundingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.prepare(c.nodes[c.ids[0]]).Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// wipe makes a node's home anew, as an operator might who restores it from how it was handed out.
func (c *cluster) wipe(n *node, founding bool) {
	c.t.Helper()
	n.home, n.log = c.t.TempDir(), newFakeLog()
	if founding {
		if err := os.WriteFile(filepath.Join(n.home, FoundingName), nil, fileMode); err != nil {
			c.t.Fatal(err)
		}
	}
}

func TestWipedVoterDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		founding bool
		want     error
	}{"nothing left": {false, ErrNoStore}, "made anew": {true, ErrPastFounding}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, 3, nil)
				cl.start()
				l := cl.leader(10 * time.Second)
				wiped := cl.others(l)[0]
				cl.crash(wiped)
				cl.wipe(wiped, c.founding)
				cl.net.heal()
				err := cl.prepare(wiped).Start(context.Background())
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "bizra voter replace") {
					t.Errorf("start says %v", err)
				}
				wiped.region = nil
				if err := l.propose(time.Second, "goes on"); err != nil {
					t.Error(err)
				}
				cl.stop()
			})
		})
	}
}

// The Raft store alone is lost: the snapshot pointer and the state do not make up for it.
func TestLostRaftStoreBesideASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, smallSnapshots)
		c.start()
		l := c.leader(10 * time.Second)
		c.fill(l, "proof", 25)
		n := c.others(l)[0]
		until(t, 10*time.Second, "a snapshot", func() bool { return n.current().Status().SnapshotIndex > 0 })
		c.crash(n)
		n.log = newFakeLog()
		if err := c.prepare(n).Start(context.Background()); !errors.Is(err, ErrNoStore) {
			t.Errorf("start says %v", err)
		}
		n.region = nil
		c.stop()
	})
}

func TestAddedNodeCatchesUpAndMayBePromoted(t *testing.T) {
	for name, tune := range map[string]func(raft.ServerID, *Config){"by entries": nil, "by snapshot": smallSnapshots} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, tune)
				c.start()
				l := c.leader(10 * time.Second)
				if tune != nil {
					c.fill(l, "proof", 40)
				}
				added := c.newNode("node-4")
				voters := c.ids
				c.nodes[added.id] = added
				r := c.prepare(added)
				if err := r.StartAsAdded(context.Background(), voters); err != nil {
					t.Fatal(err)
				}
				rf := l.current().raft.Load()
				if err := rf.AddNonvoter(added.id, raft.ServerAddress(added.id), 0, 0).Error(); err != nil {
					t.Fatal(err)
				}
				c.ids = append(c.ids, added.id)
				c.agree(20 * time.Second)
				if there, _ := exists(filepath.Join(added.home, addedName)); there {
					t.Error("the file added is still there")
				}
				c.crash(added)
				c.restart(added)
				if err := rf.AddVoter(added.id, raft.ServerAddress(added.id), 0, 0).Error(); err != nil {
					t.Fatal(err)
				}
				if err := l.propose(time.Second, "with four"); err != nil {
					t.Fatal(err)
				}
				c.agree(10 * time.Second)
				if err := l.current().LeadershipTransfer(context.Background(), added.id); err != nil {
					t.Fatal(err)
				}
				if now := c.leader(10 * time.Second); now != added {
					t.Errorf("%s leads", now.id)
				}
				c.stop()
			})
		})
	}
}

func TestAddedNodeGrantsNoVoteBeforeItKnowsTheRegion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, nil)
		added := c.newNode("node-4")
		r := c.prepare(added)
		if err := r.StartAsAdded(context.Background(), []raft.ServerID{"node-1"}); err != nil {
			t.Fatal(err)
		}
		for _, q := range []struct {
			from    raft.ServerID
			command any
			want    bool
		}{
			{"node-1", nil, true}, {"node-1", &raft.AppendEntriesRequest{}, true}, {"node-1", &raft.InstallSnapshotRequest{}, true},
			{"node-1", &raft.RequestVoteRequest{}, false}, {"node-1", &raft.RequestPreVoteRequest{}, false}, {"node-1", &raft.TimeoutNowRequest{}, false},
			{"node-2", &raft.AppendEntriesRequest{}, false}, {"node-2", nil, false},
		} {
			if got := r.admit(q.from, q.command) == nil; got != q.want {
				t.Errorf("%s may send %T: %v, want %v", q.from, q.command, got, q.want)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		// It may start again as it was added.
		if err := c.prepare(added).Start(context.Background()); err != nil {
			t.Errorf("an added node that has received nothing yet does not start again: %v", err)
		}
		_ = added.current().Close()
	})
}

func TestVouchedPeerMaySendEntriesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, func(_ raft.ServerID, cfg *Config) {
			cfg.Vouched = func(id raft.ServerID) bool { return id == "node-9" }
		})
		c.start()
		r := c.nodes[c.ids[0]].current()
		for _, q := range []struct {
			from    raft.ServerID
			command any
			want    bool
		}{
			{"node-9", nil, true}, {"node-9", &raft.AppendEntriesRequest{}, true}, {"node-9", &raft.InstallSnapshotRequest{}, true},
			{"node-9", &raft.RequestVoteRequest{}, false}, {"node-9", &raft.RequestPreVoteRequest{}, false}, {"node-9", &raft.TimeoutNowRequest{}, false},
			{"node-8", &raft.AppendEntriesRequest{}, false}, {"node-1", &raft.RequestVoteRequest{}, true},
		} {
			if got := r.admit(q.from, q.command) == nil; got != q.want {
				t.Errorf("%s may send %T: %v, want %v", q.from, q.command, got, q.want)
			}
		}
		c.stop()
	})
}

// Every step of founding is interrupted once. The next start goes on with it, and a vote was never possible before the file was
// gone.
func TestCrashWhileFounding(t *testing.T) {
	crashed := 0
	for stop := 1; ; stop++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 1, nil)
			n := c.nodes[c.ids[0]]
			r := c.prepare(n)
			var steps []string
			r.disk.hook = func(step string) error {
				steps = append(steps, step)
				if len(steps) >= stop {
					return errCrash
				}
				return nil
			}
			err := r.Start(context.Background())
			if err == nil {
				r.disk.hook = nil
				done = true
			} else {
				crashed++
				if !errors.Is(err, errCrash) {
					t.Fatalf("step %d: %v", stop, err)
				}
				if r.raft.Load() != nil {
					t.Errorf("crash at %v: Raft runs", steps)
				}
				if err := c.prepare(n).Start(context.Background()); err != nil {
					t.Fatalf("start after a crash at %v: %v", steps, err)
				}
			}
			c.leader(10 * time.Second)
			if there, _ := exists(filepath.Join(n.home, FoundingName)); there {
				t.Errorf("crash at %v: the founding file is still there", steps)
			}
			c.stop()
		})
		if done {
			break
		}
	}
	if crashed < 5 {
		t.Errorf("%d crashes: the test does not test", crashed)
	}
}

func TestStartsOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, nil)
		c.start()
		if err := c.nodes[c.ids[0]].current().Start(context.Background()); err == nil {
			t.Error("it started twice")
		}
		c.stop()
	})
}
