package transformers

import "dkpipe/pipeline/expr"

// selection keeps columns, in the order given, and leaves the others out:
//
//	select: {columns: [id, "p*", label]}
//
// A glob stands for columns in source order that are not named before it.
type selection struct {
	Columns any `yaml:"columns"`

	patterns []string
}

func newSelect(decode func(any) error) (expr.Step, error) {
	s := &selection{}
	if err := decode(s); err != nil {
		return nil, err
	}
	var err error
	if s.patterns, err = patterns(s.Op(), "columns", s.Columns); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *selection) Op() string { return "select" }

func (s *selection) Needs(in expr.Schema) ([]expr.Stat, error) {
	_, err := resolve(s.Op(), s.patterns, in)
	return nil, err
}

func (s *selection) Fit(in expr.Schema, _ []expr.StatValue) (expr.Fitted, error) {
	names, err := resolve(s.Op(), s.patterns, in)
	if err != nil {
		return expr.Fitted{}, err
	}
	f := expr.Fitted{Op: s.Op(), Inputs: names, Only: names}
	return finish(in, f, struct {
		Columns []string `json:"columns"`
	}{names})
}
