package local

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// expectations checks Plan.Expect over the source's columns, all rows of them.
type expectations struct {
	want   pipeline.Expect
	rows   int64
	nulls  []nullShare
	labels []labelSet
}

type nullShare struct {
	name    string
	col     int
	limit   float64
	invalid int64
	first   Place
}

type labelSet struct {
	name string
	col  int
	want []float64 // sorted
}

// newExpectations gives nil when nothing is expected.
func newExpectations(e pipeline.Expect, cols []field) (*expectations, error) {
	if e.MinRows <= 0 && len(e.MaxNull) == 0 && len(e.Labels) == 0 {
		return nil, nil
	}
	x := &expectations{want: e}
	for _, name := range sortedKeys(e.MaxNull) {
		c, err := expectColumn("expect.max_null", name, cols)
		if err != nil {
			return nil, err
		}
		x.nulls = append(x.nulls, nullShare{name: name, col: c, limit: e.MaxNull[name]})
	}
	for _, name := range sortedKeys(e.Labels) {
		c, err := expectColumn("expect.labels", name, cols)
		if err != nil {
			return nil, err
		}
		if t := cols[c].Type; t.Width > 0 {
			return nil, specErr("name a scalar column", "expect.labels: column %q is %s", name, t)
		}
		want := slices.Clone(e.Labels[name])
		slices.Sort(want)
		x.labels = append(x.labels, labelSet{name: name, col: c, want: want})
	}
	return x, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func expectColumn(what, name string, cols []field) (int, error) {
	c := slices.IndexFunc(cols, func(f field) bool { return f.Name == name })
	if c < 0 {
		return 0, &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("%s: the source has no column %q", what, name), Hint: didYouMean(name, cols)}
	}
	if cols[c].refused != "" {
		return 0, unsupportedErr("leave the column out", "%s: column %q %s", what, name, cols[c].refused)
	}
	return c, nil
}

func expectErr(hint, format string, a ...any) error {
	return &pipeline.Error{Kind: pipeline.Expectation, Message: fmt.Sprintf(format, a...), Hint: hint}
}

// batch counts, and fails at the first label that is not expected and at the first NULL where none is.
func (x *expectations) batch(b *batch) error {
	x.rows += int64(b.n)
	for i := range x.nulls {
		s := &x.nulls[i]
		c := &b.cols[s.col]
		if c.valid == nil && c.typ.Kind != expr.Float64 && c.typ.Kind != expr.Float32 {
			continue
		}
		for r := range b.n {
			if c.isNull(r) || c.hasNaN(r) {
				if s.limit == 0 {
					return expectErr("correct the row, or raise expect.max_null", "%s: expect.max_null: column %q%s, expected never", b.place(r), s.name, c.flaw(r))
				}
				if s.invalid++; s.invalid == 1 {
					s.first = b.place(r)
				}
			}
		}
	}
	for i := range x.labels {
		l := &x.labels[i]
		if r := l.stranger(&b.cols[l.col], b.n); r >= 0 {
			return expectErr("correct the row, or add the value to expect.labels", "%s: expect.labels: column %q is %s, expected %s",
				b.place(r), l.name, b.cols[l.col].show(r), listed(l.want))
		}
	}
	return nil
}

// stranger gives the first row whose value is not among the labels, or -1. NULL is max_null's business. Values are
// compared as float64; a text is compared as the number that it spells.
func (l *labelSet) stranger(c *column, n int) int {
	for r := range n {
		if c.isNull(r) {
			continue
		}
		var x float64
		ok := true
		switch c.typ.Kind {
		case expr.String:
			x, ok = textToFloat(c.str(r))
		case expr.Bool:
			x = float64(b2i(c.bool[r]))
		default:
			x = c.number(r)
		}
		if ok {
			_, ok = slices.BinarySearch(l.want, x)
		}
		if !ok && !(x != x && c.typ.Kind != expr.String) {
			return r
		}
	}
	return -1
}

func listed(v []float64) string {
	var s []string
	for i, x := range v {
		if i == 12 && len(v) > 13 {
			s = append(s, fmt.Sprintf("… %d more", len(v)-i))
			break
		}
		s = append(s, strconv.FormatFloat(x, 'g', -1, 64))
	}
	return "one of " + strings.Join(s, ", ")
}

// finish compares what was counted with what is expected.
func (x *expectations) finish() error {
	if x.rows < x.want.MinRows {
		return expectErr("wait for the missing data, or lower expect.min_rows", "expect.min_rows: the source has %d rows, expected at least %d", x.rows, x.want.MinRows)
	}
	for _, s := range x.nulls {
		share := float64(s.invalid) / math.Max(1, float64(x.rows))
		if share > s.limit {
			return expectErr("look at the first such row, or raise expect.max_null",
				"expect.max_null: column %q is NULL or NaN in %d of %d rows (share %.6g), expected at most %.6g; the first is %s",
				s.name, s.invalid, x.rows, share, s.limit, s.first)
		}
	}
	return nil
}
