package main

import (
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

// described is what `scenarios` lists.
type described struct {
	Scenarios []about `json:"scenarios"`
	Faults    []about `json:"faults"`
}

type about struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

func newScenariosCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "scenarios", Short: "List the scenarios that come with the program, and the faults that a file may name",
		Long: "scenarios lists what comes with the program for --scenario, and the kinds of faults that a scenario file of one's own may name.",
		Example: `  bizra-sim scenarios
  bizra-sim scenarios --json | jq -r .scenarios[].name`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d described
			for _, name := range sim.ScenarioNames() {
				s, err := sim.LoadScenario(name)
				if err != nil {
					return err
				}
				d.Scenarios = append(d.Scenarios, about{name, s.About})
			}
			kinds := sim.FaultKinds()
			for _, kind := range slices.Sorted(maps.Keys(kinds)) {
				d.Faults = append(d.Faults, about{kind, kinds[kind]})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), d)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Scenarios:")
			for _, x := range d.Scenarios {
				fmt.Fprintf(cmd.OutOrStdout(), "  %-18s %s\n", x.Name, x.About)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Faults:")
			for _, x := range d.Faults {
				fmt.Fprintf(cmd.OutOrStdout(), "  %-18s %s\n", x.Name, x.About)
			}
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
