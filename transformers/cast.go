package transformers

import (
	"fmt"

	"dkpipe/pipeline/expr"
)

// cast reads a column as another type:
//
//	cast: {input: age, output: age, to: float64, handle_invalid: error}
//
// Left out, output is input. Floats are cut towards zero to become int64. A value without an equivalent (a text that
// is no number, NaN as int64) is invalid; under keep it becomes NULL. NULL stays NULL.
type cast struct {
	Input   string       `yaml:"input"`
	Output  string       `yaml:"output"`
	To      string       `yaml:"to"`
	Invalid expr.Invalid `yaml:"handle_invalid"`
}

func newCast(decode func(any) error) (expr.Step, error) {
	s := &cast{Invalid: expr.Fail}
	if err := decode(s); err != nil {
		return nil, err
	}
	if s.Output == "" {
		s.Output = s.Input
	}
	if err := required(s.Op(), "input", s.Input, "to", s.To); err != nil {
		return nil, err
	}
	kinds := []string{string(expr.Bool), string(expr.Int64), string(expr.Float32), string(expr.Float64), string(expr.String)}
	if err := oneOf(s.Op(), "to", s.To, kinds...); err != nil {
		return nil, err
	}
	return s, invalid(s.Op(), string(s.Invalid))
}

func (s *cast) Op() string { return "cast" }

func (s *cast) Needs(in expr.Schema) ([]expr.Stat, error) {
	f, ok := in.Lookup(s.Input)
	if !ok {
		return nil, in.Missing(s.Op(), s.Input)
	}
	if _, err := expr.TypeOf(expr.To(expr.Kind(s.To), expr.C(s.Input)), in); err != nil {
		return nil, badSpec(s.Op(), "column %q is %s; it cannot become %s", s.Input, f.Type, s.To)
	}
	return nil, nil
}

func (s *cast) Fit(in expr.Schema, _ []expr.StatValue) (expr.Fitted, error) {
	if _, err := s.Needs(in); err != nil {
		return expr.Fitted{}, err
	}
	x := expr.C(s.Input)
	y := expr.To(expr.Kind(s.To), x)
	f := expr.Fitted{
		Op:      s.Op(),
		Inputs:  []string{s.Input},
		Outputs: []expr.Column{{Name: s.Output, Expr: y}},
		Invalid: s.Invalid,
	}
	if t, _ := in.Lookup(s.Input); s.Invalid != expr.Keep && lossy(t.Type.Kind, expr.Kind(s.To)) {
		fine := expr.Call(expr.Or, expr.Call(expr.IsNull, x), expr.Call(expr.Not, expr.Call(expr.IsNull, y)))
		f.Guards = []expr.Guard{{Expr: fine, Says: fmt.Sprintf("%s is not a %s", s.Input, s.To)}}
	}
	return finish(in, f, struct {
		Input  string `json:"input"`
		Output string `json:"output"`
		To     string `json:"to"`
	}{s.Input, s.Output, s.To})
}

// lossy reports whether some value of one kind has no equivalent in the other.
func lossy(from, to expr.Kind) bool {
	if from == expr.String {
		return to != expr.String
	}
	return to == expr.Int64 && from != expr.Int64 && from != expr.Bool
}
