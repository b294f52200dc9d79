package trainers_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
	"dkpipe/trainers/trainertest"
)

// A scoring is a kind of predictions as a model would give them, with their targets, and what to measure of them.
type scoring struct {
	width, target int
	row           func(r *rand.Rand, pred, target []float32)
	metrics       []reference
}

// A reference is a metric and who says what it is: a Keras class with its fields, or an expression of scikit-learn in
// which y and p are targets and predictions, yc and pc their classes, and w the weights.
type reference struct {
	name    string
	keras   string
	config  map[string]any
	sklearn string
}

func keras(name, class string) reference { return reference{name: name, keras: class} }

func sklearn(name, expression string) reference { return reference{name: name, sklearn: expression} }

// softmax fills pred with shares that are often right, on a grid so that scores tie.
func softmax(r *rand.Rand, pred []float32, class int) {
	var sum float32
	for i := range pred {
		pred[i] = float32(1 + r.IntN(6))
		if i == class {
			pred[i] += float32(r.IntN(9))
		}
		sum += pred[i]
	}
	for i := range pred {
		pred[i] /= sum
	}
}

func classProblem(sparse bool) scoring {
	const classes = 8
	p := scoring{width: classes, target: classes, row: func(r *rand.Rand, pred, target []float32) {
		class := r.IntN(classes)
		softmax(r, pred, class)
		target[class] = 1
	}, metrics: []reference{
		keras("accuracy", "CategoricalAccuracy"), keras("categorical_accuracy", "CategoricalAccuracy"),
		keras("top_k_categorical_accuracy", "TopKCategoricalAccuracy"),
		{name: "top_2_categorical_accuracy", keras: "TopKCategoricalAccuracy", config: map[string]any{"k": 2}},
		keras("categorical_crossentropy", "CategoricalCrossentropy"), keras("cosine_similarity", "CosineSimilarity"),
		keras("mean_squared_error", "MeanSquaredError"), keras("kl_divergence", "KLDivergence"),
		keras("precision", "Precision"), keras("recall", "Recall"),
		{name: "f1_score", keras: "F1Score", config: map[string]any{"average": "micro", "threshold": 0.5}},
		sklearn("roc_auc_ovr", "np.mean([metrics.roc_auc_score(y[:, k], p[:, k], sample_weight=w) for k in range(8)])"),
		sklearn("auc", "metrics.roc_auc_score(y.ravel(), p.ravel(), sample_weight=None if w is None else np.repeat(w, 8))"),
		sklearn("log_loss", "metrics.log_loss(y, p / p.sum(axis=1, keepdims=True), sample_weight=w)"),
		sklearn("confusion_matrix", "metrics.confusion_matrix(yc, pc, labels=range(8), sample_weight=w)"),
	}}
	if sparse {
		p.target = 1
		p.row = func(r *rand.Rand, pred, target []float32) {
			class := r.IntN(classes)
			softmax(r, pred, class)
			target[0] = float32(class)
		}
		p.metrics = []reference{
			keras("accuracy", "SparseCategoricalAccuracy"), keras("sparse_categorical_accuracy", "SparseCategoricalAccuracy"),
			keras("sparse_top_k_categorical_accuracy", "SparseTopKCategoricalAccuracy"),
			keras("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"),
			sklearn("roc_auc_ovr", "np.mean([metrics.roc_auc_score(yc == k, p[:, k], sample_weight=w) for k in range(8)])"),
			sklearn("log_loss", "metrics.log_loss(yc, p / p.sum(axis=1, keepdims=True), sample_weight=w)"),
			sklearn("confusion_matrix", "metrics.confusion_matrix(yc, pc, labels=range(8), sample_weight=w)"),
			sklearn("precision", "metrics.precision_score(np.eye(8)[yc].ravel(), p.ravel() > 0.5, sample_weight=None if w is None else np.repeat(w, 8))"),
		}
	}
	for _, score := range []string{"precision", "recall", "f1"} {
		for _, average := range []string{"micro", "macro", "weighted"} {
			p.metrics = append(p.metrics, sklearn(score+"_"+average,
				fmt.Sprintf("metrics.%s_score(yc, pc, average='%s', zero_division=0, sample_weight=w)", score, average)))
		}
	}
	return p
}

func binaryProblem() scoring {
	return scoring{width: 1, target: 1, row: func(r *rand.Rand, pred, target []float32) {
		target[0] = float32(r.IntN(2))
		pred[0] = float32(math.Round(100*(0.3*float64(target[0])+0.7*r.Float64())) / 100)
	}, metrics: []reference{
		keras("accuracy", "BinaryAccuracy"), keras("binary_accuracy", "BinaryAccuracy"), keras("precision", "Precision"), keras("recall", "Recall"),
		keras("binary_crossentropy", "BinaryCrossentropy"),
		sklearn("f1_score", "metrics.f1_score(yc, pc, sample_weight=w)"), sklearn("roc_auc", "metrics.roc_auc_score(y, p, sample_weight=w)"),
		sklearn("f1_macro", "metrics.f1_score(yc, pc, average='macro', sample_weight=w)"), sklearn("log_loss", "metrics.log_loss(y, p, sample_weight=w)"),
		sklearn("confusion_matrix", "metrics.confusion_matrix(yc, pc, sample_weight=w)"),
	}}
}

func regressionProblem() scoring {
	return scoring{width: 3, target: 3, row: func(r *rand.Rand, pred, target []float32) {
		for i := range pred {
			target[i] = 100 + float32(i) + float32(r.NormFloat64())
			pred[i] = target[i] + 0.5*float32(r.NormFloat64())
		}
	}, metrics: []reference{
		keras("mse", "MeanSquaredError"), keras("mean_absolute_error", "MeanAbsoluteError"), keras("root_mean_squared_error", "RootMeanSquaredError"),
		sklearn("r2_score", "metrics.r2_score(y, p, sample_weight=w)"), // Keras loses it in float32: its sum of squares is not centred
		keras("mean_absolute_percentage_error", "MeanAbsolutePercentageError"), keras("log_cosh", "LogCoshError"),
		keras("mean_squared_logarithmic_error", "MeanSquaredLogarithmicError"), keras("cosine_similarity", "CosineSimilarity"),
	}}
}

// Every metric is that of Keras, where Keras has it, else that of scikit-learn: over shards and batches, with and
// without weights.
func TestEveryMetricIsThatOfKerasOrScikitLearn(t *testing.T) {
	oracle := kerastest.Start(t)
	problems := map[string]scoring{"classes": classProblem(false), "indices": classProblem(true), "binary": binaryProblem(), "regression": regressionProblem()}
	for _, name := range trainers.MetricNames() {
		known := false
		for _, p := range problems {
			known = known || slices.ContainsFunc(p.metrics, func(r reference) bool { return r.name == name })
		}
		if !known {
			t.Errorf("%s has no reference", name)
		}
	}
	for name, p := range problems {
		for _, weighted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/weights=%v", name, weighted), func(t *testing.T) { compareMetrics(t, oracle, p, weighted) })
		}
	}
}

func compareMetrics(t *testing.T, oracle *kerastest.Oracle, p scoring, weighted bool) {
	const rows = 500
	r := rand.New(rand.NewPCG(5, 5))
	pred, target := make([]float32, rows*p.width), make([]float32, rows*p.target)
	var weight []float32
	for i := range rows {
		p.row(r, pred[i*p.width:(i+1)*p.width], target[i*p.target:(i+1)*p.target])
		if weighted {
			weight = append(weight, float32(r.IntN(5))/2)
		}
	}
	var names []string
	var classes []any
	var expressions []string
	for _, m := range p.metrics {
		names = append(names, m.name)
		if m.keras != "" {
			if m.config == nil {
				m.config = map[string]any{}
			}
			classes = append(classes, map[string]any{"module": "keras.metrics", "class_name": m.keras, "config": m.config, "registered_name": nil})
		} else {
			expressions = append(expressions, m.sklearn)
		}
	}
	feed := &trainertest.Feed{Inputs: p.width, Outputs: p.target, X: pred, Y: target, Weight: weight, BatchSize: 32, NumShards: 5}
	loss := "mae"
	if p.target != p.width {
		loss = "sparse_categorical_crossentropy"
	}
	got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{echo{}, echo{}}, Widths: []int{p.width},
		Loss: loss, Metrics: names})
	if err != nil {
		t.Fatal(err)
	}
	y := kerastest.Tensor{Name: "y", Shape: []int{rows, p.target}, Data: target}
	ps := kerastest.Tensor{Name: "p", Shape: []int{rows, p.width}, Data: pred}
	byKeras, err := oracle.Metrics(classes, kerastest.Scored{Y: y, P: ps, Weight: weight})
	if err != nil {
		t.Fatal(err)
	}
	arrays := []kerastest.Tensor{y, ps}
	if weighted {
		arrays = append(arrays, kerastest.Tensor{Name: "w", Data: weight})
	}
	_, bySklearn, err := oracle.Python(`
from sklearn import metrics
def main(args, arrays):
    y, p, w = arrays["y"].astype("float64"), arrays["p"].astype("float64"), arrays.get("w")
    if p.shape[1] == 1:
        y, p = y.ravel(), p.ravel()
        yc, pc = y.astype(int), (p > 0.5).astype(int)
    else:
        yc, pc = y.ravel().astype(int) if y.shape[1] == 1 else y.argmax(axis=1), p.argmax(axis=1)
    scope = {"np": np, "metrics": metrics, "y": y, "p": p, "w": w, "yc": yc, "pc": pc}
    return None, {e: np.asarray(eval(e, scope)) for e in args}
`, expressions, arrays...)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range p.metrics {
		have := got.Metrics[i+1]
		var want []float64
		if m.keras != "" {
			want, byKeras = byKeras[0].Values(), byKeras[1:]
		} else {
			want, bySklearn = bySklearn[0].Values(), bySklearn[1:]
		}
		values := []float64{have.Value}
		if have.Matrix != nil {
			values = slices.Concat(have.Matrix.Counts...)
		}
		if have.Name != m.name || len(values) != len(want) {
			t.Fatalf("%s: got %v, want %v", m.name, have, want)
		}
		for j, v := range values {
			if !(math.Abs(v-want[j]) <= 1e-5*max(1e-2, math.Abs(want[j]))) {
				t.Errorf("%s: %v, want %v", m.name, values, want)
				break
			}
		}
	}
	if len(got.Notes) > 0 {
		t.Errorf("notes: %v", got.Notes)
	}
}

// Beyond the scores that are kept the area is the one that Keras gives, and a note says so.
func TestAUCOfManyScoresIsThatOfKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	const rows = 1<<20 + 5000
	r := rand.New(rand.NewPCG(6, 6))
	pred, target := make([]float32, rows), make([]float32, rows)
	for i := range pred {
		target[i] = float32(r.IntN(2))
		pred[i] = (target[i] + 2*r.Float32()) / 3
	}
	pred[0], pred[1] = 0, 1
	feed := &trainertest.Feed{Inputs: 1, Outputs: 1, X: pred, Y: target, BatchSize: 4096, NumShards: 7}
	got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{echo{}, echo{}}, Loss: "mse", Metrics: []string{"auc"}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := oracle.Metrics([]any{map[string]any{"module": "keras.metrics", "class_name": "AUC", "config": map[string]any{}, "registered_name": nil}},
		kerastest.Scored{Y: kerastest.Tensor{Data: target}, P: kerastest.Tensor{Data: pred}})
	if err != nil {
		t.Fatal(err)
	}
	if auc, _ := got.Metrics.Get("auc"); math.Abs(auc-want[0].Values()[0]) > 1e-6 {
		t.Errorf("got %v, Keras has %v", auc, want[0].Values())
	}
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "auc: at 200 thresholds") {
		t.Errorf("notes: %v", got.Notes)
	}
}
