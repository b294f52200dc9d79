package expr

import (
	"math"
	"os"
	"testing"
)

func golden(t testing.TB) []Golden {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := ParseGolden(data)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestEvalGivesTheGoldenResults(t *testing.T) {
	for _, g := range golden(t) {
		typ, err := Check(g.Expr, g.Schema)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		if typ != g.Type {
			t.Errorf("%s: type %s, want %s", g.Name, typ, g.Type)
		}
		for i, row := range g.Rows {
			got, err := Eval(g.Expr, g.Schema, row)
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, g.Want[i], g.Near) {
				t.Errorf("%s, row %d %+v: got %+v, want %+v", g.Name, i, row, got, g.Want[i])
			}
		}
	}
}

func TestGoldenCoversEveryOperator(t *testing.T) {
	seen := map[Op]bool{Param: true} // never evaluated
	var walk func(n *Node)
	walk = func(n *Node) {
		seen[n.Op] = true
		for _, a := range n.Args {
			walk(a)
		}
	}
	for _, g := range golden(t) {
		walk(g.Expr)
	}
	for _, i := range Table() {
		if !seen[i.Op] {
			t.Errorf("no example of %s", i.Op)
		}
	}
}

// same compares bit for bit, with one NaN; near allows 1 ulp of float32.
func same(a, b Value, near bool) bool {
	if a.Null || b.Null {
		return a.Null == b.Null && a.Kind == b.Kind
	}
	if a.Kind != b.Kind || a.Int != b.Int || a.Text != b.Text || len(a.Vec) != len(b.Vec) || !sameFloat(a.Num, b.Num, near) {
		return false
	}
	for i := range a.Vec {
		if !sameFloat(a.Vec[i], b.Vec[i], near) {
			return false
		}
	}
	return true
}

func sameFloat(a, b float64, near bool) bool {
	if a != a || b != b {
		return a != a && b != b
	}
	if math.Float64bits(a) == math.Float64bits(b) {
		return true
	}
	return near && math.Abs(a-b) <= math.Abs(b)*0x1p-23
}
