package trainers

// r2Meter is the coefficient of determination, 1 - Σ w (y-p)² / Σ w (y-ȳ)², of every column of an output, averaged over
// the columns. Means and squares are kept as in Welford's method and merged as by Chan, Golub and LeVeque (1979), so a
// mean that is large beside the deviation does no harm. Of a column that does not vary it is 1 when every prediction
// is right, else 0, as in scikit-learn.
type r2Meter struct {
	output
	columns []r2Column
}

type r2Column struct {
	weight, mean, squares float64 // of the target
	residual              float64
}

func newR2Meter(o output) *r2Meter { return &r2Meter{output: o, columns: make([]r2Column, o.size())} }

func (m *r2Meter) add(pred, target, weight []float32) {
	n := len(m.columns)
	for i := range len(target) / n {
		w := weightOf(weight, i)
		if w == 0 {
			continue
		}
		for j := range m.columns {
			c := &m.columns[j]
			y, d := float64(target[i*n+j]), float64(target[i*n+j])-float64(pred[i*n+j])
			c.residual += w * d * d
			c.weight += w
			apart := y - c.mean
			c.mean += apart * w / c.weight
			c.squares += w * apart * (y - c.mean)
		}
	}
}

func (m *r2Meter) merge(later meter) {
	for j, l := range later.(*r2Meter).columns {
		if l.weight == 0 {
			continue
		}
		c := &m.columns[j]
		total, apart := c.weight+l.weight, l.mean-c.mean
		c.squares += l.squares + apart*apart*c.weight*l.weight/total
		c.mean += apart * l.weight / total
		c.weight = total
		c.residual += l.residual
	}
}

func (m *r2Meter) figure() (float64, *ConfusionMatrix, string) {
	var sum float64
	for _, c := range m.columns {
		switch {
		case c.residual != c.residual:
			sum += c.residual
		case c.squares > 0:
			sum += 1 - c.residual/c.squares
		case c.residual == 0:
			sum++
		}
	}
	return sum / float64(len(m.columns)), nil, ""
}
