package onnx

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
)

// treesFile translates trees alone: the value of tree i, vi, and where it is NULL, ni, are outputs. Columns are renamed
// to ci:name.
func treesFile(examples []expr.Golden) (*File, error) {
	b := &builder{m: Model{Definition: &model.Definition{Name: "trees"}}, used: map[string]bool{}, consts: map[string]string{}}
	r := &rows{b: b, raw: map[string]expr.Type{}, made: map[key]value{}}
	for i, g := range examples {
		for _, f := range g.Schema {
			name := fmt.Sprintf("c%d:%s", i, f.Name)
			r.raw[name] = f.Type
			if _, err := r.column(name, 0); err != nil { // also those that the tree does not read
				return nil, err
			}
		}
		v, err := r.tree(renamed(g.Expr, fmt.Sprintf("c%d:", i)), 0)
		if err != nil {
			return nil, err
		}
		v = b.spread(v)
		b.add("Identity", []string{v.name}, fmt.Sprintf("v%d", i))
		b.output(fmt.Sprintf("v%d", i), elemOf(v.t.Kind), []int{max(v.t.Width, 1)})
		if v.null != "" {
			b.add("Identity", []string{v.null}, fmt.Sprintf("n%d", i))
			b.output(fmt.Sprintf("n%d", i), bools, []int{1})
		}
	}
	return b.file()
}

func treeFile(n *expr.Node, in expr.Schema) (*File, error) {
	return treesFile([]expr.Golden{{Expr: n, Schema: in}})
}

// renamed puts a prefix before the names of the columns that a tree reads.
func renamed(n *expr.Node, prefix string) *expr.Node {
	c := *n
	if c.Op == expr.Col {
		c.Name = prefix + c.Name
	}
	c.Args = nil
	for _, a := range n.Args {
		c.Args = append(c.Args, renamed(a, prefix))
	}
	return &c
}

func write(t *testing.T, f *File) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n, err := f.WriteTo(w)
	if err != nil || n != f.Size() {
		t.Fatalf("%d bytes, announced %d: %v", n, f.Size(), err)
	}
	return path
}

// column packs one column of rows for the runtime.
func column(name string, typ expr.Type, values []expr.Value) kerastest.Tensor {
	t := kerastest.Tensor{Name: name, Shape: []int{len(values), max(typ.Width, 1)}}
	for _, v := range values {
		switch {
		case typ.Width > 0:
			t.Wide = append(t.Wide, v.Vec...)
		case typ.Kind == expr.String:
			t.Text = append(t.Text, v.Text)
		case typ.Kind == expr.Int64 || typ.Kind == expr.Bool:
			t.Ints = append(t.Ints, v.Int)
		default:
			t.Wide = append(t.Wide, v.Num)
		}
	}
	return t
}

// noEquivalent lists the operators that ONNX cannot express.
func noEquivalent(n *expr.Node, in expr.Schema) bool {
	switch n.Op {
	case expr.Hash, expr.Lower, expr.Trim, expr.Substr, expr.Join:
		return true
	case expr.Cast:
		from, err := expr.Check(n.Args[0], in)
		if err == nil && from.Kind != n.Kind && (n.Kind == expr.String || from.Kind == expr.String) {
			return true
		}
	case expr.Lt, expr.Le, expr.Gt, expr.Ge, expr.Eq, expr.Ne:
		if from, err := expr.Check(n.Args[0], in); err == nil && from.Kind == expr.String {
			order := n.Op != expr.Eq && n.Op != expr.Ne
			return order || n.Args[0].Op != expr.Lit && n.Args[1].Op != expr.Lit
		}
	}
	return slices.ContainsFunc(n.Args, func(a *expr.Node) bool { return noEquivalent(a, in) })
}

// Every example of the operators gives in ONNX Runtime what it gives in both engines. All go into one file, so rows are
// repeated up to a common number.
func TestTreesGiveInONNXRuntimeWhatTheyGiveHere(t *testing.T) {
	o := kerastest.Start(t)
	data, err := os.ReadFile("../../../../pipeline/expr/testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := expr.ParseGolden(data)
	if err != nil {
		t.Fatal(err)
	}
	const rows = 24
	var all []expr.Golden
	var inputs []kerastest.Tensor
	for _, g := range examples {
		if noEquivalent(g.Expr, g.Schema) {
			_, err := treeFile(g.Expr, g.Schema)
			var e *pipeline.Error
			if !errors.As(err, &e) || e.Kind != pipeline.Unsupported {
				t.Errorf("%s: %v, want it refused", g.Name, err)
			}
			continue
		}
		var want []expr.Value
		columns := make([][]expr.Value, len(g.Schema))
		for i, row := range g.Rows {
			if slices.ContainsFunc(row, func(v expr.Value) bool { return v.Null }) {
				continue // ONNX knows no NULL
			}
			want = append(want, g.Want[i])
			for k, v := range row {
				columns[k] = append(columns[k], v)
			}
		}
		if len(want) == 0 || len(g.Schema) == 0 {
			continue
		}
		for k, c := range g.Schema {
			inputs = append(inputs, column(fmt.Sprintf("c%d:%s", len(all), c.Name), c.Type, cycle(columns[k], rows)))
		}
		g.Want = cycle(want, rows)
		all = append(all, g)
	}
	if len(all) < 80 {
		t.Errorf("only %d examples can be run", len(all))
	}
	f, err := treesFile(all)
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.RunONNX(write(t, f), inputs...)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]kerastest.Tensor{}
	for _, v := range out {
		got[v.Name] = v
	}
	for i, g := range all {
		null, known := got[fmt.Sprintf("n%d", i)]
		for row, want := range g.Want {
			isNull := known && null.Values()[row] != 0
			if diff := compareValue(got[fmt.Sprintf("v%d", i)], isNull, row, want, g.Type); diff != "" {
				t.Errorf("%s: %s", g.Name, diff)
				break
			}
		}
	}
}

func cycle[T any](v []T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v[i%len(v)]
	}
	return out
}

func compareValue(out kerastest.Tensor, null bool, row int, want expr.Value, typ expr.Type) string {
	if null != want.Null {
		return fmt.Sprintf("row %d: NULL is %v, want %v", row, null, want.Null)
	}
	if null {
		return ""
	}
	if typ.Kind == expr.String {
		if got := out.Text[row]; got != want.Text {
			return fmt.Sprintf("row %d: got %q, want %q", row, got, want.Text)
		}
		return ""
	}
	width := max(typ.Width, 1)
	got := out.Values()[row*width:][:width]
	expected := want.Vec
	if typ.Width == 0 {
		expected = []float64{want.Num}
		if typ.Kind == expr.Int64 || typ.Kind == expr.Bool {
			expected[0] = float64(want.Int)
		}
	}
	for k, w := range expected {
		if got[k] != w && !(math.IsNaN(got[k]) && math.IsNaN(w)) && !(math.Abs(got[k]-w) <= 1e-6*math.Abs(w)) {
			return fmt.Sprintf("row %d: got %v, want %v", row, got, expected)
		}
	}
	return ""
}

func TestWhatHasNoEquivalentIsNamed(t *testing.T) {
	text := expr.Schema{{Name: "s", Type: expr.Type{Kind: expr.String}}}
	for word, n := range map[string]*expr.Node{
		"xxhash64": expr.Call(expr.Hash, expr.C("s")),
		"lower":    expr.Index(expr.Call(expr.Lower, expr.C("s")), []string{"a"}),
		"text":     expr.To(expr.Bool, expr.C("s")),
	} {
		_, err := treeFile(n, text)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}
