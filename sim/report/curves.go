package report

import (
	"html/template"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Curve is a line of a plot. Y has as many values as X.
type Curve struct {
	X, Y   []float64
	Colour string // #rrggbb
	Dashed bool   // a limit, not a measurement
}

// Palette are colours that are told apart in one plot, the first of which is the main one.
func Palette() []string { return []string{measureHex, badHex, goodHex, warmHex, "#7c3aed", "#0e7490"} }

// roomAbove is how much higher a plot is than its highest point.
const roomAbove = 1.08

// LimitColour is that of lines which measurements are held against.
func LimitColour() string { return limitHex }

// Curves draws lines over two axes that begin at 0, in the style of the report's plots, for a page to hold.
func Curves(x, y string, curves ...Curve) (template.HTML, error) {
	p := canvas(x, y)
	p.X.Min, p.Y.Min = 0, 0
	for _, c := range curves {
		points := make(plotter.XYs, len(c.X))
		for i := range points {
			points[i].X, points[i].Y = c.X[i], c.Y[i]
		}
		var dashes []vg.Length
		if c.Dashed {
			dashes = []vg.Length{6, 4}
		}
		if err := addLine(p, points, c.Colour, dashes...); err != nil {
			return "", err
		}
	}
	p.Y.Max *= roomAbove // so that no line runs along the edge
	return svg(p, plotWidth/2, plotHeight)
}
