package trainers

import "math"

// vectorFunc scores one predicted vector.
type vectorFunc func(pred, target []float32) float64

// meanMeter is the mean of a function over rows: Σ w f / Σ w.
type meanMeter struct {
	output
	f           func(pred, target []float32) float64 // of one row
	sum, weight float64
}

// perVector gives the mean of f over a row's vectors.
func (o output) perVector(f vectorFunc) func(pred, target []float32) float64 {
	if o.vectors == 1 {
		return f
	}
	return func(pred, target []float32) float64 {
		var sum float64
		for v := range o.vectors {
			sum += f(pred[v*o.width:(v+1)*o.width], target[v*o.target:(v+1)*o.target])
		}
		return sum / float64(o.vectors)
	}
}

func (m *meanMeter) add(pred, target, weight []float32) {
	width, t := m.size(), m.vectors*m.target
	rows := len(target) / t
	if weight == nil {
		for i := range rows {
			m.sum += m.f(pred[i*width:(i+1)*width], target[i*t:(i+1)*t])
		}
		m.weight += float64(rows)
		return
	}
	for i, w := range weight[:rows] {
		m.sum += float64(w) * m.f(pred[i*width:(i+1)*width], target[i*t:(i+1)*t])
		m.weight += float64(w)
	}
}

func (m *meanMeter) merge(later meter) {
	l := later.(*meanMeter)
	m.sum += l.sum
	m.weight += l.weight
}

func (m *meanMeter) figure() (float64, *ConfusionMatrix, string) { return m.sum / m.weight, nil, "" }

// rootMeter is the root of a mean.
type rootMeter struct{ meanMeter }

func (m *rootMeter) merge(later meter) { m.meanMeter.merge(&later.(*rootMeter).meanMeter) }

func (m *rootMeter) figure() (float64, *ConfusionMatrix, string) {
	return math.Sqrt(m.sum / m.weight), nil, ""
}

// accuracy is what Keras means by the word: of one output at 0.5, else of the largest.
func accuracy(o output) meter {
	f := vectorFunc(classIsRight)
	if o.width == 1 {
		f = binaryAccuracy
	}
	return &meanMeter{output: o, f: o.perVector(f)}
}

// argMax gives the index of the largest value, the lowest one of equals, and -1 when there is a NaN.
func argMax(v []float32) int {
	best := 0
	for i, x := range v {
		if x != x {
			return -1
		}
		if x > v[best] {
			best = i
		}
	}
	return best
}

// classOf gives the class that a target stands for, or -1: the position of its largest value, or the index that it is.
func classOf(target []float32, classes int) int {
	if len(target) == 1 && classes > 1 {
		if y := target[0]; y >= 0 && y < float32(classes) {
			return int(y)
		}
		return -1
	}
	return argMax(target)
}

func classIsRight(pred, target []float32) float64 {
	p := argMax(pred)
	return truth(p >= 0 && p == classOf(target, len(pred)))
}

// classIsAmong says whether fewer than k classes have a larger score than the right one.
func classIsAmong(k int) vectorFunc {
	return func(pred, target []float32) float64 {
		class := classOf(target, len(pred))
		if class < 0 || argMax(pred) < 0 {
			return 0
		}
		larger := 0
		for _, p := range pred {
			if p > pred[class] {
				larger++
			}
		}
		return truth(larger < k)
	}
}

// binaryAccuracy takes a prediction above 0.5 as 1, and gives the share of positions that are right.
func binaryAccuracy(pred, target []float32) float64 {
	var right float64
	for i, y := range target {
		right += truth((pred[i] > 0.5) == (y > 0.5) && pred[i] == pred[i])
	}
	return right / float64(len(target))
}

func squaredError(pred, target []float32) float64 {
	var sum float64
	for i, y := range target {
		d := float64(pred[i]) - float64(y)
		sum += d * d
	}
	return sum / float64(len(target))
}

// cosineSimilarity is that of two vectors; one of length 0 is like none. The loss of this name is its negative.
func cosineSimilarity(pred, target []float32) float64 {
	var dot, p2, t2 float64
	for i, y := range target {
		p := float64(pred[i])
		dot += p * float64(y)
		p2 += p * p
		t2 += float64(y) * float64(y)
	}
	if p2 == 0 || t2 == 0 {
		return 0
	}
	return dot / math.Sqrt(p2*t2)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
