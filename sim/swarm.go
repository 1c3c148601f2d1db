package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bizra/bizra/fsm/federation"
)

// What the swarm draws from.
const (
	swarmRegionsMin, swarmRegionsMax = 4, 7
	swarmMembersMax                  = 4
	swarmFaultsMin, swarmFaultsMax   = 3, 8
	swarmDuration                    = 40 * time.Second
	swarmQuiet                       = 5 * time.Second // before the first fault, so that there is something to lose
	swarmLiveness                    = 3 * time.Minute
)

// Swarm draws a plan from a seed: a federation, what it is given to do, and faults of every kind at
// times of their own, with as many regions lying as a quorum can do without. Equal seeds give equal plans.
func Swarm(seed uint64) (Plan, error) {
	rng := rand.New(rand.NewPCG(seed, 0x5ca1ab1e)) //nolint:gosec // draws a plan, guards no secret
	between := func(least, most int) int { return least + rng.IntN(most-least+1) }
	regions := between(swarmRegionsMin, swarmRegionsMax)
	voters := 3 + 2*rng.IntN(2)
	p := Plan{Name: fmt.Sprintf("swarm-%d", seed), Liveness: swarmLiveness,
		Config: Config{Regions: regions, Voters: voters, Nodes: regions * (voters + between(1, swarmMembersMax)), Seed: seed},
		Work:   Workload{Certificates: regions * between(1, 3), Rate: between(4, 20), Duration: swarmDuration}}
	liars := regions - federation.Quorum(regions) // at most
	kinds := swarmKinds()
	for range between(swarmFaultsMin, swarmFaultsMax) {
		kind := kinds[rng.IntN(len(kinds))]
		if _, lies := regionFaults()[kind]; lies {
			if liars == 0 {
				continue
			}
			liars--
		}
		cfg := FaultConfig{Kind: kind, Seed: rng.Uint64()}
		if _, ofNodes := nodeFaults()[kind]; ofNodes {
			cfg.Regions = between(1, regions)
		}
		fault, err := NewFault(cfg)
		if err != nil {
			return Plan{}, fmt.Errorf("sim: swarm %d: %w", seed, err)
		}
		at := swarmQuiet + time.Duration(rng.Int64N(int64(swarmDuration-2*swarmQuiet)))
		p.Faults = append(p.Faults, Planned{From: at, Until: at + time.Second + time.Duration(rng.Int64N(int64(10*time.Second))), Fault: fault})
	}
	return p, nil
}

// swarmKinds are the faults that the swarm draws, in one order: all but those that are there to
// break what must not break, and that which takes a world's goroutine for minutes.
func swarmKinds() (names []string) {
	for name := range kinds() {
		if name != "collude" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
