package economy

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Table writes runs side by side for people. It begins with what they have in common.
func Table(out io.Writer, reports []*Report) error {
	if len(reports) == 0 {
		return nil
	}
	first := reports[0]
	fmt.Fprintf(out, "The market of a region: %d owners, %d units, %d hours, seed %d. Amounts are in credits.\n\n", first.Owners, first.Capacity, len(first.Hours), first.Seed)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "attack\tGini worst\tsettled\tserved\twelfare\tsales\tnames\tunits\tdeclared\tnet an hour\ta unit-hour\tothers' net\t")
	for _, r := range reports {
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%s\t%s\t%d\t", r.Attack, r.GiniWorst, r.GiniSettle, percent(r.Served), percent(r.Welfare), r.Sales)
		if r.Attackers == 0 {
			fmt.Fprintf(w, "-\t-\t-\t-\t-\t%+.2f\t\n", r.HonestNetHour)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%+.2f\t%.2f\t%+.2f\t\n", r.Attackers, percent(r.AttackerUnits), percent(r.AttackerDeclared),
			r.AttackerNetHour*float64(r.Attackers), r.AttackerUnitHour, r.HonestNetHour)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	fmt.Fprintf(out, "Units that went to who happens to ask first would give a welfare of %s.\n\n", percent(first.FirstCome))
	for _, r := range reports {
		fmt.Fprintf(out, "%-8s %s.\n", r.Attack, r.Attack.About())
	}
	_, err := fmt.Fprint(out, `
Gini: the worst before an epoch, and the most after one (at most 0.350). Served: of the units that honest owners wanted, those that they
held. Welfare: of what the units would be worth in the best hands, what they were worth to whoever computed with them. Units, declared: the attackers'
share on average. Net: credits gained (+) or lost (-) by all attackers together, and by each other owner; a unit-hour: what a unit cost the attackers for
an hour (less than 0: they were paid for it).
`)
	return err
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
