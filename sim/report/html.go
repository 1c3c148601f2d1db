package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// page is the one file that is written: style, text and plots, and nothing to be fetched.
//
//go:embed page.html
var page string

// HTML writes one file for a browser, with plots and everything that the report says.
func (r *Report) HTML(w io.Writer) error {
	p := message.NewPrinter(language.English)
	t, err := template.New("report").Funcs(template.FuncMap{
		"count":    func(n any) string { return p.Sprintf("%d", n) },
		"ms":       func(v float64) string { return (&table{p: p}).ms(v) },
		"size":     size,
		"duration": duration,
		"percent":  percent,
		"ratio":    func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"rate":     func(v float64) string { return p.Sprintf("%.2f", v) },
		"bytes":    func(v float64) string { return size(int64(v)) },
		"whole":    func(v float64) string { return p.Sprintf("%.0f", v) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("report: page: %w", err)
	}
	d, err := r.drawn()
	if err != nil {
		return err
	}
	if err := t.Execute(w, d); err != nil {
		return fmt.Errorf("report: write page: %w", err)
	}
	return nil
}

// drawn is a report with its plots.
type drawn struct {
	*Report
	Colours map[string]string
	Checks  int // of all invariants

	SpreadPlot, CertificatePlot, MapPlot, TimelinePlot, NodesPlot template.HTML
	CostPlots                                                     []CostPlot
}

func (r *Report) drawn() (*drawn, error) {
	d := &drawn{Report: r, Colours: map[string]string{"measure": measureHex, "limit": limitHex, "good": goodHex, "warm": warmHex, "bad": badHex}}
	for _, i := range r.Invariants {
		d.Checks += i.Checks
	}
	var err error
	for _, plot := range []struct {
		into *template.HTML
		draw func() (template.HTML, error)
		if1  bool
	}{
		{&d.SpreadPlot, r.spreadPlot, len(r.Spread.Curve) > 1},
		{&d.CertificatePlot, r.certificatePlot, len(r.certified()) > 0},
		{&d.MapPlot, r.mapPlot, slices.ContainsFunc(r.ByRegion, func(x Region) bool { return x.Place != "" })},
		{&d.TimelinePlot, r.timelinePlot, len(r.Timeline) > 1},
		{&d.NodesPlot, r.nodesPlot, r.wentDown()},
	} {
		if !plot.if1 {
			continue
		}
		if *plot.into, err = plot.draw(); err != nil {
			return nil, err
		}
	}
	if r.Cost != nil {
		d.CostPlots, err = r.Cost.plots()
	}
	return d, err
}

// wentDown says whether nodes did.
func (r *Report) wentDown() bool {
	return slices.ContainsFunc(r.Timeline, func(m Moment) bool { return m.NodesUp != r.Nodes }) && len(r.Timeline) > 1
}

// certified are the regions that had certificates, those that can be quickest first.
func (r *Report) certified() []Region {
	list := slices.DeleteFunc(slices.Clone(r.ByRegion), func(x Region) bool { return x.Certificates == 0 || x.MedianMS == 0 })
	slices.SortFunc(list, func(a, b Region) int {
		return cmp.Or(cmp.Compare(a.LimitMS, b.LimitMS), strings.Compare(a.Name, b.Name))
	})
	return list
}
