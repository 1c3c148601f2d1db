package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// full is a report that has something of everything.
func full() *Report {
	r := &Report{Schema: Schema, Engine: EngineReal, Scenario: "a <b>bold</b> scenario", Seed: 7, Nodes: 10_000, Regions: 100, Voters: 500, Members: 9500,
		Routers: 10_000, Certificates: 20, PropagationMS: Quantiles{80, 120, 140, 180}, LimitMS: 130, Ratio: 1.08,
		Proofs:         Proofs{Submitted: 2000, Committed: 1999, Attested: 1999, Refused: 1},
		VirtualSeconds: 40, WallSeconds: 100.5, CPUSeconds: 190, PeakRSSBytes: 4 << 30, GoroutinesMax: 400_000,
		Phases:     []Phase{{"founding", 20, 38}, {"settling", 30.5, 60}, {"working", 50, 92}},
		Machine:    Machine{CPUs: 2, Model: "A Processor Of Some Name", Memory: 16 << 30, Go: "go1.26", OS: "linux", Arch: "amd64"},
		Invariants: []Invariant{{"no contradicting certificates", 200_000, 0}, {"committed proofs survive", 12, 1}},
		Faults:     []Fault{{"halves", 3, true, 2, 8}, {"a fault without effect", 0, false, 3, 3}},
		Settings:   []Setting{{"seal interval", "16s", "1s", "twenty certificates are asked for"}},
		Memo:       []Memo{{"certificate", 20, 199_980}},
		Violations: 1, Broken: []Violation{{Invariant: "committed proofs survive", At: 12.5, What: "entry 7 of r003 is lost", Last: []Event{{12.4, "begins: halves"}, {12.5, "r003-2 crashes"}}}},
		Findings: []string{"no quorum while two thirds were silent"},
		Events:   []Event{{12.4, "begins: halves"}, {12.5, "broken: committed proofs survive"}},
		Traffic:  Traffic{MessagesPerNode: 1234.5, BytesPerNode: 1 << 20, Copies: 300_000, Duplicates: 100_000, CopiesPerNodeCertificate: 1.5, DuplicatesPerDelivery: 0.5, Protocols: []Protocol{{"/bizra/gossip/1.0.0", 12_345_678, 1 << 33}}},
		Spread:   Spread{Pairs: 199_980, WithinFactor: 1.25, WithinPart: 0.993, NearPairs: 70_000, NearLate: 3},
	}
	for _, name := range []string{"commit", "certificate", "every node", "attested"} {
		r.Timings = append(r.Timings, Timing{Name: name, What: "from one thing → another", Count: 2000, Took: Quantiles{100, 200, 1300, 4000}, Limit: Quantiles{90, 100, 110, 120}, Ratio: 1.1})
	}
	for i := range 101 {
		r.Spread.Curve = append(r.Spread.Curve, Point{float64(i) * 1.4, float64(i) / 100})
		r.Spread.Limit = append(r.Spread.Limit, Point{float64(i) * 1.3, float64(i) / 100})
		r.Timeline = append(r.Timeline, Moment{At: float64(i), NodesUp: 10_000 - i%5, Submitted: 20 * i, Committed: 19 * i, Attested: 18 * i})
	}
	n := 0
	for _, place := range slices.Sorted(maps.Keys(places())) {
		n++
		r.ByRegion = append(r.ByRegion, Region{Name: fmt.Sprintf("r%03d", n), Place: place, Certificates: n % 3, MedianMS: float64(150 + 5*n), LimitMS: float64(140 + 4*n), LastMS: 120})
	}
	return r
}

// TestTable fits into 80 columns and says what matters.
func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := full().Table(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > tableWidth || strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
			t.Errorf("%d columns, or blanks at the end: %q", n, line)
		}
	}
	for _, want := range []string{"10,000 (10,000 GossipSub routers ran)", "2,000 submitted, 1,999 committed", "199,980 taken from an identical one", "took effect 3 times",
		"took no effect", "BROKEN", "seed 7", "12.5s", "entry 7 of r003 is lost", "1 promises broken", "begins: halves", "r003-2 crashes", "found no quorum while", "12,345,678 messages", "4.0 GiB", "99.30 %"} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("it does not say %q:\n%s", want, b.String())
		}
	}
}

// TestVerdict is what each end of a run is called.
func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change func(*Report)
		says   string
		ok     bool
	}{
		{func(r *Report) { r.Violations, r.Broken = 0, nil }, "every promise held", true},
		{func(r *Report) { r.Violations, r.Broken, r.Interrupted = 0, nil, true }, "INTERRUPTED", false},
		{func(r *Report) { r.Violations, r.Broken, r.Failure = 0, nil, "the disk is full" }, "the disk is full", false},
		{func(*Report) {}, "1 promises broken", false},
	} {
		r := full()
		c.change(r)
		var b, page bytes.Buffer
		if err := r.Table(&b); err != nil {
			t.Fatal(err)
		}
		if err := r.HTML(&page); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), c.says) || r.OK() != c.ok || strings.Contains(page.String(), `class="verdict bad"`) == c.ok {
			t.Errorf("%q, %v, want %q, %v", b.String(), r.OK(), c.says, c.ok)
		}
	}
}

// TestHTML is one file that fetches nothing, holds every plot, and no text of which is taken for markup.
func TestHTML(t *testing.T) {
	t.Parallel()
	r := full()
	var runs []*Report
	for _, n := range []int{100, 300, 1000, 3000} {
		one := *r
		one.Nodes, one.Traffic.CopiesPerNodeCertificate = n, 1+math.Log(float64(n))/4
		runs = append(runs, &one)
	}
	r.Cost = NewCost(runs)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "<svg"); n != 9 {
		t.Errorf("%d plots, want 9", n)
	}
	for _, bad := range []string{"<b>bold", "src=", "<link", "@import", "url(", "NaN", "Inf"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for rest := page; ; {
		_, after, found := strings.Cut(rest, "<svg")
		if !found {
			break
		}
		drawing, next, _ := strings.Cut(after, "</svg>")
		d := xml.NewDecoder(strings.NewReader("<svg" + drawing + "</svg>"))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("a plot is no SVG: %v", err)
			}
		}
		rest = next
	}
}

// TestEmpty is a report of a run that ended at once: every form of it can be written.
func TestEmpty(t *testing.T) {
	t.Parallel()
	r := &Report{Schema: Schema, Interrupted: true}
	for _, write := range []func(io.Writer) error{r.Table, r.HTML, r.CSV, NewRuns(nil).Table, NewRuns([]*Report{r}).Table, NewCost([]*Report{r}).Table} {
		var b bytes.Buffer
		if err := write(&b); err != nil || b.Len() == 0 || strings.Contains(b.String(), "NaN") {
			t.Errorf("%v, %q", err, b.String())
		}
	}
}

// TestJSON has the members that programs rely on, at the top.
func TestJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"schema": `"bizra-sim/1"`, "nodes": "10000", "regions": "100", "voters": "500", "certificates": "20",
		"propagation_ms": `{"p50":80,"p90":120,"p99":140,"max":180}`, "limit_ms": "130", "ratio": "1.08", "wall_seconds": "100.5", "peak_rss_bytes": "4294967296", "violations": "1"} {
		if string(v[name]) != want {
			t.Errorf("%s is %s, want %s", name, v[name], want)
		}
	}
}

// TestCSV is a table with one header, whose figures can be told apart.
func TestCSV(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := CSV(&b, full(), full()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) < 100 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	seen := map[string]int{}
	for _, row := range rows[1:] {
		seen[row[1]+"/"+row[2]]++
	}
	for name, n := range seen {
		if n != 2 {
			t.Errorf("%s stands there %d times for two runs", name, n)
		}
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var d []time.Duration
	for i := range 1000 {
		d = append(d, time.Duration(1000-i)*time.Millisecond)
	}
	if q := QuantilesOf(d); q != (Quantiles{500, 900, 990, 1000}) {
		t.Errorf("%+v", q)
	}
	if q := QuantilesOf(nil); q != (Quantiles{}) {
		t.Errorf("of nothing: %+v", q)
	}
	if q := QuantilesOf([]time.Duration{time.Second}); q != (Quantiles{1000, 1000, 1000, 1000}) {
		t.Errorf("of one: %+v", q)
	}
}

// TestFit finds a line that it was given, and a band that holds it. The figures of the second case
// are computed by hand.
func TestFit(t *testing.T) {
	t.Parallel()
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-3 }
	if f := fit([]float64{1, 2, 3, 4}, []float64{3, 5, 7, 9}); !near(f.Slope, 2) || !near(f.Intercept, 1) || !near(f.Band, 0) {
		t.Errorf("%+v", f)
	}
	// Slope 0.6, residuals 0.2, −0.4, 0.2… : sum of squares 0.8 over 3 degrees, t 3.182, over √10.
	f := fit([]float64{1, 2, 3, 4, 5}, []float64{1, 2, 2, 4, 3})
	if !near(f.Slope, 0.6) || !near(f.Intercept, 0.6) || !near(f.Band, 3.182*math.Sqrt(1.6/3)/math.Sqrt(10)) {
		t.Errorf("%+v", f)
	}
	if y, band := f.at(3); !near(y, 2.4) || !near(band, 3.182*math.Sqrt(1.6/3)/math.Sqrt(5)) {
		t.Errorf("%v ± %v", y, band)
	}
	for _, x := range [][]float64{nil, {1}, {2, 2}} {
		if f := fit(x, x); f.Slope != 0 || f.Band != 0 {
			t.Errorf("of %v: %+v", x, f)
		}
	}
}

// TestYardsticks that are missed are said to be.
func TestYardsticks(t *testing.T) {
	t.Parallel()
	good := full()
	good.Violations, good.Broken, good.Spread.NearLate = 0, nil, 0
	bounds := Bounds{WallSeconds: 120, WallMoonshot: 60, GiB: 5, GiBMoonshot: 4}
	for name, c := range map[string]struct {
		change func(*Report)
		missed string
	}{
		"good":        {func(*Report) {}, ""},
		"slow":        {func(r *Report) { r.WallSeconds = 121 }, "wall"},
		"large":       {func(r *Report) { r.PeakRSSBytes = 5<<30 + 1<<20 }, "memory"},
		"late":        {func(r *Report) { r.Spread.NearLate = 1 }, "of pairs under"},
		"far":         {func(r *Report) { r.Spread.WithinPart = 0.98 }, "pairs within"},
		"broken":      {func(r *Report) { r.Violations = 2 }, "promises"},
		"interrupted": {func(r *Report) { r.Interrupted = true }, "promises"},
		"certificate": {func(r *Report) { r.Timings[1].Ratio = 1.31 }, "certificate"},
	} {
		r := *good
		r.Timings = append([]Timing{}, good.Timings...)
		c.change(&r)
		missed := ""
		for _, y := range Measure(name, &r, bounds) {
			if !y.Met {
				missed += y.Name
			}
		}
		if (missed == "") != (c.missed == "") || !strings.HasPrefix(missed, c.missed) {
			t.Errorf("%s: missed %q, want %q", name, missed, c.missed)
		}
	}
	var b bytes.Buffer
	if err := WriteYardsticks(&b, Measure("x", good, bounds)); err != nil || !strings.Contains(b.String(), "the moonshot of 4") || strings.Contains(b.String(), "MISSED") {
		t.Errorf("%v, %s", err, b.String())
	}
	for power, met := range map[float64]bool{0.5: true, 1: true, 2: false} {
		var runs []*Report
		for _, n := range []int{100, 1000, 3000, 10_000} {
			r := full()
			r.Nodes, r.Traffic.CopiesPerNodeCertificate = n, math.Pow(math.Log(float64(n)), power)
			runs = append(runs, r)
		}
		if y := MeasureGrowth(NewCost(runs)); y[0].Met != met {
			t.Errorf("copies as the logarithm to the power of %v: %+v", power, y)
		}
	}
}

// TestPlaces are all on the map, and every outline can be read.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, w := range places() {
		if w.longitude < mapWest || w.longitude > mapEast || w.latitude < mapSouth || w.latitude > mapNorth {
			t.Errorf("%s is not on the map", name)
		}
	}
	list, err := continents()
	if err != nil || len(list) < 30 {
		t.Errorf("%d outlines, %v", len(list), err)
	}
	for i, outline := range list {
		if len(outline) < 3 {
			t.Errorf("outline %d has %d points", i, len(outline))
		}
	}
}
