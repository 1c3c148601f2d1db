package region

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// The watermark and its way back, at their edges.
func TestRoom(t *testing.T) {
	free := int64(0)
	failing := false
	r := newRoom(Config{DiskFreeMin: 1000, Logger: slog.New(slog.DiscardHandler), FreeBytes: func(string) (int64, error) {
		if failing {
			return 0, errors.New("no answer")
		}
		return free, nil
	}})
	for i, c := range []struct {
		free    int64
		failing bool
		short   bool
	}{{5000, false, false}, {1000, false, false}, {0, true, false}, {999, false, true}, {1000, false, true}, {1249, false, true}, {0, true, true},
		{1250, false, false}, {1000, false, false}, {0, false, true}, {1 << 60, false, false}} {
		free, failing = c.free, c.failing
		r.look()
		err := r.refusal()
		if (err != nil) != c.short {
			t.Errorf("look %d, %d free: %v", i, c.free, err)
		}
		var over *OverloadedError
		if c.short && (!errors.Is(err, ErrDiskLow) || !errors.Is(err, ErrNotCommitted) || !errors.As(err, &over) || over.RetryAfter != roomRetryAfter) {
			t.Errorf("look %d: %v", i, err)
		}
	}
	careless := newRoom(Config{DiskFreeMin: -1, Logger: slog.New(slog.DiscardHandler), FreeBytes: func(string) (int64, error) { return 0, nil }})
	if careless.look(); careless.refusal() != nil {
		t.Error("a disk that may be full to the last byte is called low")
	}
}

// A leader whose disk is low takes nothing, goes on sealing, and takes proofs again when there is room; one whose follower's disk
// is low goes on.
func TestLowDiskTakesNoProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := map[raft.ServerID]*atomic.Int64{}
		c := newCluster(t, 3, func(id raft.ServerID, cfg *Config) {
			if free[id] == nil {
				free[id] = &atomic.Int64{}
				free[id].Store(1 << 40)
			}
			cfg.FreeBytes = func(string) (int64, error) { return free[id].Load(), nil }
			cfg.DiskFreeMin = 1 << 30
		})
		c.start()
		l := c.leader(10 * time.Second)
		free[c.others(l)[0].id].Store(0)
		<-time.After(2 * diskInterval)
		if err := l.propose(time.Second, "a follower's disk is low"); err != nil {
			t.Error(err)
		}
		free[l.id].Store(1<<30 - 1)
		<-time.After(2 * diskInterval)
		err := l.propose(time.Second, "this must not be taken")
		if !errors.Is(err, ErrDiskLow) || !errors.Is(err, ErrNotCommitted) {
			t.Errorf("with a low disk: %v", err)
		}
		if s := l.current().Status(); !s.DiskLow || s.FreeBytes != 1<<30-1 || s.DiskFreeMin != 1<<30 {
			t.Errorf("status says low %v, %d free", s.DiskLow, s.FreeBytes)
		}
		if sealed := l.current().sealed.Load(); sealed != l.current().Status().Entries {
			t.Errorf("sealed up to %d of %d entries", sealed, l.current().Status().Entries)
		}
		free[l.id].Store(1 << 30)
		<-time.After(2 * diskInterval)
		if err := l.propose(time.Second, "it flutters"); !errors.Is(err, ErrDiskLow) {
			t.Errorf("barely above the least: %v", err)
		}
		free[l.id].Store(1<<30 + 1<<28)
		<-time.After(2 * diskInterval)
		if err := l.propose(time.Second, "there is room again"); err != nil {
			t.Error(err)
		}
		if entries := c.agree(5 * time.Second); len(entries) < 3 {
			t.Errorf("the ledger is %q", entries)
		}
		c.stop()
	})
}
