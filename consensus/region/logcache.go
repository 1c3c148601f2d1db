package region

import (
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// Limits of the log entries kept in memory for the followers, and for this node's own state machine. Raft's LogCache has a
// limit on their number alone, and an entry may hold half a megabyte of proofs.
const (
	logCacheEntries = 1024
	logCacheBytes   = 32 << 20
)

// logCache keeps the newest entries of a log store in memory: consecutive ones, at most so many and so many bytes.
type logCache struct {
	raft.LogStore
	bytesMax int

	mu    sync.RWMutex
	ring  []*raft.Log // by index
	first uint64      // of those kept
	count uint64
	bytes int
}

func newLogCache(store raft.LogStore) *logCache {
	return &logCache{LogStore: store, ring: make([]*raft.Log, logCacheEntries), bytesMax: logCacheBytes}
}

// logBytes is what an entry weighs: what it carries and, roughly, what goes with it on disk and in memory.
func logBytes(log *raft.Log) int { return len(log.Data) + len(log.Extensions) + logOverheadBytes }

const logOverheadBytes = 128

func (c *logCache) slot(index uint64) **raft.Log { return &c.ring[index%uint64(len(c.ring))] }

// GetLog implements raft.LogStore.
func (c *logCache) GetLog(index uint64, log *raft.Log) error {
	c.mu.RLock()
	var kept *raft.Log
	if index >= c.first && index-c.first < c.count {
		kept = *c.slot(index)
	}
	c.mu.RUnlock()
	if kept == nil {
		return c.LogStore.GetLog(index, log)
	}
	*log = *kept
	return nil
}

// StoreLog implements raft.LogStore.
func (c *logCache) StoreLog(log *raft.Log) error { return c.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (c *logCache) StoreLogs(logs []*raft.Log) error {
	if err := c.LogStore.StoreLogs(logs); err != nil {
		return fmt.Errorf("store log entries: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range logs {
		if log.Index != c.first+c.count {
			c.drop(c.count)
			c.first = log.Index
		}
		if c.count == uint64(len(c.ring)) {
			c.drop(1)
		}
		*c.slot(log.Index) = log
		c.count++
		for c.bytes += logBytes(log); c.bytes > c.bytesMax; {
			c.drop(1)
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore.
func (c *logCache) DeleteRange(first, last uint64) error {
	c.mu.Lock()
	switch {
	case first > c.first:
		c.drop(c.count) // entries will be written anew from there on
	case last >= c.first:
		c.drop(min(c.count, last-c.first+1))
	}
	c.mu.Unlock()
	if err := c.LogStore.DeleteRange(first, last); err != nil {
		return fmt.Errorf("delete log entries %d to %d: %w", first, last, err)
	}
	return nil
}

// drop lets go of the oldest entries. Under mu.
func (c *logCache) drop(n uint64) {
	for range n {
		at := c.slot(c.first)
		c.bytes -= logBytes(*at)
		*at = nil
		c.first++
		c.count--
	}
}
