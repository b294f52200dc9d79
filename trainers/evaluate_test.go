package trainers_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dkpipe/pipeline"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/trainertest"
)

// echo predicts its input.
type echo struct{ model.Replica }

func (echo) Params() []float32 { return nil }
func (echo) State() []float32  { return nil }
func (echo) Predict(b *pipeline.Batch, out [][]float32) error {
	copy(out[0], b.X[0])
	return nil
}

// table is a feed whose predictions (by echo) and targets are given.
func table(predWidth, targetWidth int, pred, target, weight []float32) *trainertest.Feed {
	return &trainertest.Feed{Inputs: predWidth, Outputs: targetWidth, X: pred, Y: target, Weight: weight, BatchSize: 2, NumShards: 2}
}

func TestEvaluateByHand(t *testing.T) {
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		feed    *trainertest.Feed
		widths  []int
		loss    string
		metrics []string
		want    trainers.Metrics
	}{
		"ties of arg-max go to the lowest index": {
			table(2, 2, []float32{.5, .5, .5, .5, .2, .8}, []float32{1, 0, 0, 1, 0, 1}, nil), nil,
			"mse", []string{"accuracy"}, trainers.Metrics{{Name: "loss", Value: (.25 + .25 + .04) / 3}, {Name: "accuracy", Value: 2. / 3}}},
		"one output is binary at 0.5": {
			table(1, 1, []float32{.5, .51, .9, .1}, []float32{0, 1, 0, 0}, nil), nil,
			"mae", []string{"accuracy", "mse"}, trainers.Metrics{{Name: "loss", Value: (.5 + .49 + .9 + .1) / 4}, {Name: "accuracy", Value: .75},
				{Name: "mse", Value: (.25 + .2401 + .81 + .01) / 4}}},
		"weights": {
			table(1, 1, []float32{.9, .1, .9, .9}, []float32{1, 1, 1, 0}, []float32{1, 2, 0, 1}), nil,
			"mae", []string{"accuracy"}, trainers.Metrics{{Name: "loss", Value: (.1 + 2*.9 + .9) / 4}, {Name: "accuracy", Value: .25}}},
		"classes by index": {
			table(3, 1, []float32{.1, .2, .7, .6, .3, .1}, []float32{2, 1}, nil), []int{3},
			"sparse_categorical_crossentropy", []string{"accuracy"},
			trainers.Metrics{{Name: "loss", Value: -(math.Log(.7) + math.Log(.3)) / 2}, {Name: "accuracy", Value: .5}}},
		"cross-entropy divides by the sum and keeps away from 0": {
			table(2, 2, []float32{1, 3, 0, 2}, []float32{1, 0, 1, 0}, nil), nil,
			"categorical_crossentropy", nil, trainers.Metrics{{Name: "loss", Value: -(math.Log(.25) + math.Log(1e-7)) / 2}}},
		"binary cross-entropy": {
			table(1, 1, []float32{.25, .25}, []float32{1, 0}, nil), nil,
			"binary_crossentropy", nil, trainers.Metrics{{Name: "loss", Value: -(math.Log(.25) + math.Log(.75)) / 2}}},
		"huber": {
			table(1, 1, []float32{.5, 3}, []float32{0, 0}, nil), nil,
			"huber", nil, trainers.Metrics{{Name: "loss", Value: (.125 + 2.5) / 2}}},
		"a prediction that is NaN is wrong": {
			table(2, 2, []float32{nan, 0, .9, .1}, []float32{1, 0, 1, 0}, nil), nil,
			"poisson", []string{"categorical_accuracy"}, trainers.Metrics{{Name: "loss", Value: math.NaN()}, {Name: "categorical_accuracy", Value: .5}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: c.feed, Replicas: []model.Replica{echo{}}, Widths: c.widths,
				Loss: c.loss, Metrics: c.metrics})
			if err != nil {
				t.Fatal(err)
			}
			if got.Rows != c.feed.Rows() || len(got.Metrics) != len(c.want) {
				t.Fatalf("got %+v", got)
			}
			for i, m := range got.Metrics {
				if m.Name != c.want[i].Name || !(math.Abs(m.Value-c.want[i].Value) < 1e-6 || m.Value != m.Value && c.want[i].Value != c.want[i].Value) {
					t.Errorf("got %+v, want %+v", m, c.want[i])
				}
			}
		})
	}
}

func TestEvaluateGivesTheSameBitsForAnyNumberOfReplicas(t *testing.T) {
	feed, best := trainertest.Linear(500, 5, 3, 11)
	feed.NumShards, feed.BatchSize = 9, 16
	params := slices.Clone(best)
	for i := range params {
		params[i] += 0.1
	}
	var first trainers.Evaluation
	for n := 1; n <= 12; n += 3 {
		var replicas []model.Replica
		for i := range n {
			replicas = append(replicas, trainertest.NewLinear(5, 3, uint64(i)))
		}
		got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: replicas, Params: params, Loss: "mse", Metrics: []string{"accuracy", "mae"}})
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			first = got
			if loss, ok := got.Metrics.Get("loss"); got.Rows != 500 || !ok || loss <= 0 {
				t.Fatalf("got %+v", got)
			}
		} else if !slices.Equal(got.Metrics, first.Metrics) {
			t.Errorf("%d replicas give %v, one gives %v", n, got.Metrics, first.Metrics)
		}
	}
}

func TestEvaluateRefusesWhatItCannotDo(t *testing.T) {
	two := table(2, 2, make([]float32, 8), make([]float32, 8), nil)
	weightless := table(2, 2, make([]float32, 8), make([]float32, 8), make([]float32, 4))
	broken := table(2, 2, make([]float32, 8), make([]float32, 8), nil)
	broken.Fault = func(context.Context, int, pipeline.Cursor) error {
		return &pipeline.Error{Kind: pipeline.Corrupt, Message: "memory/0: checksum"}
	}
	for name, c := range map[string]struct {
		feed   *trainertest.Feed
		widths []int
		metric string
		kind   pipeline.Kind
	}{
		"no rows":        {table(2, 2, nil, nil, nil), nil, "accuracy", pipeline.Data},
		"weights of 0":   {weightless, nil, "accuracy", pipeline.Data},
		"unknown metric": {two, nil, "acuracy", pipeline.Unsupported},
		"widths":         {two, []int{3}, "mae", pipeline.BadSpec},
		"broken feed":    {broken, nil, "accuracy", pipeline.Corrupt},
	} {
		_, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: c.feed, Replicas: []model.Replica{echo{}, echo{}}, Widths: c.widths,
			Loss: "mse", Metrics: []string{c.metric}})
		t.Run(name, func(t *testing.T) { wantKind(t, err, c.kind) })
		var e *pipeline.Error
		if name == "unknown metric" && (!errors.As(err, &e) || e.Hint != `did you mean "accuracy"?`) {
			t.Errorf("hint of %#v", err)
		}
	}
	_, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: two, Replicas: []model.Replica{echo{}}, Params: []float32{1}, Loss: "mse"})
	wantKind(t, err, pipeline.Internal)
}

// heads predicts its inputs at several outputs.
type heads struct{ model.Replica }

func (heads) Params() []float32 { return nil }
func (heads) State() []float32  { return nil }
func (heads) Predict(b *pipeline.Batch, out [][]float32) error {
	for i := range out {
		copy(out[i], b.X[i])
	}
	return nil
}

// pairs is a feed with two inputs and two targets, in one shard.
type pairs struct{ batch pipeline.Batch }

func (p *pairs) Shards(context.Context) ([]pipeline.Shard, error) {
	return make([]pipeline.Shard, 1), nil
}
func (p *pairs) Open(context.Context, pipeline.Shard, pipeline.Cursor) (pipeline.BatchReader, error) {
	return &pairReader{p: p}, nil
}

type pairReader struct {
	p    *pairs
	done bool
}

func (r *pairReader) Next() (*pipeline.Batch, error) {
	if r.done {
		return nil, io.EOF
	}
	r.done = true
	return &r.p.batch, nil
}
func (r *pairReader) Cursor() pipeline.Cursor { return pipeline.Cursor{} }
func (r *pairReader) Close() error            { return nil }

func TestEvaluateSeveralOutputs(t *testing.T) {
	// The first output has rows of two vectors with three numbers each, and the index of a class for each vector.
	feed := &pairs{pipeline.Batch{Rows: 2,
		X: [][]float32{{.8, .1, .1, .1, .8, .1, .1, .1, .8, .8, .1, .1}, {1, 3}},
		Y: [][]float32{{0, 1, 2, 2}, {2, 5}}, Weight: []float32{3, 1}}}
	got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{heads{}}, Shapes: [][]int{{2, 3}, {1}},
		Losses:  []model.Loss{{Name: "sparse_categorical_crossentropy"}, {Name: "mean_absolute_error", Weight: 10}},
		Metrics: []string{"accuracy_1", "mse_2", "confusion_matrix_1", "f1_macro_1", "roc_auc_ovr_2", "mean_squared_error_2"}})
	if err != nil {
		t.Fatal(err)
	}
	cross := -(3*math.Log(.8) + (math.Log(.8)+math.Log(.1))/2) / 4
	want := trainers.Metrics{{Name: "loss", Value: cross + 12.5}, {Name: "loss_1", Value: cross}, {Name: "accuracy_1", Value: 3.5 / 4},
		{Name: "confusion_matrix_1"}, {Name: "f1_macro_1", Value: (6./7 + 1 + 2./3) / 3},
		{Name: "loss_2", Value: 1.25}, {Name: "mse_2", Value: 7. / 4}, {Name: "roc_auc_ovr_2", Value: math.NaN()}, {Name: "mean_squared_error_2", Value: 7. / 4}}
	if len(got.Metrics) != len(want) {
		t.Fatalf("got %v", got.Metrics)
	}
	for i, m := range got.Metrics {
		same := math.Abs(m.Value-want[i].Value) < 1e-6 || m.Value != m.Value && (want[i].Value != want[i].Value || m.Matrix != nil)
		if m.Name != want[i].Name || !same {
			t.Errorf("got %v, want %v", m, want[i])
		}
	}
	m := got.Metrics[3].Matrix
	if m == nil || !slices.EqualFunc(m.Counts, [][]float64{{3, 0, 0}, {0, 3, 0}, {1, 0, 1}}, slices.Equal) {
		t.Fatalf("confusion matrix %v", m)
	}
	if len(got.Notes) != 1 || got.Notes[0] != "roc_auc_ovr_2: undefined: every row is of one class" {
		t.Errorf("notes %q", got.Notes)
	}
	text := got.Metrics[3].String()
	if text != "confusion_matrix_1\n  true\\predicted  0  1  2\n               0  3  0  0\n               1  0  3  0\n               2  1  0  1\n" {
		t.Errorf("printed as\n%s%q", text, text)
	}
	data, err := json.Marshal(got.Metrics)
	if err != nil {
		t.Fatal(err)
	}
	var back trainers.Metrics
	if err := json.Unmarshal(data, &back); err != nil || !slices.EqualFunc(back[3].Matrix.Counts, m.Counts, slices.Equal) {
		t.Errorf("%s became %v, %v", data, back, err)
	}
	if _, ok := back.Get("confusion_matrix_1"); ok {
		t.Error("a matrix was given as a number")
	}
	_, err = trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{heads{}}, Shapes: [][]int{{2, 3}, {1}},
		Loss: "mse", Metrics: []string{"accuracy_3"}})
	wantKind(t, err, pipeline.BadSpec)
}

// A mean that is large beside the deviation, in shards of different means, loses nothing.
func TestR2OfFarAwayValues(t *testing.T) {
	const n = 4000
	pred, target := make([]float32, n), make([]float32, n)
	for i := range target {
		target[i] = 1e6 + float32(i/1000) + float32(i%2)
		pred[i] = target[i] + 0.5
	}
	feed := &trainertest.Feed{Inputs: 1, Outputs: 1, X: pred, Y: target, BatchSize: 64, NumShards: 4}
	got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{echo{}}, Loss: "mse", Metrics: []string{"r2", "rmse"}})
	if err != nil {
		t.Fatal(err)
	}
	// The target is k + b with k in 0..3 and b in 0..1, all equally often: its variance is 5/4 + 1/4.
	for name, want := range map[string]float64{"r2": 1 - .25/1.5, "rmse": .5} {
		if v, _ := got.Metrics.Get(name); math.Abs(v-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}

func TestPredictionsThatAreNoNumbers(t *testing.T) {
	nan := float32(math.NaN())
	feed := table(2, 2, []float32{nan, 1, .9, .1}, []float32{0, 1, 1, 0}, nil)
	got, err := trainers.Evaluate(t.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{echo{}}, Loss: "mse",
		Metrics: []string{"accuracy", "recall_macro", "auc", "confusion_matrix", "top_1_categorical_accuracy", "precision"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"accuracy": .5, "recall_macro": .5, "top_1_categorical_accuracy": .5, "precision": 1} {
		if v, ok := got.Metrics.Get(name); !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if v, _ := got.Metrics.Get("auc"); v == v || len(got.Notes) != 1 || got.Notes[0] != "auc: undefined: there are scores that are no number" {
		t.Errorf("auc is %v, notes %q", v, got.Notes)
	}
	if c := got.Metrics[4].Matrix.Counts; !slices.EqualFunc(c, [][]float64{{1, 0}, {0, 0}}, slices.Equal) {
		t.Errorf("confusion matrix %v", c)
	}
}

func TestCheckMetricsKnowsEveryName(t *testing.T) {
	if err := trainers.CheckMetrics(append(slices.Concat(trainers.MetricNames(), model.Losses()), "mse", "rmse", "accuracy_2", "top_3_categorical_accuracy", "r2_1")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "f2", "accuracy_0", "accuracy_x", "top_0_categorical_accuracy", "top_-1_categorical_accuracy", "nothing_2"} {
		wantKind(t, trainers.CheckMetrics([]string{name}), pipeline.Unsupported)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	const rows, classes = 20_000, 10
	r := rand.New(rand.NewPCG(1, 1))
	pred, target := make([]float32, rows*classes), make([]float32, rows*classes)
	for i := range pred {
		pred[i] = r.Float32()
	}
	for i := range rows {
		target[i*classes+r.IntN(classes)] = 1
	}
	feed := &trainertest.Feed{Inputs: classes, Outputs: classes, X: pred, Y: target, BatchSize: 128, NumShards: 4}
	for _, name := range []string{"accuracy", "f1_macro", "auc", "confusion_matrix", "r2_score"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := trainers.Evaluate(b.Context(), trainers.EvalConfig{Feed: feed, Replicas: []model.Replica{echo{}}, Loss: "mse", Metrics: []string{name}}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func TestMetricsSurviveJSON(t *testing.T) {
	m := trainers.Metrics{{Name: "loss", Value: math.NaN()}, {Name: "accuracy", Value: 0.875}, {Name: "a", Value: math.Inf(-1)}}
	data, err := json.Marshal(m)
	if err != nil || string(data) != `{"loss":null,"accuracy":0.875,"a":null}` {
		t.Fatalf("%s, %v", data, err)
	}
	for _, bad := range []string{`[]`, `{"a":"b"}`, `{"a":1`, `null`, `3`, `{"a":[[1,2]]}`, `{"a":[1]}`, `{"a":[[1],[2]]}`, `{"a":{}}`} {
		if json.Unmarshal([]byte(bad), &trainers.Metrics{}) == nil {
			t.Errorf("%s was read as metrics", bad)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfDistinct(rapid.String(), rapid.ID).Draw(t, "names")
		var in trainers.Metrics
		for _, name := range names {
			in = append(in, trainers.Metric{Name: name, Value: rapid.Float64().Draw(t, "value")})
		}
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out trainers.Metrics
		if err := json.Unmarshal(data, &out); err != nil || len(out) != len(in) {
			t.Fatalf("%s: %v", data, err)
		}
		for i := range in {
			if finite := in[i].Value-in[i].Value == 0; in[i].Name != out[i].Name && validName(in[i].Name) || finite && in[i].Value != out[i].Value || !finite && out[i].Value == out[i].Value {
				t.Fatalf("%+v became %+v", in[i], out[i])
			}
		}
	})
}

// validName says whether JSON can hold a name as it is.
func validName(s string) bool {
	for _, r := range s {
		if r == '\uFFFD' {
			return false
		}
	}
	return true
}
