package trainers

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// A meter gathers one figure of one output over the batches of a shard. Meters of later shards are merged into those of
// earlier ones, sums with sums, so a figure is that of all rows and no mean of means.
type meter interface {
	// add scores a batch: predictions, targets and, unless nil, a weight a row.
	add(pred, target, weight []float32)
	// merge takes over what a meter of the same name and output gathered.
	merge(later meter)
	// figure gives the value or the matrix. note says what a reader has to know about it; as a rule nothing.
	figure() (value float64, matrix *ConfusionMatrix, note string)
}

// output is what a meter knows of the output that it looks at. A row has one vector or, where the output's shape has
// several dimensions, several.
type output struct {
	shape   []int // of one row
	vectors int   // in a row
	width   int   // floats of a predicted vector: the last dimension
	target  int   // floats of a target vector: width, or 1 for the index of the class
	scores  *scoreLimit
}

// size is the number of floats of a row.
func (o output) size() int { return o.vectors * o.width }

// index tells whether the target is the index of the class.
func (o output) index() bool { return o.target != o.width }

// newOutput finds what a target of this many floats a row means for an output of this shape.
func newOutput(shape []int, target int) (output, error) {
	o := output{shape: shape, vectors: 1, width: 1}
	if n := len(shape); n > 0 {
		o.width = shape[n-1]
		for _, d := range shape[:n-1] {
			o.vectors *= d
		}
	}
	switch target {
	case o.size():
		o.target = o.width
	case o.vectors:
		o.target = 1
	default:
		return o, &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("an output of width %d needs a target of width %d or, as the index of a class, %d, not %d", o.size(), o.size(), o.vectors, target),
			Hint:    "one_hot the label, or leave it an index"}
	}
	return o, nil
}

// metricMakers are the metrics that are no loss, under the names that Keras or scikit-learn gives them.
func metricMakers() map[string]func(o output) meter {
	rows := func(f vectorFunc) func(o output) meter {
		return func(o output) meter { return &meanMeter{output: o, f: o.perVector(f)} }
	}
	classes := func(f func(c *classMeter) float64) func(o output) meter {
		return func(o output) meter { return newClassMeter(o, f) }
	}
	elements := func(f func(c *elementMeter) float64) func(o output) meter {
		return func(o output) meter { return &elementMeter{output: o, f: f} }
	}
	m := map[string]func(o output) meter{
		"accuracy":                          accuracy,
		"acc":                               accuracy,
		"categorical_accuracy":              rows(classIsRight),
		"sparse_categorical_accuracy":       rows(classIsRight),
		"binary_accuracy":                   rows(binaryAccuracy),
		"top_k_categorical_accuracy":        rows(classIsAmong(5)),
		"sparse_top_k_categorical_accuracy": rows(classIsAmong(5)),
		"cosine_similarity":                 rows(cosineSimilarity),
		"mean_squared_error":                rows(squaredError),
		"mse":                               rows(squaredError),
		"root_mean_squared_error":           func(o output) meter { return &rootMeter{meanMeter{output: o, f: o.perVector(squaredError)}} },
		"r2_score":                          func(o output) meter { return newR2Meter(o) },
		"precision":                         elements((*elementMeter).precision),
		"recall":                            elements((*elementMeter).recall),
		"f1_score":                          elements((*elementMeter).f1),
		"auc":                               func(o output) meter { return newAUCMeter(o, false) },
		"roc_auc":                           func(o output) meter { return newAUCMeter(o, false) },
		"roc_auc_ovr":                       func(o output) meter { return newAUCMeter(o, true) },
		"confusion_matrix":                  func(o output) meter { return newConfusionMeter(o) },
	}
	m["rmse"], m["r2"] = m["root_mean_squared_error"], m["r2_score"]
	for name, score := range map[string]func(tp, predicted, actual float64) float64{"precision": precision, "recall": recall, "f1": f1} {
		m[name+"_micro"] = classes(func(c *classMeter) float64 { return c.micro(score) })
		m[name+"_macro"] = classes(func(c *classMeter) float64 { return c.macro(score) })
		m[name+"_weighted"] = classes(func(c *classMeter) float64 { return c.weighted(score) })
	}
	return m
}

// findMetric gives what makes the meter of a name: a metric or any loss.
func findMetric(name string) (func(o output) (meter, error), bool) {
	if k, ok := topK(name); ok {
		return func(o output) (meter, error) { return &meanMeter{output: o, f: o.perVector(classIsAmong(k))}, nil }, true
	}
	if name == logLossName {
		return func(o output) (meter, error) { return newLossMeter(logLoss(o), o) }, true
	}
	if make, ok := metricMakers()[name]; ok {
		return func(o output) (meter, error) { return make(o), checkTarget(name, o) }, true
	}
	if loss := (model.Loss{Name: name}); loss.Check() == nil {
		return func(o output) (meter, error) { return newLossMeter(loss, o) }, true
	}
	return nil, false
}

// topK reads top_3_categorical_accuracy and sparse_top_3_categorical_accuracy: k may stand as a number.
func topK(name string) (int, bool) {
	name, ok := strings.CutPrefix(strings.TrimPrefix(name, "sparse_"), "top_")
	number, ok2 := strings.CutSuffix(name, "_categorical_accuracy")
	k, err := strconv.Atoi(number)
	return k, ok && ok2 && err == nil && k > 0
}

// checkTarget refuses targets that a metric cannot be about.
func checkTarget(name string, o output) error {
	sparse := strings.HasPrefix(name, "sparse_")
	regression := slices.Contains([]string{"cosine_similarity", "mean_squared_error", "mse", "root_mean_squared_error", "rmse", "r2_score", "r2", "binary_accuracy"}, name)
	dense := regression || name == "categorical_accuracy" || name == "top_k_categorical_accuracy"
	switch {
	case sparse && o.target != 1, dense && o.index():
		want := o.size()
		if sparse {
			want = o.vectors
		}
		return targetError(name, o, want)
	case name == "confusion_matrix" && o.classes() > maxConfusion:
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("confusion_matrix of %d classes, it can have %d", o.classes(), maxConfusion),
			Hint: "remove it from the metrics"}
	}
	return nil
}

func targetError(name string, o output, want int) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%s of an output of width %d needs a target of width %d, not %d",
		name, o.size(), want, o.vectors*o.target), Hint: "one_hot the label for categorical metrics, leave it an index for the sparse ones"}
}

// split takes the number of an output off a name: accuracy_2 is the accuracy of the second output. 0: all outputs.
func splitMetric(name string) (base string, outputNumber int) {
	if _, ok := findMetric(name); ok {
		return name, 0
	}
	i := strings.LastIndexByte(name, '_')
	if i < 0 {
		return name, 0
	}
	n, err := strconv.Atoi(name[i+1:])
	if _, ok := findMetric(name[:i]); !ok || err != nil || n < 1 {
		return name, 0
	}
	return name[:i], n
}

// MetricNames lists what Evaluate can measure, besides the losses and without second names. k of the top_k ones may be
// a number, as in top_3_categorical_accuracy, else it is 5.
func MetricNames() []string {
	names := metricMakers()
	for _, alias := range []string{"acc", "mse", "rmse", "r2", "roc_auc"} {
		delete(names, alias)
	}
	return append(slices.Sorted(maps.Keys(names)), logLossName)
}

// CheckMetrics finds a name that Evaluate does not know, as an error of kind unsupported. Widths are checked with the
// data.
func CheckMetrics(names []string) error {
	for _, name := range names {
		base, _ := splitMetric(name)
		if _, ok := findMetric(base); !ok {
			return unknownMetric(name)
		}
	}
	return nil
}

func unknownMetric(name string) error {
	hint := "known: " + strings.Join(MetricNames(), ", ") + " and the names of losses"
	if near := optim.Nearest(name, append(slices.Sorted(maps.Keys(metricMakers())), model.Losses()...)); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("metric %q cannot be evaluated", name), Hint: hint}
}

// newLossMeter measures a loss.
func newLossMeter(loss model.Loss, o output) (meter, error) {
	f, err := loss.Func(o.shape)
	if err != nil {
		return nil, err
	}
	if want := loss.TargetWidth(o.shape); want != o.vectors*o.target {
		return nil, targetError(loss.Name, o, want)
	}
	return &meanMeter{output: o, f: f}, nil
}

const logLossName = "log_loss"

// logLoss is what scikit-learn calls log_loss: the cross-entropy that fits the target.
func logLoss(o output) model.Loss {
	switch {
	case o.width == 1:
		return model.Loss{Name: "binary_crossentropy"}
	case o.index():
		return model.Loss{Name: "sparse_categorical_crossentropy"}
	default:
		return model.Loss{Name: "categorical_crossentropy"}
	}
}
