package spec

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSplitSet(t *testing.T) {
	for arg, want := range map[string][]string{
		"a=1":                            {"a=1"},
		"a=1,b=2":                        {"a=1", "b=2"},
		"a=[1,2],b={c: 1, d: [2,3]},e=4": {"a=[1,2]", "b={c: 1, d: [2,3]}", "e=4"},
		`a="x,y",b='p,q'`:                {`a="x,y"`, `b='p,q'`},
		`a="x\",y",b=1`:                  {`a="x\",y"`, "b=1"},
		"a='it''s, ok',b=1":              {"a='it''s, ok'", "b=1"},
		"a=it's,b=1":                     {"a=it's", "b=1"},
		"a=x[0,b=1":                      {"a=x[0", "b=1"},
		"a=out/{{slot}},b=1":             {"a=out/{{slot}}", "b=1"},
		"a={{slot}},b=1":                 {"a={{slot}}", "b=1"},
		`a=["],",'],'],b=1`:              {`a=["],",'],']`, "b=1"},
		`"a,b".c=1,d=2`:                  {`"a,b".c=1`, "d=2"},
		"a=x=1,b=2":                      {"a=x=1", "b=2"},
		"a= [1, 2] ,b=2":                 {"a= [1, 2] ", "b=2"},
		"a=[1,2":                         {"a=[1,2"},
		"a=it's [1,b=2":                  {"a=it's [1", "b=2"},
		"":                               {""},
	} {
		if got := SplitSet(arg); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, want %q", arg, got, want)
		}
	}
}

// TestSplitSetUndoesJoining makes pairs of values that YAML can hold, joins them by commas and cuts them again.
func TestSplitSetUndoesJoining(t *testing.T) {
	word := rapid.StringMatching(`[a-z][a-z0-9_ ./'-]{0,6}[a-z0-9]`)
	single := rapid.Map(rapid.StringMatching(`[a-z,:{}\[\]" ]{0,8}`), func(s string) string { return "'" + s + "'" })
	double := rapid.Map(rapid.StringMatching(`([a-z,:{}\[\]' ]|\\"|\\\\){0,8}`), func(s string) string { return `"` + s + `"` })
	scalar := rapid.OneOf(word, single, double)
	var value *rapid.Generator[string]
	value = rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			return "[" + strings.Join(rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[string] { return value }), 0, 3).Draw(t, "list"), ", ") + "]"
		case 1:
			inner := rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[string] { return value }), 0, 3).Draw(t, "fields")
			for i := range inner {
				inner[i] = "k: " + inner[i]
			}
			return "{" + strings.Join(inner, ",") + "}"
		}
		return scalar.Draw(t, "scalar")
	})
	pair := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"a", "a.b", "a.0.b", `a."x,y"`}).Draw(t, "path") + "=" + value.Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		pairs := rapid.SliceOfN(pair, 1, 4).Draw(t, "pairs")
		if got := SplitSet(strings.Join(pairs, ",")); !slices.Equal(got, pairs) {
			t.Fatalf("got %q, want %q", got, pairs)
		}
	})
}

func TestSetChangesFields(t *testing.T) {
	const text = `name: x
params: {n: 1}
transform:
  - min_max: {input: a, from: [0, 1]}
  - one_hot: {input: b}
train: {loss: mse, trainer: agn, epochs: "{{n}}"}
expect: {max_null: {a.b: 1}}
gate: {metric: loss, at_most: 1}
`
	s := read(t, text, Options{Slot: "2026-11-22", Set: []string{
		"name={{slot}},train.workers=2",
		"transform.0.min_max.from=[2, 3]", "transform[1].one_hot.size=4",
		"train.trainer.agn.window=7",
		"train.optimizer={adam: {learning_rate: 1e-3}}",
		`expect.max_null."a.b"=0.5,expect.max_null.c=0`,
		"params.n=5",
		"gate=",
		"columns.x=[a, b],columns.y=c",
		"train.workers=3",
	}})
	if s.Name != "2026-11-22" || s.Train.Workers != 3 || s.Train.Epochs != 5 || s.Gate != nil || s.Train.Trainer.Name != "agn" {
		t.Errorf("%+v", s)
	}
	if !reflect.DeepEqual(s.Expect.MaxNull, map[string]float64{"a.b": 0.5, "c": 0}) {
		t.Errorf("max_null %v", s.Expect.MaxNull)
	}
	if !reflect.DeepEqual(s.Columns, Columns{X: []string{"a", "b"}, Y: []string{"c"}}) {
		t.Errorf("columns %+v", s.Columns)
	}
	var from struct {
		Input string     `yaml:"input"`
		From  [2]float64 `yaml:"from"`
	}
	if err := s.Transform[0].Decode(&from); err != nil || from.From != [2]float64{2, 3} || from.Input != "a" {
		t.Errorf("from %v, %v", from, err)
	}
	var window struct {
		Window int `yaml:"window"`
	}
	if err := s.Train.Trainer.Decode(&window); err != nil || window.Window != 7 {
		t.Errorf("window %v, %v", window, err)
	}
	var size struct {
		Input string `yaml:"input"`
	}
	err := s.Transform[1].Decode(&size)
	if want := "--set transform[1].one_hot.size=4: unknown field; known: input"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSetIsTheSameWhateverTheNotation(t *testing.T) {
	const text = "transform: [{a: {x: 1}}]\n"
	dotted := read(t, text, Options{Set: []string{"transform.0.a.x=2"}})
	bracketed := read(t, text, Options{Set: []string{"transform[0].a.x=2"}})
	if dotted.SHA256 != bracketed.SHA256 {
		t.Error("a.0 and a[0] give different sums")
	}
}
