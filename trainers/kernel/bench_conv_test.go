package kernel

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkConv runs the assembly sets in turn like BenchmarkGemm: results, gradient of the filters and gradient of the
// images for layers of common networks, two to four images at a time.
func BenchmarkConv(b *testing.B) {
	sets := candidates()
	if len(sets) > 1 {
		sets = sets[:len(sets)-1] // the portable one would take most of the time
	}
	for _, c := range []struct{ size, channels, window, filters, stride, same int }{
		{28, 1, 3, 32, 1, 0}, {26, 32, 3, 32, 1, 0}, {32, 3, 3, 32, 1, 1}, {32, 32, 3, 64, 2, 1}, {14, 64, 3, 64, 1, 1}, {14, 256, 1, 64, 1, 1},
		{7, 256, 3, 256, 1, 1},
	} {
		g := Window{H: c.size, W: c.size, C: c.channels, KH: c.window, KW: c.window, SY: c.stride, SX: c.stride, DY: 1, DX: 1}
		g.OH = (c.size-c.window)/c.stride + 1
		if c.same == 1 {
			g.OH = (c.size + c.stride - 1) / c.stride
			g.Top = max((g.OH-1)*c.stride+c.window-c.size, 0) / 2
		}
		g.OW, g.Left = g.OH, g.Top
		n := 1 + 3*49/g.OH/g.OH
		x, w, y := make([]float32, n*g.in()), make([]float32, g.cells()*c.filters), make([]float32, n*g.out(c.filters))
		for i := range x {
			x[i] = float32(i%7) / 7
		}
		flop := 2 * float64(n*g.out(c.filters)*g.cells())
		for k, kind := range []string{"results", "filters", "images"} {
			b.Run(fmt.Sprintf("%dx%dx%d-%d-by-%dx%d-stride%d/%s", c.size, c.size, c.channels, c.filters, c.window, c.window, c.stride, kind), func(b *testing.B) {
				times := make([][]time.Duration, len(sets))
				for b.Loop() {
					for i, s := range sets {
						start := time.Now()
						switch k {
						case 0:
							s.Conv(&g, n, c.filters, x, w, nil, true, y)
						case 1:
							s.ConvGradFilters(&g, n, c.filters, x, y, w)
						case 2:
							s.ConvGradInput(&g, n, c.filters, y, w, x)
						}
						times[i] = append(times[i], time.Since(start))
					}
				}
				for i, s := range sets {
					slices.Sort(times[i])
					b.ReportMetric(flop/times[i][len(times[i])/2].Seconds()/1e9, s.Name()+"-median-GF/s")
					b.ReportMetric(flop/times[i][0].Seconds()/1e9, s.Name()+"-best-GF/s")
				}
			})
		}
	}
}
