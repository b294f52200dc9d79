package local

import (
	"io/fs"
	"slices"

	"dkpipe/pipeline/expr"
)

func notExist(name string) error { return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist} }

// Steps as package transformers has them, in their shortest form.

type assembleStep struct {
	in  []string
	out string
}

func (s assembleStep) Op() string { return "assemble" }

func (s assembleStep) Needs(in expr.Schema) ([]expr.Stat, error) {
	for _, n := range s.in {
		if _, ok := in.Lookup(n); !ok {
			return nil, in.Missing(s.Op(), n)
		}
	}
	return nil, nil
}

func (s assembleStep) Fit(in expr.Schema, _ []expr.StatValue) (expr.Fitted, error) {
	var args []*expr.Node
	for _, n := range s.in {
		args = append(args, expr.C(n))
	}
	return made(in, expr.Fitted{Op: "assemble", Inputs: s.in,
		Guards: []expr.Guard{{Expr: expr.Call(expr.IsValid, args...), Says: "an input is NULL or NaN"}}},
		s.out, expr.To(expr.Float32, expr.Call(expr.Vector, args...)))
}

// made adds an output and its type.
func made(in expr.Schema, f expr.Fitted, name string, n *expr.Node) (expr.Fitted, error) {
	t, err := expr.TypeOf(n, in)
	f.Outputs = append(slices.Clone(f.Outputs), expr.Column{Name: name, Type: t, Expr: n})
	return f, err
}

type minMaxStep struct {
	in, out string
	fit     bool
}

func (s minMaxStep) Op() string { return "min_max" }

func (s minMaxStep) Needs(in expr.Schema) ([]expr.Stat, error) {
	if _, ok := in.Lookup(s.in); !ok {
		return nil, in.Missing(s.Op(), s.in)
	}
	if !s.fit {
		return nil, nil
	}
	return []expr.Stat{{Kind: expr.Min, Column: s.in, PerPosition: true}, {Kind: expr.Max, Column: s.in, PerPosition: true}}, nil
}

func (s minMaxStep) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	lo, scale := expr.Num(0), expr.Num(1./255)
	if s.fit {
		l, k := got[0].Values, make([]float64, len(got[0].Values))
		for i, hi := range got[1].Values {
			k[i] = 0
			if hi > l[i] {
				k[i] = 1 / (hi - l[i])
			}
		}
		lo, scale = expr.Vec(l), expr.Vec(k)
	}
	return s.build(in, lo, scale)
}

func (s minMaxStep) build(in expr.Schema, lo, scale *expr.Node) (expr.Fitted, error) {
	y := expr.Call(expr.Add, expr.Call(expr.Mul, expr.Call(expr.Sub, expr.C(s.in), lo), scale), expr.Num(0))
	return made(in, expr.Fitted{Op: s.Op(), Inputs: []string{s.in},
		Guards: []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C(s.in)), Says: s.in + " is NULL or NaN"}}}, s.out, expr.To(expr.Float32, y))
}

func (s minMaxStep) Preview(in expr.Schema) (expr.Fitted, error) {
	if !s.fit {
		return s.Fit(in, nil)
	}
	f, _ := in.Lookup(s.in)
	t := expr.Type{Kind: expr.Float64, Width: f.Type.Width}
	return s.build(in, expr.Unfitted("min("+s.in+")", t), expr.Unfitted("scale("+s.in+")", t))
}

type oneHotStep struct {
	in, out string
	size    int
}

func (s oneHotStep) Op() string { return "one_hot" }

func (s oneHotStep) Needs(in expr.Schema) ([]expr.Stat, error) {
	if _, ok := in.Lookup(s.in); !ok {
		return nil, in.Missing(s.Op(), s.in)
	}
	if s.size > 0 {
		return nil, nil
	}
	return []expr.Stat{{Kind: expr.Max, Column: s.in}}, nil
}

func (s oneHotStep) Fit(in expr.Schema, got []expr.StatValue) (expr.Fitted, error) {
	if s.size == 0 {
		s.size = int(got[0].Values[0]) + 1
	}
	inside := expr.Call(expr.And, expr.Call(expr.IsValid, expr.C(s.in)),
		expr.Call(expr.Ge, expr.C(s.in), expr.Int(0)), expr.Call(expr.Lt, expr.C(s.in), expr.Int(int64(s.size))))
	return made(in, expr.Fitted{Op: s.Op(), Inputs: []string{s.in},
		Guards: []expr.Guard{{Expr: inside, Says: s.in + " is no class"}}}, s.out, expr.Hot(expr.C(s.in), s.size))
}

func (s oneHotStep) Preview(in expr.Schema) (expr.Fitted, error) {
	if s.size > 0 {
		return s.Fit(in, nil)
	}
	return made(in, expr.Fitted{Op: s.Op(), Inputs: []string{s.in}}, s.out, expr.Hot(expr.C(s.in), expr.AnyWidth))
}
