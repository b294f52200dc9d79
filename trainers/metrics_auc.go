package trainers

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
)

// maxScores is up to how many scores an area under the curve is exact: so many are kept, in 12 bytes each.
const maxScores = 1 << 20

// scoreLimit counts the scores of one metric of one output over all shards, so that every meter stops keeping them when
// there are too many. What comes out does not depend on the order, only on the number in the end.
type scoreLimit struct{ seen atomic.Int64 }

// aucThresholds is the number of thresholds beyond that, as Keras has by default: 0, 1 and 198 between.
const aucThresholds = 200

// aucMeter is the area under the receiver operating characteristic: how likely it is that a yes has a larger score than
// a no, ties counting half (Fawcett 2006, algorithm 2 and 3). It pools all columns of an output, as Keras does, or takes
// the mean of every class against the rest, as scikit-learn's roc_auc_ovr does.
type aucMeter struct {
	output
	curves []aucCurve // one, or one a class
}

type aucCurve struct {
	scores []scored
	// yes and no by how many thresholds the score is above.
	yes, no [aucThresholds + 1]float64
	nan     bool
}

type scored struct {
	score, weight float32
	yes           bool
}

func newAUCMeter(o output, oneVersusRest bool) *aucMeter {
	n := 1
	if oneVersusRest {
		n = o.width
	}
	return &aucMeter{output: o, curves: make([]aucCurve, n)}
}

func (m *aucMeter) add(pred, target, weight []float32) {
	keep := m.scores.seen.Add(int64(len(pred))) <= maxScores
	for v := range len(target) / m.target {
		w := float32(weightOf(weight, v/m.vectors))
		class := -1
		if m.index() {
			class = classOf(target[v:v+1], m.width)
		}
		for i, p := range pred[v*m.width : (v+1)*m.width] {
			yes := i == class
			if !m.index() {
				yes = target[v*m.width+i] > 0.5
			}
			m.curves[i%len(m.curves)].add(scored{p, w, yes}, keep)
		}
	}
}

func (c *aucCurve) add(s scored, keep bool) {
	if keep {
		c.scores = append(c.scores, s)
	} else {
		c.scores = nil
	}
	if s.score != s.score {
		c.nan = true
		return
	}
	// The first threshold is below 0, the i-th is i / 199, and the last is above 1.
	above := max(1, int(math.Ceil(min(max(float64(s.score), 0), 1)*(aucThresholds-1))))
	if s.yes {
		c.yes[above] += float64(s.weight)
	} else {
		c.no[above] += float64(s.weight)
	}
}

func (m *aucMeter) merge(later meter) {
	for i := range m.curves {
		c, l := &m.curves[i], &later.(*aucMeter).curves[i]
		c.scores = append(c.scores, l.scores...)
		c.nan = c.nan || l.nan
		for j := range c.yes {
			c.yes[j] += l.yes[j]
			c.no[j] += l.no[j]
		}
	}
}

func (m *aucMeter) figure() (float64, *ConfusionMatrix, string) {
	exact := m.scores.seen.Load() <= maxScores
	note := ""
	if !exact {
		note = fmt.Sprintf("at %d thresholds, because there are more than %d scores", aucThresholds, maxScores)
	}
	var sum float64
	for i := range m.curves {
		area := m.curves[i].area(exact)
		if math.IsNaN(area) {
			note = "undefined: every row is of one class"
			if m.curves[i].nan {
				note = "undefined: there are scores that are no number"
			}
		}
		sum += area
	}
	return sum / float64(len(m.curves)), nil, note
}

// area is NaN when there is no yes or no no, or a score is NaN.
func (c *aucCurve) area(exact bool) float64 {
	if c.nan {
		return math.NaN()
	}
	var area, yes, no float64 // yes: of larger scores than the present ones
	step := func(y, n float64) {
		area += n * (yes + y/2)
		yes, no = yes+y, no+n
	}
	if !exact {
		for i := aucThresholds; i >= 0; i-- {
			step(c.yes[i], c.no[i])
		}
		return area / (yes * no)
	}
	slices.SortFunc(c.scores, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	for i := 0; i < len(c.scores); {
		var y, n float64
		score := c.scores[i].score
		for ; i < len(c.scores) && c.scores[i].score == score; i++ {
			if c.scores[i].yes {
				y += float64(c.scores[i].weight)
			} else {
				n += float64(c.scores[i].weight)
			}
		}
		step(y, n)
	}
	return area / (yes * no)
}
