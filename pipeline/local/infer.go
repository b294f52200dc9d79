package local

import (
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// guess is what the values seen so far allow a column to be. The zero guess allows everything.
type guess struct {
	some                   bool // a value was not NULL
	noInt, noFloat, noBool bool
	values, numbers        int64 // not NULL; of these what is a number
}

// see narrows the guess by one text value.
func (g *guess) see(f []byte) {
	g.some = true
	g.values++
	if len(f) <= 18 && allDigits(f) { // the commonest case, without strconv
		g.numbers++
		g.noBool = true
		return
	}
	t := trim(f)
	if !g.noInt {
		_, ok := parseInt(t)
		g.noInt = !ok
	}
	number := !g.noInt
	if !number {
		_, number = parseFloat(t)
		g.noFloat = g.noFloat || !number
	}
	if number {
		g.numbers++
	}
	if !g.noBool {
		_, ok := parseBool(t)
		g.noBool = !ok
	}
}

func allDigits(f []byte) bool {
	for _, c := range f {
		if c-'0' > 9 {
			return false
		}
	}
	return len(f) > 0
}

// kind is the narrowest kind that takes every value seen; a column without values is text.
func (g *guess) kind() expr.Kind {
	switch {
	case !g.some:
		return expr.String
	case !g.noBool:
		return expr.Bool
	case !g.noInt:
		return expr.Int64
	case !g.noFloat:
		return expr.Float64
	}
	return expr.String
}

// infer reads the prefix in the buffer without consuming it and gives the columns their types.
func (r *csvReader) infer(declared map[string]string) error {
	g := make([]guess, len(r.cols))
	line, pos, sample := r.line, r.pos, int64(0)
	defer func() { r.pos, r.line = pos, line }()
rows:
	for sample < prefixRows && r.pos < r.end {
		if next, is := r.blank(r.pos); is {
			r.pos = next
			r.line++
			continue
		}
		i, lines := r.pos, 0
		for c := range g {
			f, quoted, next, ln, end, err := r.split(i)
			if err != nil {
				return err
			}
			if end == endBuffer && sample == 0 {
				if err := r.more(); err != nil {
					return err
				}
				pos, line = r.pos, r.line
				continue rows
			}
			if end == endBuffer {
				break rows
			}
			if (end == endRecord) != (c == len(g)-1) {
				_, err := r.ragged()
				if err == nil {
					break rows
				}
				return err
			}
			if len(f) > 0 || quoted {
				g[c].see(f)
			}
			lines += ln
			i = next
		}
		r.pos = i
		r.line += int64(1 + lines)
		sample++
	}
	for c := range r.cols {
		r.cols[c].suggest(&g[c], expr.Type{Kind: g[c].kind()}, sample)
	}
	return declare(r.file, r.cols, declared)
}

// suggest gives a column the type that the values of the first rows suggest.
func (f *field) suggest(g *guess, t expr.Type, sample int64) {
	f.Type, f.sample, f.guessed = t, sample, true
	f.mostlyNumbers = 2*g.numbers >= g.values
}

// declare gives columns the types that the plan declares.
func declare(file string, cols []field, declared map[string]string) error {
	for name, typ := range declared {
		kind := expr.Kind(typ)
		switch kind {
		case expr.Bool, expr.Int64, expr.Float32, expr.Float64, expr.String:
		default:
			return specErr("use bool, int64, float64 or string", "source.types: column %q has the unknown type %q", name, typ)
		}
		found := false
		for c := range cols {
			if cols[c].Name == name {
				cols[c].Type, cols[c].declared, cols[c].guessed, found = expr.Type{Kind: kind}, true, false, true
			}
		}
		if !found {
			return &pipeline.Error{Kind: pipeline.MissingColumn, Message: "source.types: " + file + " has no column " + quoted(name),
				Hint: didYouMean(name, cols)}
		}
	}
	return nil
}

func quoted(s string) string { return strconv.Quote(s) }

func names(cols []field) []string {
	s := make([]string, len(cols))
	for i, f := range cols {
		s[i] = f.Name
	}
	return s
}

// didYouMean is the hint for a name that is not among the columns.
func didYouMean(name string, cols []field) string {
	all := names(cols)
	if near := expr.Nearest(name, all); near != "" {
		return "did you mean " + quoted(near) + "?"
	}
	if len(all) > 12 {
		return "the columns are " + strings.Join(all[:10], ", ") + " and " + strconv.Itoa(len(all)-10) + " more"
	}
	return "the columns are " + strings.Join(all, ", ")
}

// sameNames fails unless a file has the columns of the first file of its source, in the same order.
func sameNames(file string, cols, like []field) error {
	for i := range max(len(cols), len(like)) {
		switch {
		case i >= len(cols):
			return differs(file, "column "+quoted(like[i].Name)+" of the first file is missing")
		case i >= len(like):
			return differs(file, "column "+quoted(cols[i].Name)+" is not in the first file")
		case cols[i].Name != like[i].Name:
			return differs(file, "column "+strconv.Itoa(i+1)+" is "+quoted(cols[i].Name)+", in the first file "+quoted(like[i].Name))
		}
	}
	return nil
}

// sameTypes fails unless the columns have the names and the types of the first file.
func sameTypes(file string, cols, like []field) error {
	if err := sameNames(file, cols, like); err != nil {
		return err
	}
	for i, f := range cols {
		if f.Type != like[i].Type || f.refused != like[i].refused {
			return differs(file, "column "+quoted(f.Name)+" is "+f.what()+", in the first file "+like[i].what())
		}
	}
	return nil
}

func (f field) what() string {
	if f.refused != "" {
		return f.refused
	}
	return f.Type.String()
}

func differs(file, what string) error {
	return dataErr("the files of a source must have equal columns in equal order", "%s: %s", file, what)
}
