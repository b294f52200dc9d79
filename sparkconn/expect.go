package sparkconn

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// expectations checks Plan.Expect over the source's columns, all rows of them. Each expectation is a column that the
// chain carries from its first SELECT on and the pass counts.
type expectations struct {
	want   pipeline.Expect
	nulls  []expectation
	labels []expectation
}

type expectation struct {
	column string
	sql    string // BOOLEAN over the typed columns: the row is against it
	value  string // STRING: what it holds
	carry  string // name of the carried column
	limit  float64
	list   []float64
	count  int // places in the aggregate
	first  int
}

func newExpectations(e pipeline.Expect, o *source) (*expectations, error) {
	x := &expectations{want: e}
	add := func(what, name string) (expectation, sourceColumn, error) {
		t, err := o.find(what, name)
		if err != nil {
			return expectation{}, sourceColumn{}, err
		}
		i := slices.IndexFunc(o.cols, func(c sourceColumn) bool { return c.Name == name })
		n := len(x.nulls) + len(x.labels)
		_ = t
		return expectation{column: name, carry: "__dkpipe_expect" + strconv.Itoa(n)}, o.cols[i], nil
	}
	for _, name := range sortedKeys(e.MaxNull) {
		p, c, err := add("expect.max_null", name)
		if err != nil {
			return nil, err
		}
		v := piece{text: "(" + c.sql + ")", typ: c.Type}
		p.sql, p.limit = "NOT ("+valid(v)+")", e.MaxNull[name]
		x.nulls = append(x.nulls, p)
	}
	for _, name := range sortedKeys(e.Labels) {
		p, c, err := add("expect.labels", name)
		if err != nil {
			return nil, err
		}
		if c.Type.Width != 0 {
			return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("expect.labels: column %q is %s", name, c.Type), Hint: "name a scalar column"}
		}
		p.list = slices.Clone(e.Labels[name])
		slices.Sort(p.list)
		p.sql = stranger(c, p.list)
		p.value = "CAST(" + c.sql + " AS STRING)"
		x.labels = append(x.labels, p)
	}
	return x, nil
}

// stranger is true for a value that is not among the labels. NULL and NaN are max_null's business; a text is compared
// as the number that it spells.
func stranger(c sourceColumn, list []float64) string {
	v := double(piece{text: c.sql, typ: c.Type})
	if c.Type.Kind == expr.String {
		v, _ = newRenderer(nil).cast(expr.Float64, piece{text: c.sql, typ: c.Type})
	}
	var among []string
	for _, x := range list {
		among = append(among, number64(x))
	}
	in := "false"
	if among != nil {
		in = "coalesce(" + v.text + " IN (" + strings.Join(among, ", ") + "), false)"
	}
	test := c.sql + " IS NOT NULL AND NOT " + in
	if c.Type.Kind == expr.Float32 || c.Type.Kind == expr.Float64 {
		test += " AND NOT isnan(" + c.sql + ")"
	}
	return "(" + test + ")"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// any reports whether rows must be read for the expectations.
func (x *expectations) any() bool {
	return x.want.MinRows > 0 || len(x.nulls)+len(x.labels) > 0
}

// extras are the columns that the chain of the first pass carries.
func (x *expectations) extras(first bool) []extra {
	if !first {
		return nil
	}
	var out []extra
	for _, p := range x.nulls {
		out = append(out, extra{p.carry, p.sql})
	}
	for _, p := range x.labels { // the value of a stranger, else NULL
		out = append(out, extra{p.carry, "CASE WHEN " + p.sql + " THEN " + p.value + " END"})
	}
	return out
}

// items adds the counts to the aggregate.
func (x *expectations) items(a *aggregate) {
	for i := range x.nulls {
		x.nulls[i].count = a.item("count_if(" + x.nulls[i].carry + ")")
	}
	for i := range x.labels {
		x.labels[i].count = a.item("count(" + x.labels[i].carry + ")")
		x.labels[i].first = a.item("min(" + x.labels[i].carry + ")")
	}
}

// finish compares what was counted with what is expected.
func (x *expectations) finish(a *aggregate, rows int) error {
	fail := func(hint, format string, v ...any) error {
		return &pipeline.Error{Kind: pipeline.Expectation, Message: fmt.Sprintf(format, v...), Hint: hint}
	}
	n := a.row.cols[rows].ints[0]
	for _, p := range x.labels {
		if k := a.row.cols[p.count].ints[0]; k > 0 {
			return fail("correct the rows, or add the value to expect.labels", "expect.labels: column %q is %s in a row, expected %s; %d of %d rows have such values",
				p.column, shown(a.row.cols[p.first].texts[0]), listed(p.list), k, n)
		}
	}
	if n < x.want.MinRows {
		return fail("wait for the missing data, or lower expect.min_rows", "expect.min_rows: the source has %d rows, expected at least %d", n, x.want.MinRows)
	}
	for _, p := range x.nulls {
		k := a.row.cols[p.count].ints[0]
		if share := float64(k) / math.Max(1, float64(n)); share > p.limit {
			return fail("look at such rows, or raise expect.max_null", "expect.max_null: column %q is NULL or NaN in %d of %d rows (share %.6g), expected at most %.6g",
				p.column, k, n, share, p.limit)
		}
	}
	return nil
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
