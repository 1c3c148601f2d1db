package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim/report"
)

// costRegions are as many as the fewest nodes can be shared out among, with five voters each.
const costRegions = 20

func costSizes() []int { return []int{100, 300, 1000, 3000, 10_000} }

func newCostCommand() *cobra.Command {
	s := &settings{}
	var sizes []int
	c := &cobra.Command{Use: "cost", Short: "Show what a node costs, from 100 nodes to 10,000",
		Long: `cost runs federations of growing size, each in a process of its own, with the same number of regions
and voters and the same workload, and prints wall and processor time, memory, and the copies of a
certificate that a node receives, with a fit against the logarithm of the number of nodes.`,
		Example: `  bizra-sim cost
  bizra-sim cost --sizes 100,200,400,800 --html cost.html
  bizra-sim cost --json | jq .points`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.cost(cmd, sizes) }}
	s.flags(c)
	for _, name := range []string{"nodes", "runs"} {
		c.Flags().Lookup(name).Hidden = true
	}
	c.Flags().IntSliceVar(&sizes, "sizes", costSizes(), "numbers of nodes, growing")
	return c
}

// cost runs each size, and shows them side by side. The files are of the largest.
func (s *settings) cost(cmd *cobra.Command, sizes []int) error {
	if len(sizes) == 0 || !slices.IsSorted(sizes) {
		return usagef("--sizes %v: numbers of nodes, the fewest first", sizes)
	}
	if s.alike = true; s.regions == 0 {
		s.regions = costRegions
	}
	var reports []*report.Report
	for _, n := range sizes {
		s.nodes = n
		if err := s.check(); err != nil {
			return err
		}
	}
	for _, n := range sizes {
		s.nodes = n
		rep, err := s.child(cmd)
		if err != nil {
			return err
		}
		reports = append(reports, rep)
		if !s.json {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d nodes: %.1f s, %d promises broken\n", n, rep.WallSeconds, rep.Violations)
		}
	}
	cost := report.NewCost(reports)
	largest := *reports[len(reports)-1]
	largest.Cost = cost
	var err error
	if s.json {
		err = printJSON(cmd.OutOrStdout(), cost)
	} else {
		err = cost.Table(cmd.OutOrStdout())
	}
	if err := errors.Join(err, s.files(cmd, &largest, reports)); err != nil {
		return err
	}
	if !report.NewRuns(reports).OK() {
		return errNotHeld
	}
	return nil
}
