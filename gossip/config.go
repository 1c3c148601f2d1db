package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits that no configuration changes.
const (
	rpcBytesMax        = 256 << 10 // of one RPC with all its messages
	controlBytesMax    = 64 << 10  // of the control messages in it
	subscriptionsMax   = 64        // changes of subscriptions in one RPC
	topicsMax          = 512       // that a node joins: one of votes for each region, and its own
	peersMax           = 4096      // whose behaviour is remembered
	peersKeptFor       = time.Hour // after they were heard last
	streamsPerPeerMax  = 4         // at once; one is used, others are being replaced
	streamsMax         = 2048
	reasonBytesMax     = 200
	ratesMargin        = 4  // times what is expected
	ratePerSecondMin   = 16 // messages of one topic from one peer, however little is expected
	burstSeconds       = 8  // of its rate may come at once
	ihaveIDsPerSecond  = 2048
	iwantIDsPerSecond  = 64
	graftsPerSecond    = 16 // and prunes, and changes of subscriptions
	controlBurst       = 4  // seconds' worth
	ihaveLengthMax     = 1024
	ihaveMessagesMax   = 10
	staleAllowedPerSec = 2 * outboxPerSecond
)

// Verdict is what a judge makes of a message.
type Verdict uint8

// The verdicts. Reject is for what is invalid under any version of the documents and
// any clock, for it costs its sender its standing; whatever else is not wanted is ignored.
const (
	Accept Verdict = iota // deliver it and pass it on
	Ignore                // drop it
	Reject                // drop it and hold it against who sent it
)

// String is the verdict's name in metrics.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accepted"
	case Ignore:
		return "ignored"
	default:
		return "rejected"
	}
}

// Judgement is a verdict and what it stands on.
type Judgement struct {
	Verdict Verdict
	// Origin is the region that the message speaks for, "" if it speaks for none. An
	// accepted message of another region shows that the rest of the world is heard.
	Origin string
	// Of names among what the message counts where what is passed on is limited: a region, or
	// anything else; Origin if it is empty. What others than a region can make valid messages of
	// without end must not count among that region's.
	Of string
	// Why says what is wrong with a rejected message, for people.
	Why string
}

// Message is a message that was accepted.
type Message struct {
	Topic    Topic
	Payload  []byte // not to be changed
	From     peer.ID
	Received time.Time
}

// Handler knows what messages of one kind mean.
type Handler struct {
	// Judge decides about a payload by itself, never by who sent it: a message is judged
	// once, whoever brings it first. It is called by several goroutines and must be quick,
	// a few milliseconds.
	Judge func(ctx context.Context, t Topic, payload []byte) Judgement
	// Deliver takes accepted messages one after the other, of all kinds on one goroutine,
	// and must return soon: meanwhile others wait, and so does Close. Nil: accepted messages
	// are only passed on.
	Deliver func(m Message)
}

// Config configures a [Router]; the zero value of a field takes the default named there.
type Config struct {
	// Federation is the federation's name; required.
	Federation string

	// What is expected of the federation; rates and scores follow from it.
	Regions           int           // 4
	RegionNodes       int           // nodes of a region, 100
	CheckpointEvery   time.Duration // of one region under load, 1 s
	BeatEvery         time.Duration // heartbeats of one node, 10 s
	DigestEvery       time.Duration // of one region's leader, 30 s
	PatternsPerSecond float64       // in the whole federation, 4

	// Queues, in messages.
	OutboundQueue int // to one peer, 4096
	ValidateQueue int // waiting to be judged, 1024; their places are taken up though they are free
	DeliverQueue  int // accepted and not yet delivered, 4096
	// ValidateWorkers judge at once; the number of processors. The simulator wants 1.
	ValidateWorkers int

	Heartbeat   time.Duration // of GossipSub, 1 s
	History     time.Duration // for how long messages can be asked for by those who are told of them, 5 s, but two heartbeats at least
	SampleEvery time.Duration // how often behaviour is looked at, 2 s
	ScoreEvery  time.Duration // how often scores are taken for [Router.Standing], 10 s

	// What one peer may send: bytes a second, and how many at once; 2 MiB and 8 MiB.
	PeerBytesPerSecond, PeerBytesBurst int

	// The circuit breaker.
	MuteFor      time.Duration // the first time, doubled each time up to MuteForMax; 1 min
	MuteForMax   time.Duration // 1 h
	ProbationFor time.Duration // 2 min

	// What waits to be announced again.
	OutboxMax      int // entries, 1024
	OutboxBytesMax int // 8 MiB

	// SilenceAfter is how long nothing is heard of other regions until a node that has no
	// connection to any counts as alone, and three times that for one that has; 90 s.
	SilenceAfter time.Duration
	// LocalOnly, if set, is told when the node loses the rest of the world and when it
	// finds it again, on a goroutine of the router's.
	LocalOnly func(LocalStatus)
	// Share gives the same bytes for the data of a message with this name, maybe those of another node in the
	// process, and what it gives must not be changed: each node keeps a message for a while. Nil: nodes share nothing.
	Share func(id string, data []byte) []byte

	Logger  *slog.Logger          // slog.Default()
	Metrics prometheus.Registerer // nil: none

	// off switches defences off, so that tests can show what they are for.
	off defences
}

type defences struct{ scoring, breaker, rates, peerFilter, known, relays bool }

func (c Config) withDefaults() Config {
	number := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	duration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	number(&c.Regions, 4)
	number(&c.RegionNodes, 100)
	duration(&c.CheckpointEvery, time.Second)
	duration(&c.BeatEvery, 10*time.Second)
	duration(&c.DigestEvery, 30*time.Second)
	if c.PatternsPerSecond == 0 {
		c.PatternsPerSecond = 4
	}
	number(&c.OutboundQueue, 4096)
	number(&c.ValidateQueue, 1024)
	number(&c.DeliverQueue, 4096)
	number(&c.ValidateWorkers, runtime.GOMAXPROCS(0))
	duration(&c.Heartbeat, time.Second)
	duration(&c.History, 5*time.Second)
	duration(&c.SampleEvery, 2*time.Second)
	duration(&c.ScoreEvery, 10*time.Second)
	number(&c.PeerBytesPerSecond, 2<<20)
	number(&c.PeerBytesBurst, 8<<20)
	duration(&c.MuteFor, time.Minute)
	duration(&c.MuteForMax, time.Hour)
	duration(&c.ProbationFor, 2*time.Minute)
	number(&c.OutboxMax, 1024)
	number(&c.OutboxBytesMax, 8<<20)
	duration(&c.SilenceAfter, 90*time.Second)
	if c.Share == nil {
		c.Share = func(_ string, data []byte) []byte { return data }
	}
	if c.LocalOnly == nil {
		c.LocalOnly = func(LocalStatus) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Federation == "" {
		return errors.New("gossip: Federation is empty: it must be the name in the federation document")
	}
	for _, f := range []struct {
		name  string
		value float64
		least float64
	}{
		{"Regions", float64(c.Regions), 1}, {"RegionNodes", float64(c.RegionNodes), 1}, {"CheckpointEvery", c.CheckpointEvery.Seconds(), 0.001},
		{"BeatEvery", c.BeatEvery.Seconds(), 0.1}, {"DigestEvery", c.DigestEvery.Seconds(), 0.1}, {"PatternsPerSecond", c.PatternsPerSecond, 0},
		{"OutboundQueue", float64(c.OutboundQueue), 1}, {"ValidateQueue", float64(c.ValidateQueue), 1}, {"DeliverQueue", float64(c.DeliverQueue), 1},
		{"ValidateWorkers", float64(c.ValidateWorkers), 1}, {"Heartbeat", c.Heartbeat.Seconds(), 0.1}, {"History", c.History.Seconds(), 0.1}, {"SampleEvery", c.SampleEvery.Seconds(), 0.1},
		{"ScoreEvery", c.ScoreEvery.Seconds(), 0.1}, {"PeerBytesPerSecond", float64(c.PeerBytesPerSecond), rpcBytesMax},
		{"PeerBytesBurst", float64(c.PeerBytesBurst), rpcBytesMax}, {"MuteFor", c.MuteFor.Seconds(), 1}, {"MuteForMax", c.MuteForMax.Seconds(), c.MuteFor.Seconds()},
		{"ProbationFor", c.ProbationFor.Seconds(), c.SampleEvery.Seconds()}, {"OutboxMax", float64(c.OutboxMax), 1}, {"OutboxBytesMax", float64(c.OutboxBytesMax), rpcBytesMax},
		{"SilenceAfter", c.SilenceAfter.Seconds(), c.SampleEvery.Seconds()},
	} {
		if !(f.value >= f.least) {
			return fmt.Errorf("gossip: %s is %v, want %v or more", f.name, f.value, f.least)
		}
	}
	return nil
}
