package tally

import (
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

// part has one figure of each kind.
type part struct {
	plain    Counter
	labelled Counters
	level    Gauge
	sizes    Histogram
	layers   [2]Histogram
}

func sizes() Buckets { return Buckets{First: 0.5, Factor: 2, Count: 4} }

func (p *part) figures() *Figures {
	return New("bizra_part", prometheus.Labels{"region": "a"}, func(s *Sheet) {
		s.Counter("plain_total", "Plain.", &p.plain)
		s.Counters("labelled_total", "Labelled.", &p.labelled, "kind", "verdict")
		s.Gauge("level", "Level.", p.level.Value)
		for _, state := range []string{"low", "high"} {
			s.GaugeOf("levels", "Levels.", prometheus.Labels{"state": state}, func() float64 { return float64(len(state)) })
		}
		s.Histogram("sizes", "Sizes.", sizes(), &p.sizes)
		s.Histograms("layers", "Layers.", sizes(), "layer", func(yield func(string, *Histogram) bool) {
			_ = yield("one", &p.layers[0]) && yield("two", &p.layers[1])
		})
	})
}

// TestFiguresAreWhatTheClientShows holds every kind against Prometheus' own on the same operations.
func TestFiguresAreWhatTheClientShows(t *testing.T) {
	own := prometheus.Labels{"region": "a"}
	rapid.Check(t, func(t *rapid.T) {
		var p part
		plain := prometheus.NewCounter(prometheus.CounterOpts{Name: "bizra_part_plain_total", Help: "Plain.", ConstLabels: own})
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bizra_part_labelled_total", Help: "Labelled.", ConstLabels: own}, []string{"kind", "verdict"})
		level := prometheus.NewGauge(prometheus.GaugeOpts{Name: "bizra_part_level", Help: "Level.", ConstLabels: own})
		bounds := prometheus.ExponentialBuckets(sizes().First, sizes().Factor, sizes().Count)
		histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bizra_part_sizes", Help: "Sizes.", ConstLabels: own, Buckets: bounds})
		layers := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "bizra_part_layers", Help: "Layers.", ConstLabels: own, Buckets: bounds}, []string{"layer"})
		layers.WithLabelValues("one")
		layers.WithLabelValues("two")
		theirs := prometheus.NewPedanticRegistry()
		theirs.MustRegister(plain, vec, level, histogram, layers)
		for _, state := range []string{"low", "high"} {
			theirs.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bizra_part_levels", Help: "Levels.",
				ConstLabels: prometheus.Labels{"region": "a", "state": state}}, func() float64 { return float64(len(state)) }))
		}
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			v := float64(rapid.IntRange(0, 40).Draw(t, "value")) / 4
			switch rapid.IntRange(0, 4).Draw(t, "operation") {
			case 0:
				p.plain.Inc()
				plain.Inc()
			case 1:
				k, w := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "kind"), rapid.SampledFrom([]string{"good", "bad"}).Draw(t, "verdict")
				p.labelled.With(k, w).Add(v)
				vec.WithLabelValues(k, w).Add(v)
			case 2:
				p.level.Set(v)
				level.Set(v)
			case 3:
				p.sizes.Observe(sizes(), v)
				histogram.Observe(v)
			case 4:
				p.layers[1].Observe(sizes(), v)
				layers.WithLabelValues("two").Observe(v)
			}
		}
		ours := prometheus.NewPedanticRegistry()
		if err := p.figures().Register(ours); err != nil {
			t.Fatal(err)
		}
		got, want := text(t, ours), text(t, theirs)
		if got != want || strings.Count(got, "\n") < 10 {
			t.Fatalf("ours:\n%s\ntheirs:\n%s", got, want)
		}
	})
}

func text(t *rapid.T, r *prometheus.Registry) string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if c := m.GetCounter(); c != nil {
				c.CreatedTimestamp = nil
			}
			if h := m.GetHistogram(); h != nil {
				h.CreatedTimestamp = nil
			}
			lines = append(lines, f.GetName()+" "+f.GetHelp()+" "+m.String())
		}
		lines = append(lines, f.GetType().String())
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestCountersTakeAllThatCount(t *testing.T) {
	var v Counters
	var h Histogram
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				v.With("a").Inc()
				v.With("b", "c").Add(2)
				h.Observe(sizes(), 1)
			}
		})
	}
	wg.Wait()
	if a, b := v.With("a").Value(), v.With("b", "c").Value(); a != 8000 || b != 16000 || len(v.all()) != 2 {
		t.Errorf("counted %v and %v of %d", a, b, len(v.all()))
	}
	if _, sum, total := h.cumulative(sizes()); sum != 8000 || total != 8000 {
		t.Errorf("observed %d, in sum %v", total, sum)
	}
}

func TestRegistryWaits(t *testing.T) {
	var r Registry
	var a, b part
	first, second := a.figures(), New("bizra_other", nil, func(s *Sheet) { s.Counter("plain_total", "Plain.", &b.plain) })
	r.MustRegister(first, second)
	if !r.Unregister(second) || r.Unregister(second) {
		t.Error("what waits is not taken back, or twice")
	}
	open, err := r.Open()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Open(); again != open || err != nil {
		t.Errorf("it opens twice: %v", err)
	}
	if err := second.Register(&r); err != nil {
		t.Fatal(err)
	}
	if n := shown(t, open, "bizra_other_plain_total") + shown(t, open, "bizra_part_plain_total"); n != 2 {
		t.Errorf("%d of 2 series show", n)
	}
	second.Unregister(&r)
	if shown(t, open, "bizra_other_plain_total") != 0 {
		t.Error("what was taken back still shows")
	}
	if err := first.Register(&r); err == nil {
		t.Error("the same figures were registered twice")
	}
	var clash Registry
	clash.MustRegister(first, a.figures())
	if _, err := clash.Open(); err == nil {
		t.Error("two of one name were registered")
	}
}

// shown is how many series of a name a registry shows.
func shown(t *testing.T, r *prometheus.Registry, name string) (n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			n += len(f.GetMetric())
		}
	}
	return n
}

func TestWithoutRegistry(t *testing.T) {
	var p part
	f := p.figures()
	if err := f.Register(nil); err != nil {
		t.Error(err)
	}
	f.Unregister(nil)
}
