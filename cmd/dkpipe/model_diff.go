package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// change is one difference of two definitions.
type change struct {
	Layer string `json:"layer"`
	What  string `json:"what"` // only in the first, only in the second, name, kind, inputs, or the field
	A     string `json:"a,omitempty"`
	B     string `json:"b,omitempty"`
}

// tensorDiff compares two tensors of equal shapes.
type tensorDiff struct {
	Name    string   `json:"name"`
	Shape   []int    `json:"shape"`
	ShapeB  []int    `json:"shape_b,omitempty"` // when it is another
	Max     *float64 `json:"max,omitempty"`     // greatest absolute difference; null when the shapes differ, or for NaN against a number
	Norm    *float64 `json:"norm,omitempty"`    // of the difference, Euclidean
	NormA   *float64 `json:"norm_a,omitempty"`
	Differs bool     `json:"differs"`
}

type diffReport struct {
	dataHead
	A       string       `json:"a"`
	B       string       `json:"b"`
	Equal   bool         `json:"equal"`
	Layers  []change     `json:"layers"`
	Tensors []tensorDiff `json:"tensors"`
	notes   []string
}

func (a *app) modelDiffCommand() *cobra.Command {
	var tolerance float64
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two models: layers, shapes, and every tensor",
		Long: "Compares layers in their order, and of every tensor the greatest absolute difference and the norms. As diff does, it\n" +
			"exits with 0 when the models are equal and with 1 when they differ; what cannot be read exits as in every command.\n" +
			"The preprocessing of published models is compared, too; of ensembles, member by member. A definition without weights compares layers only.",
		Example: "  dkpipe model diff out/model/v000001 out/model/v000002\n  dkpipe model diff --tolerance 1e-6 model.keras out/model",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if !(tolerance >= 0) {
				return usage("give 0 or more", "--tolerance is %g", tolerance)
			}
			r := &diffReport{Layers: []change{}, Tensors: []tensorDiff{}}
			err := a.data(c, r, func(ctx context.Context, j *job) error {
				ma, err := j.openModel(ctx, args[0], "")
				if err != nil {
					return err
				}
				mb, err := j.openModel(ctx, args[1], "")
				if err != nil {
					return err
				}
				r.Warnings = append(r.Warnings, j.report.Warnings...)
				return r.compare(ma, mb, tolerance)
			})
			if err == nil && !r.Equal {
				return &saidError{kind: pipeline.Internal} // exit code 1
			}
			return err
		},
	}
	c.Flags().Float64Var(&tolerance, "tolerance", 0, "tensors are equal when no number differs by more than this, `X`")
	return c
}

func (r *diffReport) compare(a, b *modelSource, tolerance float64) error {
	r.A, r.B = a.at.String(), b.at.String()
	var err error
	if r.Layers, err = diffLayers(a.def, b.def); err != nil {
		return err
	}
	r.Equal = len(r.Layers) == 0
	if a.bundle != nil && b.bundle != nil && a.bundle.TransformSHA256 != b.bundle.TransformSHA256 {
		r.Equal = false
		r.Layers = append(r.Layers, change{What: "preprocessing", A: fmt.Sprintf("%.12s", a.bundle.TransformSHA256), B: fmt.Sprintf("%.12s", b.bundle.TransformSHA256)})
	}
	if a.ensemble != nil || b.ensemble != nil {
		return r.compareMembers(a, b, tolerance)
	}
	if !a.hasWeights() || !b.hasWeights() {
		r.notes = append(r.notes, "one of them has no weights: layers are compared, tensors are not")
		if a.hasWeights() != b.hasWeights() {
			r.Equal = false
		}
		return nil
	}
	return r.compareTensors(a, b, "", tolerance)
}

// compareMembers compares the models of two ensembles, member by member.
func (r *diffReport) compareMembers(a, b *modelSource, tolerance float64) error {
	if a.ensemble == nil || b.ensemble == nil || len(a.ensemble.Members) != len(b.ensemble.Members) {
		r.Equal = false
		r.Layers = append(r.Layers, change{What: "models", A: modelsOf(a), B: modelsOf(b)})
		return nil
	}
	if a.ensemble.Combine != b.ensemble.Combine {
		r.Equal = false
		r.Layers = append(r.Layers, change{What: "combine", A: a.ensemble.Combine, B: b.ensemble.Combine})
	}
	for k := range a.ensemble.Members {
		ma, err := a.one(k)
		if err != nil {
			return err
		}
		mb, err := b.one(k)
		if err != nil {
			return err
		}
		if err := r.compareTensors(ma, mb, fmt.Sprintf("member %d: ", k), tolerance); err != nil {
			return err
		}
	}
	return nil
}

// modelsOf counts the models of one that may be an ensemble.
func modelsOf(m *modelSource) string {
	if m.ensemble == nil {
		return "1"
	}
	return fmt.Sprint(len(m.ensemble.Members))
}

// compareTensors compares the weights of two models of nearly the same layers.
func (r *diffReport) compareTensors(a, b *modelSource, prefix string, tolerance float64) error {
	va, err := a.def.Variables()
	if err != nil {
		return err
	}
	vb, err := b.def.Variables()
	if err != nil {
		return err
	}
	for i, v := range va {
		k := slices.IndexFunc(vb, func(w model.Variable) bool { return w.Name == v.Name })
		if k < 0 && len(va) == len(vb) { // layers with other names: by position
			k = i
		}
		if k < 0 {
			continue // of a layer that only one has
		}
		d := diffTensors(v, vb[k], a.tensor(v), b.tensor(vb[k]), tolerance)
		d.Name = prefix + d.Name
		r.Equal = r.Equal && !d.Differs
		r.Tensors = append(r.Tensors, d)
	}
	return nil
}

// diffLayers compares definitions layer by layer, in order when both have the same sequence of kinds, else by name.
func diffLayers(a, b *model.Definition) ([]change, error) {
	out := []change{}
	if fmt.Sprint(inputShapesOf(a)) != fmt.Sprint(inputShapesOf(b)) {
		out = append(out, change{What: "inputs", A: fmt.Sprint(inputShapesOf(a)), B: fmt.Sprint(inputShapesOf(b))})
	}
	sameOrder := slices.EqualFunc(a.Layers, b.Layers, func(x, y model.Layer) bool { return x.Op.Kind() == y.Op.Kind() })
	renamed := map[string]string{} // names of b as a has them
	if sameOrder {
		for i := range a.Inputs {
			if len(a.Inputs) == len(b.Inputs) {
				renamed[b.Inputs[i].Name] = a.Inputs[i].Name
			}
		}
		for i := range a.Layers {
			renamed[b.Layers[i].Name] = a.Layers[i].Name
		}
	}
	name := func(n string) string {
		if r, ok := renamed[n]; ok {
			return r
		}
		return n
	}
	used := map[string]bool{}
	for i, x := range a.Layers {
		k := slices.IndexFunc(b.Layers, func(y model.Layer) bool { return y.Name == x.Name })
		if sameOrder {
			k = i
		}
		if k < 0 {
			out = append(out, change{Layer: x.Name, What: "only in the first", A: x.Op.Kind()})
			continue
		}
		y := b.Layers[k]
		used[y.Name] = true
		if x.Op.Kind() != y.Op.Kind() {
			out = append(out, change{Layer: x.Name, What: "kind", A: x.Op.Kind(), B: y.Op.Kind()})
			continue
		}
		var from []string
		for _, f := range y.From {
			from = append(from, name(f))
		}
		if !slices.Equal(x.From, from) {
			out = append(out, change{Layer: x.Name, What: "reads", A: strings.Join(x.From, ", "), B: strings.Join(from, ", ")})
		}
		changes, err := diffFields(x, y)
		if err != nil {
			return nil, err
		}
		out = append(out, changes...)
	}
	for _, y := range b.Layers {
		if !used[y.Name] {
			out = append(out, change{Layer: y.Name, What: "only in the second", B: y.Op.Kind()})
		}
	}
	return out, nil
}

func inputShapesOf(d *model.Definition) [][]int {
	var out [][]int
	for _, in := range d.Inputs {
		out = append(out, in.Shape)
	}
	return out
}

// diffFields compares what two layers of one kind are set to.
func diffFields(x, y model.Layer) ([]change, error) {
	fields := func(op model.Op) (map[string]json.RawMessage, error) {
		text, err := json.Marshal(op)
		if err != nil {
			return nil, err
		}
		out := map[string]json.RawMessage{}
		return out, json.Unmarshal(text, &out)
	}
	fx, err := fields(x.Op)
	if err != nil {
		return nil, err
	}
	fy, err := fields(y.Op)
	if err != nil {
		return nil, err
	}
	var out []change
	for _, key := range slices.Sorted(maps.Keys(fx)) {
		if string(fx[key]) != string(fy[key]) {
			out = append(out, change{Layer: x.Name, What: key, A: string(fx[key]), B: string(fy[key])})
		}
	}
	return out, nil
}

func diffTensors(v, w model.Variable, a, b []float32, tolerance float64) tensorDiff {
	d := tensorDiff{Name: v.Name, Shape: v.Shape}
	if !slices.Equal(v.Shape, w.Shape) {
		d.ShapeB, d.Differs = w.Shape, true
		return d
	}
	var most, squares, squaresA float64
	for i, x := range a {
		y := b[i]
		squaresA += float64(x) * float64(x)
		if x == y || x != x && y != y {
			continue
		}
		diff := math.Abs(float64(x) - float64(y))
		squares += diff * diff
		if diff != diff || diff > most {
			most = diff
		}
		d.Differs = d.Differs || !(diff <= tolerance)
	}
	d.Max, d.Norm, d.NormA = finite(most), finite(math.Sqrt(squares)), finite(math.Sqrt(squaresA))
	return d
}

// finite gives a number that JSON can hold, or nil.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (r *diffReport) print(a *app) {
	for _, c := range r.Layers {
		what := c.What
		if c.Layer != "" {
			what = "layer " + c.Layer + ": " + what
		}
		switch {
		case c.B == "":
			fmt.Fprintf(a.stdout, "%s (%s)\n", what, c.A)
		case c.A == "":
			fmt.Fprintf(a.stdout, "%s (%s)\n", what, c.B)
		default:
			fmt.Fprintf(a.stdout, "%s: %s -> %s\n", what, c.A, c.B)
		}
	}
	show := func(v *float64) string {
		if v == nil {
			return "NaN"
		}
		return fmt.Sprintf("%.4g", *v)
	}
	if len(r.Tensors) > 0 {
		w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
		fmt.Fprintf(w, "Tensor\tShape\tMax diff\tNorm of diff\tNorm\n")
		for _, t := range r.Tensors {
			if t.ShapeB != nil {
				fmt.Fprintf(w, "%s\t%v -> %v\t\t\t\n", t.Name, t.Shape, t.ShapeB)
				continue
			}
			fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%s\n", t.Name, t.Shape, show(t.Max), show(t.Norm), show(t.NormA))
		}
		w.Flush()
	}
	for _, n := range r.notes {
		fmt.Fprintln(a.stdout, n)
	}
	if r.Equal {
		fmt.Fprintln(a.stdout, "equal")
	} else {
		fmt.Fprintln(a.stdout, "different")
	}
}
