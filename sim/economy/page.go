package economy

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/sim/report"
)

//go:embed page.html
var page string

// figure is one plot of a page.
type figure struct {
	Title, About string
	Plot         template.HTML
	Legend       []key
}

type key struct{ Colour, Name string }

// HTML writes one file for a browser, with plots of all runs over time and nothing to be fetched.
func HTML(w io.Writer, reports []*Report) error {
	if len(reports) == 0 {
		return nil
	}
	t, err := template.New("market").Funcs(template.FuncMap{
		"percent": percent,
		"three":   func(v float64) string { return fmt.Sprintf("%.3f", v) },
		"two":     func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"signed":  func(v float64) string { return fmt.Sprintf("%+.2f", v) },
		"whole":   func(v float64) string { return fmt.Sprintf("%.0f", v) },
		"all":     func(r *Report) float64 { return r.AttackerNetHour * float64(r.Attackers) },
		"about":   Attack.About,
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("economy: page: %w", err)
	}
	figures, err := draw(reports)
	if err != nil {
		return err
	}
	broken := 0
	for _, r := range reports {
		broken += r.Broken
	}
	if err := t.Execute(w, struct {
		First   *Report
		Reports []*Report
		Figures []figure
		Broken  int
	}{reports[0], reports, figures, broken}); err != nil {
		return fmt.Errorf("economy: write page: %w", err)
	}
	return nil
}

func draw(reports []*Report) ([]figure, error) {
	var figures []figure
	for _, f := range []struct {
		title, about, axis string
		of                 func(*Hour) float64
		limit              float64
		attackersOnly      bool
	}{
		{"Gini before each epoch", "What has drifted for an hour. Dashed: the limit, which every epoch restores.", "Gini", func(h *Hour) float64 { return h.GiniBefore }, market.GiniLimitPercent / 100.0, false},
		{"Gini after each epoch", "Never above the limit.", "Gini", func(h *Hour) float64 { return h.GiniAfter }, market.GiniLimitPercent / 100.0, false},
		{"Price of a unit", "Declared, the median over units. Demand surges in the middle.", "credits", func(h *Hour) float64 { return h.UnitPrice }, 0, false},
		{"Treasury", "Credits that were not granted, or paid for licences that nobody held.", "thousand credits", func(h *Hour) float64 { return h.Treasury / 1000 }, 0, false},
		{"Tax paid out", "In an hour, to all holders together, to each the same.", "credits", func(h *Hour) float64 { return h.Tax }, 0, false},
		{"Welfare", "Of what the units would be worth in the best hands.", "share", func(h *Hour) float64 { return h.Welfare }, 0, false},
		{"Attackers' units", "Share of all units that are licensed.", "share", func(h *Hour) float64 { return h.Attackers }, 0, true},
		{"Attackers' declared value", "Share of all that is declared, which the Gini is about.", "share", func(h *Hour) float64 { return h.Declared }, 0, true},
	} {
		fig := figure{Title: f.title, About: f.about}
		var curves []report.Curve
		hours := len(reports[0].Hours)
		if f.limit > 0 && hours > 0 {
			curves = append(curves, report.Curve{X: []float64{0, float64(hours)}, Y: []float64{f.limit, f.limit}, Colour: report.LimitColour(), Dashed: true})
		}
		for i, r := range reports {
			if f.attackersOnly && r.Attackers == 0 {
				continue
			}
			c := report.Curve{Colour: report.Palette()[i%len(report.Palette())]}
			for j := range r.Hours {
				c.X, c.Y = append(c.X, float64(r.Hours[j].Hour)), append(c.Y, f.of(&r.Hours[j]))
			}
			curves = append(curves, c)
			fig.Legend = append(fig.Legend, key{c.Colour, string(r.Attack)})
		}
		if len(fig.Legend) == 0 {
			continue
		}
		var err error
		if fig.Plot, err = report.Curves("hours", f.axis, curves...); err != nil {
			return nil, err
		}
		figures = append(figures, fig)
	}
	return figures, nil
}
