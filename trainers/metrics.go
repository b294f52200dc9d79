package trainers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"dkpipe/pipeline"
	"dkpipe/trainers/optim"
)

// Metric is a named figure of merit.
type Metric struct {
	Name  string
	Value float64
}

// Metrics is an ordered list of figures. In JSON it is an object in that order, in which a value that JSON cannot
// hold (NaN, infinity) is null.
type Metrics []Metric

// Get gives the value of a name.
func (m Metrics) Get(name string) (value float64, ok bool) {
	for _, x := range m {
		if x.Name == name {
			return x.Value, true
		}
	}
	return 0, false
}

// MarshalJSON writes an object.
func (m Metrics) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		value, err := Number(x.Value).MarshalJSON()
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object and keeps its order; null becomes NaN.
func (m *Metrics) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("metrics: not a JSON object: %.40s", data)
	}
	*m = Metrics{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value Number
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("metrics: %v: %w", name, err)
		}
		*m = append(*m, Metric{name.(string), float64(value)})
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("metrics: text after the object")
	}
	return nil
}

// Number is a float64 that is null in JSON when it is NaN or infinite, and NaN when it is read from null.
type Number float64

// MarshalJSON writes a number or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if x := float64(n); math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads a number or null.
func (n *Number) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

// rowFunc gives the loss or the score of one row of one output.
type rowFunc func(pred, target []float32) float64

// shape says which widths of prediction and target a rowFunc takes.
type shape int

const (
	sameWidth  shape = iota // target as wide as prediction
	indexShape              // target is the index of the right class, prediction one value a class
)

// rowFuncs are the losses and metrics that can be evaluated, under the names that Keras gives them.
func rowFuncs() map[string]struct {
	shape shape
	f     rowFunc
} {
	type entry = struct {
		shape shape
		f     rowFunc
	}
	m := map[string]entry{
		"categorical_crossentropy":        {sameWidth, crossEntropy},
		"sparse_categorical_crossentropy": {indexShape, sparseCrossEntropy},
		"binary_crossentropy":             {sameWidth, binaryCrossEntropy},
		"mean_squared_error":              {sameWidth, squaredError},
		"mean_absolute_error":             {sameWidth, absoluteError},
		"huber":                           {sameWidth, huber},
		"categorical_accuracy":            {sameWidth, categoricalAccuracy},
		"sparse_categorical_accuracy":     {indexShape, sparseAccuracy},
		"binary_accuracy":                 {sameWidth, binaryAccuracy},
	}
	m["mse"], m["mae"] = m["mean_squared_error"], m["mean_absolute_error"]
	return m
}

// resolveRowFunc finds the function for a name and the widths of one output.
func resolveRowFunc(name string, predWidth, targetWidth int) (rowFunc, error) {
	if name == "accuracy" || name == "acc" {
		switch {
		case predWidth == 1:
			name = "binary_accuracy"
		case targetWidth == 1:
			name = "sparse_categorical_accuracy"
		default:
			name = "categorical_accuracy"
		}
	}
	e, ok := rowFuncs()[name]
	if !ok {
		known := []string{"accuracy"}
		for k := range rowFuncs() {
			known = append(known, k)
		}
		hint := "known: accuracy, mse, mae and the names of losses"
		if near := optim.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("loss or metric %q cannot be evaluated", name), Hint: hint}
	}
	if want := predWidth; e.shape == sameWidth && targetWidth != want || e.shape == indexShape && targetWidth != 1 {
		if e.shape == indexShape {
			want = 1
		}
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s of an output of width %d needs a target of width %d, not %d",
			name, predWidth, want, targetWidth), Hint: "one_hot the label for categorical_crossentropy, leave it an index for sparse_categorical_crossentropy"}
	}
	return e.f, nil
}

// CheckMetrics finds a name that Evaluate does not know, as an error of kind unsupported. Widths are checked with the data.
func CheckMetrics(names []string) error {
	for _, name := range names {
		_, err := resolveRowFunc(name, 2, 2)
		var e *pipeline.Error
		if errors.As(err, &e) && e.Kind == pipeline.Unsupported {
			return err
		}
	}
	return nil
}

// epsilon keeps probabilities away from 0 and 1 before a logarithm is taken, as Keras does.
const epsilon = 1e-7

func clip(p float64) float64 { return min(max(p, epsilon), 1-epsilon) }

// crossEntropy is -Σ y log(p/Σp).
func crossEntropy(pred, target []float32) float64 {
	var sum, loss float64
	for _, p := range pred {
		sum += float64(p)
	}
	for i, y := range target {
		if y != 0 {
			loss -= float64(y) * math.Log(clip(float64(pred[i])/sum))
		}
	}
	return loss
}

func sparseCrossEntropy(pred, target []float32) float64 {
	class, ok := classIndex(target[0], len(pred))
	if !ok {
		return math.NaN()
	}
	var sum float64
	for _, p := range pred {
		sum += float64(p)
	}
	return -math.Log(clip(float64(pred[class]) / sum))
}

func classIndex(y float32, classes int) (int, bool) {
	if !(y >= 0 && y < float32(classes)) {
		return 0, false
	}
	return int(y), true
}

func binaryCrossEntropy(pred, target []float32) float64 {
	var loss float64
	for i, y := range target {
		p := clip(float64(pred[i]))
		loss -= float64(y)*math.Log(p) + (1-float64(y))*math.Log(1-p)
	}
	return loss / float64(len(target))
}

func squaredError(pred, target []float32) float64 {
	var loss float64
	for i, y := range target {
		d := float64(pred[i]) - float64(y)
		loss += d * d
	}
	return loss / float64(len(target))
}

func absoluteError(pred, target []float32) float64 {
	var loss float64
	for i, y := range target {
		loss += math.Abs(float64(pred[i]) - float64(y))
	}
	return loss / float64(len(target))
}

// huber has delta 1.
func huber(pred, target []float32) float64 {
	var loss float64
	for i, y := range target {
		if d := math.Abs(float64(pred[i]) - float64(y)); d <= 1 {
			loss += d * d / 2
		} else {
			loss += d - 0.5
		}
	}
	return loss / float64(len(target))
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

func categoricalAccuracy(pred, target []float32) float64 {
	return truth(argMax(pred) == argMax(target))
}

func sparseAccuracy(pred, target []float32) float64 {
	class, ok := classIndex(target[0], len(pred))
	return truth(ok && argMax(pred) == class)
}

// binaryAccuracy takes a prediction above 0.5 as 1, and gives the share of positions that are right.
func binaryAccuracy(pred, target []float32) float64 {
	var right float64
	for i, y := range target {
		right += truth((pred[i] > 0.5) == (y > 0.5) && pred[i] == pred[i])
	}
	return right / float64(len(target))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
