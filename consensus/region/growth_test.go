package region

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A snapshot of a hundred times as many entries takes the same steps, leaves as many bytes, but for some digits, and copies nothing.
func TestSnapshotCostDoesNotGrow(t *testing.T) {
	const few, many = 10, 1000
	l := newLab(t, t.TempDir())
	if err := l.open(); err != nil {
		t.Fatal(err)
	}
	var steps []string
	var bytes []int64
	for _, entries := range []int{few, many} {
		for len(l.state.s.Entries) < entries {
			l.add(fmt.Sprintf("entry %d of some length, so that it would show", len(l.state.s.Entries)))
		}
		l.steps = nil
		if err := l.persist(); err != nil {
			t.Fatal(err)
		}
		if steps == nil {
			steps = l.steps
		}
		if !slices.Equal(l.steps, steps) {
			t.Errorf("steps %q with %d entries, %q with %d", steps, few, l.steps, entries)
		}
		files, err := os.ReadDir(l.snaps.dir)
		if err != nil || len(files) != 1 {
			t.Fatalf("%v in the snapshot directory, %v", files, err)
		}
		size, err := sizeOf(l.snaps.dir)
		if err != nil {
			t.Fatal(err)
		}
		bytes = append(bytes, size)
	}
	if l.state.copies != 0 || len(steps) < 4 || bytes[1] > bytes[0]+16 {
		t.Errorf("%d copies; %d bytes with %d entries, %d with %d; steps %q", l.state.copies, bytes[0], few, bytes[1], many, steps)
	}
}

// A follower that is far behind is brought up by a snapshot while proofs go on, and while the region's voters change: one is
// added, it votes, and another is removed. The follower then knows the voters that there are, and the one that was added is one.
func TestSnapshotWhileTheVotersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := 500 * time.Millisecond // that a received snapshot takes to be verified
		c := newCluster(t, 5, func(id raft.ServerID, cfg *Config) {
			smallSnapshots(id, cfg)
			cfg.TrailingEntries = 40 // and eight times as many for who gets a snapshot
			cfg.VerifyState = func(dir string) (uint64, error) {
				<-time.After(slow)
				return verifyFake(dir)
			}
		})
		c.start()
		l := c.leader(10 * time.Second)
		behind, removed := c.others(l)[0], c.others(l)[1]
		gone := l.current().Status().LastIndex
		c.crash(behind)
		c.fill(l, "while away", gone+100)
		stop := c.stream(l)

		opened, from := behind.opens(), l.current().Status().LastIndex
		c.restart(behind)
		added := c.newNode("node-6")
		voters := slices.Clone(c.ids)
		c.nodes[added.id] = added
		if err := c.prepare(added).StartAsAdded(context.Background(), voters); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r := l.current()
		if err := errors.Join(r.AddNonvoter(ctx, added.id), r.AddVoter(ctx, added.id), r.RemoveServer(ctx, removed.id)); err != nil {
			t.Fatal(err)
		}
		c.ids = append(c.ids, added.id)
		until(t, time.Minute, "both to catch up", func() bool {
			last := l.current().Status().LastIndex
			return behind.current().Status().LastIndex+20 > last && added.current().Status().LastIndex+20 > last
		})
		stop()
		if went := l.current().Status().LastIndex - from; went < 100 {
			t.Errorf("only %d entries went by: the test does not test", went)
		}
		if behind.opens() < opened+2 || added.opens() < 2 {
			t.Errorf("%s opened %d states, %s %d: no snapshot was received", behind.id, behind.opens()-opened, added.id, added.opens())
		}
		if err := removed.current().Close(); err != nil {
			t.Error(err)
		}
		c.ids = slices.DeleteFunc(c.ids, func(id raft.ServerID) bool { return id == removed.id })
		delete(c.nodes, removed.id)
		c.agree(20 * time.Second)
		for _, n := range []*node{behind, added} {
			var votes []raft.ServerID
			for _, s := range n.current().Configuration().Servers {
				if s.Suffrage == raft.Voter {
					votes = append(votes, s.ID)
				}
			}
			slices.Sort(votes)
			if want := slices.Sorted(slices.Values(c.ids)); !slices.Equal(votes, want) {
				t.Errorf("%s knows the voters %v, they are %v", n.id, votes, want)
			}
			if there, _ := exists(filepath.Join(n.home, snapshotsName, pointerName)); !there {
				t.Errorf("%s has no snapshot", n.id)
			}
		}
		// Who was brought up counts: with two of the others away, the majority is of them.
		var away []*node
		for _, n := range c.others(l) {
			if n != behind && n != added {
				away = append(away, n)
			}
		}
		for _, n := range away {
			c.crash(n)
		}
		if err := l.propose(5*time.Second, "by those that were brought up"); err != nil {
			t.Error(err)
		}
		for _, n := range away {
			c.restart(n)
		}
		c.agree(20 * time.Second)
		c.stop()
	})
}
