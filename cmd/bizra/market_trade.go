package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/market"
)

// tradeFlags are those of a command by which an agent takes a step in the market for its owner.
func tradeFlags(c *cobra.Command) *cobra.Command {
	addNodeFlag(c)
	addSignerFlags(c)
	return c
}

// creditsFlag reads a flag of credits; given is false where it is not there.
func creditsFlag(cmd *cobra.Command, name string) (micro int64, given bool, err error) {
	text := cmd.Flags().Lookup(name).Value.String()
	if text == "" {
		return 0, false, nil
	}
	if micro, err = market.ParseCredits(text); err != nil {
		return 0, true, usagef("--%s: %w", name, err)
	}
	return micro, true, nil
}

func neededPrice(cmd *cobra.Command) (int64, error) {
	price, given, err := creditsFlag(cmd, "price")
	if err == nil && !given {
		err = usagef("--price is missing: declare in credits at which price you would sell the licence; you pay 5 %% of it in tax for each hour")
	}
	return price, err
}

func licenceArg(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, usagef("%q is no licence: give its number, which `bizra market licences` lists", text)
	}
	return n, nil
}

// trade signs a step in the market with the agent's key that the command line names, and submits it.
func trade(cmd *cobra.Command, c *client.Client, action string, data map[string]any) (*client.Receipt, error) {
	signer, err := signerOf(cmd)
	if err == nil && signer.Key == nil {
		_, err = loadKey(cmd, "key", "name the key file of an agent whose owner is to act, such as builder.key")
	}
	if err != nil {
		return nil, err
	}
	return act(cmd, c, signer, action, data)
}

// onLicence is a command that takes a step with the licence that its argument names.
func onLicence(c *cobra.Command, step func(cmd *cobra.Command, c *client.Client, number int64) error) *cobra.Command {
	c.Args = takes("a licence")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		number, err := licenceArg(args[0])
		if err != nil {
			return err
		}
		c, err := dial(cmd, readRetriesMax)
		if err != nil {
			return err
		}
		defer c.Close()
		return step(cmd, c, number)
	}
	return tradeFlags(c)
}

func newMarketIssueCommand() *cobra.Command {
	c := tradeFlags(&cobra.Command{Use: "issue RESOURCE UNITS --price CREDITS --key FILE", Short: "Obtain a licence to units that nobody holds, at the market's price", Args: takes("a resource", "units"),
		Example: "  bizra market issue gpu 4 --price 20 --key builder.key --agent-id builder",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := market.ParseResource(args[0]); !ok {
				return usagef("%q is no resource: %s", args[0], resourceNames())
			}
			units, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || units < 1 {
				return usagef("%q: give how many units, at least 1", args[1])
			}
			price, err := neededPrice(cmd)
			if err != nil {
				return err
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := trade(cmd, c, "market.issue", map[string]any{"resource": args[0], "quantity": units, "price_micro": price})
			if err != nil {
				return err
			}
			t := traded(r)
			return done(cmd, r, "licence %d to %d of %s is issued for %s credits and priced at %s", *t.Licence, units, args[0], credits(t.Paid), credits(price))
		}})
	c.Flags().String("price", "", "`credits` at which you would sell it")
	return c
}

func newMarketReassessCommand() *cobra.Command {
	c := onLicence(&cobra.Command{Use: "reassess LICENCE --key FILE", Short: "Declare a new price for a licence, or the same again so that it does not lapse",
		Example: "  bizra market reassess 7 --key builder.key --agent-id builder             # the same price for another day\n  bizra market reassess 7 --price 25 --key builder.key --agent-id builder"},
		func(cmd *cobra.Command, c *client.Client, number int64) error {
			price, given, err := creditsFlag(cmd, "price")
			if err == nil && !given {
				price, err = standing(cmd, c, number)
			}
			if err != nil {
				return err
			}
			r, err := trade(cmd, c, "market.reassess", map[string]any{"licence": number, "price_micro": price})
			if err != nil {
				return err
			}
			return done(cmd, r, "licence %d is priced at %s credits", number, credits(price))
		})
	c.Flags().String("price", "", "`credits` at which you would sell it (default: as before)")
	return c
}

// standing is the price that stands for a licence.
func standing(cmd *cobra.Command, c *client.Client, number int64) (int64, error) {
	l, err := c.Licence(cmd.Context(), number)
	if errors.Is(err, client.ErrNotFound) {
		return 0, fmt.Errorf("there is no licence %d: `bizra market licences` lists those that there are", number)
	}
	if err != nil {
		return 0, explained(cmd, err)
	}
	return l.Price, nil
}

func newMarketBuyCommand() *cobra.Command {
	c := onLicence(&cobra.Command{Use: "buy LICENCE --price CREDITS --key FILE", Short: "Buy a licence from its holder, who cannot refuse",
		Example: "  bizra market buy 7 --price 25 --key builder.key --agent-id builder\n  bizra market buy 7 --limit 30 --price 25 --key builder.key --agent-id builder"},
		func(cmd *cobra.Command, c *client.Client, number int64) error {
			price, err := neededPrice(cmd)
			if err != nil {
				return err
			}
			limit, given, err := creditsFlag(cmd, "limit")
			if err == nil && !given {
				limit, err = standing(cmd, c, number)
			}
			if err != nil {
				return err
			}
			r, err := trade(cmd, c, "market.buy", map[string]any{"licence": number, "limit_micro": limit, "price_micro": price})
			if err != nil {
				return err
			}
			return done(cmd, r, "licence %d is bought for %s credits and priced at %s", number, credits(traded(r).Paid), credits(price))
		})
	c.Flags().String("price", "", "`credits` at which you would sell it")
	c.Flags().String("limit", "", "most `credits` to pay for it (default: the price that stands now)")
	return c
}

func newMarketReleaseCommand() *cobra.Command {
	return onLicence(&cobra.Command{Use: "release LICENCE --key FILE", Short: "Give a licence back to the market, for nothing", Example: "  bizra market release 7 --key builder.key --agent-id builder"},
		func(cmd *cobra.Command, c *client.Client, number int64) error {
			r, err := trade(cmd, c, "market.release", map[string]any{"licence": number})
			if err != nil {
				return err
			}
			return done(cmd, r, "licence %d is given back", number)
		})
}

func newMarketPayCommand() *cobra.Command {
	c := tradeFlags(&cobra.Command{Use: "pay OWNER CREDITS (--key FILE | --operator-key FILE)", Short: "Pay credits to an owner, as an operator out of the treasury", Args: takes("an owner", "credits"),
		Example: "  bizra market pay acme 500 --operator-key operators/eu.key\n  bizra market pay acme 2.5 --key builder.key --agent-id builder",
		RunE: func(cmd *cobra.Command, args []string) error {
			amount, err := market.ParseCredits(args[1])
			if err != nil {
				return &usageError{err}
			}
			byOperator := cmd.Flags().Lookup("operator-key").Value.String() != ""
			if byOperator == (cmd.Flags().Lookup("key").Value.String() != "") {
				return usagef("give either --key FILE of an agent, whose owner pays, or --operator-key FILE, who pays out of the treasury")
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			data := map[string]any{"to": args[0], "amount_micro": amount}
			var r *client.Receipt
			if byOperator {
				r, err = operate(cmd.Context(), cmd, c, "market.pay", data)
			} else {
				r, err = trade(cmd, c, "market.pay", data)
			}
			if err != nil {
				return err
			}
			return done(cmd, r, "%s credits are paid to %s", credits(amount), args[0])
		}})
	c.Flags().String("operator-key", "", "key file of an operator of the region")
	return c
}

// traded is what a receipt says of a step in the market.
func traded(r *client.Receipt) client.Trade {
	t := client.Trade{}
	if r.Market != nil {
		t = *r.Market
	}
	t.Licence = orZero(t.Licence)
	return t
}
