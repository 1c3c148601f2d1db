package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/bizra/bizra/sim/economy"
)

// marketSettings are the flags of one call.
type marketSettings struct {
	cfg     economy.Config
	attacks []string
	json    bool
	html    string
}

func newMarketCommand() *cobra.Command {
	s := &marketSettings{}
	c := &cobra.Command{Use: "market", Short: "Simulate the compute market of a region, calmly, under load and under attack",
		Long: `market lets owners with demand and money use the compute market for some days, hour by hour, with a surge of
demand in the middle: once calmly, and once for each attack with the same seed. It prints what became of
inequality and of whoever wanted to compute, what each attack cost and what it achieved, and writes a page
with plots of Gini, prices and treasury. docs/market.md says what the owners are like and what follows.

Exit codes: 0 every epoch kept the limit and credits were conserved, 1 not, or interrupted, 2 used wrongly.`,
		Example: `  bizra-sim market
  bizra-sim market --owners 10000 --attack hoard,collude --purse 0.5
  bizra-sim market --hours 24 --seed 7 --json | jq '.[].gini_worst'`,
		Args: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) }}
	var names []string
	for _, a := range economy.Attacks() {
		names = append(names, string(a))
	}
	f := c.Flags()
	f.Uint64Var(&s.cfg.Seed, "seed", 1, "seed of all that is drawn")
	f.IntVar(&s.cfg.Owners, "owners", 1000, fmt.Sprintf("honest owners, 2 to %d", economy.OwnersMax))
	f.Int("hours", 72, "hours of log time")
	f.StringSliceVar(&s.attacks, "attack", names, "attacks to simulate, each in a run of its own: "+strings.Join(names, ", "))
	f.Float64Var(&s.cfg.Purse, "purse", 0.25, "what an attacker brings, as a share of what all others have")
	f.Float64Var(&s.cfg.Names, "names", 0.2, "names of an attacker that has many, as a share of the owners")
	f.Float64Var(&s.cfg.Scarcity, "scarcity", 1.25, "mean demand as a share of the units that there are")
	f.Float64Var(&s.cfg.Surge, "surge", 3, "by how much demand is multiplied for six hours in the middle")
	f.BoolVar(&s.cfg.KeepLots, "keep-lots", false, "honest owners keep licences that are far too large for them, instead of giving them back")
	f.BoolVar(&s.json, "json", false, "print JSON")
	f.StringVar(&s.html, "html", "bizra-sim-market.html", "`file` of the page with plots; empty: none")
	return c
}

func (s *marketSettings) run(cmd *cobra.Command) error {
	hours, err := cmd.Flags().GetInt("hours")
	if err != nil {
		return err
	}
	if hours < 1 || hours > economy.HoursMax {
		return usagef("--hours %d: it must be from 1 to %d", hours, economy.HoursMax)
	}
	s.cfg.For = time.Duration(hours) * time.Hour
	for _, a := range s.attacks {
		if !slices.Contains(economy.Attacks(), economy.Attack(a)) {
			return usagef("--attack %q: it must be one of %v", a, economy.Attacks())
		}
	}
	var reports []*economy.Report
	for _, a := range s.attacks {
		cfg := s.cfg
		cfg.Attack = economy.Attack(a)
		if err := cfg.Check(); err != nil {
			return &usageError{err}
		}
		bar := newMarketBar(cmd.ErrOrStderr(), hours, a)
		r, err := economy.Run(cmd.Context(), cfg, func(hour, _ int) { _ = bar.Set(hour) })
		_ = bar.Clear()
		if err != nil {
			return errors.Join(err, s.show(cmd, reports))
		}
		reports = append(reports, r)
	}
	if err := s.show(cmd, reports); err != nil {
		return err
	}
	if slices.ContainsFunc(reports, func(r *economy.Report) bool { return r.Broken > 0 }) {
		return errNotHeld
	}
	return nil
}

// newMarketBar shows how far a run is, where somebody looks.
func newMarketBar(w io.Writer, hours int, attack string) *progressbar.ProgressBar {
	f, is := w.(*os.File)
	if is {
		info, err := f.Stat()
		is = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return progressbar.NewOptions(hours, progressbar.OptionSetWriter(w), progressbar.OptionSetVisibility(is),
		progressbar.OptionSetDescription(fmt.Sprintf("%-8s", attack)), progressbar.OptionShowCount(), progressbar.OptionSetItsString("hours"), progressbar.OptionClearOnFinish())
}

func (s *marketSettings) show(cmd *cobra.Command, reports []*economy.Report) error {
	if s.json {
		if err := printJSON(cmd.OutOrStdout(), reports); err != nil {
			return err
		}
	} else if err := economy.Table(cmd.OutOrStdout(), reports); err != nil {
		return err
	}
	if s.html == "" || len(reports) == 0 {
		return nil
	}
	f, err := os.Create(s.html)
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	if err := errors.Join(economy.HTML(f, reports), f.Close()); err != nil {
		return fmt.Errorf("write the page %s: %w", s.html, err)
	}
	if !s.json {
		fmt.Fprintf(cmd.OutOrStdout(), "\nplots        %s\n", s.html)
	}
	return nil
}
