package expr

// Previewer is a Step that can show its outputs before it is fitted.
type Previewer interface {
	// Preview is Fit with a placeholder (Unfitted) wherever a statistic decides, and AnyWidth where a statistic
	// decides the width.
	Preview(in Schema) (Fitted, error)
}

// Preview gives the transformer as it can be shown before fitting: fitted values stand as :min(label). A step that
// needs no statistics is fitted. The trees are for String and for rendering, not for evaluation.
func Preview(s Step, in Schema) (Fitted, error) {
	if p, ok := s.(Previewer); ok {
		return p.Preview(in)
	}
	need, err := s.Needs(in)
	if err != nil {
		return Fitted{}, err
	}
	if len(need) > 0 {
		return Fitted{}, errorf("%s: cannot be shown before it is fitted", s.Op())
	}
	return s.Fit(in, nil)
}

// Apply checks a fitted transformer against the columns that it meets and gives the columns that come out of it: the
// outputs replace columns of their name or follow at the end, then Only selects. All outputs, guards and the filter
// see the columns of in, not each other. Apply is meant for transformers from anywhere, files included.
func (f Fitted) Apply(in Schema) (Schema, error) { return f.apply(in, Check) }

// ApplyPreview is Apply for what Preview gives.
func (f Fitted) ApplyPreview(in Schema) (Schema, error) { return f.apply(in, TypeOf) }

func (f Fitted) apply(in Schema, check func(*Node, Schema) (Type, error)) (Schema, error) {
	switch f.Invalid {
	case "", Fail, Skip, Keep:
	default:
		return nil, errorf("%s: handle_invalid is %s", f.Op, quote(string(f.Invalid)))
	}
	out := append(Schema(nil), in...)
	at := make(map[string]int, len(in)+len(f.Outputs))
	for i, c := range in {
		at[c.Name] = i
	}
	for _, name := range f.Inputs {
		if _, ok := at[name]; !ok {
			return nil, in.Missing(f.Op, name)
		}
	}
	made := make(map[string]bool, len(f.Outputs))
	for _, o := range f.Outputs {
		t, err := check(o.Expr, in)
		if err != nil {
			return nil, f.name(err)
		}
		if o.Name == "" || made[o.Name] {
			return nil, errorf("%s: output %s is empty or there twice", f.Op, quote(o.Name))
		}
		if t != o.Type {
			return nil, errorf("%s: output %s is %s, not %s", f.Op, quote(o.Name), t, o.Type)
		}
		made[o.Name] = true
		if i, ok := at[o.Name]; ok {
			out[i].Type = t
			continue
		}
		at[o.Name] = len(out)
		out = append(out, Field{Name: o.Name, Type: t})
	}
	conditions := make([]*Node, 0, len(f.Guards)+1)
	for _, g := range f.Guards {
		conditions = append(conditions, g.Expr)
	}
	if f.Filter != nil {
		conditions = append(conditions, f.Filter)
	}
	for _, n := range conditions {
		switch t, err := check(n, in); {
		case err != nil:
			return nil, f.name(err)
		case t != Type{Kind: Bool}:
			return nil, errorf("%s: condition %s is %s, not bool", f.Op, brief(n), t)
		}
	}
	return f.only(out, at)
}

func (f Fitted) only(out Schema, at map[string]int) (Schema, error) {
	if len(f.Only) == 0 {
		return out, nil
	}
	kept := make(Schema, 0, len(f.Only))
	seen := make(map[string]bool, len(f.Only))
	for _, name := range f.Only {
		i, ok := at[name]
		if !ok {
			return nil, out.Missing(f.Op, name)
		}
		if seen[name] {
			return nil, errorf("%s: column %s is kept twice", f.Op, quote(name))
		}
		seen[name] = true
		kept = append(kept, out[i])
	}
	return kept, nil
}

// name puts the transformer's name in front of an error of its trees.
func (f Fitted) name(err error) error {
	switch e := err.(type) {
	case *ColumnError:
		return &ColumnError{Column: e.Column, Op: f.Op, Near: e.Near}
	case *Error:
		return &Error{Message: f.Op + ": " + e.Message, Hint: e.Hint}
	}
	return err
}
