package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"dkpipe/trainers"
	"dkpipe/trainers/kernel"
)

//go:embed htmlreport.html
var pageText string

// page is what the report shows. It needs nothing beside itself: no script, no font, no other host.
type page struct {
	Title, Headline, Command, Model, Dataset, Ended, Hint string
	Good                                                  bool
	Facts                                                 []fact
	Splits                                                []string
	Metrics                                               []metricRow
	Matrices                                              []fact
	Plots                                                 []plot
	Workers                                               []workerReport
	OnWire                                                bool
	Spec                                                  string
	Environment                                           []fact
	Warnings                                              []string
	Made                                                  string
}

type fact struct{ Name, Value string }

type metricRow struct {
	Name   string
	Values []string
}

type plot struct {
	Title, Note string
	Picture     template.HTML
}

// writeReport writes the page that --report asks for, whatever the end of the run was. That it cannot be written is a
// warning: the training is done.
func (j *job) writeReport(_ context.Context, p prepared, failure error) {
	name := j.training.flags.report
	if name == "" || j.training.watch == nil {
		return
	}
	text, err := j.page(p, failure)
	if err == nil {
		err = writeBeside(name, text)
	}
	if err != nil {
		j.report.Warnings = append(j.report.Warnings, "--report: "+err.Error())
		j.app.log.Warn("--report", "error", err)
		return
	}
	j.events.add("report", map[string]any{"file": name})
}

// writeBeside replaces a file in one step.
func writeBeside(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there when all went well
	_, err = f.Write(text)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return err
}

// page makes the report's text.
func (j *job) page(p prepared, failure error) ([]byte, error) {
	t, err := template.New("report").Parse(pageText)
	if err != nil {
		return nil, err
	}
	v := j.pageOf(p, failure)
	var b bytes.Buffer
	err = t.Execute(&b, v)
	return b.Bytes(), err
}

func (j *job) pageOf(p prepared, failure error) page {
	w, r, t := j.training.watch, j.report, j.spec.Train
	v := page{Title: j.spec.Name, Good: failure == nil, Headline: "complete", Command: "dkpipe " + r.Command, Model: r.Model, Dataset: r.Dataset,
		Spec: string(j.spec.Resolved()), Warnings: r.Warnings, Made: time.Now().Format("2006-01-02 15:04 MST")}
	history := w.lines
	if res := j.training.result; res != nil {
		v.Ended, history = res.Ended.Text, res.History
		v.Facts = append(v.Facts, fact{"samples", thousands(res.Samples)}, fact{"training", duration(res.Seconds)},
			fact{"samples/s", thousands(int64(float64(res.Samples) / max(res.Seconds, 1e-9)))})
	}
	if failure != nil {
		f := failed(context.Background(), failure)
		v.Headline, v.Ended, v.Hint = "ended with an error: "+string(f.Kind), f.Message, f.Hint
	}
	v.Facts = append(v.Facts, fact{"trainer", t.Trainer.Name}, fact{"workers", fmt.Sprint(t.Workers)}, fact{"epochs", fmt.Sprint(complete(history))})
	if len(r.Servers) > 0 {
		v.Facts = append(v.Facts, fact{"data servers", fmt.Sprint(len(r.Servers))})
	}
	if r.Wire != nil {
		v.Facts = append(v.Facts, fact{"on the wire, " + r.Wire.Codec, mib(r.Wire.bytes())})
	}
	if len(r.Rows) > 0 {
		var parts []string
		for _, split := range splits {
			if n := r.Rows[split]; n > 0 {
				parts = append(parts, thousands(n)+" "+split)
			}
		}
		v.Facts = append(v.Facts, fact{"rows", strings.Join(parts, ", ")})
	}
	v.metrics(r)
	v.Workers, v.OnWire = r.Workers, r.Wire != nil
	w.mu.Lock()
	points := slices.Clone(w.curve.points)
	w.mu.Unlock()
	v.Plots = plots(history, points, j.training.result)
	host, _ := os.Hostname() // without: empty
	v.Environment = []fact{{"dkpipe", buildVersion()}, {"Go", runtime.Version()}, {"system", runtime.GOOS + "/" + runtime.GOARCH},
		{"processors", fmt.Sprint(runtime.GOMAXPROCS(0))}, {"machine", host}, {"run", j.id},
		{"started", j.started.Format(time.RFC3339)}}
	if set, err := kernel.Select(t.Kernel); err == nil {
		v.Environment = append(v.Environment, fact{"kernels", set.Name()})
	}
	if m := peakMemory(); m > 0 {
		v.Environment = append(v.Environment, fact{"memory", fmt.Sprintf("%.0f MiB at most", m)})
	}
	return v
}

// duration writes seconds in three digits or so.
func duration(s float64) string {
	unit := time.Millisecond
	switch {
	case s >= 100:
		unit = time.Second
	case s >= 10:
		unit = 100 * time.Millisecond
	case s >= 1:
		unit = 10 * time.Millisecond
	}
	return time.Duration(s * float64(time.Second)).Round(unit).String()
}

// metrics makes the table of figures, a column a split.
func (v *page) metrics(r *report) {
	for _, split := range splits {
		if _, ok := r.Metrics[split]; ok {
			v.Splits = append(v.Splits, split)
		}
	}
	rows := map[string]int{}
	for c, split := range v.Splits {
		for _, m := range r.Metrics[split] {
			if m.Matrix != nil {
				v.Matrices = append(v.Matrices, fact{split + " " + m.Name, m.Matrix.String()})
				continue
			}
			at, ok := rows[m.Name]
			if !ok {
				at = len(v.Metrics)
				rows[m.Name] = at
				v.Metrics = append(v.Metrics, metricRow{Name: m.Name, Values: make([]string, len(v.Splits))})
			}
			v.Metrics[at].Values[c] = formatMetric(m.Name, m.Value)
		}
	}
}

// complete counts the epochs that were worked through.
func complete(history []trainers.Epoch) int {
	n := 0
	for _, e := range history {
		if !e.Partial {
			n++
		}
	}
	return n
}

// plots draws what a run looked like.
func plots(history []trainers.Epoch, points []point, r *trainers.Result) []plot {
	loss := series{Name: "training", Dots: true}
	measured := map[string]*series{}
	for _, e := range history {
		x := float64(e.Epoch)
		loss.X, loss.Y = append(loss.X, x), append(loss.Y, float64(e.Loss))
		for _, m := range e.Validation {
			if m.Matrix != nil {
				continue
			}
			s := measured[m.Name]
			if s == nil {
				s = &series{Name: "validation " + m.Name, Dots: true}
				measured[m.Name] = s
			}
			s.X, s.Y = append(s.X, x), append(s.Y, m.Value)
		}
	}
	both := []series{loss}
	if s := measured["loss"]; s != nil {
		s.Name = "validation"
		both = append(both, *s)
	}
	out := []plot{{"Loss", "mean over an epoch; validation: of the centre at its end", linePlot("loss by epoch", "epoch", false, both...)}}
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		if name != "loss" {
			out = append(out, plot{name, "on the validation rows", linePlot(name, "epoch", false, *measured[name])})
		}
	}
	out = append(out, overTime(points)...)
	if r != nil {
		out = append(out, ofWorkers(history, r)...)
	}
	return slices.DeleteFunc(out, func(p plot) bool { return p.Picture == "" })
}

// overTime draws loss and throughput over seconds.
func overTime(points []point) []plot {
	loss := series{Name: "loss"}
	var workers []series
	every := max(1, len(points)/60) // throughput is over a stretch: over single commits it is noise
	for i, p := range points {
		loss.X, loss.Y = append(loss.X, p.Seconds), append(loss.Y, p.Loss)
		if i == 0 || i%every != 0 {
			continue
		}
		before := points[i-every]
		for k, n := range p.Workers {
			for len(workers) <= k {
				workers = append(workers, series{Name: fmt.Sprintf("worker %d", len(workers))})
			}
			was := int64(0)
			if k < len(before.Workers) {
				was = before.Workers[k]
			}
			s := &workers[k]
			s.X, s.Y = append(s.X, p.Seconds), append(s.Y, float64(n-was)/max(p.Seconds-before.Seconds, 1e-9))
		}
	}
	return []plot{
		{"Loss over time", "smoothed over commits", linePlot("loss over time", "seconds", false, loss)},
		{"Throughput", "samples a second of each worker, by its commits", linePlot("samples a second", "seconds", true, workers[:min(len(workers), seriesColors)]...)},
	}
}

// ofWorkers draws staleness and where time went.
func ofWorkers(history []trainers.Epoch, r *trainers.Result) []plot {
	var stale trainers.Staleness
	for _, e := range history {
		stale.Merge(e.Staleness)
	}
	var names []string
	for _, w := range r.Workers {
		names = append(names, fmt.Sprintf("worker %d", w.ID))
	}
	parts := []string{"compute", "wait for the server", "wait for data", "else"}
	value := func(row, part int) float64 {
		w := r.Workers[row]
		busy := w.ComputeS + w.WaitS + w.FeedS
		whole := max(busy, r.Seconds, 1e-9)
		return []float64{w.ComputeS, w.WaitS, w.FeedS, whole - busy}[part] / whole
	}
	note := "commits by the number of others that they met"
	if len(stale) == trainers.StalenessBuckets {
		note += "; the last column holds all beyond"
	}
	return []plot{
		{"Staleness", note, columnsPlot("commits by staleness", "staleness", stale)},
		{"Where time went", "share of the time of training", shares("time of workers", names, parts, value)},
	}
}
