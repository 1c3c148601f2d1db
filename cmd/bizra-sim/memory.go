package main

import (
	"os"
	"runtime/debug"
)

// How the collector is run where the environment says nothing of it (GOGC, GOMEMLIMIT): memory is
// spent on rarer collections until there is as much of it as a run of this size may take, and no more.
const (
	collectAtPercent    = 100
	memoryLeastBytes    = 4 << 30
	memoryPerNodeBytes  = 2 << 20
	environmentOfCycles = "GOGC"
	environmentOfLimit  = "GOMEMLIMIT"
)

// tune sets the collector for a run of so many nodes.
func tune(nodes int) {
	if os.Getenv(environmentOfCycles) == "" {
		debug.SetGCPercent(collectAtPercent)
	}
	if os.Getenv(environmentOfLimit) == "" {
		debug.SetMemoryLimit(max(memoryLeastBytes, int64(nodes)*memoryPerNodeBytes))
	}
}
