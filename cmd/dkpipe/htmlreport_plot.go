package main

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Plots of the report are small SVG pictures whose colours are those of the page's style: .s0 to .s7 for series.

// series is one line of a plot.
type series struct {
	Name string
	X, Y []float64
	Dots bool
}

// Size of a plot in its own units; the page scales it.
const (
	plotWidth, plotHeight                    = 560.0, 260.0
	plotLeft, plotRight, plotTop, plotBottom = 56.0, 12.0, 10.0, 34.0
	seriesColors                             = 8
)

// axis maps values to a range of the picture.
type axis struct {
	low, high float64
	log       bool
	from, to  float64
}

func newAxis(values []float64, from, to float64, zero bool) axis {
	a := axis{low: math.Inf(1), high: math.Inf(-1), from: from, to: to}
	for _, v := range values {
		if v-v == 0 {
			a.low, a.high = min(a.low, v), max(a.high, v)
		}
	}
	if zero {
		a.low, a.high = min(a.low, 0), max(a.high, 0)
	}
	if !(a.low < a.high) {
		if a.low-a.low != 0 {
			a.low = 0
		}
		a.high = a.low + 1
	}
	return a
}

// logarithmic makes an axis logarithmic where its values span more than two powers of ten.
func (a axis) logarithmic() axis {
	a.log = a.low > 0 && a.high/a.low > 100
	return a
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// ticks gives round values inside an axis.
func (a axis) ticks(about int) []float64 {
	var out []float64
	if a.log {
		for e := math.Floor(math.Log10(a.low)); ; e++ {
			v := math.Pow(10, e)
			if v > a.high {
				break
			}
			if v >= a.low {
				out = append(out, v)
			}
		}
		if len(out) >= 2 {
			return out
		}
		return []float64{a.low, a.high}
	}
	step := math.Pow(10, math.Floor(math.Log10((a.high-a.low)/float64(about))))
	for _, k := range []float64{1, 2, 5, 10} {
		if (a.high-a.low)/(step*k) <= float64(about) {
			step *= k
			break
		}
	}
	for i := math.Ceil(a.low / step); i*step <= a.high+step*1e-9; i++ {
		out = append(out, i*step+0) // + 0: no minus zero
	}
	return out
}

// tickText writes a tick's value in few letters.
func tickText(v float64) string {
	for _, u := range []struct {
		from, unit float64
		name       string
	}{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}} {
		if math.Abs(v) >= u.from {
			return strconv.FormatFloat(v/u.unit, 'g', 4, 64) + u.name
		}
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// frame begins a plot: grid, ticks and names of the axes.
func frame(b *strings.Builder, title string, x, y axis, xName string) {
	fmt.Fprintf(b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotWidth, plotHeight, template.HTMLEscapeString(title))
	for _, v := range y.ticks(5) {
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" text-anchor="end" x="%.1f" y="%.1f">%s</text>`,
			plotLeft, plotWidth-plotRight, y.at(v), y.at(v), plotLeft-6, y.at(v)+4, tickText(v))
	}
	for _, v := range x.ticks(7) {
		fmt.Fprintf(b, `<text class="tick" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`, x.at(v), plotHeight-plotBottom+15, tickText(v))
	}
	fmt.Fprintf(b, `<text class="tick" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`, (plotLeft+plotWidth-plotRight)/2, plotHeight-3, template.HTMLEscapeString(xName))
}

// linePlot draws series over a common axis; empty when there is nothing to see.
func linePlot(title, xName string, zero bool, all ...series) template.HTML {
	all = slices.DeleteFunc(all, func(s series) bool { return len(s.X) < 2 && !s.Dots }) // nothing to see
	var xs, ys []float64
	for _, s := range all {
		xs, ys = append(xs, s.X...), append(ys, s.Y...)
	}
	if !slices.ContainsFunc(ys, func(v float64) bool { return v-v == 0 }) {
		return ""
	}
	x := newAxis(xs, plotLeft, plotWidth-plotRight, false)
	y := newAxis(ys, plotHeight-plotBottom, plotTop, zero)
	if !zero {
		y = y.logarithmic()
	}
	var b strings.Builder
	frame(&b, title, x, y, xName)
	for i, s := range all {
		fmt.Fprintf(&b, `<g class="s%d">`, i%seriesColors)
		var path strings.Builder
		pen := 'M'
		for k := range s.X {
			if s.Y[k]-s.Y[k] != 0 || y.log && s.Y[k] <= 0 {
				pen = 'M' // a gap
				continue
			}
			fmt.Fprintf(&path, "%c%.1f %.1f", pen, x.at(s.X[k]), y.at(s.Y[k]))
			pen = 'L'
			if s.Dots && len(s.X) <= 60 {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="2.6"><title>%s %s: %s</title></circle>`, x.at(s.X[k]), y.at(s.Y[k]),
					template.HTMLEscapeString(s.Name), tickText(s.X[k]), tickText(s.Y[k]))
			}
		}
		if len(s.X) > 1 {
			fmt.Fprintf(&b, `<path d="%s"/>`, path.String())
		}
		b.WriteString("</g>")
	}
	b.WriteString("</svg>")
	b.WriteString(legend(all))
	return template.HTML(b.String())
}

func legend(all []series) string {
	if len(all) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteString(`<p class="legend">`)
	for i, s := range all {
		fmt.Fprintf(&b, `<span class="s%d"><i></i>%s</span> `, i%seriesColors, template.HTMLEscapeString(s.Name))
	}
	b.WriteString("</p>")
	return b.String()
}

// columnsPlot plots counts by their index.
func columnsPlot(title, xName string, counts []int64) template.HTML {
	last := len(counts)
	for last > 0 && counts[last-1] == 0 {
		last--
	}
	if last == 0 {
		return ""
	}
	values := []float64{0}
	for _, n := range counts[:last] {
		values = append(values, float64(n))
	}
	x := axis{low: -0.5, high: float64(max(last, 4)) - 0.5, from: plotLeft, to: plotWidth - plotRight}
	y := newAxis(values, plotHeight-plotBottom, plotTop, true)
	var b strings.Builder
	frame(&b, title, x, y, xName)
	for i, n := range counts[:last] {
		left, right := x.at(float64(i)-0.42), x.at(float64(i)+0.42)
		fmt.Fprintf(&b, `<rect class="f0" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%d: %d</title></rect>`, left, y.at(float64(n)), right-left,
			max(0, y.at(0)-y.at(float64(n))), i, n)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// shares plots one bar a row, cut into parts that sum to 1 at most.
func shares(title string, rows []string, parts []string, value func(row, part int) float64) template.HTML {
	if len(rows) == 0 {
		return ""
	}
	const line = 26.0
	height := line*float64(len(rows)) + 8
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotWidth, height, template.HTMLEscapeString(title))
	width := plotWidth - plotLeft - 30 - plotRight
	for r, name := range rows {
		at, top := plotLeft+30, line*float64(r)+4
		fmt.Fprintf(&b, `<text class="tick" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, at-6, top+15, template.HTMLEscapeString(name))
		for p, part := range parts {
			w := max(0, value(r, p)) * width
			fmt.Fprintf(&b, `<rect class="f%d" x="%.1f" y="%.1f" width="%.1f" height="20"><title>%s %s: %.1f %%</title></rect>`, p, at, top, w,
				template.HTMLEscapeString(name), part, 100*value(r, p))
			at += w
		}
	}
	b.WriteString("</svg>")
	list := make([]series, len(parts))
	for i, p := range parts {
		list[i].Name = p
	}
	b.WriteString(legend(list))
	return template.HTML(b.String())
}
