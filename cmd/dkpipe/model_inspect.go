package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dkpipe/pipeline/expr"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model/formats/kerasjson"
)

// layerReport is one line of the table of layers.
type layerReport struct {
	Name       string   `json:"name"`
	Kind       string   `json:"kind"` // input, or the layer's name in a job file
	Shape      []int    `json:"shape"`
	Parameters int      `json:"parameters"`
	State      int      `json:"state,omitempty"` // numbers that are kept and not trained
	Frozen     bool     `json:"frozen,omitempty"`
	From       []string `json:"from,omitempty"`
}

type inspectReport struct {
	dataHead
	Model      string              `json:"model"`
	Format     string              `json:"format"`
	Keras      string              `json:"keras,omitempty"` // the version that wrote a file
	Bytes      int64               `json:"bytes,omitempty"` // of a file
	Name       string              `json:"name"`
	Layers     []layerReport       `json:"layers"`
	Outputs    []string            `json:"outputs"`
	Parameters int                 `json:"parameters"` // that are trained
	State      int                 `json:"state"`
	Weights    bool                `json:"weights"`            // false: a definition alone
	Compiled   *kerasjson.Compiled `json:"compiled,omitempty"` // of a Keras file: what it was compiled with there
	Ensemble   *ensembleReport     `json:"ensemble,omitempty"`
	Info       *bundle.Info        `json:"info,omitempty"`
	Metrics    json.RawMessage     `json:"metrics,omitempty"`
	Transform  []expr.Fitted       `json:"transform,omitempty"`
	X          []string            `json:"x,omitempty"`
	Y          []string            `json:"y,omitempty"`
}

// ensembleReport is what is known of several models that predict together. Layers, parameters and state are one model's.
type ensembleReport struct {
	Combine string              `json:"combine"`
	Members []bundle.MemberInfo `json:"members"`
	text    string
}

func (a *app) modelInspectCommand() *cobra.Command {
	var definition string
	c := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show a model's layers, its transformers, its metrics and where it came from",
		Long:  "Shows a published model or a model file as a table of layers with the shapes of their results for one row.",
		Example: "  dkpipe model inspect out/model\n  dkpipe model inspect out/model/v000002 --json\n  dkpipe model inspect hdfs://ns/models/mine.keras\n" +
			"  dkpipe model inspect --definition model.json old.weights.h5",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := &inspectReport{}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				m, err := j.openModel(ctx, args[0], definition)
				if err != nil {
					return err
				}
				r.Warnings = append(r.Warnings, j.report.Warnings...)
				return r.fill(m)
			})
		},
	}
	definitionFlag(c, &definition)
	return c
}

// definitionFlag adds --definition to commands that read models.
func definitionFlag(c *cobra.Command, definition *string) {
	c.Flags().StringVar(definition, "definition", "", "the model that weights without one belong to: Keras JSON or any other model, `FILE`")
}

func (r *inspectReport) fill(m *modelSource) error {
	r.Model, r.Format, r.Keras, r.Bytes, r.Name = m.at.String(), m.format, m.keras, m.bytes, m.def.Name
	r.Outputs, r.Weights, r.Compiled = m.def.Outputs, m.hasWeights(), m.made
	vars, err := m.def.Variables()
	if err != nil {
		return err
	}
	shapes := m.def.Shapes()
	for _, in := range m.def.Inputs {
		r.Layers = append(r.Layers, layerReport{Name: in.Name, Kind: "input", Shape: in.Shape})
	}
	for i, l := range m.def.Layers {
		row := layerReport{Name: l.Name, Kind: l.Op.Kind(), Shape: shapes[l.Name], From: l.From, Frozen: l.Frozen}
		for _, v := range vars {
			switch {
			case v.Layer != i:
			case v.State:
				row.State += v.Len
			default:
				row.Parameters += v.Len
			}
		}
		r.Parameters += row.Parameters
		r.State += row.State
		r.Layers = append(r.Layers, row)
	}
	if e := m.ensemble; e != nil {
		r.Ensemble = &ensembleReport{Combine: e.Combine, text: describe(e)}
		for _, k := range e.Members {
			r.Ensemble.Members = append(r.Ensemble.Members, k.Info)
		}
	}
	if b := m.bundle; b != nil {
		r.Info, r.Metrics, r.Transform, r.X, r.Y = &b.Info, b.Metrics, b.Transform, b.X, b.Y
	}
	return nil
}

func (r *inspectReport) print(a *app) {
	fmt.Fprintf(a.stdout, "%s\n\nModel: %q\n", r.Model, r.Name)
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "Layer (type)\tOutput Shape\tParam #\tConnected to\n")
	for _, l := range r.Layers {
		shape := "(None"
		for _, d := range l.Shape {
			shape += fmt.Sprintf(", %d", d)
		}
		kind := l.Kind
		if l.Frozen {
			kind += ", frozen"
		}
		fmt.Fprintf(w, "%s (%s)\t%s)\t%s\t%s\n", l.Name, kind, shape, thousands(int64(l.Parameters+l.State)), strings.Join(l.From, ", "))
	}
	w.Flush()
	all := int64(r.Parameters + r.State)
	fmt.Fprintf(a.stdout, "Total params: %s (%s)\n", thousands(all), humanBytes(4*all))
	if r.State > 0 {
		fmt.Fprintf(a.stdout, "  trained:     %s\n  not trained: %s\n", thousands(int64(r.Parameters)), thousands(int64(r.State)))
	}
	if c := r.Compiled; c != nil {
		fmt.Fprintf(a.stdout, "compiled in Keras with %s\n", strings.Join(slices.DeleteFunc([]string{c.Optimizer, lossWords(c.Losses)}, func(s string) bool { return s == "" }), ", "))
	}
	fmt.Fprintln(a.stdout)
	if r.Ensemble != nil {
		r.Ensemble.print(a.stdout)
	}
	switch {
	case r.Info != nil:
		r.printOrigin(a.stdout)
	case !r.Weights:
		fmt.Fprintf(a.stdout, "a definition without weights: dkpipe model init --keras %s --out model.keras makes some\n", r.Model)
	case r.Keras != "":
		fmt.Fprintf(a.stdout, "in the form of Keras %s, %s\n", r.Keras, humanBytes(r.Bytes))
	default:
		fmt.Fprintf(a.stdout, "%s, %s\n", r.Format, humanBytes(r.Bytes))
	}
}

// print shows one line for each member.
func (e *ensembleReport) print(out io.Writer) {
	fmt.Fprintf(out, "ensemble  %s\n", e.text)
	for k, m := range e.Members {
		line := fmt.Sprintf("member %-2d seed %d, %s samples, %s", k, m.Seed, thousands(m.Samples), plural(int64(m.Epochs), "epoch"))
		if m.Ended != "" && m.Ended != trainers.EndComplete {
			line += ", ended by " + m.Ended
		}
		var bySplit map[string]trainers.Evaluation
		if json.Unmarshal(m.Metrics, &bySplit) == nil {
			for _, split := range slices.Sorted(maps.Keys(bySplit)) {
				line += "; " + split
				for _, x := range bySplit[split].Metrics {
					if x.Matrix == nil {
						line += "  " + x.Name + " " + formatMetric(x.Name, x.Value)
					}
				}
			}
		}
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out)
}

// printOrigin shows what a bundle knows besides its layers.
func (r *inspectReport) printOrigin(w io.Writer) {
	i := r.Info
	fmt.Fprintf(w, "trained   %s by %s on %s (run %s, %s)\n", i.Created.Format("2006-01-02 15:04:05 UTC"), i.Trainer, i.Dataset, i.Run, i.Status)
	if i.SpecSHA256 != "" {
		fmt.Fprintf(w, "spec      %.12s, loss %s, dkpipe %s\n", i.SpecSHA256, i.Loss, i.DkpipeVersion)
	}
	printMetrics(w, r.Metrics)
	fmt.Fprintf(w, "rows      %s -> %s\n", strings.Join(r.X, ", "), strings.Join(r.Y, ", "))
	for _, f := range r.Transform {
		line := fmt.Sprintf("transform %s: %s -> %s", f.Op, inputsOf(f), outputsOf(f))
		if len(f.Outputs) == 0 {
			line = fmt.Sprintf("transform %s: %s", f.Op, inputsOf(f))
		}
		if f.Filter != nil {
			line += " where " + f.Filter.String()
		}
		if f.Invalid == expr.Skip || f.Invalid == expr.Keep {
			line += fmt.Sprintf(" (invalid rows: %s)", f.Invalid)
		}
		fmt.Fprintln(w, line)
	}
}

// printMetrics prints a line for every split that was measured.
func printMetrics(w io.Writer, metrics json.RawMessage) {
	var bySplit map[string]trainers.Evaluation
	if json.Unmarshal(metrics, &bySplit) != nil {
		fmt.Fprintf(w, "metrics   %s\n", metrics)
		return
	}
	for _, split := range slices.Sorted(maps.Keys(bySplit)) {
		e := bySplit[split]
		fmt.Fprintf(w, "%-9s %s rows", split, thousands(e.Rows))
		for _, m := range e.Metrics {
			fmt.Fprintf(w, "   %s %s", m.Name, formatMetric(m.Name, m.Value))
		}
		fmt.Fprintln(w)
	}
}

// inputsOf names what a step reads, with an ellipsis for many.
func inputsOf(f expr.Fitted) string {
	if n := len(f.Inputs); n > 4 {
		return fmt.Sprintf("%s, %s … %s (%d columns)", f.Inputs[0], f.Inputs[1], f.Inputs[n-1], n)
	}
	return strings.Join(f.Inputs, ", ")
}

// outputsOf shows what a step makes, as formulas.
func outputsOf(f expr.Fitted) string {
	var out []string
	for _, c := range f.Outputs {
		formula := []rune(c.Expr.String())
		if len(formula) > 100 {
			formula = append(formula[:99], '…')
		}
		out = append(out, fmt.Sprintf("%s = %s", c.Name, string(formula)))
	}
	return strings.Join(out, "; ")
}
