package sparkconn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline/expr"
)

// measured is a table with a number x, a vector v and a word w, NULL and NaN among them, beside what its training rows
// hold.
type measured struct {
	sql         string // a relation t(id, x, v, w)
	scalar      []float64
	nullScalars int
	positions   [][]float64 // the numbers at each position of v
	nullVectors int
	nanVectors  int // those with a NaN, at position 1
	words       map[string]int64
}

func measure(rows, width int) measured {
	m := measured{positions: make([][]float64, width), words: map[string]int64{}}
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for id := range int64(rows) {
		x, sqlX := rng.NormFloat64()*3+100, ""
		switch id % 50 {
		case 3:
			x, sqlX = math.NaN(), "NULL"
		case 4:
			x, sqlX = math.NaN(), nan
		default:
			sqlX = number64(x)
		}
		v := make([]float64, width)
		for i := range v {
			v[i] = float64(float32(rng.NormFloat64()))
		}
		if id%40 == 7 {
			v[1] = math.NaN()
		}
		sqlV := literalVector(v, expr.Float32)
		if id%60 == 8 {
			v, sqlV = nil, "NULL"
		}
		word := fmt.Sprintf("w%d", id%7*id%5)
		fmt.Fprintf(&b, ", (%dL, CAST(%s AS DOUBLE), CAST(%s AS ARRAY<FLOAT>), '%s')", id, sqlX, sqlV, word)
		if inTrain(id) {
			m.see(x, v, word)
		}
	}
	m.sql = "(VALUES " + b.String()[2:] + ") AS t(id, x, v, w)"
	return m
}

// see counts a training row.
func (m *measured) see(x float64, v []float64, word string) {
	m.words[word]++
	if x != x {
		m.nullScalars++
	} else {
		m.scalar = append(m.scalar, x)
	}
	if v == nil {
		m.nullVectors++
		return
	}
	if v[1] != v[1] {
		m.nanVectors++
	}
	for i, f := range v {
		if f == f {
			m.positions[i] = append(m.positions[i], f)
		}
	}
}

// momentKinds are the statistics that one number a column, or a position, answers.
var momentKinds = []expr.StatKind{expr.Count, expr.CountInvalid, expr.Min, expr.Max, expr.Mean, expr.StddevPop, expr.StddevSamp}

// askedQuantiles are not in order: answers come as asked.
var askedQuantiles = []float64{0.5, 0, 0.9, 1}

func TestStatisticsAreThoseOfTheTrainingRows(t *testing.T) {
	s := dialReal(t)
	m := measure(500, 3)
	step := statStep{got: new([]expr.StatValue)}
	for _, c := range []struct {
		column string
		per    bool
	}{{"x", false}, {"v", false}, {"v", true}} {
		for _, k := range momentKinds {
			step.needs = append(step.needs, expr.Stat{Kind: k, Column: c.column, PerPosition: c.per})
		}
		step.needs = append(step.needs, expr.Stat{Kind: expr.Quantiles, Column: c.column, PerPosition: c.per, Quantiles: askedQuantiles})
	}
	step.needs = append(step.needs, expr.Stat{Kind: expr.Distinct, Column: "w", Limit: 100}, expr.Stat{Kind: expr.Count, Column: "w"})
	p := sqlOver("SELECT * FROM " + m.sql)
	p.Steps = []expr.Step{step}
	if _, err := (Engine{Session: s}).Fit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	got := *step.got
	nulls, nans := float64(m.nullVectors), float64(m.nullVectors+m.nanVectors)
	wantMoments(t, got, "scalar", []float64{float64(m.nullScalars)}, m.scalar)
	wantMoments(t, got[8:], "vector", []float64{nans}, slices.Concat(m.positions...))
	wantMoments(t, got[16:], "positions", []float64{nulls, nans, nulls}, m.positions...)
	wantWords(t, got[24], m.words)
	if n := got[25].Values[0]; n != float64(len(m.scalar)+m.nullScalars) {
		t.Errorf("%v words, want %d", n, len(m.scalar)+m.nullScalars)
	}
}

// wantMoments compares the answers to momentKinds and askedQuantiles with those of values, a list a position.
func wantMoments(t *testing.T, got []expr.StatValue, name string, invalid []float64, values ...[]float64) {
	t.Helper()
	for k, kind := range momentKinds {
		if len(got[k].Values) != len(values) {
			t.Errorf("%s: %s has %d values, want %d", name, kind, len(got[k].Values), len(values))
			continue
		}
		for i, v := range values {
			want := plainStat(kind, v, invalid[i])
			if g := got[k].Values[i]; math.Abs(g-want) > 1e-12*math.Abs(want) {
				t.Errorf("%s: %s at %d is %v, want %v", name, kind, i, g, want)
			}
		}
	}
	q := got[len(momentKinds)]
	var want []float64
	for _, v := range values {
		sorted := slices.Sorted(slices.Values(v))
		for _, f := range askedQuantiles {
			want = append(want, sorted[max(0, int(math.Ceil(f*float64(len(v))))-1)])
		}
	}
	if !slices.Equal(q.Values, want) || q.Approx {
		t.Errorf("%s: quantiles %v (approximate: %v), want %v", name, q.Values, q.Approx, want)
	}
}

// wantWords wants each word with its count, frequent ones first, equals in order.
func wantWords(t *testing.T, got expr.StatValue, words map[string]int64) {
	t.Helper()
	ok := len(got.Distinct) == len(words)
	for i, w := range got.Distinct {
		ok = ok && got.Counts[i] == words[w] && (i == 0 || got.Counts[i] < got.Counts[i-1] || got.Counts[i] == got.Counts[i-1] && w > got.Distinct[i-1])
	}
	if !ok {
		t.Errorf("distinct values %v with counts %v, want %v", got.Distinct, got.Counts, words)
	}
}

// plainStat computes a statistic the obvious way.
func plainStat(k expr.StatKind, v []float64, invalid float64) float64 {
	n := float64(len(v))
	mean, m2 := 0.0, 0.0
	for _, x := range v {
		mean += x / n
	}
	for _, x := range v {
		m2 += (x - mean) * (x - mean)
	}
	switch k {
	case expr.Count:
		return n
	case expr.CountInvalid:
		return invalid
	case expr.Min:
		return slices.Min(v)
	case expr.Max:
		return slices.Max(v)
	case expr.Mean:
		return mean
	case expr.StddevPop:
		return math.Sqrt(m2 / n)
	}
	return math.Sqrt(m2 / (n - 1))
}
