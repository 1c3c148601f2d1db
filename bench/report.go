package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is all that a run has measured.
type report struct {
	Processor  string      `json:"processor"`
	Processors int         `json:"processors"`
	Kernel     string      `json:"kernel"`
	Go         string      `json:"go"`
	Etcd       string      `json:"etcd"`
	Flags      string      `json:"flags,omitempty"` // of every voter
	IdleBytes  int64       `json:"idle_voter_bytes"`
	Loads      []*compared `json:"loads"`
}

// compared is one load on both.
type compared struct {
	load
	Etcd  series `json:"etcd"`
	Bizra series `json:"bizra"`
	// RateRatio and P50Ratio are bizra's through etcd's; to PutsRatio belongs etcd's best rate of single puts, whatever the load.
	RateRatio float64 `json:"rate_ratio"`
	P50Ratio  float64 `json:"p50_ratio"`
	PutsRatio float64 `json:"single_puts_ratio"`
}

// series is one load on one of them, and the medians of its rounds.
type series struct {
	Rounds  []measured `json:"rounds"`
	Rate    float64    `json:"per_second"`
	RateMin float64    `json:"per_second_min"`
	RateMax float64    `json:"per_second_max"`
	P50     float64    `json:"p50_ms"`
	P99     float64    `json:"p99_ms"`

	ServerMicros float64 `json:"server_cpu_us"`
	ClientMicros float64 `json:"client_cpu_us"`
}

func (s *series) finish() {
	if len(s.Rounds) == 0 {
		return
	}
	rates := s.of(func(m measured) float64 { return m.Rate })
	s.Rate, s.RateMin, s.RateMax = median(rates), rates[0], rates[len(rates)-1]
	s.P50 = median(s.of(func(m measured) float64 { return m.P50 }))
	s.P99 = median(s.of(func(m measured) float64 { return m.P99 }))
	s.ServerMicros = median(s.of(func(m measured) float64 { return m.ServerMicros }))
	s.ClientMicros = median(s.of(func(m measured) float64 { return m.ClientMicros }))
}

// of picks one number of each round, and sorts them.
func (s *series) of(pick func(measured) float64) []float64 {
	numbers := make([]float64, len(s.Rounds))
	for i, m := range s.Rounds {
		numbers[i] = pick(m)
	}
	slices.Sort(numbers)
	return numbers
}

// median is that of sorted numbers, of which there is at least one.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *report) describe(o options) {
	r.Processor, r.Kernel = field("/proc/cpuinfo", "model name"), strings.TrimSpace(read("/proc/sys/kernel/osrelease"))
	r.Processors, r.Go, r.Flags = runtime.NumCPU(), runtime.Version(), o.flags
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			if m.Path == "go.etcd.io/etcd/server/v3" {
				r.Etcd = m.Version
			}
		}
	}
}

// field is the value of the first line with a name in a file of lines with colons, "" if there is none.
func field(path, name string) string {
	for line := range strings.Lines(read(path)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// read is a file's text, "" where the machine has no such file.
func read(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // of the kernel's own files
	if err != nil {
		return ""
	}
	return string(text)
}

func (r *report) finish() {
	puts := 0.0
	for _, c := range r.Loads {
		c.Etcd.finish()
		c.Bizra.finish()
		c.RateRatio, c.P50Ratio = ratio(c.Bizra.Rate, c.Etcd.Rate), ratio(c.Bizra.P50, c.Etcd.P50)
		if c.PerRequest == 1 {
			puts = max(puts, c.Etcd.Rate)
		}
	}
	for _, c := range r.Loads {
		c.PutsRatio = ratio(c.Bizra.Rate, puts)
	}
}

// ratio is 0 where there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// spread is how far the rounds lie apart, in percent of the median.
func (s *series) spread() string {
	if s.Rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", math.Round(100*(s.RateMax-s.RateMin)/s.Rate))
}

func (r *report) table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d processors, Linux %s, %s, etcd %s\n", r.Processor, r.Processors, r.Kernel, r.Go, r.Etcd)
	fmt.Fprintf(w, "medians of rounds; an idle voter takes %s of memory\n\n", mebibytes(r.IdleBytes))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tetcd puts/s\tspread\tp50 ms\tp99 ms\tcpu µs\tbizra proofs/s\tspread\tp50 ms\tp99 ms\tcpu µs\trate ratio\tp50 ratio\tof best single puts\t")
	for _, c := range r.Loads {
		e, b := &c.Etcd, &c.Bizra
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%.2f\t%.2f\t%.0f+%.0f\t%.0f\t%s\t%.2f\t%.2f\t%.0f+%.0f\t%.2f\t%.2f\t%.2f\t\n",
			c.Name, e.Rate, e.spread(), e.P50, e.P99, e.ServerMicros, e.ClientMicros,
			b.Rate, b.spread(), b.P50, b.P99, b.ServerMicros, b.ClientMicros, c.RateRatio, c.P50Ratio, c.PutsRatio)
	}
	return t.Flush()
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write what was measured: %w", err)
	}
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
