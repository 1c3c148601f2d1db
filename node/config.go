package node

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bizra/bizra/api"
	"github.com/bizra/bizra/consensus/region"
)

// Config is what a node must be told beside its home.
type Config struct {
	Home     string
	Listen   []string // multiaddrs; none: the node dials out only
	Announce []string // told to others instead of the listen addresses
	PortMap  bool
	HTTP     string    // host:port; "": no HTTP interface
	Join     []string  // multiaddrs with /p2p/ID of any nodes of the federation
	Pin      *[32]byte // digest that the federation document must have
	Version  string    // of the program

	// Witnesses are asked to cosign each newest certificate; their lines are served behind it.
	Witnesses []Witness

	// Raft's times and limits; the zero value takes consensus/region's defaults. Only its
	// durations, counts, LogKind, OpenLog and FreeBytes are read.
	Raft region.Config
	API  api.Config // Registry, Log and Origin are the node's own

	// Ground is the node's disk and network; the machine's own.
	Ground Ground
	Watch  Watch

	Log *slog.Logger
	// StopTimeout bounds Close: first the requests under way, then leadership is handed over. 10 s.
	StopTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Ground == nil {
		c.Ground = Machine()
	}
	c.Watch = c.Watch.withDefaults()
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Second
	}
	return c
}

func (c Config) validate() error {
	if c.Home == "" {
		return errors.New("node: Home is missing")
	}
	if c.StopTimeout < 0 {
		return fmt.Errorf("node: StopTimeout is %v: it must be positive", c.StopTimeout)
	}
	return nil
}
