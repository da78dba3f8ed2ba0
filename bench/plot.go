package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panel is one of the diagrams that stand above each other, with a column for each workload.
type panel struct {
	title string
	value func(result) spread // a median of 0: not measured
}

// panels is what the plot shows, from top to bottom. Equal ratios have equal distances in it, whatever a workload's
// own size is.
func panels() []panel {
	return []panel{
		{"transactions a second (median, least and greatest)", func(r result) spread { return r.Throughput }},
		{"latency, ms (p50, p99 and p99.9)", func(r result) spread {
			return spread{Median: r.Latency.P99, Min: r.Latency.P50, Max: r.Latency.P999}
		}},
		{"processor time of the proxy, µs a transaction (median, least and greatest)", func(r result) spread { return r.ProxyCPU }},
	}
}

// Sizes of the plot: wide enough for every workload of a full series with five targets side by side.
const (
	columnWidth = 1.7 * vg.Centimeter
	marginWidth = 4 * vg.Centimeter
	panelHeight = 9 * vg.Centimeter
	// legendColumns are left free on the right for the names of the targets.
	legendColumns = 3
)

// plot draws the workloads into an SVG file; without a workload it draws nothing and returns false.
func (r *report) plot(path string) (bool, error) {
	if len(r.Workloads) == 0 {
		return false, nil
	}
	var drawn [][]*plot.Plot
	for i, one := range panels() {
		p, err := r.panel(one, i == 0)
		if err != nil {
			return false, fmt.Errorf("plot results: %w", err)
		}
		if p != nil {
			drawn = append(drawn, []*plot.Plot{p})
		}
	}
	if len(drawn) == 0 {
		return false, nil
	}
	width := marginWidth + columnWidth*vg.Length(len(r.Workloads)+legendColumns)
	canvas := vgsvg.New(width, panelHeight*vg.Length(len(drawn)))
	tiles := draw.Tiles{Rows: len(drawn), Cols: 1, PadY: vg.Millimeter * 3}
	for i, row := range plot.Align(drawn, tiles, draw.New(canvas)) {
		drawn[i][0].Draw(row[0])
	}
	return true, writePlot(canvas, path)
}

// writePlot writes what was drawn.
func writePlot(canvas *vgsvg.Canvas, path string) error {
	var text bytes.Buffer
	if _, err := canvas.WriteTo(&text); err != nil {
		return fmt.Errorf("plot results: %w", err)
	}
	// Who looks at it may lack the font: Arial has the same widths.
	svg := bytes.ReplaceAll(text.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,sans-serif;"))
	if err := os.WriteFile(path, svg, 0o644); err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

// colours tell targets apart, for eyes that see few of them too (Okabe and Ito).
func colours() []color.Color {
	return []color.Color{
		color.RGBA{0x55, 0x55, 0x55, 0xff}, color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
		color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	}
}

// panel draws one diagram; nil when nothing in it was measured.
func (r *report) panel(what panel, legend bool) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = what.title
	p.Title.TextStyle.XAlign = draw.XCenter
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	p.Add(horizontals())
	var names []string
	for _, workload := range r.Workloads {
		names = append(names, workload.Name)
	}
	p.NominalX(names...)
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	p.Legend.Top, p.Legend.Padding = true, vg.Millimeter
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	targets := r.targetNames()
	empty := true
	for i, name := range targets {
		points := r.points(name, what.value, place(i, len(targets)))
		if len(points.XYs) == 0 {
			continue
		}
		empty = false
		if err := points.draw(p, i, legend); err != nil {
			return nil, err
		}
	}
	if empty {
		return nil, nil
	}
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5+legendColumns
	const room = 1.2 // above and below, as a factor; a single value would have no height at all
	p.Y.Min, p.Y.Max = p.Y.Min/room, p.Y.Max*room
	return p, nil
}

// place is where in its workload's column a target has its points.
func place(i, targets int) float64 {
	const taken = 0.7 // of the column; the rest parts it from the next
	return (float64(i) - float64(targets-1)/2) * taken / float64(targets)
}

// points are what one target reached, one for each workload that it ran.
type points struct {
	target string
	plotter.XYs
	plotter.YErrors
}

func (r *report) points(target string, value func(result) spread, place float64) points {
	all := points{target: target}
	for i, workload := range r.Workloads {
		for _, one := range workload.Results {
			v := value(one)
			if one.Target != target || v.Median <= 0 {
				continue
			}
			// A logarithm has no zero, which a short run's processor time may be: the kernel counts in hundredths of a second.
			if v.Min <= 0 {
				v.Min = v.Median
			}
			all.XYs = append(all.XYs, plotter.XY{X: float64(i) + place, Y: v.Median})
			all.YErrors = append(all.YErrors, struct{ Low, High float64 }{v.Median - v.Min, v.Max - v.Median})
		}
	}
	return all
}

// draw adds the points and their ranges in the colour and the form of a target.
func (ps points) draw(p *plot.Plot, target int, legend bool) error {
	ranges, err := plotter.NewYErrorBars(ps)
	if err != nil {
		return err
	}
	marks, err := plotter.NewScatter(ps.XYs)
	if err != nil {
		return err
	}
	colours := colours()
	forms := []draw.GlyphDrawer{draw.SquareGlyph{}, draw.CircleGlyph{}, draw.TriangleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}}
	ranges.Color, ranges.CapWidth = colours[target%len(colours)], 0
	marks.Color, marks.Shape = colours[target%len(colours)], forms[target%len(forms)]
	p.Add(ranges, marks)
	if legend {
		p.Legend.Add(ps.target, marks)
	}
	return nil
}

// horizontals are the lines at the ticks.
func horizontals() *plotter.Grid {
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.Gray{0xdd}
	return grid
}

// decades puts ticks at the powers of ten, and at 2 and 5 times these where there is room.
type decades struct{}

// Ticks returns the ticks between two values above 0.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	digits := []float64{1, 2, 5}
	const roomy = 1000 // as a ratio: three decades have nine ticks
	if high/low > roomy {
		digits = digits[:1]
	}
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, digit := range digits {
			if v := digit * power; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 6, 64)})
			}
		}
	}
	return ticks
}
