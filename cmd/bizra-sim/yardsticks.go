package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim/report"
)

// errMissed ends a command that found a yardstick missed.
var errMissed = errors.New("a yardstick was missed: the table says which")

// yardstickRun is a run whose figures are held against bounds.
type yardstickRun struct {
	name                string
	nodes, certificates int
	bounds              report.Bounds
}

const growthName = "growth"

func yardstickRuns() []yardstickRun {
	return []yardstickRun{
		{"20", 10_000, 20, report.Bounds{WallSeconds: 120, WallMoonshot: 60, GiB: 5, GiBMoonshot: 3}},
		{"100", 10_000, 100, report.Bounds{WallSeconds: 300, GiB: 5}},
		{"30000", 30_000, 20, report.Bounds{GiB: 16}},
	}
}

func newYardsticksCommand() *cobra.Command {
	s := &settings{}
	only := []string{"20", "100", "30000", growthName}
	c := &cobra.Command{Use: "yardsticks", Short: "Hold runs of full size against their yardsticks",
		Long: `yardsticks runs 10,000 nodes with 20 certificates and with 100, 30,000 nodes, and growing sizes, each
in a process of its own, and prints what was measured beside its bound. The bounds of wall time are
those of a machine with two processors that does nothing else. It exits with 1 if one is missed.`,
		Example: `  bizra-sim yardsticks
  bizra-sim yardsticks --only 20,growth --json`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.yardsticks(cmd, only) }}
	f := c.Flags()
	f.Uint64Var(&s.seed, "seed", 1, "draws topology, keys, placement and workload")
	f.BoolVar(&s.json, "json", false, "print JSON")
	f.DurationVar(&s.stall, "stall", stallDefault, "give up when virtual time stands still for so long, and show what waits")
	f.StringSliceVar(&only, "only", only, "these of them")
	return c
}

func (s *settings) yardsticks(cmd *cobra.Command, only []string) error {
	var known []string
	for _, y := range yardstickRuns() {
		known = append(known, y.name)
	}
	known = append(known, growthName)
	for _, name := range only {
		if !slices.Contains(known, name) {
			return usagef("--only %s: there are %s", name, strings.Join(known, ", "))
		}
	}
	var list []report.Yardstick
	for _, y := range yardstickRuns() {
		if !slices.Contains(only, y.name) {
			continue
		}
		one := newSettings()
		one.nodes, one.certificates, one.seed, one.stall = y.nodes, y.certificates, s.seed, s.stall
		rep, err := one.checked(cmd)
		if err != nil {
			return err
		}
		if !s.json {
			if err := rep.Table(cmd.OutOrStdout()); err != nil {
				return err
			}
		}
		list = append(list, report.Measure(y.name, rep, y.bounds)...)
	}
	if slices.Contains(only, growthName) {
		cost, err := s.growth(cmd)
		if err != nil {
			return err
		}
		list = append(list, report.MeasureGrowth(cost)...)
	}
	if s.json {
		if err := printJSON(cmd.OutOrStdout(), list); err != nil {
			return err
		}
	} else if err := report.WriteYardsticks(cmd.OutOrStdout(), list); err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(y report.Yardstick) bool { return !y.Met }) {
		return errMissed
	}
	return nil
}

// growth is what growing sizes cost.
func (s *settings) growth(cmd *cobra.Command) (*report.Cost, error) {
	var reports []*report.Report
	for _, n := range costSizes() {
		one := newSettings()
		one.nodes, one.regions, one.alike, one.seed, one.stall = n, costRegions, true, s.seed, s.stall
		rep, err := one.checked(cmd)
		if err != nil {
			return nil, err
		}
		reports = append(reports, rep)
	}
	cost := report.NewCost(reports)
	if s.json {
		return cost, nil
	}
	err := cost.Table(cmd.OutOrStdout())
	return cost, err
}

// checked carries out one run in a process of its own, after a look at its flags.
func (s *settings) checked(cmd *cobra.Command) (*report.Report, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if !s.json {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d nodes, %d certificates\n", s.nodes, s.certificates)
	}
	return s.child(cmd)
}

// newSettings are those of a run without flags.
func newSettings() *settings {
	s := &settings{}
	s.flags(&cobra.Command{})
	return s
}
