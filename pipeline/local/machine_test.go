package local

import (
	"math"
	"os"
	"testing"

	"dkpipe/pipeline/expr"

	"pgregory.net/rapid"
)

// set puts a value into row r of a column that was reset.
func (c *column) setValue(t testing.TB, r int, v expr.Value) {
	if v.Null {
		if c.valid == nil {
			c.valid = bitmap(nil).ones(c.n)
		}
		bitmap(c.valid).clear(r)
	}
	w := c.width()
	switch c.typ.Kind {
	case expr.Int64:
		c.i64[r] = v.Int
	case expr.Bool:
		c.bool[r] = v.Int != 0
	case expr.String:
		c.text = append(c.text, v.Text...)
		c.off[r+1] = int32(len(c.text))
	case expr.Float64, expr.Float32:
		vec := v.Vec
		if c.typ.Width == 0 {
			vec = []float64{v.Num}
		}
		for i := range w {
			x := 0.0
			if i < len(vec) {
				x = vec[i]
			}
			if c.typ.Kind == expr.Float32 {
				c.f32[r*w+i] = float32(x)
			} else {
				c.f64[r*w+i] = x
			}
		}
	}
}

func (c *column) value(r int) expr.Value {
	v := expr.Value{Kind: c.typ.Kind}
	if c.isNull(r) {
		v.Null = true
		return v
	}
	switch c.typ.Kind {
	case expr.Int64:
		v.Int = c.i64[r]
	case expr.Bool:
		v.Int = int64(b2i(c.bool[r]))
	case expr.String:
		v.Text = string(c.str(r))
	default:
		if c.typ.Width == 0 {
			v.Num = c.number(r)
			break
		}
		for i := range c.typ.Width {
			v.Vec = append(v.Vec, c.number(r*c.typ.Width+i))
		}
	}
	return v
}

func columnsOf(t testing.TB, schema expr.Schema, rows [][]expr.Value) []column {
	cols := make([]column, len(schema))
	for i, f := range schema {
		cols[i].reset(f.Type, len(rows))
		for r := range rows {
			cols[i].setValue(t, r, rows[r][i])
		}
	}
	return cols
}

// evalTree runs one tree over rows, in batches of the given size.
func evalTree(t testing.TB, n *expr.Node, schema expr.Schema, rows [][]expr.Value, size int) []expr.Value {
	var slots []value
	for range schema {
		slots = append(slots, &slot{})
	}
	m := newMachine()
	v, typ, err := m.compile(n, newScope(schema, slots))
	if err != nil {
		t.Fatal(err)
	}
	var out []expr.Value
	for from := 0; from < len(rows); from += size {
		part := rows[from:min(from+size, len(rows))]
		cols := columnsOf(t, schema, part)
		for i := range cols {
			slots[i].(*slot).c = &cols[i]
		}
		m.start(len(part))
		c := v.eval(m)
		if c.typ != typ || c.n != len(part) {
			t.Fatalf("%s gives %v × %d, not %v × %d", n, c.typ, c.n, typ, len(part))
		}
		for r := range part {
			out = append(out, c.value(r))
		}
	}
	return out
}

func sameFloat(a, b float64, near bool) bool {
	if math.Float64bits(a) == math.Float64bits(b) || a != a && b != b {
		return true
	}
	return near && (float32(a) == float32(b) || math.Abs(a-b) <= math.Abs(b)*1.2e-7)
}

func sameValue(a, b expr.Value, near bool) bool {
	if a.Null || b.Null {
		return a.Null == b.Null
	}
	if a.Int != b.Int || a.Text != b.Text || len(a.Vec) != len(b.Vec) || !sameFloat(a.Num, b.Num, near) {
		return false
	}
	for i := range a.Vec {
		if !sameFloat(a.Vec[i], b.Vec[i], near) {
			return false
		}
	}
	return true
}

func TestGoldenCorpusOfExpr(t *testing.T) {
	data, err := os.ReadFile("../expr/testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := expr.ParseGolden(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range golden {
		for _, size := range []int{1, 3, 1000} {
			got := evalTree(t, g.Expr, g.Schema, g.Rows, size)
			for r := range got {
				if !sameValue(got[r], g.Want[r], g.Near) {
					t.Errorf("%s, row %d, batches of %d: %s of %+v is %+v, want %+v", g.Name, r, size, g.Expr, g.Rows[r], got[r], g.Want[r])
				}
			}
		}
	}
}

var propertySchema = expr.Schema{
	{Name: "i", Type: expr.Type{Kind: expr.Int64}},
	{Name: "j", Type: expr.Type{Kind: expr.Int64}},
	{Name: "f", Type: expr.Type{Kind: expr.Float64}},
	{Name: "g", Type: expr.Type{Kind: expr.Float32}},
	{Name: "b", Type: expr.Type{Kind: expr.Bool}},
	{Name: "s", Type: expr.Type{Kind: expr.String}},
	{Name: "v", Type: expr.Type{Kind: expr.Float64, Width: 3}},
	{Name: "w", Type: expr.Type{Kind: expr.Float32, Width: 3}},
}

var (
	drawFloat = rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -1, 2.5, 0.5, 1e300, -1e300,
		math.NaN(), math.Inf(1), math.Inf(-1), 1 << 53, 9.3e18, -9.3e18, 1e-310}))
	drawInt  = rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 12), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64}))
	drawText = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", " ", "a", "ab ", " 12 ", "-7", "+3", "1e3", ".5", "5.", "NaN",
		"inf", "-Infinity", "true", "F", "yes", "0", "1", "Grüße", "9223372036854775808", "1e999", "0x1p3", "1_000"}))
)

func drawValue(t *rapid.T, typ expr.Type) expr.Value {
	v := expr.Value{Kind: typ.Kind}
	if rapid.IntRange(0, 5).Draw(t, "null") == 0 {
		v.Null = true
		return v
	}
	num := func() float64 {
		x := drawFloat.Draw(t, "float")
		if typ.Kind == expr.Float32 {
			x = float64(float32(x))
		}
		return x
	}
	switch {
	case typ.Width > 0:
		for range typ.Width {
			v.Vec = append(v.Vec, num())
		}
	case typ.Kind == expr.Int64:
		v.Int = drawInt.Draw(t, "int")
	case typ.Kind == expr.Bool:
		v.Int = int64(b2i(rapid.Bool().Draw(t, "bool")))
	case typ.Kind == expr.String:
		v.Text = drawText.Draw(t, "text")
	default:
		v.Num = num()
	}
	return v
}

// drawTree makes a random tree that the type checker accepts: arguments are drawn until one fits.
func drawTree(t *rapid.T, depth int) *expr.Node {
	leaf := func() *expr.Node {
		if rapid.IntRange(0, 3).Draw(t, "literal") > 0 {
			return expr.C(rapid.SampledFrom(propertySchema).Draw(t, "column").Name)
		}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return expr.Num(drawFloat.Draw(t, "num"))
		case 1:
			return expr.Int(drawInt.Draw(t, "int"))
		case 2:
			return expr.Text(drawText.Draw(t, "text"))
		case 3:
			return expr.Boolean(rapid.Bool().Draw(t, "bool"))
		case 4:
			return expr.Vec([]float64{1, drawFloat.Draw(t, "element"), -2})
		}
		return expr.Null(rapid.SampledFrom(propertySchema).Draw(t, "null of").Type)
	}
	if depth == 0 {
		return leaf()
	}
	info := rapid.SampledFrom(expr.Table()).Draw(t, "op")
	for range 12 {
		args := make([]*expr.Node, rapid.IntRange(1, 4).Draw(t, "args"))
		for i := range args {
			args[i] = drawTree(t, rapid.IntRange(0, depth-1).Draw(t, "depth"))
		}
		if len(args) > 1 && rapid.IntRange(0, 4).Draw(t, "share") == 0 {
			args[1] = args[0]
		}
		n := &expr.Node{Op: info.Op, Args: args}
		switch info.Op {
		case expr.Col, expr.Lit, expr.Param:
			return leaf()
		case expr.Cast:
			n.Kind = rapid.SampledFrom([]expr.Kind{expr.Bool, expr.Int64, expr.Float32, expr.Float64, expr.String}).Draw(t, "to")
		case expr.OneHot:
			n.Width = rapid.IntRange(1, 4).Draw(t, "width")
		case expr.Slice, expr.Substr:
			n.From, n.Width = rapid.IntRange(0, 2).Draw(t, "from"), rapid.IntRange(1, 3).Draw(t, "width")
		case expr.At:
			n.From = rapid.IntRange(0, 3).Draw(t, "from")
		case expr.Pmod:
			n.Int = rapid.Int64Range(1, 1000).Draw(t, "divisor")
		case expr.Bucket:
			n.Vec = []float64{math.Inf(-1), -1, 0, 2.5}
		case expr.AtLeast:
			n.Num = rapid.SampledFrom([]float64{0, 1, math.Inf(1), -5}).Draw(t, "threshold")
		case expr.IndexOf:
			n.Texts = []string{"a", "", "Grüße"}
		}
		if _, err := expr.Check(n, propertySchema); err == nil {
			return n
		}
	}
	return leaf()
}

func TestRandomTreesGiveWhatTheRowInterpreterGives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := drawTree(rt, 4)
		if _, err := expr.Check(n, propertySchema); err != nil {
			rt.Skip(err)
		}
		rows := make([][]expr.Value, rapid.IntRange(1, 40).Draw(rt, "rows"))
		for r := range rows {
			for _, f := range propertySchema {
				rows[r] = append(rows[r], drawValue(rt, f.Type))
			}
		}
		got := evalTree(t, n, propertySchema, rows, rapid.IntRange(1, 16).Draw(rt, "batch"))
		for r, row := range rows {
			want, err := expr.Eval(n, propertySchema, row)
			if err != nil {
				rt.Fatal(err)
			}
			if !sameValue(got[r], want, false) {
				rt.Fatalf("%s of %+v is %+v, want %+v", n, row, got[r], want)
			}
		}
	})
}
