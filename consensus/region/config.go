package region

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
)

// Config configures a Region. A zero field takes the default named at it.
type Config struct {
	// Home is the node's directory.
	Home string
	// Network carries Raft. Transport, if set, is used instead; then nothing here checks who sends.
	Network   Network
	Transport raft.Transport
	// Founders are the region's founding voters, from its federation document.
	Founders []raft.ServerID
	// Document is the federation document in canonical form: the ledger's first entry.
	Document []byte

	// OpenState opens the state machine in a directory, which may not exist yet.
	OpenState func(dir string) (StateMachine, error)
	// VerifyState checks the state that another voter sent (state root, ledger root) and tells its applied index.
	VerifyState func(dir string) (applied uint64, err error)
	// LogKind is where Raft's log is kept; see [LogKind].
	LogKind LogKind
	// OpenLog opens Raft's log in a directory. Default: what LogKind says.
	OpenLog func(dir string) (LogBacking, error)

	// PeerPhase asks another founding voter how far its founding is; see [Region.Phase].
	PeerPhase func(ctx context.Context, id raft.ServerID) (Phase, error)
	// PeerClock asks another voter for its time in Unix milliseconds.
	PeerClock func(ctx context.Context, id raft.ServerID) (int64, error)
	// Wall reads the wall clock, by which entries are stamped; time.Now.
	Wall func() time.Time

	// Vouched says of a peer that Raft's configuration here does not name as a voter whether it is one all the same, by evidence
	// that this node trusts: a voter whose log is behind may not yet know the one that leads, and would else never learn of it.
	// It lets the peer send entries and snapshots, no requests for votes. It must not block. May be nil.
	Vouched func(id raft.ServerID) bool

	HeartbeatTimeout time.Duration // without a leader, before a follower asks for votes; 1 s
	ElectionTimeout  time.Duration // of one round of votes; 1 s
	LeaseTimeout     time.Duration // without a majority, before a leader steps down; 500 ms
	CommitTimeout    time.Duration // idle, before followers are told the commit index; 50 ms
	RPCTimeout       time.Duration // of one Raft RPC; 5 s
	TransferTimeout  time.Duration // of a leadership transfer, all told; 5 s

	StoreLimit time.Duration // of one call of the log store, then the replica stops; 10 s
	// ApplyLimit bounds one call of the state machine, then the replica stops; 3 min. The fullest market's epoch must stay far
	// below it on a slow and busy machine: it would take as long again after each start, on every voter.
	ApplyLimit time.Duration

	// DiskFreeMin is how many bytes must be free for this node to take proofs when it leads; 512 MiB. Negative: any number.
	DiskFreeMin int64
	// FreeBytes tells how many bytes may still be written below a directory. Default: what the file system says.
	FreeBytes func(dir string) (int64, error)

	SnapshotEntries uint64 // log entries between snapshots; 8192
	SnapshotBytes   uint64 // of the log between snapshots, whichever comes first; 64 MiB
	TrailingEntries uint64 // log entries kept behind a snapshot, for followers that are not far behind; 16384
	TrailingBytes   uint64 // of them at most, to a mebibyte; 256 MiB

	SealInterval  time.Duration // between seals while the ledger grows; 1 s
	ClockInterval time.Duration // between looks at the voters' clocks; 5 s
	PhaseInterval time.Duration // between questions to founding voters that have not answered; 500 ms

	BatchDelay     time.Duration // that a proof may wait for company while others are being committed; 1 ms
	InFlightMax    int           // log entries being committed at once; 8
	QueueProofsMax int           // proofs waiting; 16,384
	QueueBytesMax  int           // of their canonical forms; 64 MiB

	Logger *slog.Logger
	// OnFailure is called once, from a goroutine of its own, when the replica stops. It must not call Close, which waits for it.
	// May be nil.
	OnFailure func(error)
	// OnApplied is called with every result, on the goroutine that applies: it must be quick. May be nil.
	OnApplied func(index uint64, result *fsm.Result)
	// Hooks are for metrics. Each may be nil.
	Hooks Hooks
}

// Hooks are told what is worth counting. They must be quick.
type Hooks struct {
	RPCRefused func(from raft.ServerID, err error)
	Committed  func(proofs, bytes int, took time.Duration) // one log entry, from the proposal to its result
	Overloaded func(proofs int)
	Leading    func(leading bool)
	ClockOff   func(offset time.Duration) // of this leader's clock from its voters'
	Snapshot   func(took time.Duration, err error)
}

func (c Config) withDefaults() Config {
	setDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	setDuration(&c.HeartbeatTimeout, time.Second)
	setDuration(&c.ElectionTimeout, time.Second)
	setDuration(&c.LeaseTimeout, 500*time.Millisecond)
	setDuration(&c.CommitTimeout, 50*time.Millisecond)
	setDuration(&c.RPCTimeout, 5*time.Second)
	setDuration(&c.TransferTimeout, 5*time.Second)
	setDuration(&c.StoreLimit, 10*time.Second)
	setDuration(&c.ApplyLimit, 3*time.Minute)
	setDuration(&c.SealInterval, time.Second)
	setDuration(&c.ClockInterval, 5*time.Second)
	setDuration(&c.PhaseInterval, 500*time.Millisecond)
	setDuration(&c.BatchDelay, time.Millisecond)
	setCount := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	setCount(&c.InFlightMax, 8)
	setCount(&c.QueueProofsMax, 16<<10)
	setCount(&c.QueueBytesMax, 64<<20)
	if c.DiskFreeMin == 0 {
		c.DiskFreeMin = diskFreeMinDefault
	}
	if c.FreeBytes == nil {
		c.FreeBytes = freeBytes
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 16384
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	if c.TrailingBytes == 0 {
		c.TrailingBytes = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OpenLog == nil {
		kind, logger := c.LogKind, c.Logger
		c.OpenLog = func(dir string) (LogBacking, error) { return OpenLog(dir, kind, logger) }
	}
	if c.OnApplied == nil {
		c.OnApplied = func(uint64, *fsm.Result) {}
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.Vouched == nil {
		c.Vouched = func(raft.ServerID) bool { return false }
	}
	c.Hooks = c.Hooks.withDefaults()
	return c
}

func (h Hooks) withDefaults() Hooks {
	if h.RPCRefused == nil {
		h.RPCRefused = func(raft.ServerID, error) {}
	}
	if h.Committed == nil {
		h.Committed = func(int, int, time.Duration) {}
	}
	if h.Overloaded == nil {
		h.Overloaded = func(int) {}
	}
	if h.Leading == nil {
		h.Leading = func(bool) {}
	}
	if h.ClockOff == nil {
		h.ClockOff = func(time.Duration) {}
	}
	if h.Snapshot == nil {
		h.Snapshot = func(time.Duration, error) {}
	}
	return h
}

func (c Config) validate() error {
	missing := func(name string) error { return fmt.Errorf("region: %s is missing", name) }
	switch {
	case c.Home == "":
		return missing("Home")
	case c.Network == nil && c.Transport == nil:
		return missing("Network")
	case len(c.Founders) == 0:
		return missing("Founders")
	case len(c.Document) == 0:
		return missing("Document")
	case c.OpenState == nil:
		return missing("OpenState")
	case c.VerifyState == nil:
		return missing("VerifyState")
	case c.PeerPhase == nil && len(c.Founders) > 1:
		return missing("PeerPhase")
	case c.PeerClock == nil && len(c.Founders) > 1:
		return missing("PeerClock")
	}
	if _, err := ParseLogKind(string(c.LogKind)); err != nil {
		return fmt.Errorf("region: LogKind: %w", err)
	}
	if i := slices.Index(c.Founders, ""); i >= 0 {
		return fmt.Errorf("region: Founders[%d] is empty", i)
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"HeartbeatTimeout", c.HeartbeatTimeout}, {"ElectionTimeout", c.ElectionTimeout}, {"LeaseTimeout", c.LeaseTimeout},
		{"CommitTimeout", c.CommitTimeout}, {"RPCTimeout", c.RPCTimeout}, {"TransferTimeout", c.TransferTimeout},
		{"StoreLimit", c.StoreLimit}, {"ApplyLimit", c.ApplyLimit}, {"SealInterval", c.SealInterval},
		{"ClockInterval", c.ClockInterval}, {"PhaseInterval", c.PhaseInterval}, {"BatchDelay", c.BatchDelay},
	} {
		if d.v < 0 {
			return fmt.Errorf("region: %s is %v: it must be positive", d.name, d.v)
		}
	}
	if c.InFlightMax < 1 || c.QueueProofsMax < fsm.BatchProofsMax || c.QueueBytesMax < queueBytesMin {
		return fmt.Errorf("region: InFlightMax %d, QueueProofsMax %d, QueueBytesMax %d: at least 1, %d and %d",
			c.InFlightMax, c.QueueProofsMax, c.QueueBytesMax, fsm.BatchProofsMax, queueBytesMin)
	}
	if c.TrailingBytes < markBytes {
		return fmt.Errorf("region: TrailingBytes is %d: at least %d", c.TrailingBytes, markBytes)
	}
	if c.RPCTimeout < c.HeartbeatTimeout {
		return errors.New("region: RPCTimeout must not be below HeartbeatTimeout")
	}
	return nil
}

func (c Config) raft(id raft.ServerID) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = id
	r.HeartbeatTimeout, r.ElectionTimeout = c.HeartbeatTimeout, c.ElectionTimeout
	r.LeaderLeaseTimeout, r.CommitTimeout = c.LeaseTimeout, c.CommitTimeout
	r.MaxAppendEntries = maxAppendEntries
	r.BatchApplyCh = true      // several of our entries then go to disk in one write
	r.ShutdownOnRemove = false // a removed voter may go on as a member
	r.TrailingLogs = 1         // the log store decides what outlives a cut; see logStore.cut
	// We take snapshots ourselves; Raft's own are the second line.
	r.SnapshotThreshold = snapshotSecondLine * c.SnapshotEntries
	r.NoSnapshotRestoreOnStart = true
	r.NoLegacyTelemetry = true
	r.Logger = newRaftLogger(c.Logger)
	return r
}

const (
	maxAppendEntries   = 64
	snapshotSecondLine = 4
)
