package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"dkpipe/trainers"
)

// report is the result of run, train, evaluate and preprocess: one JSON object for machines, a table for people.
type report struct {
	Command  string                      `json:"command"`
	Status   string                      `json:"status"` // ok, failed or interrupted
	Seconds  float64                     `json:"seconds"`
	Dataset  string                      `json:"dataset,omitempty"`
	Model    string                      `json:"model,omitempty"`
	Output   string                      `json:"output,omitempty"` // of predict
	Rows     map[string]int64            `json:"rows,omitempty"`   // by split
	Metrics  map[string]trainers.Metrics `json:"metrics,omitempty"`
	Workers  []workerReport              `json:"workers,omitempty"`
	Servers  []serverReport              `json:"servers,omitempty"` // data servers
	Wire     *wireReport                 `json:"wire,omitempty"`    // what went over sockets
	Skipped  bool                        `json:"skipped"`
	Shards   int                         `json:"shards,omitempty"`
	Epochs   int                         `json:"epochs,omitempty"`
	Ensemble string                      `json:"ensemble,omitempty"` // how its members, which are the workers, predict together
	Ended    *trainers.Ending            `json:"ended,omitempty"`    // why training ended
	// BestCheckpoint is the one after the epoch with the best validation.
	BestCheckpoint *bestCheckpoint `json:"best_checkpoint,omitempty"`
	Dropped        int64           `json:"dropped_rows,omitempty"`
	PeakMiB        float64         `json:"peak_mib,omitempty"` // largest resident memory of this process, where the system tells
	Warnings       []string        `json:"warnings,omitempty"`
	Error          *failure        `json:"error,omitempty"`

	latest bool     // LATEST points to the new version
	next   []string // commands to try
}

// workerReport says what one worker did.
type workerReport struct {
	ID            int     `json:"id"`
	Samples       int64   `json:"samples"`
	Steps         int64   `json:"steps"`
	Commits       int64   `json:"commits"`
	StalenessMean float64 `json:"staleness_mean"`
	ComputeS      float64 `json:"compute_s"`
	WaitS         float64 `json:"wait_s"`
	Lost          string  `json:"lost,omitempty"` // why it did not reach the end
	SentBytes     int64   `json:"sent_bytes,omitempty"`
	ReceivedBytes int64   `json:"received_bytes,omitempty"`
	Codec         string  `json:"codec,omitempty"`
	LinkMiBPerS   float64 `json:"link_mib_per_s,omitempty"` // where train.codec is auto and there was enough to measure
	// Metrics are those of a member of an ensemble by itself, on the rows that a gate looks at.
	Metrics trainers.Metrics `json:"metrics,omitempty"`
}

// measured puts an evaluation into the report.
func (r *report) measured(split string, e trainers.Evaluation) {
	if r.Metrics == nil {
		r.Metrics = map[string]trainers.Metrics{}
	}
	r.Metrics[split] = e.Metrics
	for _, note := range e.Notes {
		r.Warnings = append(r.Warnings, split+" "+note)
	}
}

// say prints the report and gives the error that carries the exit code, nil when all went well.
func (a *app) say(r *report) error {
	if a.json {
		a.printJSON(r)
	} else {
		a.printTable(r)
	}
	if r.Error == nil {
		return nil
	}
	if !a.json {
		a.sayFailure(r.Command, *r.Error)
	}
	return &saidError{kind: r.Error.Kind}
}

func (a *app) printTable(r *report) {
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(a.stdout, "\ndkpipe %s: %s\n", r.Command, r.headline())
	if len(r.Rows) > 0 {
		var parts []string
		for _, split := range []string{"train", "validation", "test", "predicted", "raw"} {
			if n, ok := r.Rows[split]; ok {
				parts = append(parts, fmt.Sprintf("%s %s", thousands(n), split))
			}
		}
		if r.Dropped > 0 {
			parts = append(parts, thousands(r.Dropped)+" left out")
		}
		row("rows", "%s", strings.Join(parts, ", "))
	}
	if r.Shards > 0 {
		row("shards", "%d", r.Shards)
	}
	if r.Epochs > 0 {
		row("epochs", "%d", r.Epochs)
	}
	if r.Ended != nil && r.Ended.Text != "" {
		row("ended", "%s", r.Ended.Text)
	}
	row("seconds", "%.2f", r.Seconds)
	if len(r.Servers) > 0 {
		row("servers", "%d", len(r.Servers))
	}
	if r.Wire != nil {
		row("wire", "%s", r.Wire.text())
	}
	if r.PeakMiB > 0 {
		row("memory", "%.0f MiB at most", r.PeakMiB)
	}
	for _, split := range []string{"train", "validation", "test", "raw"} {
		m, ok := r.Metrics[split]
		if !ok {
			continue
		}
		var parts []string
		for _, x := range m {
			if x.Matrix == nil { // a table has lines of its own, below
				parts = append(parts, fmt.Sprintf("%s %s", x.Name, formatMetric(x.Name, x.Value)))
			}
		}
		row(split, "%s", strings.Join(parts, "   "))
	}
	if r.Dataset != "" {
		row("dataset", "%s", r.Dataset)
	}
	if r.Model != "" {
		where := r.Model
		if r.latest {
			where += " (LATEST)"
		}
		row("model", "%s", where)
	}
	if r.Output != "" {
		row("output", "%s", r.Output)
	}
	w.Flush()
	a.printMatrices(r)
	a.printWorkers(r)
	for _, warning := range r.Warnings {
		if a.shown.has(warning) {
			continue
		}
		fmt.Fprintf(a.stdout, "  warning: %s\n", warning)
	}
	if len(r.next) > 0 && r.Error == nil {
		fmt.Fprintf(a.stdout, "\nNext:\n")
		for _, c := range r.next {
			fmt.Fprintf(a.stdout, "  %s\n", c)
		}
	}
}

// printMatrices shows the metrics that are tables.
func (a *app) printMatrices(r *report) {
	for _, split := range slices.Sorted(maps.Keys(r.Metrics)) {
		for _, x := range r.Metrics[split] {
			if x.Matrix != nil {
				fmt.Fprintf(a.stdout, "\n  %s %s\n", split, indent(x.String()))
			}
		}
	}
}

func indent(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

func (a *app) printWorkers(r *report) {
	if !slices.ContainsFunc(r.Workers, func(k workerReport) bool { return k.Commits > 0 || k.Lost != "" }) {
		return
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	if r.Ensemble != "" {
		r.printMembers(w)
		return
	}
	fmt.Fprintf(w, "\n  worker\tsamples\tsteps\tcommits\tstaleness\tcompute s\twait s\t\n")
	for _, k := range r.Workers {
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t  %s\n", k.ID, thousands(k.Samples), thousands(k.Steps), thousands(k.Commits),
			k.StalenessMean, k.ComputeS, k.WaitS, k.Lost)
	}
	w.Flush()
}

// printMembers is the table of workers of an ensemble: what each of its models has done, and how good it is by itself.
func (r *report) printMembers(w *tabwriter.Writer) {
	head := "\n  member\tsamples\tsteps\tcompute s\t"
	var names []string
	for _, k := range r.Workers {
		for _, x := range k.Metrics {
			if x.Matrix == nil && !slices.Contains(names, x.Name) && len(names) < 4 {
				names = append(names, x.Name)
			}
		}
	}
	for _, name := range names {
		head += name + "\t"
	}
	fmt.Fprintln(w, head)
	for _, k := range r.Workers {
		line := fmt.Sprintf("  %d\t%s\t%s\t%.2f\t", k.ID, thousands(k.Samples), thousands(k.Steps), k.ComputeS)
		for _, name := range names {
			if v, ok := k.Metrics.Get(name); ok {
				line += formatMetric(name, v)
			}
			line += "\t"
		}
		fmt.Fprintln(w, line)
	}
	w.Flush()
}

func (r *report) headline() string {
	switch {
	case r.Error != nil:
		return r.Status + " (" + string(r.Error.Kind) + ")"
	case r.Skipped:
		return "this slot was done before; nothing to do (--force does it again)"
	}
	return "done"
}

func formatMetric(name string, v float64) string {
	if strings.Contains(name, "accuracy") {
		return strconv.FormatFloat(100*v, 'f', 2, 64) + " %"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// peakMemory gives the largest resident memory of this process so far in MiB, 0 where the system does not tell.
func peakMemory() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return 0
	}
	return math.Round(kib/1024*10) / 10
}

// seconds rounds to milliseconds: more digits are noise in JSON.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
