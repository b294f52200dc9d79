package sparkconn

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"dkpipe/pipeline/expr"

	"pgregory.net/rapid"
)

// treeColumns are the columns of random trees; some bear the names that a renderer might give its variables.
var treeColumns = expr.Schema{
	{Name: "e1", Type: expr.Type{Kind: expr.Int64}}, {Name: "F", Type: expr.Type{Kind: expr.Float32}}, {Name: "d `", Type: expr.Type{Kind: expr.Float64}},
	{Name: "s", Type: expr.Type{Kind: expr.String}}, {Name: "b", Type: expr.Type{Kind: expr.Bool}},
	{Name: "x", Type: expr.Type{Kind: expr.Float32, Width: 3}}, {Name: "E2", Type: expr.Type{Kind: expr.Float64, Width: 2}},
}

// trees draws trees that give the same bits everywhere: exp, log and pow are left to the golden corpus.
type trees struct{ t *rapid.T }

func (g trees) pick(n int) int { return rapid.IntRange(0, n-1).Draw(g.t, "pick") }

func (g trees) of(choices ...func() *expr.Node) *expr.Node { return choices[g.pick(len(choices))]() }

func (g trees) float() float64 {
	edges := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), 1, -1, 0.5, 2, 1e300, 5e-324, 1 << 53, 1 << 63}
	if g.pick(2) == 0 {
		return edges[g.pick(len(edges))]
	}
	return rapid.Float64().Draw(g.t, "float")
}

func (g trees) floats(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = g.float()
	}
	return v
}

func (g trees) op(ops ...expr.Op) expr.Op { return ops[g.pick(len(ops))] }

func (g trees) number(d int) *expr.Node {
	if d == 0 {
		return []*expr.Node{expr.C("e1"), expr.C("F"), expr.C("d `"), expr.Num(g.float()), expr.Int(rapid.Int64().Draw(g.t, "int")), expr.Null(expr.Type{Kind: expr.Float64})}[g.pick(6)]
	}
	d--
	return g.of(
		func() *expr.Node {
			return expr.Call(g.op(expr.Add, expr.Sub, expr.Mul, expr.Div, expr.Least, expr.Greatest, expr.IfNaN), g.number(d), g.number(d))
		},
		func() *expr.Node { return expr.Call(g.op(expr.Abs, expr.Sqrt, expr.Floor), g.number(d)) },
		func() *expr.Node { return expr.Call(expr.Clip, g.number(d), g.number(d), g.number(d)) },
		func() *expr.Node {
			k := []expr.Kind{expr.Int64, expr.Float32, expr.Float64}[g.pick(3)]
			return expr.To(k, g.of(func() *expr.Node { return g.number(d) }, func() *expr.Node { return g.text(d) }, func() *expr.Node { return g.truth(d) }))
		},
		func() *expr.Node {
			return expr.Call(expr.Case, g.truth(d), expr.To(expr.Float64, g.number(d)), expr.Num(g.float()))
		},
		func() *expr.Node { return expr.Call(g.op(expr.SumOf, expr.MaxOf, expr.ArgMax), g.vector(d)) },
		func() *expr.Node { return expr.Element(g.vector(d), 1) },
		func() *expr.Node {
			return expr.Modulo(expr.Call(expr.Hash, g.text(d), g.number(d), g.truth(d)), 1+int64(g.pick(1000)))
		},
		func() *expr.Node { return expr.Index(g.text(d), []string{"a", "", "ü"}) },
		func() *expr.Node { return expr.Splits(g.number(d), []float64{-1, 0, 2}) },
		func() *expr.Node { return expr.FirstAtLeast(g.vector(d), 0.5) },
		func() *expr.Node {
			return expr.Call(expr.First, expr.To(expr.Float64, g.number(d)), expr.To(expr.Float64, g.number(d)))
		})
}

// vector draws a vector of three elements.
func (g trees) vector(d int) *expr.Node {
	if d == 0 {
		return []*expr.Node{expr.C("x"), expr.Vec(g.floats(3)), expr.Null(expr.Type{Kind: expr.Float32, Width: 3})}[g.pick(3)]
	}
	d--
	return g.of(
		func() *expr.Node {
			return expr.Call(g.op(expr.Add, expr.Sub, expr.Mul, expr.Div, expr.IfNaN, expr.Least), g.vector(d), g.number(d))
		},
		func() *expr.Node {
			return expr.To(expr.Float32, expr.Call(g.op(expr.Add, expr.Greatest, expr.Mul), g.vector(d), g.vector(d)))
		},
		func() *expr.Node { return expr.Call(expr.Clip, g.vector(d), g.vector(d), g.vector(d)) },
		func() *expr.Node { return expr.Hot(g.number(d), 3) },
		func() *expr.Node { return expr.Call(expr.Vector, g.number(d), expr.Part(g.vector(d), 1, 2)) },
		func() *expr.Node { return expr.Call(expr.First, expr.To(expr.Float32, g.vector(d)), expr.C("x")) },
		func() *expr.Node { return expr.Call(expr.Vector, expr.C("E2"), g.number(d)) },
		func() *expr.Node {
			return expr.Call(expr.Case, g.truth(d), expr.To(expr.Float64, g.vector(d)), expr.Vec(g.floats(3)))
		})
}

func (g trees) text(d int) *expr.Node {
	if d == 0 {
		return []*expr.Node{expr.C("s"), expr.Text(rapid.String().Draw(g.t, "text")), expr.Null(expr.Type{Kind: expr.String})}[g.pick(3)]
	}
	d--
	return g.of(
		func() *expr.Node { return expr.Call(g.op(expr.Lower, expr.Trim), g.text(d)) },
		func() *expr.Node { return expr.SubText(g.text(d), g.pick(3), g.pick(3)) },
		func() *expr.Node { return expr.To(expr.String, expr.To(expr.Int64, g.number(d))) },
		func() *expr.Node { return expr.To(expr.String, g.truth(d)) },
		func() *expr.Node { return expr.Call(expr.Join, g.text(d), g.text(d)) })
}

func (g trees) truth(d int) *expr.Node {
	if d == 0 {
		return []*expr.Node{expr.C("b"), expr.Boolean(true), expr.Null(expr.Type{Kind: expr.Bool})}[g.pick(3)]
	}
	d--
	compare := g.op(expr.Eq, expr.Ne, expr.Lt, expr.Le, expr.Gt, expr.Ge)
	return g.of(
		func() *expr.Node { return expr.Call(compare, g.number(d), g.number(d)) },
		func() *expr.Node { return expr.Call(compare, g.text(d), g.text(d)) },
		func() *expr.Node { return expr.Call(compare, g.truth(d), g.truth(d)) },
		func() *expr.Node { return expr.Call(g.op(expr.And, expr.Or), g.truth(d), g.truth(d), g.truth(d)) },
		func() *expr.Node { return expr.Call(g.op(expr.IsNull, expr.IsNaN), g.vector(d)) },
		func() *expr.Node { return expr.Call(expr.IsValid, g.vector(d), g.number(d), g.text(d)) },
		func() *expr.Node { return expr.To(expr.Bool, g.number(d)) },
		func() *expr.Node { return expr.To(expr.Bool, g.text(d)) },
		func() *expr.Node { return expr.Call(expr.Not, g.truth(d)) })
}

func (g trees) row() []expr.Value {
	row := []expr.Value{
		{Kind: expr.Int64, Int: rapid.Int64().Draw(g.t, "i")}, {Kind: expr.Float32, Num: float64(float32(g.float()))}, {Kind: expr.Float64, Num: g.float()},
		{Kind: expr.String, Text: []string{"a", " 12 ", "\t-3.5e2", "1d", "Inf", "TRUE", "ü${x}'\\", rapid.String().Draw(g.t, "s")}[g.pick(8)]},
		{Kind: expr.Bool, Int: int64(g.pick(2))}, {Kind: expr.Float32, Vec: g.floats(3)}, {Kind: expr.Float64, Vec: g.floats(2)},
	}
	for i, x := range row[5].Vec {
		row[5].Vec[i] = float64(float32(x))
	}
	for i := range row {
		if g.pick(4) == 0 {
			row[i] = expr.Value{Kind: row[i].Kind, Null: true}
		}
	}
	return row
}

func TestSparkEvaluatesRandomTreesAsGoDoes(t *testing.T) {
	s := dialReal(t)
	if err := s.SetConf(t.Context(), evaluations["compiled"]); err != nil {
		t.Fatal(err)
	}
	tree := rapid.Custom(func(t *rapid.T) *expr.Node {
		g := trees{t}
		return []func(int) *expr.Node{g.number, g.vector, g.text, g.truth}[g.pick(4)](rapid.IntRange(1, 4).Draw(t, "depth"))
	})
	row := rapid.Custom(func(t *rapid.T) []expr.Value { return trees{t}.row() })
	const perQuery, rows = 25, 20
	queries := 12
	if os.Getenv("DKPIPE_FULL") != "" {
		queries = 200
	}
	for q := range queries {
		var values [][]expr.Value
		for i := range rows {
			values = append(values, row.Example(q*rows+i))
		}
		items := []string{"`#`"}
		var nodes []*expr.Node
		for i := range perQuery {
			n := tree.Example(q*perQuery + i)
			text, err := sqlOf(n, treeColumns)
			if err != nil {
				t.Fatalf("%s: %v", n, err)
			}
			nodes = append(nodes, n)
			items = append(items, text+" AS c"+strconv.Itoa(i))
		}
		got, err := s.table(t.Context(), "random trees", "", "SELECT "+strings.Join(items, ",\n")+" FROM "+valuesSQL(treeColumns, values))
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range nodes {
			typ, err := expr.Check(n, treeColumns)
			if err != nil {
				t.Fatal(err)
			}
			for k := range got.rows {
				r := values[got.cols[0].ints[k]]
				want, err := expr.Eval(n, treeColumns, r)
				if err != nil {
					t.Fatal(err)
				}
				if v := valueAt(&got.cols[i+1], k, typ); !sameValue(v, want, false) {
					t.Errorf("%s\nover %+v: Spark gives %+v, Go %+v\n%s", n, r, v, want, items[i+1])
					break
				}
			}
		}
	}
}
