package transformers

import (
	"math"

	"dkpipe/pipeline/expr"
)

// assemble puts numbers and vectors one after the other into one Float32 vector:
//
//	assemble: {inputs: "p*", output: pixels, handle_invalid: error}
//
// inputs is a list of names and globs, or one of them; a glob stands for columns in source order. Under keep, a NULL
// number becomes NaN and a NULL vector NaN in all its positions.
type assemble struct {
	Inputs  any          `yaml:"inputs"`
	Output  string       `yaml:"output"`
	Invalid expr.Invalid `yaml:"handle_invalid"`

	patterns []string
}

func newAssemble(decode func(any) error) (expr.Step, error) {
	s := &assemble{Invalid: expr.Fail}
	if err := decode(s); err != nil {
		return nil, err
	}
	var err error
	if s.patterns, err = patterns(s.Op(), "inputs", s.Inputs); err != nil {
		return nil, err
	}
	if err := required(s.Op(), "output", s.Output); err != nil {
		return nil, err
	}
	return s, invalid(s.Op(), string(s.Invalid))
}

func (s *assemble) Op() string { return "assemble" }

func (s *assemble) Needs(in expr.Schema) ([]expr.Stat, error) {
	_, err := s.columns(in)
	return nil, err
}

func (s *assemble) columns(in expr.Schema) ([]string, error) {
	names, err := resolve(s.Op(), s.patterns, in)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := number(s.Op(), name, in); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (s *assemble) Fit(in expr.Schema, _ []expr.StatValue) (expr.Fitted, error) {
	names, err := s.columns(in)
	if err != nil {
		return expr.Fitted{}, err
	}
	args := make([]*expr.Node, len(names))
	for i, name := range names {
		args[i] = expr.C(name)
		if s.Invalid == expr.Keep {
			t, _ := in.Lookup(name)
			args[i] = expr.Call(expr.First, expr.To(expr.Float64, args[i]), nan(t.Type.Width))
		}
	}
	f := expr.Fitted{
		Op:      s.Op(),
		Inputs:  names,
		Outputs: []expr.Column{{Name: s.Output, Expr: expr.To(expr.Float32, expr.Call(expr.Vector, args...))}},
		Invalid: s.Invalid,
	}
	if s.Invalid != expr.Keep {
		f.Guards = []expr.Guard{isValid(names...)}
	}
	t, err := expr.TypeOf(f.Outputs[0].Expr, in)
	if err != nil {
		return expr.Fitted{}, err
	}
	return finish(in, f, struct {
		Inputs []string `json:"inputs"`
		Output string   `json:"output"`
		Width  int      `json:"width"`
	}{names, s.Output, t.Width})
}

// nan is a literal NaN, or a vector of them.
func nan(width int) *expr.Node {
	switch {
	case width == expr.AnyWidth:
		return expr.Unfitted("NaN", expr.Type{Kind: expr.Float64, Width: width})
	case width == 0:
		return expr.Num(math.NaN())
	}
	v := make([]float64, width)
	for i := range v {
		v[i] = math.NaN()
	}
	return expr.Vec(v)
}
