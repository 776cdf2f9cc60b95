package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/stockledger/stockledger/internal/figures"
)

// A line of a plot.
type line struct {
	name   string
	points plotter.XYs
}

// colours tell lines apart, also for those who see no red or no green.
var colours = []color.Color{
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0x77, G: 0x77, B: 0x77, A: 0xff},
	color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

// The names of the plots of a scale.
const (
	throughputPlot = "throughput.svg"
	latencyPlot    = "latency.svg"
	memoryPlot     = "soak.svg"
)

// Plot draws the curves as SVG files in a directory, and says which.
func (s Scale) Plot(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	rate := filepath.Join(dir, throughputPlot)
	if err := s.plot(rate, "durable adjustments", "a second", func(f Figures) float64 { return f.Rate }); err != nil {
		return nil, err
	}
	latency := filepath.Join(dir, latencyPlot)
	return []string{rate, latency}, s.plot(latency, "99 of 100 are answered within", "ms", func(f Figures) float64 { return f.P99 })
}

func (s Scale) plot(path, title, unit string, value func(Figures) float64) error {
	p := newPlot(title, "callers", unit)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, callerTicks(s.Config.Callers)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(tenfold)
	var lines []line
	for _, c := range s.Curves {
		l := line{name: c.What}
		for _, f := range c.Points {
			if value(f) > 0 { // there is no logarithm of nothing
				l.points = append(l.points, plotter.XY{X: float64(f.Callers), Y: value(f)})
			}
		}
		lines = append(lines, l)
	}
	return drawLines(p, path, lines)
}

// Plot draws memory over time as an SVG file.
func (s Soak) Plot(path string) error {
	p := newPlot("memory under full load", "minutes", "MiB")
	resident, heap := line{name: "resident"}, line{name: "live heap"}
	for _, sample := range s.Samples {
		minute := sample.Second / 60
		resident.points = append(resident.points, plotter.XY{X: minute, Y: float64(sample.Resident) / (1 << 20)})
		heap.points = append(heap.points, plotter.XY{X: minute, Y: float64(sample.Heap) / (1 << 20)})
	}
	p.X.Min, p.Y.Min = 0, 0
	return drawLines(p, path, []line{resident, heap})
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White
	p.Legend.Top, p.Legend.Left = true, true
	p.Title.Padding = vg.Points(6)
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.Legend.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label,
	} {
		style.Font.Variant = "Sans"
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xdd}, color.Gray{0xdd}
	p.Add(grid)
	return p
}

func drawLines(p *plot.Plot, path string, lines []line) error {
	for i, l := range lines {
		if len(l.points) == 0 {
			continue
		}
		drawn, marks, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", l.name, err)
		}
		drawn.Color, drawn.Width = colours[i%len(colours)], vg.Points(1.5)
		marks.Color, marks.Shape, marks.Radius = drawn.Color, draw.CircleGlyph{}, vg.Points(1.8)
		p.Add(drawn, marks)
		p.Legend.Add(l.name, drawn, marks)
	}
	widen(&p.X)
	widen(&p.Y)
	p.Y.Max *= headroom
	canvas := vgsvg.New(16*vg.Centimeter, 9*vg.Centimeter)
	p.Draw(draw.New(canvas))
	var drawing bytes.Buffer
	if _, err := canvas.WriteTo(&drawing); err != nil {
		return fmt.Errorf("draw %s: %w", path, err)
	}
	// Who looks at it may not have the font that it was laid out with.
	svg := bytes.ReplaceAll(drawing.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(path, svg, 0o644) //nolint:gosec // G306: a drawing, for everybody
}

// widen gives an axis a length that one point, or none, does not have. On a
// logarithmic one nothing may be below or at 0.
func widen(a *plot.Axis) {
	switch {
	case math.IsInf(a.Min, 0) || math.IsInf(a.Max, 0):
		a.Min, a.Max = 1, 10
	case a.Min == a.Max:
		a.Min, a.Max = a.Min*0.8, a.Max*1.25
	}
}

// headroom is how much higher a plot is than its lines, for the legend.
const headroom = 1.5

// callerTicks are at the points that were taken.
func callerTicks(callers []int) plot.ConstantTicks {
	ticks := make(plot.ConstantTicks, len(callers))
	for i, n := range callers {
		ticks[i] = plot.Tick{Value: float64(n), Label: strconv.Itoa(n)}
	}
	return ticks
}

// tenfold are ticks for a logarithmic scale: 1, 2, 5, 10, 20, …
func tenfold(least, most float64) (ticks []plot.Tick) {
	for unit := 0.0001; unit < most; unit *= 10 {
		for _, n := range []float64{1, 2, 5} {
			if v := n * unit; v >= least && v <= most {
				ticks = append(ticks, plot.Tick{Value: v, Label: figures.Thousands(v)})
			}
		}
	}
	return ticks
}
