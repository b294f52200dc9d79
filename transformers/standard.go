package transformers

import (
	"fmt"
	"math"

	"dkpipe/pipeline/expr"
)

// standard moves each position to mean 0 and scales it to deviation 1:
//
//	standard: {input: raw, output: features, deviation: population, handle_invalid: error}
//
// y = (x - mean) * (1 / dev) in float64, then to float32. deviation is population (divided by n) or sample (divided
// by n - 1). Where dev is 0, or there is one value only, y = x - mean. Under keep, NULL and NaN stay.
type standard struct {
	Input     string       `yaml:"input"`
	Output    string       `yaml:"output"`
	Deviation string       `yaml:"deviation"`
	Invalid   expr.Invalid `yaml:"handle_invalid"`
}

func newStandard(decode func(any) error) (expr.Step, error) {
	s := &standard{Deviation: "population", Invalid: expr.Fail}
	if err := decode(s); err != nil {
		return nil, err
	}
	if err := required(s.Op(), "input", s.Input, "output", s.Output); err != nil {
		return nil, err
	}
	if err := oneOf(s.Op(), "deviation", s.Deviation, "population", "sample"); err != nil {
		return nil, err
	}
	return s, invalid(s.Op(), string(s.Invalid))
}

func (s *standard) Op() string { return "standard" }

func (s *standard) Needs(in expr.Schema) ([]expr.Stat, error) {
	t, err := number(s.Op(), s.Input, in)
	if err != nil {
		return nil, err
	}
	kind := expr.StddevPop
	if s.Deviation == "sample" {
		kind = expr.StddevSamp
	}
	return []expr.Stat{
		{Kind: expr.Mean, Column: s.Input, PerPosition: t.Width != 0},
		{Kind: kind, Column: s.Input, PerPosition: t.Width != 0},
	}, nil
}

func (s *standard) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	t, err := number(s.Op(), s.Input, in)
	if err != nil {
		return expr.Fitted{}, err
	}
	mean, err := values(s.Op(), got, 0, t.Width)
	if err != nil {
		return expr.Fitted{}, err
	}
	dev, err := values(s.Op(), got, 1, t.Width)
	if err != nil {
		return expr.Fitted{}, err
	}
	scale := make([]float64, len(mean))
	for i := range mean {
		if math.IsNaN(mean[i]) {
			return expr.Fitted{}, badData(s.Op(), "", "column %q%s has no value to fit on, or holds infinities of both signs", s.Input, at(t, i))
		}
		if math.IsInf(mean[i], 0) || math.IsInf(dev[i], 0) {
			return expr.Fitted{}, badData(s.Op(), "leave rows with infinite values out, or clip the column first", "column %q%s has mean %v and deviation %v", s.Input, at(t, i), mean[i], dev[i])
		}
		scale[i] = 1 / dev[i]
		if dev[i] == 0 || math.IsNaN(dev[i]) || math.IsInf(scale[i], 0) {
			scale[i] = 1
		}
	}
	return s.build(in, literal(t, mean), literal(t, scale), mean, dev)
}

// Preview shows the formula with :mean(x) and :stddev_pop(x).
func (s *standard) Preview(in expr.Schema) (expr.Fitted, error) {
	need, err := s.Needs(in)
	if err != nil {
		return expr.Fitted{}, err
	}
	t := placeholder(in, need[0])
	mean := expr.Unfitted(fmt.Sprintf("mean(%s)", s.Input), t)
	dev := expr.Unfitted(fmt.Sprintf("%s(%s)", need[1].Kind, s.Input), t)
	return s.build(in, mean, expr.Call(expr.Div, expr.Num(1), dev), nil, nil)
}

func (s *standard) build(in expr.Schema, mean, scale *expr.Node, means, devs []float64) (expr.Fitted, error) {
	y := expr.Call(expr.Mul, expr.Call(expr.Sub, expr.C(s.Input), mean), scale)
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
		Input     string       `json:"input"`
		Output    string       `json:"output"`
		Deviation string       `json:"deviation"`
		Mean      []expr.Float `json:"mean"`
		Dev       []expr.Float `json:"dev"`
	}{s.Input, s.Output, s.Deviation, expr.Floats(means), expr.Floats(devs)})
}
