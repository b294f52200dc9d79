package expr

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

var columns = Schema{
	{"i", Type{Kind: Int64}}, {"f", Type{Kind: Float32}}, {"d", Type{Kind: Float64}}, {"s", Type{Kind: String}}, {"b", Type{Kind: Bool}},
	{"v", Type{Kind: Float32, Width: 3}}, {"w", Type{Kind: Float64, Width: 2}},
}

func TestCheckRefusesWhatNoBackEndCouldEvaluate(t *testing.T) {
	deep := C("d")
	for range MaxDepth {
		deep = Call(Abs, deep)
	}
	wide := make([]*Node, MaxNodes)
	for i := range wide {
		wide[i] = C("d")
	}
	long := []*Node{C("d"), Null(Type{Kind: Float64, Width: MaxWidth})}
	for _, c := range []struct {
		n    *Node
		says string
	}{
		{nil, "a node is missing"},
		{&Node{}, `unknown operator ""`},
		{Call("eval", C("d")), `unknown operator "eval"`},
		{Call(Add, C("d")), "add: 1 arguments"},
		{Call(Add, C("d"), nil), "a node is missing"},
		{Call(Abs), "abs: 0 arguments"},
		{&Node{Op: Col, Name: "d", Args: []*Node{C("d")}}, "col: 1 arguments"},
		{Call(Add, C("d"), C("s")), "add: argument 2 (s) is string, not int64 or float or vector"},
		{Call(Add, C("d"), C("b")), "add: argument 2 (b) is bool"},
		{Call(Mul, C("v"), C("w")), "mul: argument 2 (w) has width 2, another has 3"},
		{Call(Eq, C("d"), C("s")), "eq: float64 against string"},
		{Call(Eq, C("b"), C("i")), "eq: bool against int64"},
		{Call(Eq, C("v"), C("v")), "eq: argument 1 (v) is float32[3]"},
		{Call(And, C("b"), C("d")), "and: argument 2 (d) is float64, not bool"},
		{Call(Case, C("b"), C("d")), "case: 2 arguments"},
		{Call(Case, C("b"), C("d"), C("b"), C("d")), "case: the value for the rest is missing"},
		{Call(Case, C("d"), C("d"), C("d")), "case: condition d is float64, not bool"},
		{Call(Case, C("b"), C("d"), C("i")), "case: values of types float64 and int64"},
		{Call(First, C("v"), C("w")), "coalesce: values of types float32[3] and float64[2]"},
		{To("decimal", C("d")), `no cast from float64 to "decimal"`},
		{To(String, C("d")), `no cast from float64 to "string"`},
		{To(Int64, C("v")), `no cast from float32[3] to "int64"`},
		{Hot(C("i"), 0), "one_hot: width 0 is outside"},
		{Hot(C("i"), MaxWidth+1), "is outside 1.."},
		{Hot(C("i"), AnyWidth), "one_hot: width -1"},
		{Hot(C("v"), 3), "one_hot: argument 1 (v) is float32[3]"},
		{Element(C("v"), 3), "at: position 3 of float32[3]"},
		{Element(C("v"), -1), "at: position -1"},
		{Part(C("v"), 2, 2), "slice: 2 elements from position 2 of float32[3]"},
		{Part(C("v"), math.MaxInt, 1), "slice: 1 elements from position"},
		{SubText(C("s"), -1, 2), "substr: 2 characters from -1"},
		{Index(C("s"), []string{"a", "b", "a"}), `index_of: "a" is there twice`},
		{Splits(C("d"), nil), "bucket: 0 splits"},
		{Splits(C("d"), []float64{1, 1}), "splits must strictly rise"},
		{Splits(C("d"), []float64{math.NaN()}), "splits must strictly rise"},
		{FirstAtLeast(C("v"), math.NaN()), "the threshold is NaN"},
		{Modulo(C("i"), 0), "pmod: divisor 0"},
		{Modulo(C("d"), 3), "pmod: argument 1 (d) is float64, not int64"},
		{&Node{Op: Lit, Kind: "date"}, "lit: no type date"},
		{&Node{Op: Lit, Kind: Int64, Width: 2}, "lit: no type int64[2]"},
		{&Node{Op: Lit, Kind: Float64, Width: 2, Vec: []float64{1}}, "lit: 1 elements for a width of 2"},
		{&Node{Op: Lit, Kind: Float64, Width: -1}, "lit: width -1"},
		{&Node{Op: Lit, Kind: Float32, Num: 0.1}, "lit: 0.1 is not a float32"},
		{&Node{Op: Lit, Kind: Float32, Width: 1, Vec: []float64{0.1}}, "lit: 0.1 is not a float32"},
		{&Node{Op: Lit, Kind: Bool, Int: 2}, "lit: 2 is not a bool"},
		{Unfitted("min(x)", Type{Kind: Float64}), ":min(x) is not fitted"},
		{deep, "levels"},
		{Call(Vector, wide...), "levels or"},
		{Call(Vector, long...), "vector: more than"},
	} {
		_, err := Check(c.n, columns)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.80s: %v, want %q", c.n.String(), err, c.says)
		}
	}
}

func TestCheckNamesTheNearestColumn(t *testing.T) {
	_, err := Check(Call(Abs, C("labl")), Schema{{"id", Type{Kind: Int64}}, {"label", Type{Kind: Int64}}})
	var e *ColumnError
	if !errors.As(err, &e) || e.Column != "labl" || e.Near != "label" || e.ErrorKind() != "missing_column" {
		t.Errorf("%#v", err)
	}
}

func TestCheckGivesTypes(t *testing.T) {
	for _, c := range []struct {
		n    *Node
		want string
	}{
		{Call(Add, C("i"), C("i")), "float64"},
		{Call(Add, C("v"), C("f")), "float64[3]"},
		{Call(Vector, C("f"), C("v")), "float32[4]"},
		{Call(Vector, C("i"), C("v")), "float64[4]"},
		{To(Float32, Call(Vector, C("i"), C("v"))), "float32[4]"},
		{Part(C("w"), 0, 1), "float64[1]"},
		{Call(Hash, C("s"), C("b"), C("d")), "int64"},
		{Null(Type{Kind: Float32, Width: 7}), "float32[7]"},
	} {
		got, err := Check(c.n, columns)
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v, want %s", c.n, got, err, c.want)
		}
	}
}

func TestPlaceholdersAreTypedInPreviews(t *testing.T) {
	x := Unfitted("min(v)", Type{Kind: Float64, Width: AnyWidth})
	for n, want := range map[*Node]string{
		Call(Sub, C("v"), x):                                      "float64[3]",
		Call(Sub, x, x):                                           "float64[?]",
		Hot(C("i"), AnyWidth):                                     "float32[?]",
		Call(Vector, C("d"), x):                                   "float64[?]",
		Call(First, To(Float32, x), C("v")):                       "float32[3]",
		Call(Case, C("b"), C("v"), To(Float32, x)):                "float32[3]",
		Part(x, 5, 2):                                             "float64[2]",
		Call(SumOf, Call(Add, x, C("v"))):                         "float64",
		Call(First, Unfitted("a", Type{Kind: String}), Text("x")): "string",
	} {
		got, err := TypeOf(n, columns)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v, want %s", n, got, err, want)
		}
	}
}

func TestEveryOperatorIsDocumented(t *testing.T) {
	seen := map[Op]bool{}
	for _, i := range Table() {
		if seen[i.Op] || i.Spark == "" || i.Nulls == "" || i.result == nil {
			t.Errorf("%s: row of the table is double or incomplete", i.Op)
		}
		seen[i.Op] = true
	}
}

func TestStringIsForPeople(t *testing.T) {
	many := make([]*Node, 64)
	for i := range many {
		many[i] = C("p" + string(rune('0'+i%10)))
	}
	for want, n := range map[string]*Node{
		`cast((((v - 0) * 0.0625) + 0), float32)`:         To(Float32, Call(Add, Call(Mul, Call(Sub, C("v"), Num(0)), Num(0.0625)), Num(0))),
		`((x >= 0) and (x <= :max(x)))`:                   Call(And, Call(Ge, C("x"), Int(0)), Call(Le, C("x"), Unfitted("max(x)", Type{Kind: Int64}))),
		`vector(p0, p1, p2, p3, p4, p5, … 57 more …, p3)`: Call(Vector, many...),
		`one_hot(coalesce("a b", -1), 10)`:                Hot(Call(First, C("a b"), Num(-1)), 10),
		`index_of(s, ["a", "b\""])`:                       Index(C("s"), []string{"a", `b"`}),
		`bucket(d, [-Inf, 0.5, NaN])`:                     Splits(C("d"), []float64{math.Inf(-1), 0.5, math.NaN()}),
		`case((s = "x"), true, null)`:                     Call(Case, Call(Eq, C("s"), Text("x")), Boolean(true), Null(Type{Kind: Bool})),
		`substr(s, 0, 3)`:                                 SubText(C("s"), 0, 3),
		`at_least(v, 0.55)`:                               FirstAtLeast(C("v"), 0.55),
		`pmod(xxhash64("", 7), 10)`:                       Modulo(Call(Hash, C(""), Int(7)), 10),
		`slice(v, 1, 2)`:                                  Part(C("v"), 1, 2),
		`at(v, 1)`:                                        Element(C("v"), 1),
		`one_hot(x, ?)`:                                   Hot(C("x"), AnyWidth),
		`[1, 2, 3, 4, 5, 6, … 2 more …, 9]`:               Vec([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9}),
		`not(…)`:                                          Call(Not, nil),
	} {
		if got := n.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestColumnsAreSortedAndSingle(t *testing.T) {
	got := strings.Join(Columns(Call(Add, C("b"), Call(Mul, C("a"), C("b")))), " ")
	if got != "a b" {
		t.Errorf("got %q", got)
	}
	if len(Columns(nil)) != 0 {
		t.Error("columns of nothing")
	}
}

func TestNearest(t *testing.T) {
	known := []string{"assemble", "min_max", "one_hot", "standard", "select", "cast"}
	for s, want := range map[string]string{
		"min_mx": "min_max", "minmax": "min_max", "onehot": "one_hot", "CAST": "cast", "standart": "standard", "zca": "", "": "", "smelect": "select",
		"csat": "cast", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(s, known); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

func TestApplyGivesTheColumnsThatComeOut(t *testing.T) {
	f := Fitted{Op: "x", Inputs: []string{"i"}, Outputs: []Column{
		{"h", Type{Kind: Float32, Width: 2}, Hot(C("i"), 2)},
		{"i", Type{Kind: Float64}, To(Float64, C("i"))}, // replaces, while h still reads the old one
	}}
	out, err := f.Apply(columns)
	if err != nil {
		t.Fatal(err)
	}
	if out[0] != (Field{"i", Type{Kind: Float64}}) || out[len(out)-1] != (Field{"h", Type{Kind: Float32, Width: 2}}) || len(out) != len(columns)+1 {
		t.Errorf("%v", out)
	}
	if columns[0].Type.Kind != Int64 {
		t.Error("Apply changed its argument")
	}
	f.Only = []string{"h", "s"}
	if out, err = f.Apply(columns); err != nil || len(out) != 2 || out[0].Name != "h" || out[1].Name != "s" {
		t.Errorf("%v, %v", out, err)
	}
}

func TestApplyRefusesWhatDoesNotFit(t *testing.T) {
	float := Type{Kind: Float64}
	for says, f := range map[string]Fitted{
		`x: there is no column "lab"`:           {Inputs: []string{"lab"}},
		`x: there is no column "q"`:             {Outputs: []Column{{"o", float, C("q")}}},
		`x: output "o" is int64, not float64`:   {Outputs: []Column{{"o", float, C("i")}}},
		`x: output "o" is empty or there twice`: {Outputs: []Column{{"o", float, C("d")}, {"o", float, C("d")}}},
		`x: output "" is empty or there twice`:  {Outputs: []Column{{"", float, C("d")}}},
		`x: condition d is float64, not bool`:   {Guards: []Guard{{Expr: C("d")}}},
		`x: condition i is int64, not bool`:     {Filter: C("i")},
		`x: expression: a node is missing`:      {Guards: []Guard{{}}},
		`x: handle_invalid is "drop"`:           {Invalid: "drop"},
		`x: column "d" is kept twice`:           {Only: []string{"d", "d"}},
		`x: there is no column "dd"`:            {Only: []string{"dd"}},
	} {
		f.Op = "x"
		if _, err := f.Apply(columns); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

func TestUnknownJSONFieldsAreRefused(t *testing.T) {
	for _, s := range []string{
		`{"op":"abs","args":[{"op":"col","name":"d","power":2}]}`, `{"op":"lit","num":"nan"}`, `{"op":"lit","num":"1"}`,
		`{"op":"abs","args":[null]}`, `[]`, `7`, `{"op":"lit","vec":[1,null]}`, strings.Repeat(`{"op":"abs","args":[`, 400) + strings.Repeat(`]}`, 400),
	} {
		var n Node
		if err := json.Unmarshal([]byte(s), &n); err == nil {
			t.Errorf("%.60s was accepted", s)
		}
	}
}
