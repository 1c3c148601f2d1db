package report

import (
	"fmt"
	"html/template"
	"io"
	"math"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

// Cost is what runs of growing size took, with all else equal.
type Cost struct {
	Schema  string      `json:"schema"`
	Regions int         `json:"regions"`
	Points  []CostPoint `json:"points"`
	// Copies is how the copies of a certificate that a node receives grow with the logarithm of the
	// number of nodes: copies = Intercept + Slope · ln nodes.
	Copies Fit `json:"copies_over_log_nodes"`
	// Power is p of copies ∝ (ln nodes)^p: no faster than the logarithm, where it is not above 1.
	Power Fit `json:"copies_power_of_log_nodes"`
}

// CostPoint is one run.
type CostPoint struct {
	Nodes                    int     `json:"nodes"`
	Voters                   int     `json:"voters"`
	Certificates             int     `json:"certificates"`
	WallSeconds              float64 `json:"wall_seconds"`
	CPUSeconds               float64 `json:"cpu_seconds"`
	PeakRSSBytes             int64   `json:"peak_rss_bytes"`
	GoroutinesMax            int     `json:"goroutines_max"`
	PropagationP99           float64 `json:"propagation_p99_ms"`
	Ratio                    float64 `json:"ratio"`
	WithinPart               float64 `json:"within_part"`
	MessagesPerNode          float64 `json:"messages_per_node"`
	BytesPerNode             float64 `json:"bytes_per_node"`
	CopiesPerNodeCertificate float64 `json:"copies_per_node_and_certificate"`
	DuplicatesPerDelivery    float64 `json:"duplicates_per_delivery"`
}

// Fit is a line through points by least squares, with the half-width of its slope's 95 % band.
type Fit struct {
	Intercept float64 `json:"intercept"`
	Slope     float64 `json:"slope"`
	Band      float64 `json:"slope_band_95"` // 0: too few points to say
	// What the band at a place is computed from.
	meanX, spreadX, residual, student float64
	points                            int
}

// NewCost compares runs of growing size.
func NewCost(runs []*Report) *Cost {
	c := &Cost{Schema: Schema}
	var x, logX, y, logY []float64
	for _, r := range runs {
		p := CostPoint{Nodes: r.Nodes, Voters: r.Voters, Certificates: r.Certificates, WallSeconds: r.WallSeconds, CPUSeconds: r.CPUSeconds,
			PeakRSSBytes: r.PeakRSSBytes, GoroutinesMax: r.GoroutinesMax, PropagationP99: r.PropagationMS.P99, Ratio: r.Ratio, WithinPart: r.Spread.WithinPart,
			MessagesPerNode: r.Traffic.MessagesPerNode, BytesPerNode: r.Traffic.BytesPerNode,
			CopiesPerNodeCertificate: r.Traffic.CopiesPerNodeCertificate, DuplicatesPerDelivery: r.Traffic.DuplicatesPerDelivery}
		c.Regions = r.Regions
		c.Points = append(c.Points, p)
		if p.CopiesPerNodeCertificate > 0 && p.Nodes > 1 {
			log := math.Log(float64(p.Nodes))
			x, y = append(x, log), append(y, p.CopiesPerNodeCertificate)
			logX, logY = append(logX, math.Log(log)), append(logY, math.Log(p.CopiesPerNodeCertificate))
		}
	}
	c.Copies, c.Power = fit(x, y), fit(logX, logY)
	return c
}

// fit is ordinary least squares; the band is Student's with two degrees of freedom less than points
// (any textbook of statistics).
func fit(x, y []float64) (f Fit) {
	n := float64(len(x))
	f.points = len(x)
	if n < 2 {
		return f
	}
	var meanY float64
	for i := range x {
		f.meanX, meanY = f.meanX+x[i]/n, meanY+y[i]/n
	}
	var xy float64
	for i := range x {
		f.spreadX += (x[i] - f.meanX) * (x[i] - f.meanX)
		xy += (x[i] - f.meanX) * (y[i] - meanY)
	}
	if f.spreadX == 0 {
		return f
	}
	f.Slope = xy / f.spreadX
	f.Intercept = meanY - f.Slope*f.meanX
	if n < 3 {
		return f
	}
	var squares float64
	for i := range x {
		d := y[i] - f.Intercept - f.Slope*x[i]
		squares += d * d
	}
	f.residual, f.student = math.Sqrt(squares/(n-2)), student95(len(x)-2)
	f.Band = f.student * f.residual / math.Sqrt(f.spreadX)
	return f
}

// student95 is the two-sided 95 % quantile of Student's distribution.
func student95(degrees int) float64 {
	quantiles := []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228}
	if degrees <= len(quantiles) {
		return quantiles[degrees-1]
	}
	return 1.96 + 2.5/float64(degrees) // within 1 % from there on
}

// at gives the line at x, and the half-width of its band there.
func (f Fit) at(x float64) (y, band float64) {
	y = f.Intercept + f.Slope*x
	if f.spreadX > 0 && f.points > 2 {
		band = f.student * f.residual * math.Sqrt(1/float64(f.points)+(x-f.meanX)*(x-f.meanX)/f.spreadX)
	}
	return y, band
}

// Table writes a line for each size, and the fit.
func (c *Cost) Table(w io.Writer) error {
	p := message.NewPrinter(language.English)
	_, err := p.Fprintf(w, "\nCost against the number of nodes, %d regions, the same workload\n\n%7s %9s %9s %9s %10s %8s %7s %8s %6s\n", c.Regions,
		"nodes", "wall", "CPU", "memory", "goroutines", "spread99", "ratio", "copies", "dup")
	for _, x := range c.Points {
		if err == nil {
			_, err = p.Fprintf(w, "%7d %9s %9s %9s %10d %6.0fms %7.2f %8.2f %6.2f\n", x.Nodes, duration(x.WallSeconds), duration(x.CPUSeconds),
				size(x.PeakRSSBytes), x.GoroutinesMax, x.PropagationP99, x.Ratio, x.CopiesPerNodeCertificate, x.DuplicatesPerDelivery)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "\ncopies of a certificate to a node = %s\n", c.Copies.line("ln n"))
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "as a power of ln n: %.2f ± %.2f (95 %%); no faster than log n: %s\n", c.Power.Slope, c.Power.Band, c.verdict())
	}
	return err
}

func (f Fit) line(of string) string {
	return fmt.Sprintf("%.2f + (%.2f ± %.2f) · %s (95 %%)", f.Intercept, f.Slope, f.Band, of)
}

// verdict says whether copies grow no faster than the logarithm.
func (c *Cost) verdict() string {
	switch {
	case c.Power.points < 3:
		return "too few sizes to say"
	case c.Power.Slope <= 1:
		return "yes"
	case c.Power.Slope-c.Power.Band <= 1:
		return "within the band"
	default:
		return "NO"
	}
}

// CostPlot is one plot of cost against size.
type CostPlot struct {
	Title, Text string
	Plot        template.HTML
}

func (c *Cost) plots() (list []CostPlot, err error) {
	for _, m := range []struct {
		title, unit string
		of          func(CostPoint) float64
	}{
		{"Wall time", "seconds", func(p CostPoint) float64 { return p.WallSeconds }},
		{"Processor time", "seconds", func(p CostPoint) float64 { return p.CPUSeconds }},
		{"Memory at its peak", "MiB", func(p CostPoint) float64 { return float64(p.PeakRSSBytes) / (1 << 20) }},
	} {
		var xys plotter.XYs
		for _, p := range c.Points {
			xys = append(xys, plotter.XY{X: float64(p.Nodes), Y: max(1e-3, m.of(p))})
		}
		p := canvas("nodes", m.unit)
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
		if err := addLine(p, xys, measureHex); err != nil {
			return nil, err
		}
		if err := addDots(p, xys, hex(measureHex), 3.5); err != nil {
			return nil, err
		}
		drawn, err := svg(p, plotWidth*2/3, plotHeight)
		if err != nil {
			return nil, err
		}
		list = append(list, CostPlot{m.title, "Both axes are logarithmic.", drawn})
	}
	copies, err := c.copiesPlot()
	if err != nil {
		return nil, err
	}
	return append(list, CostPlot{"Copies of a certificate to a node", "Fitted: " + c.Copies.line("ln n") + ".", copies}), nil
}

// copiesPlot is the copies of a certificate against the number of nodes, with the fit and its band.
func (c *Cost) copiesPlot() (template.HTML, error) {
	p := canvas("nodes", "copies")
	p.X.Scale, p.X.Tick.Marker, p.Y.Tick.Marker, p.Y.Min = plot.LogScale{}, plot.LogTicks{Prec: -1}, wholeTicks{}, 0
	var dots, line, upper, lower plotter.XYs
	for _, x := range c.Points {
		dots = append(dots, plotter.XY{X: float64(x.Nodes), Y: x.CopiesPerNodeCertificate})
	}
	if n := len(c.Points); n > 1 {
		first, last := math.Log(float64(c.Points[0].Nodes)), math.Log(float64(c.Points[n-1].Nodes))
		const steps = 40
		for i := range steps + 1 {
			x := first + (last-first)*float64(i)/steps
			y, band := c.Copies.at(x)
			line = append(line, plotter.XY{X: math.Exp(x), Y: y})
			upper = append(upper, plotter.XY{X: math.Exp(x), Y: y + band})
			lower = append(plotter.XYs{{X: math.Exp(x), Y: max(0, y-band)}}, lower...)
		}
		if n > 2 {
			shape, err := plotter.NewPolygon(append(upper, lower...))
			if err != nil {
				return "", fmt.Errorf("report: draw a band: %w", err)
			}
			shape.Color, shape.Width = faint(measureHex, 36), 0
			p.Add(shape)
		}
	}
	if err := addLine(p, line, limitHex); err != nil {
		return "", err
	}
	if err := addDots(p, dots, hex(measureHex), 3.5); err != nil {
		return "", err
	}
	p.Y.Min = 0
	return svg(p, plotWidth*2/3, plotHeight)
}
