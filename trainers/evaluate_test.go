package trainers_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
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
			"categorical_accuracy", nil, trainers.Metrics{{Name: "loss", Value: .5}}},
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
				if m.Name != c.want[i].Name || !(math.Abs(m.Value-c.want[i].Value) < 1e-6) {
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

func TestMetricsSurviveJSON(t *testing.T) {
	m := trainers.Metrics{{Name: "loss", Value: math.NaN()}, {Name: "accuracy", Value: 0.875}, {Name: "a", Value: math.Inf(-1)}}
	data, err := json.Marshal(m)
	if err != nil || string(data) != `{"loss":null,"accuracy":0.875,"a":null}` {
		t.Fatalf("%s, %v", data, err)
	}
	for _, bad := range []string{`[]`, `{"a":"b"}`, `{"a":1`, `null`, `3`} {
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
