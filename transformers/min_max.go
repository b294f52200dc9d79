package transformers

import (
	"fmt"
	"math"

	"dkpipe/pipeline/expr"
)

// minMax maps the range from to the range to:
//
//	min_max: {input: pixels, output: features, from: [0, 16], to: [0, 1], per: position, handle_invalid: error}
//
// y = (x - lo) * ((b - a) / (hi - lo)) + a in float64, then to float32, with from = [lo, hi] and to = [a, b]. Left
// out, from is fitted: for each position of a vector (per: position) or over all of them (per: all). Where lo equals
// hi the result is the middle of to. Values outside of from are not clipped. Under keep, NULL and NaN stay.
type minMax struct {
	Input   string       `yaml:"input"`
	Output  string       `yaml:"output"`
	From    []float64    `yaml:"from"`
	To      []float64    `yaml:"to"`
	Per     string       `yaml:"per"`
	Invalid expr.Invalid `yaml:"handle_invalid"`
}

func newMinMax(decode func(any) error) (expr.Step, error) {
	s := &minMax{Per: "position", Invalid: expr.Fail}
	if err := decode(s); err != nil {
		return nil, err
	}
	if s.To == nil {
		s.To = []float64{0, 1}
	}
	if err := required(s.Op(), "input", s.Input, "output", s.Output); err != nil {
		return nil, err
	}
	if err := s.interval("to", s.To); err != nil {
		return nil, err
	}
	if s.To[0] == s.To[1] {
		return nil, badSpec(s.Op(), "to: %v is empty", s.To)
	}
	if s.From != nil {
		if err := s.interval("from", s.From); err != nil {
			return nil, err
		}
	}
	if err := oneOf(s.Op(), "per", s.Per, "position", "all"); err != nil {
		return nil, err
	}
	return s, invalid(s.Op(), string(s.Invalid))
}

// interval checks that v is [low, high] with a width that float64 can hold.
func (s *minMax) interval(field string, v []float64) error {
	if len(v) != 2 {
		return badSpec(s.Op(), "%s: %v is not of the form [low, high]", field, v)
	}
	if !(v[0] <= v[1]) || math.IsInf(v[1]-v[0], 0) || math.IsNaN(v[1]-v[0]) {
		return badSpec(s.Op(), "%s: %v does not rise from a number to a greater one", field, v)
	}
	return nil
}

func (s *minMax) Op() string { return "min_max" }

func (s *minMax) Needs(in expr.Schema) ([]expr.Stat, error) {
	t, err := number(s.Op(), s.Input, in)
	if err != nil || s.From != nil {
		return nil, err
	}
	each := s.Per == "position" && t.Width != 0
	return []expr.Stat{
		{Kind: expr.Min, Column: s.Input, PerPosition: each},
		{Kind: expr.Max, Column: s.Input, PerPosition: each},
	}, nil
}

func (s *minMax) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	t, err := number(s.Op(), s.Input, in)
	if err != nil {
		return expr.Fitted{}, err
	}
	if s.Per == "all" || s.From != nil {
		t.Width = 0
	}
	lo, hi := []float64{0}, []float64{0}
	if s.From != nil {
		lo[0], hi[0] = s.From[0], s.From[1]
	} else {
		if lo, err = values(s.Op(), got, 0, t.Width); err != nil {
			return expr.Fitted{}, err
		}
		if hi, err = values(s.Op(), got, 1, t.Width); err != nil {
			return expr.Fitted{}, err
		}
	}
	scale, shift := make([]float64, len(lo)), make([]float64, len(lo))
	for i := range lo {
		width := hi[i] - lo[i]
		if math.IsNaN(width) && !math.IsInf(lo[i], 0) && !math.IsInf(hi[i], 0) {
			return expr.Fitted{}, badData(s.Op(), "", "column %q%s has no value to fit on", s.Input, at(t, i))
		}
		if math.IsNaN(width) || math.IsInf(width, 0) {
			return expr.Fitted{}, badData(s.Op(), "set from: [low, high], or leave such rows out first", "column %q%s ranges from %v to %v", s.Input, at(t, i), lo[i], hi[i])
		}
		scale[i], shift[i] = (s.To[1]-s.To[0])/width, s.To[0]
		if width == 0 || math.IsInf(scale[i], 0) {
			scale[i], shift[i] = 0, s.To[0]/2+s.To[1]/2
		}
	}
	return s.build(in, literal(t, lo), literal(t, scale), literal(t, shift), lo, hi)
}

// Preview shows the formula with :min(x) and :max(x).
func (s *minMax) Preview(in expr.Schema) (expr.Fitted, error) {
	need, err := s.Needs(in)
	if err != nil {
		return expr.Fitted{}, err
	}
	if len(need) == 0 {
		return s.Fit(in, nil)
	}
	t := placeholder(in, need[0])
	lo := expr.Unfitted(fmt.Sprintf("min(%s)", s.Input), t)
	hi := expr.Unfitted(fmt.Sprintf("max(%s)", s.Input), t)
	scale := expr.Call(expr.Div, expr.Num(s.To[1]-s.To[0]), expr.Call(expr.Sub, hi, lo))
	return s.build(in, lo, scale, expr.Num(s.To[0]), nil, nil)
}

func (s *minMax) build(in expr.Schema, lo, scale, shift *expr.Node, los, his []float64) (expr.Fitted, error) {
	y := expr.Call(expr.Sub, expr.C(s.Input), lo)
	y = expr.Call(expr.Mul, y, scale)
	y = expr.Call(expr.Add, y, shift)
	f := expr.Fitted{
		Op:      s.Op(),
		Inputs:  []string{s.Input},
		Outputs: []expr.Column{{Name: s.Output, Expr: expr.To(expr.Float32, y)}},
		Invalid: s.Invalid,
	}
	if s.Invalid != expr.Keep {
		f.Guards = []expr.Guard{isValid(s.Input)}
	}
	return finish(in, f, struct {
		Input  string       `json:"input"`
		Output string       `json:"output"`
		Fitted bool         `json:"fitted"` // false: lo and hi were given
		Per    string       `json:"per"`
		To     []expr.Float `json:"to"`
		Lo     []expr.Float `json:"lo"`
		Hi     []expr.Float `json:"hi"`
	}{s.Input, s.Output, s.From == nil, s.Per, expr.Floats(s.To), expr.Floats(los), expr.Floats(his)})
}
