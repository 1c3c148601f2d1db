package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// tableWidth is what every line of a table fits into, for terminals of 80 columns.
const tableWidth = 80

// eventsShown is how many of the last events a table shows of a run that went wrong.
const eventsShown = 12

// table writes lines, and remembers the first error.
type table struct {
	p   *message.Printer // writes 10,000 rather than 10000
	out bytes.Buffer
}

// Table writes a report for people, at most 80 columns wide.
func (r *Report) Table(w io.Writer) error {
	t := &table{p: message.NewPrinter(language.English)}
	t.head(r)
	t.times(r)
	t.spread(r)
	t.costs(r)
	t.checks(r)
	t.settings(r)
	t.verdict(r)
	_, err := w.Write(t.out.Bytes())
	return err
}

func (t *table) linef(format string, args ...any) { t.p.Fprintf(&t.out, format+"\n", args...) }

// section begins a part; its name stands in the first of its lines.
func (t *table) section(name, format string, args ...any) {
	t.wrap(fmt.Sprintf("%-11s", name), t.p.Sprintf(format, args...))
}

const indent = "           "

// wrap writes a text behind a name, broken where the line is full.
func (t *table) wrap(name, text string) {
	line := name
	for i, word := range strings.Fields(text) {
		if i > 0 && len([]rune(line))+1+len([]rune(word)) > tableWidth {
			t.out.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += strings.ReplaceAll(word, "\u00a0", " ")
	}
	t.out.WriteString(line + "\n")
}

func (t *table) head(r *Report) {
	t.linef("")
	t.section("scenario", "%s, seed %s, engine %s", r.Scenario, fmt.Sprint(r.Seed), r.Engine)
	t.section("machine", "%d\u00a0× %s, %s, %s %s/%s", r.Machine.CPUs, strings.Join(strings.Fields(r.Machine.Model), "\u00a0"), size(r.Machine.Memory), r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	t.section("nodes", "%d (%d GossipSub routers ran) in %d regions; %d voters, %d members", r.Nodes, r.Routers, r.Regions, r.Voters, r.Members)
	t.section("proofs", "%d submitted, %d committed, %d attested, %d refused, %d without an answer; %d certificates", r.Proofs.Submitted,
		r.Proofs.Committed, r.Proofs.Attested, r.Proofs.Refused, r.Proofs.Failed, r.Certificates)
}

func (t *table) times(r *Report) {
	if len(r.Timings) == 0 {
		return
	}
	t.linef("")
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	t.p.Fprintf(w, "ms of virtual time\t count\tp50\tp90\tp99\tmax\tlimit p99\tratio\t\n")
	for _, x := range r.Timings {
		limit, ratio := "–", "–"
		if x.Limit != (Quantiles{}) {
			limit = t.ms(x.Limit.P99)
		}
		if x.Limit.P99 > 0 {
			ratio = fmt.Sprintf("%.2f", x.Took.P99/x.Limit.P99)
		}
		t.p.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", x.Name, x.Count, t.ms(x.Took.P50), t.ms(x.Took.P90), t.ms(x.Took.P99), t.ms(x.Took.Max), limit, ratio)
	}
	_ = w.Flush() // into memory
	for i, line := range strings.Split(strings.TrimRight(b.String(), "\n"), "\n") {
		// The names stand left, what tabwriter aligned to the right with the rest.
		name := "ms of virtual time"
		if i > 0 {
			name = r.Timings[i-1].Name
		}
		at := strings.Index(line, name)
		t.out.WriteString(name + strings.Repeat(" ", at) + strings.TrimRight(line[at+len(name):], " ") + "\n")
	}
	for _, x := range r.Timings {
		t.wrap("", fmt.Sprintf("%s: %s", x.Name, x.What))
	}
}

// ms writes milliseconds with as many digits as they deserve.
func (t *table) ms(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return t.p.Sprintf("%.0f", v)
}

func (t *table) spread(r *Report) {
	t.linef("")
	s := r.Spread
	if s.Pairs == 0 {
		t.section("spread", "no certificate was followed to its nodes")
		return
	}
	t.section("spread", "%s of %d pairs of a certificate and a node within %.2f × the direct way + 10 ms", percent(s.WithinPart), s.Pairs, s.WithinFactor)
	t.wrap(indent, t.p.Sprintf("%d of %d pairs whose limit is under 80 ms took 100 ms or longer; %d never met", s.NearLate, s.NearPairs, s.Missing))
	x := r.Traffic
	t.section("traffic", "a node: %.0f messages, %s; a certificate: %.2f copies to a node, %.2f duplicates a delivery", x.MessagesPerNode,
		size(int64(x.BytesPerNode)), x.CopiesPerNodeCertificate, x.DuplicatesPerDelivery)
	for _, p := range x.Protocols {
		t.linef("%s%-24s %12d messages %10s", indent, p.Name, p.Messages, size(p.Bytes))
	}
}

func (t *table) costs(r *Report) {
	t.section("cost", "wall %s, processors %s, memory %s at its peak, %d goroutines; %s of virtual time", duration(r.WallSeconds), duration(r.CPUSeconds),
		size(r.PeakRSSBytes), r.GoroutinesMax, duration(r.VirtualSeconds))
	parts := make([]string, len(r.Phases))
	for i, p := range r.Phases {
		parts[i] = p.Name + " " + duration(p.WallSeconds)
	}
	if len(parts) > 0 {
		t.wrap(indent, strings.Join(parts, ", "))
	}
	for i, m := range r.Memo {
		name := indent
		if i == 0 {
			name = fmt.Sprintf("%-11s", "memoised")
		}
		t.wrap(name, t.p.Sprintf("%s: %d computed, %d taken from an identical one", m.Kind, m.Real, m.Memoised))
	}
}

func (t *table) checks(r *Report) {
	t.linef("")
	for i, f := range r.Faults {
		name, effect := indent, "took no effect"
		if i == 0 {
			name = fmt.Sprintf("%-11s", "faults")
		}
		if f.TookEffect {
			effect = t.p.Sprintf("took effect %d times", f.Count)
		}
		t.wrap(name, fmt.Sprintf("%s, from %s to %s: %s", f.Name, duration(f.From), duration(f.Until), effect))
	}
	if len(r.Faults) == 0 {
		t.section("faults", "none")
	}
	for i, x := range r.Invariants {
		name := indent
		if i == 0 {
			name = fmt.Sprintf("%-11s", "invariants")
		}
		held := "held"
		if x.Violations > 0 {
			held = "BROKEN"
		}
		t.out.WriteString(name + t.p.Sprintf("%-43s %9d checks  %s\n", x.Name, x.Checks, held))
	}
}

func (t *table) settings(r *Report) {
	t.linef("")
	t.section("settings", "that differ from cmd/bizra's:")
	for _, s := range r.Settings {
		t.wrap(indent, fmt.Sprintf("%s: %s; there %s (%s)", s.Name, s.Simulated, s.Default, s.Why))
	}
}

func (t *table) verdict(r *Report) {
	t.linef("")
	for _, f := range r.Findings {
		t.section("found", "%s", f)
	}
	last := r.Events
	for _, b := range r.Broken {
		t.section("BROKEN", "%s, at %s of virtual time, seed %s: %s", b.Invariant, duration(b.At), fmt.Sprint(r.Seed), b.What)
		last = b.Last
	}
	if !r.OK() && len(last) > 0 {
		t.section("before", "virtual time, and what happened:")
		for _, e := range last[max(0, len(last)-eventsShown):] {
			t.wrap(fmt.Sprintf("%9.3fs ", e.At), e.What)
		}
	}
	switch {
	case r.Interrupted:
		t.section("INTERRUPTED", "this is what there was so far")
	case r.Failure != "":
		t.section("FAILED", "%s", r.Failure)
	case r.Violations > 0:
		t.section("result", "%d promises broken", r.Violations)
	default:
		t.section("result", "every promise held")
	}
}

func percent(part float64) string { return fmt.Sprintf("%.2f %%", 100*part) }

// size writes bytes in binary units.
func size(b int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(b), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 || v >= 100 {
		return fmt.Sprintf("%.0f\u00a0%s", v, units[i])
	}
	return fmt.Sprintf("%.1f\u00a0%s", v, units[i])
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
