package local

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// ExactQuantiles is the number of values of a column up to which quantiles are exact. Above it they come from a
// random sample of this many values (fixed seed), and the statistic is marked as approximate.
const ExactQuantiles = 1 << 20

// quantileMemory bounds the values kept for all positions of a vector together.
const quantileMemory = 1 << 24

// moments are count, mean and sum of squared differences, merged by the formula of T. F. Chan, G. H. Golub and
// R. J. LeVeque (Updating formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1).
type moments struct {
	n        int64
	mean, m2 float64
}

func (a *moments) merge(b moments) {
	if b.n == 0 {
		return
	}
	n := a.n + b.n
	d := b.mean - a.mean
	a.mean += d * (float64(b.n) / float64(n))
	a.m2 += b.m2 + d*d*(float64(a.n)*float64(b.n)/float64(n))
	a.n = n
}

// accumulator collects every statistic that is wanted of one column, per position or over all of them.
type accumulator struct {
	column string
	v      value
	typ    expr.Type
	per    bool

	extremes, moment bool
	limit            int // of distinct values; 0: not wanted
	keep             int // values kept a position for quantiles; 0: not wanted

	invalid  []int64
	lo, hi   []float64
	mom      []moments
	sum, m2  []float64 // of the batch
	mean     []float64 // of the batch
	count    []int64   // of the batch
	distinct distinct
	samples  [][]float64
	seen     []int64
	rng      *rand.Rand
	row      []float64
	op       string
}

func newAccumulator(op, column string, v value, t expr.Type, per bool) *accumulator {
	w := 1
	if per {
		w = max(1, t.Width)
	}
	a := &accumulator{op: op, column: column, v: v, typ: t, per: per}
	a.invalid = make([]int64, w)
	a.lo, a.hi = make([]float64, w), make([]float64, w)
	for i := range w {
		a.lo[i], a.hi[i] = math.NaN(), math.NaN()
	}
	a.mom = make([]moments, w)
	a.sum, a.m2, a.mean, a.count = make([]float64, w), make([]float64, w), make([]float64, w), make([]int64, w)
	return a
}

// want turns the collecting of a statistic on.
func (a *accumulator) want(s expr.Stat) error {
	switch s.Kind {
	case expr.Count, expr.CountInvalid:
	case expr.Min, expr.Max:
		a.extremes = true
	case expr.Mean, expr.StddevPop, expr.StddevSamp:
		a.moment = true
	case expr.Distinct:
		if a.typ.Width > 0 {
			return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%s: distinct values of the vector %q", a.op, a.column)}
		}
		a.limit = max(a.limit, s.Limit, 1)
	case expr.Quantiles:
		a.keep = max(1024, min(ExactQuantiles, quantileMemory/len(a.invalid)))
		a.samples, a.seen = make([][]float64, len(a.invalid)), make([]int64, len(a.invalid))
		a.rng = rand.New(rand.NewPCG(1, 2))
	default:
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%s: unknown statistic %q of %q", a.op, s.Kind, a.column)}
	}
	if a.typ.Kind == expr.String && s.Kind != expr.Count && s.Kind != expr.CountInvalid && s.Kind != expr.Distinct {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%s: %s of the text column %q", a.op, s.Kind, a.column)}
	}
	return nil
}

// batch takes the rows that are chosen.
func (a *accumulator) batch(m *machine, chosen []bool) error {
	c := a.v.eval(m)
	for i := range a.count {
		a.sum[i], a.m2[i], a.count[i] = 0, 0, 0
	}
	w := c.width()
	for r, ok := range chosen {
		if !ok {
			continue
		}
		if c.isNull(r) {
			for i := range a.invalid {
				a.invalid[i]++
			}
			continue
		}
		if a.limit > 0 && !c.hasNaN(r) {
			if err := a.distinct.add(c, r, a.limit, a.op, a.column); err != nil {
				return err
			}
		}
		if c.typ.Kind == expr.String || c.typ.Kind == expr.Bool {
			a.count[0]++
			continue
		}
		a.take(a.elements(c, r, w))
	}
	if a.moment {
		a.squares(c, chosen, w)
	}
	for i, n := range a.count {
		b := moments{n: n}
		if n > 0 && a.moment {
			b.mean, b.m2 = a.mean[i], a.m2[i]
		}
		a.mom[i].merge(b)
	}
	return nil
}

// elements gives row r as float64.
func (a *accumulator) elements(c *column, r, w int) []float64 {
	if c.typ.Kind == expr.Float64 {
		return c.f64[r*w : (r+1)*w]
	}
	a.row = grow(a.row, w)
	if c.typ.Kind == expr.Float32 {
		for i, x := range c.f32[r*w : (r+1)*w] {
			a.row[i] = float64(x)
		}
	} else {
		a.row[0] = float64(c.i64[r])
	}
	return a.row
}

// take adds one row to counts, sums, bounds and samples.
func (a *accumulator) take(v []float64) {
	if a.per || len(v) == 1 {
		for i, x := range v {
			if x != x {
				a.invalid[i]++
				continue
			}
			a.count[i]++
			a.sum[i] += x
		}
		if a.extremes {
			for i, x := range v {
				if !(x >= a.lo[i]) && x == x {
					a.lo[i] = x
				}
				if !(x <= a.hi[i]) && x == x {
					a.hi[i] = x
				}
			}
		}
	} else {
		a.takeAll(v)
	}
	if a.keep > 0 {
		for i, x := range v {
			if !a.per {
				i = 0
			}
			a.sample(i, x)
		}
	}
}

func (a *accumulator) takeAll(v []float64) {
	bad := false
	for _, x := range v {
		if x != x {
			bad = true
			continue
		}
		a.count[0]++
		a.sum[0] += x
		if !(x >= a.lo[0]) {
			a.lo[0] = x
		}
		if !(x <= a.hi[0]) {
			a.hi[0] = x
		}
	}
	if bad {
		a.invalid[0]++
	}
}

// squares adds the squared differences from the batch's own means.
func (a *accumulator) squares(c *column, chosen []bool, w int) {
	if c.typ.Kind == expr.String || c.typ.Kind == expr.Bool {
		return
	}
	for i, n := range a.count {
		a.mean[i] = a.sum[i] / math.Max(1, float64(n))
	}
	for r, ok := range chosen {
		if !ok || c.isNull(r) {
			continue
		}
		for i, x := range a.elements(c, r, w) {
			if !a.per {
				i = 0
			}
			if d := x - a.mean[i]; d == d {
				a.m2[i] += d * d
			}
		}
	}
}

// sample keeps a value for quantiles: all of them up to the limit, then a uniform sample (J. S. Vitter, Random
// sampling with a reservoir, 1985, algorithm R).
func (a *accumulator) sample(i int, x float64) {
	if x != x {
		return
	}
	a.seen[i]++
	if len(a.samples[i]) < a.keep {
		a.samples[i] = append(a.samples[i], x)
		return
	}
	if k := a.rng.Int64N(a.seen[i]); k < int64(a.keep) {
		a.samples[i][k] = x
	}
}

// answer gives one statistic.
func (a *accumulator) answer(s expr.Stat) expr.StatValue {
	var v expr.StatValue
	switch s.Kind {
	case expr.Distinct:
		v.Distinct, v.Counts = a.distinct.sorted()
		return v
	case expr.Quantiles:
		for i := range a.samples {
			v.Approx = v.Approx || a.seen[i] > int64(len(a.samples[i]))
			slices.Sort(a.samples[i])
			for _, q := range s.Quantiles {
				v.Values = append(v.Values, quantile(a.samples[i], q))
			}
		}
		return v
	}
	for i, m := range a.mom {
		x := math.NaN()
		switch {
		case s.Kind == expr.Count:
			x = float64(m.n)
		case s.Kind == expr.CountInvalid:
			x = float64(a.invalid[i])
		case m.n == 0:
		case s.Kind == expr.Min:
			x = a.lo[i]
		case s.Kind == expr.Max:
			x = a.hi[i]
		case s.Kind == expr.Mean:
			x = m.mean
		case s.Kind == expr.StddevPop:
			x = math.Sqrt(m.m2 / float64(m.n))
		case s.Kind == expr.StddevSamp && m.n > 1:
			x = math.Sqrt(m.m2 / float64(m.n-1))
		}
		v.Values = append(v.Values, x)
	}
	return v
}

// quantile is percentile_disc: the least value whose share of values up to it is at least q.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	k := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(k, 0), len(sorted)-1)]
}

// distinct counts values; the map of the column's kind is in use.
type distinct struct {
	ints   map[int64]int64
	floats map[float64]int64
	texts  map[string]*int64
	bools  bool // ints holds 0 and 1 for false and true
}

func (d *distinct) add(c *column, r, limit int, op, name string) error {
	n := 0
	switch c.typ.Kind {
	case expr.String:
		if d.texts == nil {
			d.texts = map[string]*int64{}
		}
		if p := d.texts[string(c.str(r))]; p != nil {
			*p++
			return nil
		}
		one := int64(1)
		d.texts[string(c.str(r))] = &one
		n = len(d.texts)
	case expr.Float64, expr.Float32:
		if d.floats == nil {
			d.floats = map[float64]int64{}
		}
		d.floats[c.number(r)+0]++ // -0 counts as 0
		n = len(d.floats)
	default:
		if d.ints == nil {
			d.ints = map[int64]int64{}
		}
		x := int64(0)
		if c.typ.Kind == expr.Bool {
			x = int64(b2i(c.bool[r]))
		} else {
			x = c.i64[r]
		}
		d.ints[x]++
		n = len(d.ints)
		d.bools = c.typ.Kind == expr.Bool
	}
	if n > limit {
		return dataErr("raise the limit, or use hash_bucket", "%s: column %q has more than %d distinct values", op, name, limit)
	}
	return nil
}

// sorted gives the values as text, most frequent first, ties in the order of the values.
func (d *distinct) sorted() ([]string, []int64) {
	switch {
	case d.texts != nil:
		flat := make(map[string]int64, len(d.texts))
		for k, n := range d.texts {
			flat[k] = *n
		}
		return ranked(flat, func(s string) string { return s })
	case d.floats != nil:
		return ranked(d.floats, func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) })
	}
	return ranked(d.ints, func(x int64) string {
		if d.bools {
			return strconv.FormatBool(x != 0)
		}
		return strconv.FormatInt(x, 10)
	})
}

func ranked[K cmp.Ordered](m map[K]int64, text func(K) string) ([]string, []int64) {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	texts, counts := make([]string, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		texts[i], counts[i] = text(k), m[k]
	}
	return texts, counts
}
