package expr

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// trees draws trees that Check accepts over the columns of check_test.go.
type trees struct{ t *rapid.T }

func (g trees) pick(n int) int { return rapid.IntRange(0, n-1).Draw(g.t, "pick") }

func (g trees) float() float64 {
	edge := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), 1, -1, 0.5, 1e300, 5e-324, 1 << 53}
	if g.pick(2) == 0 {
		return edge[g.pick(len(edge))]
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

func (g trees) number(depth int) *Node {
	if depth == 0 {
		return []*Node{C("i"), C("f"), C("d"), Num(g.float()), Int(rapid.Int64().Draw(g.t, "int")), Null(Type{Kind: Float64})}[g.pick(6)]
	}
	depth--
	switch g.pick(10) {
	case 0:
		return Call([]Op{Add, Sub, Mul, Div, Least, Greatest, IfNaN, Pow}[g.pick(8)], g.number(depth), g.number(depth))
	case 1:
		return Call([]Op{Abs, Exp, Log, Sqrt, Floor}[g.pick(5)], g.number(depth))
	case 2:
		return Call(Clip, g.number(depth), g.number(depth), g.number(depth))
	case 3:
		return To([]Kind{Int64, Float32, Float64}[g.pick(3)], []*Node{g.number(depth), g.text(depth), g.truth(depth)}[g.pick(3)])
	case 4:
		return Call(Case, g.truth(depth), To(Float64, g.number(depth)), Num(g.float()))
	case 5:
		return Call([]Op{SumOf, MaxOf, ArgMax}[g.pick(3)], g.vector(depth))
	case 6:
		return Element(g.vector(depth), 1)
	case 7:
		return Modulo(Call(Hash, g.text(depth), g.number(depth), g.truth(depth)), 1+int64(g.pick(1000)))
	case 8:
		return []*Node{Index(g.text(depth), []string{"a", "", "ü"}), Splits(g.number(depth), []float64{-1, 0, 2}), FirstAtLeast(g.vector(depth), 0.5)}[g.pick(3)]
	}
	return Call(First, To(Float64, g.number(depth)), To(Float64, g.number(depth)))
}

// vector draws a vector of three elements.
func (g trees) vector(depth int) *Node {
	if depth == 0 {
		return []*Node{C("v"), Vec(g.floats(3)), Null(Type{Kind: Float32, Width: 3})}[g.pick(3)]
	}
	depth--
	switch g.pick(6) {
	case 0:
		return Call([]Op{Add, Sub, Mul, Div, IfNaN}[g.pick(5)], g.vector(depth), g.number(depth))
	case 1:
		return To(Float32, Call([]Op{Add, Greatest}[g.pick(2)], g.vector(depth), g.vector(depth)))
	case 2:
		return Hot(g.number(depth), 3)
	case 3:
		return Call(Vector, g.number(depth), Part(g.vector(depth), 1, 2))
	case 4:
		return Call(First, To(Float32, g.vector(depth)), C("v"))
	}
	return Call(Vector, C("w"), g.number(depth))
}

func (g trees) text(depth int) *Node {
	if depth == 0 {
		return []*Node{C("s"), Text(rapid.String().Draw(g.t, "text")), Null(Type{Kind: String})}[g.pick(3)]
	}
	depth--
	switch g.pick(4) {
	case 0:
		return Call([]Op{Lower, Trim}[g.pick(2)], g.text(depth))
	case 1:
		return SubText(g.text(depth), g.pick(3), g.pick(3))
	case 2:
		return To(String, []*Node{To(Int64, g.number(depth)), g.truth(depth)}[g.pick(2)])
	}
	return Call(Join, g.text(depth), g.text(depth))
}

func (g trees) truth(depth int) *Node {
	if depth == 0 {
		return []*Node{C("b"), Boolean(true), Null(Type{Kind: Bool})}[g.pick(3)]
	}
	depth--
	switch g.pick(5) {
	case 0:
		return Call([]Op{Eq, Ne, Lt, Le, Gt, Ge}[g.pick(6)], g.number(depth), g.number(depth))
	case 1:
		return Call([]Op{Eq, Ne, Lt, Le, Gt, Ge}[g.pick(6)], g.text(depth), g.text(depth))
	case 2:
		return Call([]Op{And, Or}[g.pick(2)], g.truth(depth), g.truth(depth), g.truth(depth))
	case 3:
		return Call([]Op{IsNull, IsNaN, IsValid}[g.pick(3)], g.vector(depth))
	}
	return Call(Not, g.truth(depth))
}

func (g trees) row() []Value {
	row := []Value{
		{Kind: Int64, Int: rapid.Int64().Draw(g.t, "i")}, {Kind: Float32, Num: float64(float32(g.float()))}, {Kind: Float64, Num: g.float()},
		{Kind: String, Text: rapid.String().Draw(g.t, "s")}, truth(g.pick(2) == 0), {Kind: Float32, Vec: g.floats(3)}, {Kind: Float64, Vec: g.floats(2)},
	}
	for i, x := range row[5].Vec {
		row[5].Vec[i] = float64(float32(x))
	}
	for i := range row {
		if g.pick(4) == 0 {
			row[i] = Value{Kind: row[i].Kind, Null: true}
		}
	}
	return row
}

func TestRandomTreesSurviveJSONAndHaveTheirType(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := trees{t}
		depth := rapid.IntRange(0, 5).Draw(t, "depth")
		n := []func(int) *Node{g.number, g.vector, g.text, g.truth}[g.pick(4)](depth)
		typ, err := Check(n, columns)
		if err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var back Node
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		again, err := json.Marshal(&back)
		if err != nil || string(again) != string(data) {
			t.Fatalf("%s\nbecame\n%s, %v", data, again, err)
		}
		row := g.row()
		a, errA := Eval(n, columns, row)
		b, errB := Eval(&back, columns, row)
		if errA != nil || errB != nil || !same(a, b, false) {
			t.Fatalf("%s gives %+v, %v; after JSON %+v, %v", n, a, errA, b, errB)
		}
		if a.Kind != typ.Kind || !a.Null && len(a.Vec) != typ.Width {
			t.Fatalf("%s is %s and gives %+v", n, typ, a)
		}
		for _, x := range append(a.Vec, a.Num) {
			if typ.Kind == Float32 && !isFloat32(x) {
				t.Fatalf("%s is %s and gives %v", n, typ, x)
			}
		}
	})
}

func TestLiteralsSurviveJSON(t *testing.T) {
	for _, n := range []*Node{
		Num(math.NaN()), Num(math.Inf(-1)), Num(math.Copysign(0, -1)), Num(0), Num(5e-324), Num(math.MaxFloat64), Int(math.MinInt64), Int(math.MaxInt64),
		Text(""), Text("\x00'\"\\\u2028"), Vec([]float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 0.1}), Boolean(false), Null(Type{Kind: String}),
	} {
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var back Node
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*Node{n, &back} { // NaN is not equal to itself
			if m.Num != m.Num {
				m.Num = 77
			}
			for i := range m.Vec {
				if m.Vec[i] != m.Vec[i] {
					m.Vec[i] = 77
				}
			}
		}
		if !reflect.DeepEqual(*n, back) || math.Signbit(n.Num) != math.Signbit(back.Num) || len(n.Vec) > 2 && !math.Signbit(back.Vec[2]) {
			t.Errorf("%+v became %+v by way of %s", *n, back, data)
		}
	}
}

// FuzzTreesFromFiles feeds bytes of unknown origin through everything that a reader of a manifest does with a tree.
func FuzzTreesFromFiles(f *testing.F) {
	for _, g := range golden(f) {
		data, err := json.Marshal(g.Expr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"op":"slice","from":9223372036854775807,"width":1,"args":[{"op":"col","name":"v"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n Node
		if json.Unmarshal(data, &n) != nil {
			return
		}
		_ = n.String()
		_ = Columns(&n)
		row := make([]Value, len(columns))
		for i, c := range columns {
			if c.Type.Width > 0 {
				row[i].Vec = make([]float64, c.Type.Width)
			}
		}
		if typ, err := Check(&n, columns); err == nil {
			v, err := Eval(&n, columns, row)
			if err != nil || v.Kind != typ.Kind || !v.Null && len(v.Vec) != typ.Width {
				t.Fatalf("%s is %s and gives %+v, %v", &n, typ, v, err)
			}
		}
	})
}
