package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/market"
)

func newMarketCommand() *cobra.Command {
	return group("market", "License compute: show the market, obtain, price, buy and give back licences, pay",
		`A licence is the right of an owner to some units of a resource. Its holder declares a price, pays 5 % of it
in tax for each hour, and must sell to whoever pays that price. Steps of sessions that name data.resource need one.
Amounts are in credits, such as 2.5; docs/market.md has the rules.`,
		`  bizra market show
  bizra market pay acme 500 --operator-key operators/eu.key    # out of the treasury
  bizra market issue gpu 4 --price 20 --key builder.key --agent-id builder
  bizra market licences --resource gpu
  bizra market buy 7 --price 25 --key builder.key --agent-id builder`,
		newMarketShowCommand(), newMarketHoldersCommand(), newMarketLicencesCommand(), newMarketEpochsCommand(),
		newMarketIssueCommand(), newMarketReassessCommand(), newMarketBuyCommand(), newMarketReleaseCommand(), newMarketPayCommand())
}

func newMarketShowCommand() *cobra.Command {
	return readFlags(&cobra.Command{Use: "show", Short: "Show how the region's market stands", Args: takes(), Example: "  bizra market show\n  bizra market show --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := c.Market(cmd.Context())
			if err != nil {
				return noMarket(cmd, err)
			}
			return show(cmd, m, func(w io.Writer) error { return printMarket(w, m) })
		}})
}

func noMarket(cmd *cobra.Command, err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return errors.New("the region has no market: an operator can adopt a document that gives it one, which `bizra federation amend --market-supply` makes")
	}
	return explained(cmd, err)
}

func printMarket(out io.Writer, m *client.Market) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	held := m.Supply - m.Treasury - m.Pot
	fmt.Fprintf(w, "region\t%s\n", m.Region)
	fmt.Fprintf(w, "credits\t%s: %s in the treasury, %s with owners, %s of tax to be paid out\n", credits(m.Supply), credits(m.Treasury), credits(held), credits(m.Pot))
	fmt.Fprintf(w, "holders\t%d, who declare %s credits\n", m.Holders, credits(m.Declared))
	fmt.Fprintf(w, "Gini\t%s (limit %s after each epoch, alert at %s)\n", share(m.Gini), share(m.GiniLimit), share(m.GiniAlert))
	fmt.Fprintf(w, "epochs\t%d settled, the next with the first proof from %s on\n", m.Epoch, m.NextEpoch)
	fmt.Fprintf(w, "newcomer\tis let in with %s to %s credits declared, whatever the Gini\n", credits(m.Newcomer.Least), credits(m.Newcomer.Sure))
	fmt.Fprintf(w, "as of\t%s\n", m.LogTime)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nRESOURCE\tUNITS\tLICENSED\tFREE\tCREDITS A UNIT")
	for _, r := range m.Resources {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", r.Resource, r.Capacity, r.Issued, max(0, r.Capacity-r.Issued), credits(r.Price))
	}
	return w.Flush()
}

func credits(micro int64) string { return market.FormatCredits(micro) }

// share writes millionths as a fraction.
func share(ppm int64) string { return market.FormatCredits(ppm) }

func newMarketHoldersCommand() *cobra.Command {
	c := readFlags(&cobra.Command{Use: "holders [OWNER]", Short: "List what owners have in the market, or show what one has", Args: takesAtMost("an owner"),
		Example: "  bizra market holders\n  bizra market holders acme --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			all := client.Holders{Holders: []client.Holder{}}
			err := eachPage(cmd, func(c *client.Client, after string, limit int) (next string, err error) {
				if len(args) == 1 {
					h, err := c.Holder(cmd.Context(), args[0])
					if errors.Is(err, client.ErrNotFound) {
						return "", fmt.Errorf("owner %q has nothing in the market: `bizra market holders` lists who has", args[0])
					}
					all.Holders = append(all.Holders, *h)
					return "", err
				}
				page, err := c.Holders(cmd.Context(), after, limit)
				if err != nil {
					return "", err
				}
				all = client.Holders{Holders: append(all.Holders, page.Holders...), Next: page.Next}
				return page.Next, nil
			})
			if err != nil {
				return err
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "OWNER\tCREDITS\tDECLARED\tTAX PAID UNTIL\tLICENCES")
				for _, h := range all.Holders {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.Owner, credits(h.Balance), credits(h.Declared), h.Taxed, dash(numbers(h.Licences)))
				}
				return w.Flush()
			})
		}})
	addPageFlags(c)
	c.Flags().String("after", "", "begin after this owner")
	return c
}

func numbers(list []int64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]")
}

func newMarketLicencesCommand() *cobra.Command {
	c := readFlags(&cobra.Command{Use: "licences", Short: "List the licences and the prices at which they can be bought", Args: takes(),
		Long: "licences lists what can be bought, the cheapest unit first.", Example: "  bizra market licences --resource gpu",
		RunE: func(cmd *cobra.Command, _ []string) error {
			resource := cmd.Flags().Lookup("resource").Value.String()
			if _, ok := market.ParseResource(resource); resource != "" && !ok {
				return usagef("--resource %q: %s", resource, resourceNames())
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			all := client.Licences{Licences: []client.Licence{}}
			for from := new(int64); from != nil; {
				page, err := c.Licences(cmd.Context(), *from, client.PageItemsMax)
				if err != nil {
					return explained(cmd, err)
				}
				for _, l := range page.Licences {
					if resource == "" || l.Resource == resource {
						all.Licences = append(all.Licences, l)
					}
				}
				from = page.Next
			}
			slices.SortStableFunc(all.Licences, func(a, b client.Licence) int {
				if a.Resource != b.Resource {
					return strings.Compare(a.Resource, b.Resource)
				}
				return compareUnits(&a, &b)
			})
			return show(cmd, all, func(out io.Writer) error { return printLicences(out, all.Licences) })
		}})
	c.Flags().String("resource", "", "list those to this resource")
	return c
}

// compareUnits orders licences by what one unit costs.
func compareUnits(a, b *client.Licence) int {
	x, y := float64(a.Price)/float64(a.Quantity), float64(b.Price)/float64(b.Quantity)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func printLicences(out io.Writer, list []client.Licence) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LICENCE\tRESOURCE\tUNITS\tPRICE\tA UNIT\tOWNER\tLAPSES")
	for _, l := range list {
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\n", l.Number, l.Resource, l.Quantity, credits(l.Price), credits(l.Price/l.Quantity), l.Owner, l.Lapses)
	}
	return w.Flush()
}

func resourceNames() string {
	var names []string
	for _, r := range market.ResourcesByName() {
		names = append(names, r.String())
	}
	return "it must be one of " + strings.Join(names, ", ")
}

func newMarketEpochsCommand() *cobra.Command {
	c := readFlags(&cobra.Command{Use: "epochs", Short: "List what the market settled each hour, newest first", Args: takes(), Example: "  bizra market epochs --limit 24",
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := limitFlag(cmd)
			if err != nil {
				return err
			}
			c, err := dial(cmd, readRetriesMax)
			if err != nil {
				return err
			}
			defer c.Close()
			all := client.Epochs{Epochs: []client.Epoch{}, Next: new(int64)}
			for first := true; first || limit == 0 && all.Next != nil; first = false {
				page, err := c.Epochs(cmd.Context(), *all.Next, limit)
				if err != nil {
					return explained(cmd, err)
				}
				all.Epochs, all.Next = append(all.Epochs, page.Epochs...), page.Next
			}
			return show(cmd, all, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "EPOCH\tTIME\tHOLDERS\tDECLARED\tGINI BEFORE\tAFTER\tCAP\tLAPSED\tREVOKED\tPAID TO EACH\tENTRY")
				for _, e := range all.Epochs {
					level := "-"
					if e.Cap > 0 {
						level = credits(e.Cap)
					}
					fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\n", e.Number, e.Time, e.Holders, credits(e.Declared), share(e.GiniBefore), share(e.GiniAfter),
						level, e.Lapsed, e.Revoked, credits(e.Each), e.Index)
				}
				return w.Flush()
			})
		}})
	addPageFlags(c)
	return c
}

// takesAtMost demands no more than one argument, which may be left out.
func takesAtMost(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return usagef("%s takes %s at most: %d arguments", cmd.CommandPath(), name, len(args))
	}
}
