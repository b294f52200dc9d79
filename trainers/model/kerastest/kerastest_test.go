package kerastest

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const dense = `{"class_name":"Sequential","config":{"name":"s","layers":[
 {"class_name":"InputLayer","config":{"batch_shape":[null,2],"dtype":"float32","name":"in"}},
 {"class_name":"Dense","config":{"name":"d","units":1,"activation":"linear","use_bias":true,"dtype":"float32",
  "kernel_initializer":{"class_name":"GlorotUniform","config":{"seed":null}},"bias_initializer":{"class_name":"Zeros","config":{}}}}]}}`

func denseModel() Model {
	return Model{JSON: []byte(dense), Weights: []Tensor{{Name: "d/kernel", Shape: []int{2, 1}, Data: []float32{2, -1}}, {Name: "d/bias", Data: []float32{.5}}}}
}

func TestAStepByHand(t *testing.T) {
	o := Start(t)
	x := Tensor{Shape: []int{2, 2}, Data: []float32{1, 2, 3, 4}}
	r, err := o.Gradients(denseModel(), Step{X: []Tensor{x}, Y: []Tensor{{Shape: []int{2, 1}, Data: []float32{0, 1}}}, Loss: "mean_squared_error", SampleWeight: []float32{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	// Outputs 0.5 and 2.5; loss (0.25·1 + 2.25·2) / 2; dz = (0.5, 3).
	want := map[string][]float64{"d/kernel": {0.5 + 9, 1 + 12}, "d/bias": {3.5}}
	if math.Abs(r.Loss-2.375) > 1e-12 || len(r.Outputs) != 1 || len(r.Gradients) != 2 || len(r.State) != 0 {
		t.Fatalf("got %+v", r)
	}
	if p := r.Outputs[0].Values(); p[0] != 0.5 || p[1] != 2.5 {
		t.Errorf("outputs %v", p)
	}
	for _, g := range r.Gradients {
		for i, v := range g.Values() {
			if math.Abs(v-want[g.Name][i]) > 1e-12 {
				t.Errorf("%s: %v, want %v", g.Name, g.Values(), want[g.Name])
			}
		}
	}
}

func TestFilesGoBothWays(t *testing.T) {
	o := Start(t)
	for _, name := range []string{"m.keras", "m.h5"} {
		path := filepath.Join(t.TempDir(), name)
		if _, err := o.Save(path, denseModel(), nil); err != nil {
			t.Fatal(err)
		}
		l, err := o.Load(path, Tensor{Shape: []int{1, 2}, Data: []float32{1, 2}})
		if err != nil {
			t.Fatal(err)
		}
		if l.Class != "Sequential" || len(l.Weights) != 2 || l.Weights[0].Name != "d/kernel" || l.Outputs[0].Data[0] != 0.5 {
			t.Errorf("%s: got %+v", name, l)
		}
	}
}

func TestOptimizerAndMetrics(t *testing.T) {
	o := Start(t)
	sgd := map[string]any{"class_name": "SGD", "config": map[string]any{"learning_rate": 0.5}}
	got, err := o.Optimize(sgd, []Tensor{{Name: "a/b", Data: []float32{1, 2}}}, []Tensor{{Name: "a/b", Shape: []int{2, 2}, Data: []float32{1, 0, 0, 4}}})
	if err != nil || got[0].Name != "a/b" {
		t.Fatal(got, err)
	}
	for i, want := range []float64{.5, 2, .5, 0} {
		if got[0].Wide[i] != want {
			t.Errorf("steps %v", got[0].Wide)
		}
	}
	m, err := o.Metrics([]any{"binary_accuracy", map[string]any{"class_name": "Precision", "config": map[string]any{}}},
		Scored{Y: Tensor{Data: []float32{0, 1}}, P: Tensor{Data: []float32{.9, .9}}}, Scored{Y: Tensor{Data: []float32{1}}, P: Tensor{Data: []float32{.9}}})
	if err != nil || math.Abs(m[0].Values()[0]-2./3) > 1e-6 || math.Abs(m[1].Values()[0]-2./3) > 1e-6 {
		t.Fatal(m, err)
	}
}

func TestErrorsCarryPythonsMessageAndTheOracleGoesOn(t *testing.T) {
	o := Start(t)
	_, err := o.Forward(Model{JSON: []byte(strings.ReplaceAll(dense, `"Dense"`, `"Dens"`))})
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "Dens") || e.Trace == "" {
		t.Errorf("got %v", err)
	}
	if _, err := o.Forward(denseModel(), Tensor{Shape: []int{3}, Data: []float32{1}}); err == nil || !strings.Contains(err.Error(), "has 1 elements") {
		t.Errorf("got %v", err)
	}
	result, out, err := o.Python("def main(args, arrays):\n  return args['n'] + 1, {'sum': arrays['a'].sum(), 'words': arrays['w']}", map[string]any{"n": 2},
		Tensor{Name: "a", Ints: []int64{1, 2}}, Tensor{Name: "w", Text: []string{"é", ""}})
	if err != nil || string(result) != "3" || out[0].Ints[0] != 3 || out[1].Text[0] != "é" {
		t.Errorf("got %s, %+v, %v", result, out, err)
	}
}

func TestALostProcessIsAnErrorWithItsLastWords(t *testing.T) {
	Start(t)
	o, err := start()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = o.Python("import os, sys\ndef main(args, arrays):\n  print('bye'); sys.stdout.flush(); os._exit(3)", nil)
	if err == nil || !strings.Contains(err.Error(), "ended") || !strings.Contains(err.Error(), "bye") {
		t.Errorf("got %v", err)
	}
	if _, err := o.Forward(denseModel()); err == nil || !strings.Contains(err.Error(), "lost before") {
		t.Errorf("got %v", err)
	}
}

// recorder is a test that is only asked to end.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (*recorder) Helper()             {}
func (r *recorder) Skip(args ...any)  { r.skipped = fmt.Sprint(args...); runtime.Goexit() }
func (r *recorder) Fatal(args ...any) { r.failed = fmt.Sprint(args...); runtime.Goexit() }
func (r *recorder) start() (ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		Start(r)
	}()
	<-done
	return r.skipped != "" || r.failed != ""
}

func TestWithoutPythonTheTestIsSkippedOrFails(t *testing.T) {
	if testing.Short() {
		t.Skip("-short starts no Python, and says so")
	}
	t.Setenv("DKPIPE_PYTHON", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("DKPIPE_REQUIRE", "spark")
	if p := interpreter(); p != "" {
		t.Fatalf("found %s", p)
	}
	var r recorder
	if !r.start() || r.failed != "" || !strings.Contains(r.skipped, ".ci/python") {
		t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
	}
	t.Setenv("DKPIPE_REQUIRE", "spark,keras")
	r = recorder{}
	if !r.start() || r.skipped != "" || !strings.Contains(r.failed, ".ci/python") {
		t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
	}
}
