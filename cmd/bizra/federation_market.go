package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
)

func addMarketFlags(c *cobra.Command) {
	c.Flags().String("market-supply", "", "`credits` that there are in the market of a region; with --market-resource gives it one")
	c.Flags().StringArray("market-resource", nil, "`NAME=UNITS@CREDITS`: how many units of a resource there are and what one costs that nobody holds, such as gpu=64@2.5; may be repeated")
}

// marketOf is a market with what the command line changes; nil where there is none and none is asked for.
func marketOf(cmd *cobra.Command, was *market.Rules) (*market.Rules, error) {
	supply, given, err := creditsFlag(cmd, "market-supply")
	resources, err1 := cmd.Flags().GetStringArray("market-resource")
	if err := errors.Join(err, err1); err != nil || !given && len(resources) == 0 {
		return was, err
	}
	rules := market.Rules{}
	if was != nil {
		rules = *was
	}
	if given {
		rules.Supply = supply
	}
	for _, text := range resources {
		name, offer, ok1 := strings.Cut(text, "=")
		units, price, ok2 := strings.Cut(offer, "@")
		r, ok3 := market.ParseResource(name)
		if !ok1 || !ok2 || !ok3 {
			return nil, usagef("--market-resource %q: write NAME=UNITS@CREDITS, such as gpu=64@2.5; NAME: %s", text, resourceNames())
		}
		n, err := strconv.ParseInt(units, 10, 64)
		if err != nil || n < 0 {
			return nil, usagef("--market-resource %q: %q is no number of units", text, units)
		}
		rules.Capacity[r] = n
		if rules.UnitPrice[r], err = market.ParseCredits(price); err != nil {
			return nil, usagef("--market-resource %q: %w", text, err)
		}
		if n == 0 {
			rules.UnitPrice[r] = 0 // there is no more of it
		}
	}
	return &rules, nil
}

// describeMarket says in a line what a document says of a market.
func describeMarket(rules *market.Rules) string {
	var offers []string
	for _, r := range market.ResourcesByName() {
		if rules.Capacity[r] > 0 {
			offers = append(offers, fmt.Sprintf("%v %d at %s", r, rules.Capacity[r], credits(rules.UnitPrice[r])))
		}
	}
	return fmt.Sprintf("%s credits; %s", credits(rules.Supply), strings.Join(offers, ", "))
}

// changeMarket gives the region that the command line names the market that it asks for.
func changeMarket(cmd *cobra.Command, d *federation.Document) error {
	if !cmd.Flags().Changed("market-supply") && !cmd.Flags().Changed("market-resource") {
		return nil
	}
	r, err := chosenRegion(cmd, d)
	if err != nil {
		return err
	}
	r.Market, err = marketOf(cmd, r.Market)
	return err
}
