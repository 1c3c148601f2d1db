package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Runs are several runs of one plan, with different seeds.
type Runs struct {
	Schema string    `json:"schema"`
	Runs   []*Report `json:"runs"`
	Spread []Varied  `json:"spread"`
}

// Varied is how much a figure varies from run to run.
type Varied struct {
	Name   string  `json:"name"`
	Least  float64 `json:"least"`
	Median float64 `json:"median"`
	Most   float64 `json:"most"`
}

// NewRuns compares runs.
func NewRuns(runs []*Report) *Runs {
	all := &Runs{Schema: Schema, Runs: runs}
	for _, m := range []struct {
		name string
		of   func(*Report) float64
	}{
		{"certificates", func(r *Report) float64 { return float64(r.Certificates) }},
		{"commit p50 ms", func(r *Report) float64 { return r.timing("commit").Took.P50 }},
		{"commit p99 ms", func(r *Report) float64 { return r.timing("commit").Took.P99 }},
		{"certificate p50 ms", func(r *Report) float64 { return r.timing("certificate").Took.P50 }},
		{"certificate p99 ms", func(r *Report) float64 { return r.timing("certificate").Took.P99 }},
		{"certificate ratio", func(r *Report) float64 { return r.timing("certificate").Ratio }},
		{"every node p50 ms", func(r *Report) float64 { return r.PropagationMS.P50 }},
		{"every node p99 ms", func(r *Report) float64 { return r.PropagationMS.P99 }},
		{"every node max ms", func(r *Report) float64 { return r.PropagationMS.Max }},
		{"every node ratio p99", func(r *Report) float64 { return r.Ratio }},
		{"within 1.25 × + 10 ms, %", func(r *Report) float64 { return 100 * r.Spread.WithinPart }},
		{"copies a node and certificate", func(r *Report) float64 { return r.Traffic.CopiesPerNodeCertificate }},
		{"messages a node", func(r *Report) float64 { return r.Traffic.MessagesPerNode }},
		{"wall s", func(r *Report) float64 { return r.WallSeconds }},
		{"processors s", func(r *Report) float64 { return r.CPUSeconds }},
		{"memory MiB", func(r *Report) float64 { return float64(r.PeakRSSBytes) / (1 << 20) }},
		{"violations", func(r *Report) float64 { return float64(r.Violations) }},
	} {
		var values []float64
		for _, r := range runs {
			values = append(values, m.of(r))
		}
		slices.SortFunc(values, cmp.Compare)
		if len(values) > 0 {
			all.Spread = append(all.Spread, Varied{m.name, values[0], Rank(values, 0.5), values[len(values)-1]})
		}
	}
	return all
}

// OK says whether all runs are.
func (a *Runs) OK() bool {
	return !slices.ContainsFunc(a.Runs, func(r *Report) bool { return !r.OK() })
}

func (r *Report) timing(name string) Timing {
	for _, t := range r.Timings {
		if t.Name == name {
			return t
		}
	}
	return Timing{}
}

// Table writes how much the figures vary.
func (a *Runs) Table(w io.Writer) error {
	p := message.NewPrinter(language.English)
	_, err := p.Fprintf(w, "\n%-34s %13s %13s %13s\n", fmt.Sprintf("of %d runs", len(a.Runs)), "least", "median", "most")
	for _, v := range a.Spread {
		if err == nil {
			_, err = p.Fprintf(w, "%-34s %13.2f %13.2f %13.2f\n", v.Name, v.Least, v.Median, v.Most)
		}
	}
	return err
}
