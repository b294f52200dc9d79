package trainers

import "math"

// precision, recall and f1 of a class from the true positives, what was predicted and what there is. What cannot be
// said is 0, as in Keras and scikit-learn.
func precision(tp, predicted, _ float64) float64 { return share(tp, predicted) }

func recall(tp, _, actual float64) float64 { return share(tp, actual) }

func f1(tp, predicted, actual float64) float64 { return share(2*tp, predicted+actual) }

func share(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole
}

// elementMeter takes every number of an output above 0.5 as yes, and pools them: what Keras calls Precision and Recall.
// With one output that is the binary score of scikit-learn.
type elementMeter struct {
	output
	f                     func(*elementMeter) float64
	tp, predicted, actual float64
}

func (m *elementMeter) add(pred, target, weight []float32) {
	vectors := len(target) / m.target
	for v := range vectors {
		w := weightOf(weight, v/m.vectors)
		class := -1
		if m.index() {
			class = classOf(target[v:v+1], m.width)
		}
		for i, p := range pred[v*m.width : (v+1)*m.width] {
			yes, is := p > 0.5, i == class
			if !m.index() {
				is = target[v*m.width+i] > 0.5
			}
			if yes {
				m.predicted += w
			}
			if is {
				m.actual += w
			}
			if yes && is {
				m.tp += w
			}
		}
	}
}

func weightOf(weight []float32, row int) float64 {
	if weight == nil {
		return 1
	}
	return float64(weight[row])
}

func (m *elementMeter) merge(later meter) {
	l := later.(*elementMeter)
	m.tp += l.tp
	m.predicted += l.predicted
	m.actual += l.actual
}

func (m *elementMeter) precision() float64 { return precision(m.tp, m.predicted, m.actual) }
func (m *elementMeter) recall() float64    { return recall(m.tp, m.predicted, m.actual) }
func (m *elementMeter) f1() float64        { return f1(m.tp, m.predicted, m.actual) }

func (m *elementMeter) figure() (float64, *ConfusionMatrix, string) { return m.f(m), nil, "" }

// classes is the number of classes that an output tells apart: one number tells two.
func (o output) classes() int { return max(o.width, 2) }

// eachClass calls f with the true and the predicted class of every vector and its weight; -1 is none.
func (o output) eachClass(pred, target, weight []float32, f func(actual, predicted int, w float64)) {
	for v := range len(target) / o.target {
		p, t := pred[v*o.width:(v+1)*o.width], target[v*o.target:(v+1)*o.target]
		actual, predicted := classOf(t, o.width), argMax(p)
		if o.width == 1 {
			actual = int(truth(t[0] > 0.5))
			if predicted == 0 {
				predicted = int(truth(p[0] > 0.5))
			}
		}
		f(actual, predicted, weightOf(weight, v/o.vectors))
	}
}

// classMeter counts by class, the largest number of a vector being its class: scikit-learn's scores.
type classMeter struct {
	output
	f                     func(*classMeter) float64
	tp, predicted, actual []float64 // one a class
	weight                float64
}

func newClassMeter(o output, f func(*classMeter) float64) *classMeter {
	n := o.classes()
	return &classMeter{output: o, f: f, tp: make([]float64, n), predicted: make([]float64, n), actual: make([]float64, n)}
}

func (m *classMeter) add(pred, target, weight []float32) {
	m.eachClass(pred, target, weight, func(actual, predicted int, w float64) {
		m.weight += w
		if actual >= 0 {
			m.actual[actual] += w
		}
		if predicted >= 0 {
			m.predicted[predicted] += w
		}
		if actual >= 0 && actual == predicted {
			m.tp[actual] += w
		}
	})
}

func (m *classMeter) merge(later meter) {
	l := later.(*classMeter)
	m.weight += l.weight
	for i := range m.tp {
		m.tp[i] += l.tp[i]
		m.predicted[i] += l.predicted[i]
		m.actual[i] += l.actual[i]
	}
}

// micro pools all classes. Every vector has one class and one prediction, so it is the accuracy.
func (m *classMeter) micro(score func(tp, predicted, actual float64) float64) float64 {
	var tp float64
	for _, n := range m.tp {
		tp += n
	}
	return score(tp, m.weight, m.weight)
}

// macro is the mean over the classes that occur, in the targets or in the predictions.
func (m *classMeter) macro(score func(tp, predicted, actual float64) float64) float64 {
	var sum, classes float64
	for i := range m.tp {
		if m.predicted[i] > 0 || m.actual[i] > 0 {
			sum += score(m.tp[i], m.predicted[i], m.actual[i])
			classes++
		}
	}
	return share(sum, classes)
}

// weighted is the mean over the classes by how often each is the true one.
func (m *classMeter) weighted(score func(tp, predicted, actual float64) float64) float64 {
	var sum, total float64
	for i := range m.tp {
		sum += m.actual[i] * score(m.tp[i], m.predicted[i], m.actual[i])
		total += m.actual[i]
	}
	return share(sum, total)
}

func (m *classMeter) figure() (float64, *ConfusionMatrix, string) { return m.f(m), nil, "" }

// maxConfusion bounds the classes of a confusion matrix: 8 MB, and no screen shows more.
const maxConfusion = 1000

// confusionMeter counts pairs of classes. Lines are made when they are needed, because every shard has a meter.
type confusionMeter struct {
	output
	counts [][]float64
}

func newConfusionMeter(o output) *confusionMeter {
	return &confusionMeter{output: o, counts: make([][]float64, min(o.classes(), maxConfusion))}
}

func (m *confusionMeter) add(pred, target, weight []float32) {
	m.eachClass(pred, target, weight, func(actual, predicted int, w float64) {
		if actual >= 0 && predicted >= 0 {
			m.line(actual)[predicted] += w
		}
	})
}

func (m *confusionMeter) line(actual int) []float64 {
	if m.counts[actual] == nil {
		m.counts[actual] = make([]float64, len(m.counts))
	}
	return m.counts[actual]
}

func (m *confusionMeter) merge(later meter) {
	for actual, line := range later.(*confusionMeter).counts {
		for predicted, n := range line {
			m.line(actual)[predicted] += n
		}
	}
}

func (m *confusionMeter) figure() (float64, *ConfusionMatrix, string) {
	for actual := range m.counts {
		m.line(actual)
	}
	return math.NaN(), &ConfusionMatrix{m.counts}, ""
}
