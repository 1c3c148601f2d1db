package gossip

import (
	"testing"
	"time"
)

// TestHistoryLastsAsLong: who tends its meshes more rarely keeps messages for fewer heartbeats, and what it has told
// of is there for one more.
func TestHistoryLastsAsLong(t *testing.T) {
	for _, c := range []struct {
		heartbeat, history time.Duration
		length, told       int
	}{
		{0, 0, 5, 3},
		{2 * time.Second, 0, 3, 2},
		{500 * time.Millisecond, 0, 10, 6},
		{10 * time.Second, 0, 2, 1},
		{time.Second, time.Millisecond * 2500, 3, 2},
	} {
		cfg := Config{Heartbeat: c.heartbeat, History: c.history}.withDefaults()
		if p := cfg.meshParams(); p.HistoryLength != c.length || p.HistoryGossip != c.told {
			t.Errorf("a heartbeat of %v, a history of %v: kept for %d heartbeats, told of in %d, not %d and %d", c.heartbeat, c.history, p.HistoryLength, p.HistoryGossip, c.length, c.told)
		}
	}
}
