package api

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"filippo.io/torchwood"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/client"
)

// Fixed limits of the interface; those that both sides keep are in package client.
const (
	HeaderBytesMax    = 16 << 10 // request line and headers together
	requestIDBytesMax = 64
	pathIDBytesMax    = 256 // of a digest, an envelope id or a session id in a path
	ReadersMax        = 1024
	bundlesReadMax    = 4 // bundles being read from the store at a time
	bundleBytesMax    = torchwood.TileWidth * (2 + 65535)
	// net/http lets a request's headers have this much more than it is told.
	headerSlackBytes = 4 << 10
)

// Config is what the interface needs beside its backend. Zero values take defaults.
type Config struct {
	// Registry takes the interface's metrics and is what /metrics shows; required.
	Registry *prometheus.Registry
	// Log takes one line a request at debug level, faults of the node at error; nil: none.
	Log *slog.Logger

	// Time limits of a connection: for the headers (5 s), for the whole request (30 s),
	// from the end of the headers to the end of the answer (60 s), between requests (75 s).
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// RequestTimeout bounds what the backend may take for one request (15 s).
	RequestTimeout time.Duration

	// ConnectionsMax is how many connections are open at a time (1,024). For one more, the one on which nothing has been
	// asked for longest is closed; while all are at work it waits.
	ConnectionsMax int
	// RequestsMax is how many requests are with the backend at a time; more are told to come back (256).
	RequestsMax int
	// BodiesBytesMax is how much memory all bodies being received may take together (64 MiB).
	BodiesBytesMax int64
	// BatchBytesMax bounds the body of one NDJSON request (8 MiB).
	BatchBytesMax int64
	// WaitsMax is how many requests may wait for a proof's finality at a time (256).
	WaitsMax int
	// StreamsMax is how many streams of events are served at a time (64).
	StreamsMax int
	// EventTimeout is how long a reader of events may take for what it is sent at once (10 s).
	EventTimeout time.Duration
	// BundlesBytesMax is how much memory bundles of entries on their way out may take together (64 MiB).
	BundlesBytesMax int64

	// Origin is <federation>/<region>, for which reader tokens must be made.
	Origin string
	// Readers are the public keys whose tokens open the entries of the ledger.
	Readers [][32]byte
	// OpenEntries lets anybody read entries, payloads included.
	OpenEntries bool
}

func orElse[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func (c Config) withDefaults() Config {
	orElse(&c.Log, slog.New(slog.DiscardHandler))
	orElse(&c.ReadHeaderTimeout, 5*time.Second)
	orElse(&c.ReadTimeout, 30*time.Second)
	orElse(&c.WriteTimeout, 60*time.Second)
	orElse(&c.IdleTimeout, 75*time.Second)
	orElse(&c.RequestTimeout, 15*time.Second)
	orElse(&c.ConnectionsMax, 1024)
	orElse(&c.RequestsMax, 256)
	orElse(&c.BodiesBytesMax, 64<<20)
	orElse(&c.BatchBytesMax, client.BatchBytesMax)
	orElse(&c.BundlesBytesMax, 64<<20)
	orElse(&c.WaitsMax, 256)
	orElse(&c.StreamsMax, 64)
	orElse(&c.EventTimeout, 10*time.Second)
	return c
}

func (c Config) validate() error {
	if c.Registry == nil {
		return errors.New("api: Registry is missing: metrics need one")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"ReadHeaderTimeout", c.ReadHeaderTimeout}, {"ReadTimeout", c.ReadTimeout}, {"WriteTimeout", c.WriteTimeout},
		{"IdleTimeout", c.IdleTimeout}, {"RequestTimeout", c.RequestTimeout}, {"EventTimeout", c.EventTimeout}} {
		if d.value < 0 {
			return fmt.Errorf("api: %s is %v: it must be above 0, no limit is no choice", d.name, d.value)
		}
	}
	if c.WriteTimeout < c.ReadTimeout+c.RequestTimeout {
		return fmt.Errorf("api: WriteTimeout is %v: it must be at least ReadTimeout and RequestTimeout together, %v, or answers would be cut off",
			c.WriteTimeout, c.ReadTimeout+c.RequestTimeout)
	}
	if c.ConnectionsMax < 1 || c.RequestsMax < 1 || c.WaitsMax < 1 || c.StreamsMax < 1 {
		return fmt.Errorf("api: ConnectionsMax is %d, RequestsMax %d, WaitsMax %d and StreamsMax %d: all must be at least 1", c.ConnectionsMax, c.RequestsMax, c.WaitsMax, c.StreamsMax)
	}
	if c.BatchBytesMax < client.ProofBytesMax || c.BatchBytesMax > client.BatchBytesMax {
		return fmt.Errorf("api: BatchBytesMax is %d: it must be from %d to %d", c.BatchBytesMax, client.ProofBytesMax, client.BatchBytesMax)
	}
	if c.BundlesBytesMax < bundleBytesMax {
		return fmt.Errorf("api: BundlesBytesMax is %d: it must be at least %d, the largest bundle", c.BundlesBytesMax, bundleBytesMax)
	}
	if len(c.Readers) > ReadersMax {
		return fmt.Errorf("api: %d Readers: at most %d", len(c.Readers), ReadersMax)
	}
	if c.BodiesBytesMax < c.BatchBytesMax {
		return fmt.Errorf("api: BodiesBytesMax is %d: it must be at least BatchBytesMax, %d", c.BodiesBytesMax, c.BatchBytesMax)
	}
	return nil
}
