package sparkconn

import (
	"strings"
	"testing"

	"dkpipe/pipeline/expr"
)

// TestLambdasAreFewAndSmall pins the form of arithmetic over vectors, whose cost is the number of lambdas and of the nodes
// in them. What the forms compute is proven by the golden corpus and by random trees.
func TestLambdasAreFewAndSmall(t *testing.T) {
	v, w := expr.C("v"), expr.C("w")
	schema := expr.Schema{{Name: "v", Type: expr.Type{Kind: expr.Float32, Width: 3}}, {Name: "w", Type: expr.Type{Kind: expr.Float64, Width: 3}},
		{Name: "x", Type: expr.Type{Kind: expr.Float64}}}
	lo, scale := expr.Vec([]float64{1, 2, 3}), expr.Vec([]float64{4, 5, 6})
	zero := expr.Vec([]float64{0, 0, 0})
	scaled := func(lo, scale, shift *expr.Node) *expr.Node {
		return expr.To(expr.Float32, expr.Call(expr.Add, expr.Call(expr.Mul, expr.Call(expr.Sub, v, lo), scale), shift))
	}
	for name, c := range map[string]struct {
		n    *expr.Node
		want string
	}{
		"casts stand outside": {scaled(expr.Num(3), expr.Num(2), expr.Num(1)),
			"CAST(transform(CAST(`v` AS ARRAY<DOUBLE>), e1 -> (((e1 - 3D) * 2D) + 1D)) AS ARRAY<FLOAT>)"},
		"what changes nothing is left out": {scaled(expr.Num(0), expr.Num(1), expr.Num(0)),
			"CAST(transform(CAST(`v` AS ARRAY<DOUBLE>), e1 -> (e1 + 0D)) AS ARRAY<FLOAT>)"},
		"nothing at all": {expr.Call(expr.Sub, w, expr.Num(0)), "`w`"},
		"two vectors a lambda": {scaled(lo, scale, zero),
			"CAST(zip_with(zip_with(CAST(`v` AS ARRAY<DOUBLE>), array(1D, 2D, 3D), (ea, eb) -> (ea - eb)), array(4D, 5D, 6D), (ec, ed) -> ((ec * ed) + 0D)) AS ARRAY<FLOAT>)"},
		"the same vector twice": {expr.Call(expr.Mul, w, expr.Call(expr.Add, w, expr.Num(1))), "transform(`w`, e1 -> (e1 * (e1 + 1D)))"},
		"even literals alone":   {expr.Call(expr.Add, zero, expr.C("x")), "if(`x` IS NULL, CAST(NULL AS ARRAY<DOUBLE>), transform(array(0D, 0D, 0D), ea -> (ea + `x`)))"},
	} {
		got, err := sqlOf(c.n, schema)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !sameForm(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
	three, err := sqlOf(expr.Call(expr.Clip, v, lo, scale), schema)
	if err != nil || !strings.Contains(three, "named_struct(") {
		t.Errorf("three vectors of one operator: %s, %v", three, err)
	}
}

// sameForm compares texts but for the names of variables.
func sameForm(a, b string) bool {
	plain := func(s string) string {
		names := map[string]string{}
		var out strings.Builder
		for i := 0; i < len(s); {
			j := i
			for j < len(s) && wordByte(s[j]) {
				j++
			}
			word := s[i:max(j, i+1)]
			if len(word) > 1 && len(word) < 4 && word[0] == 'e' {
				if names[word] == "" {
					names[word] = string(rune('α' + len(names)))
				}
				word = names[word]
			}
			out.WriteString(word)
			i += max(j-i, 1)
		}
		return out.String()
	}
	return plain(a) == plain(b)
}
