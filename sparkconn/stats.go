package sparkconn

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline/expr"
)

// exactQuantiles is the number of values up to which quantiles are exact, as in the embedded engine.
const (
	exactQuantiles = 1 << 20
	quantileMemory = 1 << 24 // of all positions of a vector together
)

// aggregate is the one aggregate of a pass.
type aggregate struct {
	c     *chain
	items []string
	row   *table
	stats []*stat
}

// item adds an expression and gives its place.
func (a *aggregate) item(sql string) int {
	if i := slices.Index(a.items, sql); i >= 0 {
		return i
	}
	a.items = append(a.items, sql)
	return len(a.items) - 1
}

func (a *aggregate) float(i int) float64 {
	if a.row.cols[i].null[0] {
		return math.NaN()
	}
	return a.row.cols[i].floats[0]
}

// statKey names what is measured together.
type statKey struct {
	column string
	per    bool
}

// stat is everything that is wanted of one column, per position or over all of them.
type stat struct {
	statKey
	op    string
	typ   expr.Type
	id    string
	kinds map[expr.StatKind]bool
	limit int       // of distinct values
	asked []float64 // quantiles, sorted, each once

	at        map[expr.StatKind]int // places in the aggregate, of what is answered there
	invalid   []float64             // one a position
	count     []float64
	lo, hi    []float64
	mean, m2  []float64
	quantiles [][]float64
	approx    bool
	texts     []string
	counts    []int64
}

// want adds a statistic.
func (a *aggregate) want(asked map[statKey]*stat, op string, n expr.Stat) error {
	f, _ := a.c.schema.Lookup(n.Column)
	key := statKey{n.Column, n.PerPosition}
	s := asked[key]
	if s == nil {
		id, err := identifier(n.Column)
		if err != nil {
			return err
		}
		s = &stat{statKey: key, op: op, typ: f.Type, id: id, kinds: map[expr.StatKind]bool{}, at: map[expr.StatKind]int{}}
		asked[key] = s
		a.stats = append(a.stats, s)
	}
	s.kinds[n.Kind] = true
	switch n.Kind {
	case expr.Count, expr.CountInvalid:
	case expr.Min, expr.Max, expr.Mean, expr.StddevPop, expr.StddevSamp:
		if f.Type.Kind == expr.String {
			return internalErr("%s: %s of the text column %q", op, n.Kind, n.Column)
		}
	case expr.Quantiles:
		s.kinds[expr.Count] = true // decides whether they can be exact
		s.asked = append(s.asked, n.Quantiles...)
		slices.Sort(s.asked)
		s.asked = slices.Compact(s.asked)
	case expr.Distinct:
		if f.Type.Width != 0 {
			return internalErr("%s: distinct values of the vector %q", op, n.Column)
		}
		s.limit = max(s.limit, n.Limit, 1)
	default:
		return internalErr("%s: unknown statistic %q of %q", op, n.Kind, n.Column)
	}
	s.into(a, n.Kind)
	return nil
}

// chosen is true for the rows that statistics are about.
func chosen(c *chain) string { return stateColumn + " IS NULL AND " + c.train }

// picked is a relation of a column's values in the chosen rows.
func (s *stat) picked(c *chain) string {
	return "(SELECT " + s.id + " FROM (SELECT " + s.id + ", " + stateColumn + ", " + hashColumn + ", " + numberRows + " FROM " + c.last() + ") WHERE " +
		chosen(c) + " AND " + filterHere + ")"
}

// into adds what one row of numbers can answer to the aggregate.
func (s *stat) into(a *aggregate, kind expr.StatKind) {
	rows := chosen(a.c)
	if s.typ.Width != 0 {
		switch {
		case kind == expr.CountInvalid && s.per:
			s.at[kind] = a.item("count_if(" + rows + " AND " + s.id + " IS NULL)")
		case kind == expr.CountInvalid:
			s.at[kind] = a.item("count_if(" + rows + " AND (" + s.id + " IS NULL OR isnan(array_max(" + s.id + "))))")
		case s.per:
		case kind == expr.Min: // NaN is the greatest, so it is the least only when there is nothing else
			s.at[kind] = a.item("min(CASE WHEN " + rows + " THEN nanvl(CAST(array_min(" + s.id + ") AS DOUBLE), CAST(NULL AS DOUBLE)) END)")
		case kind == expr.Max:
			s.at[kind] = a.item("max(CASE WHEN " + rows + " THEN CAST(if(isnan(array_max(" + s.id + ")), array_max(filter(" + s.id +
				", e -> NOT isnan(e))), array_max(" + s.id + ")) AS DOUBLE) END)")
		}
		return
	}
	value := s.id
	number := s.typ.Kind == expr.Float64 || s.typ.Kind == expr.Float32
	if number {
		value = "nanvl(CAST(" + s.id + " AS DOUBLE), CAST(NULL AS DOUBLE))"
	} else if s.typ.Kind == expr.Int64 {
		value = "CAST(" + s.id + " AS DOUBLE)"
	}
	picked := "CASE WHEN " + rows + " THEN " + value + " END"
	name := map[expr.StatKind]string{expr.Count: "count", expr.Min: "min", expr.Max: "max", expr.Mean: "avg", expr.StddevPop: "stddev_pop", expr.StddevSamp: "stddev_samp"}[kind]
	switch {
	case kind == expr.CountInvalid && number:
		s.at[kind] = a.item("count_if(" + rows + " AND (" + s.id + " IS NULL OR isnan(" + s.id + ")))")
	case kind == expr.CountInvalid:
		s.at[kind] = a.item("count_if(" + rows + " AND " + s.id + " IS NULL)")
	case kind == expr.Quantiles:
		s.at[expr.Count] = a.item("count(" + picked + ")")
	case s.typ.Kind == expr.Bool && kind != expr.Count: // a truth value has no moments
	case name != "":
		s.at[kind] = a.item(name + "(" + picked + ")")
	}
}

// ask runs the queries that the statistic needs beside the aggregate.
func (s *stat) ask(ctx context.Context, r *run, a *aggregate) error {
	if s.kinds[expr.Distinct] {
		if err := s.distinct(ctx, r, a.c); err != nil {
			return err
		}
	}
	if s.typ.Width != 0 && s.positionsNeeded() {
		if err := s.positions(ctx, r, a); err != nil {
			return err
		}
	}
	if s.kinds[expr.Quantiles] {
		return s.ranks(ctx, r, a)
	}
	return nil
}

func (s *stat) positionsNeeded() bool {
	for _, k := range []expr.StatKind{expr.Count, expr.Mean, expr.StddevPop, expr.StddevSamp} {
		if s.kinds[k] {
			return true
		}
	}
	return s.per && (s.kinds[expr.Min] || s.kinds[expr.Max] || s.kinds[expr.CountInvalid])
}

// exploded is a relation of the elements x (DOUBLE, NaN as NULL) of a vector at positions pos.
func (s *stat) exploded(c *chain) string {
	return "(SELECT pos, nanvl(CAST(x AS DOUBLE), CAST(NULL AS DOUBLE)) AS x FROM (SELECT posexplode(" + s.id + ") AS (pos, x) FROM " + s.picked(c) + "))"
}

// positions measures every position of a vector; without PerPosition the answers are merged.
func (s *stat) positions(ctx context.Context, r *run, a *aggregate) error {
	t, err := r.table(ctx, "statistics of "+s.column, a.c.with(
		"SELECT pos, count(x), count(*) - count(x), min(x), max(x), avg(x), stddev_pop(x) FROM "+s.exploded(a.c)+" GROUP BY pos"))
	if err != nil {
		return err
	}
	w := s.typ.Width
	fill := func(v float64) []float64 {
		f := make([]float64, w)
		for i := range f {
			f[i] = v
		}
		return f
	}
	s.count, s.invalid, s.lo, s.hi, s.mean, s.m2 = fill(0), fill(0), fill(math.NaN()), fill(math.NaN()), fill(math.NaN()), fill(0)
	if at, ok := s.at[expr.CountInvalid]; ok && s.per {
		s.invalid = fill(a.float(at)) // rows that are NULL
	}
	for k := range t.rows {
		i := int(t.cols[0].ints[k])
		if i < 0 || i >= w {
			return internalErr("statistics of %s: position %d of %d", s.column, i, w)
		}
		s.count[i] = t.cols[1].floats[k]
		s.invalid[i] += t.cols[2].floats[k]
		s.lo[i], s.hi[i], s.mean[i] = t.cols[3].floats[k], t.cols[4].floats[k], t.cols[5].floats[k]
		if d := t.cols[6].floats[k]; s.count[i] > 0 {
			s.m2[i] = d * d * s.count[i]
		}
	}
	if !s.per {
		s.merge()
	}
	return nil
}

// merge makes one count, mean and sum of squares of all positions (T. F. Chan, G. H. Golub and R. J. LeVeque, Updating
// formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1).
func (s *stat) merge() {
	var n, mean, m2 float64
	for i, k := range s.count {
		if k == 0 {
			continue
		}
		d := s.mean[i] - mean
		m2 += s.m2[i] + d*d*(n*k/(n+k))
		mean += d * (k / (n + k))
		n += k
	}
	if n == 0 {
		mean = math.NaN()
	}
	s.count, s.mean, s.m2 = []float64{n}, []float64{mean}, []float64{m2}
}

// distinct asks for the values of a column with their counts.
func (s *stat) distinct(ctx context.Context, r *run, c *chain) error {
	where := s.id + " IS NOT NULL"
	number := s.typ.Kind == expr.Float64 || s.typ.Kind == expr.Float32
	if number {
		where += " AND NOT isnan(" + s.id + ")"
	}
	t, err := r.table(ctx, "values of "+s.column, c.with(fmt.Sprintf("SELECT %s, count(*) FROM %s WHERE %s GROUP BY %s LIMIT %d",
		s.id, s.picked(c), where, s.id, s.limit+1)))
	if err != nil {
		return err
	}
	if t.rows > s.limit {
		return dataErr("raise the limit, or use hash_bucket", "%s: column %q has more than %d distinct values", s.op, s.column, s.limit)
	}
	order := make([]int, t.rows)
	for i := range order {
		order[i] = i
	}
	v, n := t.column(0), t.column(1)
	slices.SortFunc(order, func(a, b int) int {
		c := cmp.Compare(n.ints[b], n.ints[a])
		switch {
		case c != 0:
			return c
		case s.typ.Kind == expr.String:
			return strings.Compare(v.texts[a], v.texts[b])
		case number:
			return cmp.Compare(v.floats[a], v.floats[b])
		}
		return cmp.Compare(v.ints[a], v.ints[b])
	})
	for _, i := range order {
		text := v.texts[i]
		switch {
		case number:
			text = strconv.FormatFloat(v.floats[i]+0, 'g', -1, 64)
		case s.typ.Kind == expr.Bool:
			text = strconv.FormatBool(v.ints[i] != 0)
		case s.typ.Kind == expr.Int64:
			text = strconv.FormatInt(v.ints[i], 10)
		}
		s.texts, s.counts = append(s.texts, text), append(s.counts, n.ints[i])
	}
	return nil
}

// column gives a column; a table without rows has no columns of its own.
func (t *table) column(i int) *tableColumn {
	if i >= len(t.cols) {
		return &tableColumn{}
	}
	return &t.cols[i]
}

// ranks asks for quantiles: exact ones up to a number of values, above it approximate ones.
func (s *stat) ranks(ctx context.Context, r *run, a *aggregate) error {
	most, limit := 0.0, float64(exactQuantiles)
	if s.typ.Width == 0 {
		most = a.float(s.at[expr.Count])
	} else {
		for _, n := range s.count {
			most = max(most, n)
		}
		if s.per {
			limit = max(1024, min(limit, float64(quantileMemory/s.typ.Width)))
		}
	}
	s.approx = most > limit
	from := s.exploded(a.c)
	if s.typ.Width == 0 {
		from = "(SELECT 0 AS pos, nanvl(CAST(" + s.id + " AS DOUBLE), CAST(NULL AS DOUBLE)) AS x FROM " + s.picked(a.c) + ")"
	}
	w := 1
	if s.per && s.typ.Width != 0 {
		w = s.typ.Width
	} else if s.typ.Width != 0 {
		from = "(SELECT 0 AS pos, x FROM " + from + ")"
	}
	items := []string{"pos"}
	for _, q := range s.asked {
		if s.approx {
			items = append(items, "percentile_approx(x, "+number64(q)+", 10000)")
		} else {
			items = append(items, "percentile_disc("+number64(q)+") WITHIN GROUP (ORDER BY x)")
		}
	}
	t, err := r.table(ctx, "quantiles of "+s.column, a.c.with("SELECT "+strings.Join(items, ", ")+" FROM "+from+" GROUP BY pos"))
	if err != nil {
		return err
	}
	s.quantiles = make([][]float64, w)
	for i := range s.quantiles {
		s.quantiles[i] = make([]float64, len(s.asked))
		for k := range s.asked {
			s.quantiles[i][k] = math.NaN()
		}
	}
	for row := range t.rows {
		i := int(t.cols[0].ints[row])
		if i < 0 || i >= w {
			return internalErr("quantiles of %s: position %d of %d", s.column, i, w)
		}
		for k := range s.asked {
			s.quantiles[i][k] = t.cols[k+1].floats[row]
		}
	}
	return nil
}

// answer gives one statistic.
func (s *stat) answer(n expr.Stat, a *aggregate) expr.StatValue {
	switch n.Kind {
	case expr.Distinct:
		return expr.StatValue{Distinct: s.texts, Counts: s.counts}
	case expr.Quantiles:
		v := expr.StatValue{Approx: s.approx}
		for _, q := range s.quantiles {
			for _, want := range n.Quantiles {
				k, _ := slices.BinarySearch(s.asked, want)
				v.Values = append(v.Values, q[k])
			}
		}
		return v
	}
	if at, ok := s.at[n.Kind]; ok && !(s.per && s.typ.Width != 0) {
		return expr.StatValue{Values: []float64{a.float(at)}}
	}
	var values []float64
	for i := range max(1, len(s.count)) {
		x := math.NaN()
		if i < len(s.count) {
			x = s.at1(n.Kind, i)
		}
		values = append(values, x)
	}
	return expr.StatValue{Values: values}
}

// at1 is a statistic of one position.
func (s *stat) at1(kind expr.StatKind, i int) float64 {
	switch kind {
	case expr.Count:
		return s.count[i]
	case expr.CountInvalid:
		return s.invalid[i]
	case expr.Min:
		return s.lo[i]
	case expr.Max:
		return s.hi[i]
	case expr.Mean:
		return s.mean[i]
	case expr.StddevPop:
		if s.count[i] > 0 {
			return math.Sqrt(s.m2[i] / s.count[i])
		}
	case expr.StddevSamp:
		if s.count[i] > 1 {
			return math.Sqrt(s.m2[i] / (s.count[i] - 1))
		}
	}
	return math.NaN()
}
