package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim"
	"github.com/bizra/bizra/sim/report"
)

// Limits and defaults of what a person may ask for.
const (
	nodesDefault  = 10_000
	regionNodes   = 100 // of each region, where nothing is said
	regionsLeast  = 4   // of which one may fail
	regionsMost   = 100 // where nothing is said
	votersDefault = 5
	runsMax       = 100
	stallDefault  = 5 * time.Minute
)

// settings are the flags of a run.
type settings struct {
	nodes, regions, voters int
	certificates, rate     int
	duration               time.Duration
	seed                   uint64
	runs                   int
	scenario, engine       string
	swarm, memo, small     bool
	given                  func(flag string) bool // whether somebody has set it
	json                   bool
	csv, html              string
	stall                  time.Duration
	profile                string
	alike                  bool // runs of several sizes have the same regions and voters
}

func (s *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	s.given = f.Changed
	f.IntVar(&s.nodes, "nodes", nodesDefault, "nodes in all")
	f.IntVar(&s.regions, "regions", 0, "regions (default: one for 100 nodes, from 4 to 100)")
	f.IntVar(&s.voters, "voters", votersDefault, "voters of each region; the other nodes are members")
	f.IntVar(&s.certificates, "certificates", 20, "certificates to be made; so many regions have work, or all")
	f.IntVar(&s.rate, "rate", 100, "signed proofs a virtual second, in all")
	f.DurationVar(&s.duration, "duration", 0, "virtual time of the workload (default: 1s for each certificate, 1m at most)")
	f.Uint64Var(&s.seed, "seed", 1, "draws topology, keys, placement, workload and faults")
	f.IntVar(&s.runs, "runs", 1, "run so often, each in a process of its own with the next seed, and show how much figures vary")
	f.StringVar(&s.scenario, "scenario", "", "what goes wrong: a `name` of those that come with the program, or a YAML file")
	f.BoolVar(&s.swarm, "swarm", false, "draw a federation and what goes wrong in it from the seed")
	f.BoolVar(&s.small, "small", false, "run the scenario as small as in the simulator's own tests")
	f.StringVar(&s.engine, "engine", report.EngineReal, "real: the nodes themselves; model: a model of them")
	f.BoolVar(&s.memo, "memo", true, "compute identical checks and copies of many nodes once; false: each by itself")
	f.BoolVar(&s.json, "json", false, "print JSON")
	f.StringVar(&s.csv, "csv", "", "write the figures to this `file`")
	f.StringVar(&s.html, "html", "bizra-sim.html", "write a report with plots to this `file`; empty: none")
	f.StringVar(&s.profile, "profile", "", "write profiles of processors, memory and goroutines to files that begin with this `prefix`")
	f.DurationVar(&s.stall, "stall", stallDefault, "give up when virtual time stands still for so long, and show what waits")
}

// check tells what is wrong with the flags, and fills in what was not said.
func (s *settings) check() error {
	switch s.engine {
	case report.EngineReal:
	case "model":
		return usagef("--engine model: it comes later, with `bizra-sim scale`; this version runs the nodes themselves: --engine %s", report.EngineReal)
	default:
		return usagef("--engine %q: %s or model", s.engine, report.EngineReal)
	}
	if s.regions == 0 {
		s.regions = min(regionsMost, max(regionsLeast, s.nodes/regionNodes))
	}
	if !s.alike && s.voters == votersDefault && s.nodes < s.regions*s.voters && s.nodes >= s.regions {
		s.voters = max(1, (s.nodes/s.regions-1)|1) // odd
	}
	switch {
	case s.regions < 1 || s.regions > sim.RegionsMax:
		return usagef("--regions %d: from 1 to %d", s.regions, sim.RegionsMax)
	case s.voters < 1 || s.voters > sim.VotersMax:
		return usagef("--voters %d: from 1 to %d", s.voters, sim.VotersMax)
	case s.nodes < s.regions*s.voters || s.nodes > s.regions*(s.voters+sim.MembersMax):
		return usagef("--nodes %d: with %d regions of %d voters from %d to %d", s.nodes, s.regions, s.voters, s.regions*s.voters, s.regions*(s.voters+sim.MembersMax))
	case s.certificates < 1 || s.certificates > sim.CertificatesMax:
		return usagef("--certificates %d: from 1 to %d", s.certificates, sim.CertificatesMax)
	case s.rate < 1 || s.rate > sim.ProofRateMax:
		return usagef("--rate %d: from 1 to %d", s.rate, sim.ProofRateMax)
	case s.duration < 0 || s.duration > sim.DurationMax:
		return usagef("--duration %v: up to %v", s.duration, sim.DurationMax)
	case s.runs < 1 || s.runs > runsMax:
		return usagef("--runs %d: from 1 to %d", s.runs, runsMax)
	case s.stall <= 0:
		return usagef("--stall %v: it must be positive", s.stall)
	}
	return nil
}

// plan is what the flags ask for.
func (s *settings) plan() sim.Plan {
	return sim.Plan{Config: sim.Config{Nodes: s.nodes, Regions: s.regions, Voters: s.voters, Seed: s.seed, NoMemo: !s.memo},
		Work: sim.Workload{Certificates: s.certificates, Rate: s.rate, Duration: s.duration}}
}
