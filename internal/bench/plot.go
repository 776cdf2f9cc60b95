package bench

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
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
	p.Y.Min = 0
	return drawLines(p, path, []line{resident, heap})
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.BackgroundColor = color.White
	p.Legend.Top, p.Legend.Left = true, true
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
	canvas := vgsvg.New(16*vg.Centimeter, 9*vg.Centimeter)
	p.Draw(draw.New(canvas))
	file, err := os.Create(path) //nolint:gosec // G304: the user names the file
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		_ = file.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return file.Close()
}

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
				ticks = append(ticks, plot.Tick{Value: v, Label: Thousands(v)})
			}
		}
	}
	return ticks
}
