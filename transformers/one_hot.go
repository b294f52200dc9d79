package transformers

import (
	"fmt"
	"math"

	"dkpipe/pipeline/expr"
)

// oneHot makes a Float32 vector of a whole number: 1 at that position, 0 elsewhere.
//
//	one_hot: {input: label, output: target, size: 10, handle_invalid: error}
//
// Left out, size is the greatest value plus 1. Under keep, a value that is not one of 0..size-1, NULL and NaN give
// zeros only.
type oneHot struct {
	Input   string       `yaml:"input"`
	Output  string       `yaml:"output"`
	Size    *int         `yaml:"size"`
	Invalid expr.Invalid `yaml:"handle_invalid"`
}

func newOneHot(decode func(any) error) (expr.Step, error) {
	s := &oneHot{Invalid: expr.Fail}
	if err := decode(s); err != nil {
		return nil, err
	}
	if err := required(s.Op(), "input", s.Input, "output", s.Output); err != nil {
		return nil, err
	}
	if s.Size != nil && (*s.Size < 1 || *s.Size > expr.MaxWidth) {
		return nil, badSpec(s.Op(), "size: %d is outside 1..%d", *s.Size, expr.MaxWidth)
	}
	return s, invalid(s.Op(), string(s.Invalid))
}

func (s *oneHot) Op() string { return "one_hot" }

func (s *oneHot) input(in expr.Schema) (expr.Type, error) {
	t, err := number(s.Op(), s.Input, in)
	if err == nil && t.Width != 0 {
		err = badSpec(s.Op(), "column %q is %s, not a single number", s.Input, t)
	}
	return t, err
}

func (s *oneHot) Needs(in expr.Schema) ([]expr.Stat, error) {
	if _, err := s.input(in); err != nil || s.Size != nil {
		return nil, err
	}
	return []expr.Stat{{Kind: expr.Max, Column: s.Input}}, nil
}

func (s *oneHot) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	t, err := s.input(in)
	if err != nil {
		return expr.Fitted{}, err
	}
	if s.Size != nil {
		return s.build(in, t, *s.Size, expr.Int(int64(*s.Size-1)))
	}
	top, err := values(s.Op(), got, 0, 0)
	if err != nil {
		return expr.Fitted{}, err
	}
	switch v := top[0]; {
	case math.IsNaN(v):
		return expr.Fitted{}, badData(s.Op(), "", "column %q has no value to fit on", s.Input)
	case v < 0 || v != math.Floor(v):
		return expr.Fitted{}, badData(s.Op(), "number its values with string_index, or cast it", "column %q has the greatest value %v; one_hot takes whole numbers from 0 on", s.Input, v)
	case v >= expr.MaxWidth:
		return expr.Fitted{}, badData(s.Op(), "number its values with string_index, or set size", "column %q has the greatest value %v; a vector has at most %d positions", s.Input, v, expr.MaxWidth)
	}
	return s.build(in, t, int(top[0])+1, expr.Int(int64(top[0])))
}

// Preview shows the guard with :max(x) and a vector of unknown width.
func (s *oneHot) Preview(in expr.Schema) (expr.Fitted, error) {
	t, err := s.input(in)
	if err != nil {
		return expr.Fitted{}, err
	}
	if s.Size != nil {
		return s.Fit(in, nil)
	}
	return s.build(in, t, expr.AnyWidth, expr.Unfitted(fmt.Sprintf("max(%s)", s.Input), expr.Type{Kind: expr.Int64}))
}

func (s *oneHot) build(in expr.Schema, t expr.Type, size int, top *expr.Node) (expr.Fitted, error) {
	x := expr.C(s.Input)
	f := expr.Fitted{Op: s.Op(), Inputs: []string{s.Input}, Invalid: s.Invalid}
	if s.Invalid == expr.Keep {
		x = expr.Call(expr.First, expr.To(expr.Float64, x), expr.Num(-1))
	} else {
		inside := expr.Call(expr.And, expr.Call(expr.Ge, x, expr.Int(0)), expr.Call(expr.Le, x, top))
		f.Guards = append(f.Guards, expr.Guard{Expr: inside, Says: fmt.Sprintf("%s is outside 0..%s", s.Input, last(size))})
		if t.Kind != expr.Int64 {
			whole := expr.Call(expr.Eq, x, expr.Call(expr.Floor, x))
			f.Guards = append(f.Guards, expr.Guard{Expr: whole, Says: s.Input + " is not a whole number"})
		}
	}
	f.Outputs = []expr.Column{{Name: s.Output, Expr: expr.Hot(x, size)}}
	return finish(in, f, struct {
		Input  string `json:"input"`
		Output string `json:"output"`
		Fitted bool   `json:"fitted"` // false: size was given
		Size   int    `json:"size"`
	}{s.Input, s.Output, s.Size == nil, size})
}

func last(size int) string {
	if size == expr.AnyWidth {
		return "?"
	}
	return fmt.Sprint(size - 1)
}
