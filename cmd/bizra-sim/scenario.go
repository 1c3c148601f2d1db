package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim"
)

// planned is what is to be run: what the flags ask for, a scenario, or what the seed draws.
func (s *settings) planned() (sim.Plan, error) {
	switch {
	case s.swarm && s.scenario != "":
		return sim.Plan{}, usagef("--swarm draws a scenario: leave --scenario out")
	case s.small && s.scenario == "":
		return sim.Plan{}, usagef("--small is the small size of a scenario: name one with --scenario")
	case s.swarm:
		p, err := sim.Swarm(s.seed)
		p.Config.NoMemo = !s.memo
		return p, err
	case s.scenario == "":
		return s.plan(), nil
	}
	scenario, err := sim.LoadScenario(s.scenario)
	if err != nil {
		return sim.Plan{}, &usageError{err}
	}
	if s.given("seed") {
		scenario.Seed = s.seed
	}
	p, err := scenario.Plan(!s.small)
	if err != nil {
		return sim.Plan{}, err
	}
	own := s.plan()
	for _, f := range s.ofPlan() {
		if s.given(f.name) {
			f.take(&p, &own)
		}
	}
	p.Config.NoMemo = !s.memo
	return p, nil
}

// planFlag is a flag that says something of a plan, which a scenario says as well.
type planFlag struct {
	name, value string
	take        func(to, from *sim.Plan)
}

func (s *settings) ofPlan() []planFlag {
	return []planFlag{
		{"nodes", strconv.Itoa(s.nodes), func(to, from *sim.Plan) { to.Config.Nodes = from.Config.Nodes }},
		{"regions", strconv.Itoa(s.regions), func(to, from *sim.Plan) { to.Config.Regions = from.Config.Regions }},
		{"voters", strconv.Itoa(s.voters), func(to, from *sim.Plan) { to.Config.Voters = from.Config.Voters }},
		{"certificates", strconv.Itoa(s.certificates), func(to, from *sim.Plan) { to.Work.Certificates = from.Work.Certificates }},
		{"rate", strconv.Itoa(s.rate), func(to, from *sim.Plan) { to.Work.Rate = from.Work.Rate }},
		{"duration", s.duration.String(), func(to, from *sim.Plan) { to.Work.Duration = from.Work.Duration }},
	}
}

// listed is a scenario or a fault as `bizra-sim scenarios` lists it.
type listed struct {
	Name string `json:"name"`
	What string `json:"what"`
}

func newScenariosCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{Use: "scenarios", Short: "Scenarios that come with the program, and the faults that a file may name",
		Long: `bizra-sim scenarios lists what --scenario knows by name, and every kind of fault that a scenario file may
name. How such a file is written stands in docs/simulation-faults.md; those listed here lie in sim/scenarios.`,
		Example: `  bizra-sim scenarios
  bizra-sim scenarios --json | jq -r '.faults[].name'
  bizra-sim --scenario split-brain --small`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return listScenarios(cmd, asJSON) }}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listScenarios(cmd *cobra.Command, asJSON bool) error {
	var all struct {
		Scenarios []listed `json:"scenarios"`
		Faults    []listed `json:"faults"`
	}
	for _, name := range sim.ScenarioNames() {
		s, err := sim.LoadScenario(name)
		if err != nil {
			return err
		}
		all.Scenarios = append(all.Scenarios, listed{name, s.About})
	}
	kinds := sim.FaultKinds()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all.Faults = append(all.Faults, listed{kind, kinds[kind]})
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	for _, s := range all.Scenarios {
		fmt.Fprintf(out, "%-16s %s\n", s.Name, s.What)
	}
	fmt.Fprintln(out, "\nFaults:")
	for _, f := range all.Faults {
		fmt.Fprintf(out, "%-16s %s\n", f.Name, f.What)
	}
	return nil
}
