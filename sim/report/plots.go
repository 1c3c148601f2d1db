package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours of the plots; the page's legends use the same.
const (
	inkHex     = "#1f2933"
	quietHex   = "#7b8794"
	gridHex    = "#e4e7eb"
	landHex    = "#e9edf2"
	measureHex = "#2563eb"
	limitHex   = "#9aa5b1"
	goodHex    = "#0f9d76"
	warmHex    = "#d97706"
	badHex     = "#d64545"
)

// Sizes of the plots, in points.
const (
	plotWidth  = 720
	plotHeight = 300
	mapHeight  = 340
	lineWidth  = 2
	fontSize   = 11
	nameSize   = 7  // of the names on the map
	edge       = 10 // that is left free for half of a label
)

// What of the globe the map shows, in degrees. East of 180 the outlines go on.
const (
	mapWest, mapEast   = -170, 190
	mapSouth, mapNorth = -56, 78
)

func hex(s string) color.NRGBA {
	var c color.NRGBA
	c.A = 255
	_, _ = fmt.Sscanf(s, "#%02x%02x%02x", &c.R, &c.G, &c.B) // constants of this file
	return c
}

func faint(s string, alpha uint8) color.NRGBA {
	c := hex(s)
	c.A = alpha
	return c
}

// canvas is a plot with axes in the page's style.
func canvas(x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Color, a.Tick.LineStyle.Color = hex(gridHex), hex(gridHex)
		for _, style := range []*text.Style{&a.Label.TextStyle, &a.Tick.Label} {
			style.Font, style.Color = font.Font{Typeface: "Liberation", Variant: "Sans", Size: fontSize}, hex(quietHex)
		}
		a.Tick.Length = 3
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = hex(gridHex), hex(gridHex)
	p.Add(grid)
	return p
}

// svg draws a plot into text that a page can hold.
func svg(p *plot.Plot, width, height vg.Length) (template.HTML, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(c), 0, -edge, 0, -edge/2))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("report: draw: %w", err)
	}
	text := b.Bytes()
	if i := bytes.Index(text, []byte("<svg")); i > 0 {
		text = text[i:] // a page has its own head
	}
	return template.HTML(text), nil //nolint:gosec // of numbers and names of places, drawn by the plotting library, which escapes them
}

func addLine(p *plot.Plot, points plotter.XYs, hexColour string, dashes ...vg.Length) error {
	if len(points) == 0 {
		return nil
	}
	l, err := plotter.NewLine(points)
	if err != nil {
		return fmt.Errorf("report: draw a line: %w", err)
	}
	l.Color, l.Width, l.Dashes = hex(hexColour), lineWidth, dashes
	p.Add(l)
	return nil
}

func addDots(p *plot.Plot, points plotter.XYs, colour color.Color, radius vg.Length) error {
	if len(points) == 0 {
		return nil
	}
	s, err := plotter.NewScatter(points)
	if err != nil {
		return fmt.Errorf("report: draw points: %w", err)
	}
	s.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: radius, Shape: draw.CircleGlyph{}}
	p.Add(s)
	return nil
}

func addLabels(p *plot.Plot, points plotter.XYs, names []string, size vg.Length, offset vg.Point, align text.XAlignment) error {
	if len(points) == 0 {
		return nil
	}
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: names})
	if err != nil {
		return fmt.Errorf("report: draw names: %w", err)
	}
	for i := range l.TextStyle {
		l.TextStyle[i].Font, l.TextStyle[i].Color = font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, hex(quietHex)
		l.TextStyle[i].XAlign = align
	}
	l.Offset = offset
	p.Add(l)
	return nil
}

// percentTicks are those of an axis from 0 to 100.
type percentTicks struct{}

// Ticks implements [plot.Ticker].
func (percentTicks) Ticks(float64, float64) (ticks []plot.Tick) {
	for v := 0.0; v <= 100; v += 20 {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.0f %%", v)})
	}
	return ticks
}

// wholeTicks are a handful of round numbers from the least to the most, written out.
type wholeTicks struct{}

// Ticks implements [plot.Ticker].
func (wholeTicks) Ticks(least, most float64) (ticks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(max(1e-9, most-least))))
	for _, finer := range []float64{1, 2, 5, 10} {
		if (most-least)/(step/finer) >= 4 {
			step /= finer
			break
		}
	}
	for v := math.Ceil(least/step) * step; v <= most+step/1000; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", math.Round(v*1000)/1000)})
	}
	return ticks
}

// spreadPlot is what part of the nodes has a certificate after how long, beside what light allows.
func (r *Report) spreadPlot() (template.HTML, error) {
	p := canvas("milliseconds after a certificate was put together", "")
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker, p.X.Min, p.X.Tick.Marker = 0, 100, percentTicks{}, 0, wholeTicks{}
	for _, c := range []struct {
		points []Point
		colour string
	}{{r.Spread.Limit, limitHex}, {r.Spread.Curve, measureHex}} {
		if err := addLine(p, steps(c.points), c.colour); err != nil {
			return "", err
		}
	}
	p.X.Min = 0
	return svg(p, plotWidth, plotHeight)
}

// steps makes a staircase, as what arrives is.
func steps(points []Point) (xys plotter.XYs) {
	part := 0.0
	for _, pt := range points {
		xys = append(xys, plotter.XY{X: pt.MS, Y: 100 * part}, plotter.XY{X: pt.MS, Y: 100 * pt.Part})
		part = pt.Part
	}
	return xys
}

// certificatePlot is how long certificates took by cloud region, those that can be quickest first.
func (r *Report) certificatePlot() (template.HTML, error) {
	list := r.certified()
	p := canvas("", "milliseconds from a seal to its certificate")
	p.Y.Min, p.Y.Tick.Marker = 0, wholeTicks{}
	var took, floor, bound plotter.XYs
	var names []plot.Tick
	for i, x := range list {
		name := x.Place
		if name == "" {
			name = x.Name
		}
		names = append(names, plot.Tick{Value: float64(i), Label: name})
		took = append(took, plotter.XY{X: float64(i), Y: x.MedianMS})
		floor = append(floor, plotter.XY{X: float64(i), Y: x.LimitMS})
		bound = append(bound, plotter.XY{X: float64(i), Y: certificateBound * x.LimitMS})
	}
	p.X.Tick.Marker, p.X.Min, p.X.Max = plot.ConstantTicks(names), -0.5, float64(len(list))-0.5
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/2, text.XRight, text.YCenter
	p.X.Tick.Label.Font.Size = vg.Length(max(4, min(fontSize, 0.8*plotWidth/float64(max(1, len(list))))))
	if err := addLine(p, floor, limitHex); err != nil {
		return "", err
	}
	if err := addLine(p, bound, warmHex, 4, 3); err != nil {
		return "", err
	}
	if err := addDots(p, took, hex(measureHex), 3.5); err != nil {
		return "", err
	}
	p.Y.Min = 0
	return svg(p, plotWidth, plotHeight+60)
}

// certificateBound times its floor is the yardstick of a certificate.
const certificateBound = 1.3

// mapPlot is where the regions are, and how long their certificates took.
func (r *Report) mapPlot() (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.HideAxes()
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = mapWest, mapEast, mapSouth, mapNorth
	polygons, err := continents()
	if err != nil {
		return "", err
	}
	for _, outline := range polygons {
		var xys plotter.XYs
		for _, w := range outline {
			xys = append(xys, plotter.XY{X: w.longitude, Y: w.latitude})
		}
		shape, err := plotter.NewPolygon(xys)
		if err != nil {
			return "", fmt.Errorf("report: draw land: %w", err)
		}
		shape.Color, shape.Width = hex(landHex), 0
		p.Add(shape)
	}
	if err := r.addPlaces(p); err != nil {
		return "", err
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = mapWest, mapEast, mapSouth, mapNorth
	return svg(p, plotWidth, mapHeight)
}

// addPlaces draws each cloud region as large as the regions that it has are many.
func (r *Report) addPlaces(p *plot.Plot) error {
	where := places()
	type spot struct {
		regions, certificates int
		ratio                 float64 // the worst
	}
	spots := map[string]spot{}
	for _, x := range r.ByRegion {
		s := spots[x.Place]
		s.regions++
		if x.Certificates > 0 && x.LimitMS > 0 {
			s.certificates += x.Certificates
			s.ratio = max(s.ratio, x.MedianMS/x.LimitMS)
		}
		spots[x.Place] = s
	}
	for _, name := range slices.Sorted(maps.Keys(spots)) {
		s := spots[name]
		at, ok := where[name]
		if !ok {
			continue
		}
		colour := hex(limitHex)
		switch {
		case s.certificates > 0 && s.ratio <= certificateBound:
			colour = hex(measureHex)
		case s.certificates > 0:
			colour = hex(warmHex)
		}
		radius := vg.Length(3 + 1.5*math.Sqrt(float64(s.regions)))
		halo := colour
		halo.A = 70
		xys := plotter.XYs{{X: at.longitude, Y: at.latitude}}
		if err := addDots(p, xys, halo, radius); err != nil {
			return err
		}
		if err := addDots(p, xys, colour, 2.6); err != nil {
			return err
		}
		offset, align := nameAt(name)
		if err := addLabels(p, xys, []string{name}, nameSize, offset, align); err != nil {
			return err
		}
	}
	return nil
}

// nameAt is where the name of a place stands beside its dot: some are so near to each other that
// one of two must give way.
func nameAt(name string) (offset vg.Point, align text.XAlignment) {
	switch name {
	case "us-west-1", "eu-west-1", "eu-west-3", "eu-south-2", "ap-southeast-7", "ap-southeast-5", "ap-east-1", "ap-south-1", "us-east-2", "ap-southeast-4":
		return vg.Point{X: -7, Y: -2.5}, text.XRight
	case "eu-west-2", "eu-north-1", "ap-northeast-2", "ca-central-1", "me-south-1":
		return vg.Point{Y: 7}, text.XCenter
	case "ap-northeast-3", "ap-southeast-3", "eu-south-1", "ap-south-2":
		return vg.Point{Y: -13}, text.XCenter
	default:
		return vg.Point{X: 7, Y: -2.5}, text.XLeft
	}
}

// timelinePlot is what was committed and attested over time, and when what went wrong.
func (r *Report) timelinePlot() (template.HTML, error) {
	p := canvas("seconds of virtual time since the workload began", "proofs")
	p.X.Tick.Marker, p.Y.Tick.Marker = wholeTicks{}, wholeTicks{}
	var submitted, committed, attested plotter.XYs
	top := 1.0
	for _, m := range r.Timeline {
		submitted = append(submitted, plotter.XY{X: m.At, Y: float64(m.Submitted)})
		committed = append(committed, plotter.XY{X: m.At, Y: float64(m.Committed)})
		attested = append(attested, plotter.XY{X: m.At, Y: float64(m.Attested)})
		top = max(top, float64(m.Submitted))
	}
	for i, f := range r.Faults {
		until := max(f.Until, f.From)
		band, err := plotter.NewPolygon(plotter.XYs{{X: f.From, Y: 0}, {X: until, Y: 0}, {X: until, Y: top}, {X: f.From, Y: top}})
		if err != nil {
			return "", fmt.Errorf("report: draw a fault: %w", err)
		}
		band.Color, band.Width = faint(badHex, 26), 0
		p.Add(band)
		at := plotter.XYs{{X: f.From, Y: top * (1 - 0.06*float64(i%10+1))}}
		if err := addLabels(p, at, []string{f.Name}, fontSize-1, vg.Point{X: 4}, text.XLeft); err != nil {
			return "", err
		}
	}
	for _, c := range []struct {
		xys    plotter.XYs
		colour string
	}{{submitted, limitHex}, {committed, measureHex}, {attested, goodHex}} {
		if err := addLine(p, c.xys, c.colour); err != nil {
			return "", err
		}
	}
	return svg(p, plotWidth, plotHeight)
}

// nodesPlot is how many nodes were up.
func (r *Report) nodesPlot() (template.HTML, error) {
	p := canvas("", "nodes up")
	var up plotter.XYs
	for _, m := range r.Timeline {
		up = append(up, plotter.XY{X: m.At, Y: float64(m.NodesUp)})
	}
	if err := addLine(p, up, measureHex); err != nil {
		return "", err
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = wholeTicks{}, wholeTicks{}
	p.Y.Min = 0
	p.Y.Max = float64(r.Nodes) * 1.05
	return svg(p, plotWidth, plotHeight/2)
}
