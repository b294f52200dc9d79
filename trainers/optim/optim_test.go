package optim

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"dkpipe/trainers/kernel"
)

// yamlFields decodes as a job file does: strictly, over the defaults that the target already holds.
func yamlFields(doc string) func(any) error {
	return func(into any) error { return yaml.UnmarshalWithOptions([]byte(doc), into, yaml.Strict()) }
}

// gradient is the gradient of the references: of a bent bowl, so it changes with the parameters and the step.
func gradient(p float64, i, step int) float64 {
	return 0.3*p + math.Sin(float64(i+1)+0.7*float64(step))
}

// checkTenSteps runs ten steps of an optimizer beside a float64 reference of one element; both see their own
// parameters' gradient.
func checkTenSteps(t *testing.T, name, doc string, newRef func() func(p, g float64) float64) {
	t.Helper()
	const n = 37
	o, err := New(name, yamlFields(doc), n)
	if err != nil {
		t.Fatal(err)
	}
	params, grads := make([]float32, n), make([]float32, n)
	want := make([]float64, n)
	refs := make([]func(p, g float64) float64, n)
	for i := range params {
		want[i] = 0.1*float64(i) - 1
		params[i] = float32(want[i])
		refs[i] = newRef()
	}
	for step := range 10 {
		for i := range params {
			grads[i] = float32(gradient(float64(params[i]), i, step))
			want[i] = refs[i](want[i], gradient(want[i], i, step))
		}
		old := slices.Clone(grads)
		o.Apply(params, grads)
		if !slices.Equal(old, grads) {
			t.Fatal("Apply changed the gradient")
		}
		for i := range params {
			if d := math.Abs(float64(params[i]) - want[i]); d > 2e-6*(1+math.Abs(want[i])) {
				t.Fatalf("step %d, element %d: %g, want %g", step+1, i, params[i], want[i])
			}
		}
	}
}

func TestSGDStepsAreKeras(t *testing.T) {
	checkTenSteps(t, "sgd", "{}", func() func(p, g float64) float64 {
		return func(p, g float64) float64 { return p - 0.01*g }
	})
	checkTenSteps(t, "sgd", "{learning_rate: 0.2, momentum: 0.9}", func() func(p, g float64) float64 {
		v := 0.0
		return func(p, g float64) float64 { v = 0.9*v - 0.2*g; return p + v }
	})
	checkTenSteps(t, "sgd", "{learning_rate: 0.2, momentum: 0.9, nesterov: true}", func() func(p, g float64) float64 {
		v := 0.0
		return func(p, g float64) float64 { v = 0.9*v - 0.2*g; return p + 0.9*v - 0.2*g }
	})
}

func TestAdamStepsAreKeras(t *testing.T) {
	ref := func(lr, b1, b2, eps float64) func() func(p, g float64) float64 {
		return func() func(p, g float64) float64 {
			var m, v, t float64
			return func(p, g float64) float64 {
				t++
				m = b1*m + (1-b1)*g
				v = b2*v + (1-b2)*g*g
				return p - lr*math.Sqrt(1-math.Pow(b2, t))/(1-math.Pow(b1, t))*m/(math.Sqrt(v)+eps)
			}
		}
	}
	checkTenSteps(t, "adam", "{}", ref(0.001, 0.9, 0.999, 1e-7))
	checkTenSteps(t, "adam", "{learning_rate: 0.05, beta_1: 0.5, beta_2: 0.95, epsilon: 0.01}", ref(0.05, 0.5, 0.95, 0.01))
}

// every lists an example of every optimizer, with what it can keep between steps.
func every() []struct{ name, doc string } {
	return []struct{ name, doc string }{
		{"adadelta", "{}"}, {"adagrad", "{clipnorm: 0.5}"}, {"adam", "{}"}, {"adam", "{amsgrad: true, clipvalue: 0.3}"}, {"adamw", "{}"},
		{"nadam", "{global_clipnorm: 0.5}"}, {"rmsprop", "{}"}, {"rmsprop", "{momentum: 0.9, centered: true}"},
		{"sgd", "{}"}, {"sgd", "{momentum: 0.9, nesterov: true}"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 0.1, decay_steps: 10, warmup_target: 0.2, warmup_steps: 2}}}"},
	}
}

func TestEveryOptimizerHasAnExample(t *testing.T) {
	for _, name := range Names() {
		if !slices.ContainsFunc(every(), func(e struct{ name, doc string }) bool { return e.name == name }) {
			t.Errorf("%s is not in the tests of all optimizers", name)
		}
	}
}

// A checkpoint of the slots continues a run exactly, in the middle of a schedule too.
func TestSlotsContinueARun(t *testing.T) {
	for _, c := range every() {
		const n = 5
		run := func(o Optimizer, p []float32, from, to int) {
			g := make([]float32, n)
			for step := from; step < to; step++ {
				for i := range g {
					g[i] = float32(gradient(float64(p[i]), i, step))
				}
				o.Apply(p, g)
			}
		}
		whole, err := New(c.name, yamlFields(c.doc), 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := New(c.name, yamlFields(c.doc), 3, 2)
		second, _ := New(c.name, yamlFields(c.doc), 3, 2)
		a, b := make([]float32, n), make([]float32, n)
		run(whole, a, 0, 8)
		run(first, b, 0, 3)
		for i, s := range first.Slots() {
			if copy(second.Slots()[i], s) != len(s) {
				t.Errorf("%s %s: slot %d has another length", c.name, c.doc, i)
			}
		}
		run(second, b, 3, 8)
		if !slices.Equal(a, b) {
			t.Errorf("%s %s: %v after a resume, %v without", c.name, c.doc, b, a)
		}
	}
}

func TestTheCounterIsExactBeyondFloat32(t *testing.T) {
	c := counter{1<<24 - 2, 3}
	for i := range 5 {
		c.add()
		if want := float64(4*(1<<24) - 1 + i); c.value() != want {
			t.Fatalf("%v is %v, want %v", []float32(c), c.value(), want)
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	for _, c := range every() {
		o, err := New(c.name, yamlFields(c.doc), 600, 4400)
		if err != nil {
			t.Fatal(err)
		}
		p, g := make([]float32, 5000), make([]float32, 5000)
		for i := range g {
			g[i] = float32(i) // long enough to be clipped
		}
		if a := testing.AllocsPerRun(5, func() { o.Apply(p, g) }); a != 0 {
			t.Errorf("%s %s: %v allocations a step", c.name, c.doc, a)
		}
		if g[4999] != 4999 {
			t.Errorf("%s %s: the gradient was changed", c.name, c.doc)
		}
	}
}

// step takes one step of SGD at rate 1 from 0 and gives what the gradient became.
func step(t *testing.T, doc string, tensors []int, grads ...float32) []float32 {
	t.Helper()
	o, err := New("sgd", yamlFields(doc), tensors...)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]float32, len(grads))
	o.Apply(p, grads)
	for i := range p {
		p[i] = -p[i]
	}
	return p
}

func TestClippingByHand(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct {
		doc        string
		tensors    []int
		grad, want []float32
	}{
		{"{learning_rate: 1, clipnorm: 1}", []int{2, 1}, []float32{3, 4, 0.5}, []float32{0.6, 0.8, 0.5}},
		{"{learning_rate: 1, clipnorm: 1}", []int{3}, []float32{0, 3, 4}, []float32{0, 0.6, 0.8}},
		{"{learning_rate: 1, global_clipnorm: 6.5}", []int{2, 1}, []float32{3, 4, 12}, []float32{1.5, 2, 6}},
		{"{learning_rate: 1, clipvalue: 1}", []int{4}, []float32{-3, 0.5, inf, nan}, []float32{-1, 0.5, 1, nan}},
		{"{learning_rate: 1, clipnorm: 1}", []int{2, 1}, []float32{1, nan, 5}, []float32{nan, nan, 1}},
		{"{learning_rate: 1, global_clipnorm: 1}", []int{2, 1}, []float32{1, inf, 5}, []float32{nan, nan, nan}},
	} {
		got := step(t, c.doc, c.tensors, c.grad...)
		for i := range got {
			if same := got[i] == c.want[i] || got[i] != got[i] && c.want[i] != c.want[i]; !same {
				t.Errorf("%s of %v is %v, want %v", c.doc, c.grad, got, c.want)
				break
			}
		}
	}
}

// Clipping and decay go block by block; the result is that of the whole vector.
func TestBlocksDoNotShow(t *testing.T) {
	const n = 3*blockSize + 17
	grad := make([]float32, n)
	for i := range grad {
		grad[i] = float32(math.Sin(float64(i)))
	}
	got := step(t, "{learning_rate: 1, global_clipnorm: 2}", []int{n}, grad...)
	scale := float32(2 / math.Sqrt(sumOfSquares(grad)))
	for i, g := range got {
		if g != grad[i]*scale {
			t.Fatalf("element %d is %g, want %g", i, g, grad[i]*scale)
		}
	}
}

// The gradient's mean square and the square of its mean are nearly equal when it hardly changes; rounding must not
// make the variance negative.
func TestCenteredRMSpropStaysFinite(t *testing.T) {
	o, err := New("rmsprop", yamlFields("{centered: true, epsilon: 1e-12}"), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := []float32{0}
	for range 500 {
		o.Apply(p, []float32{123.456})
	}
	if !(p[0] < 0) || math.IsInf(float64(p[0]), 0) {
		t.Errorf("got %v", p[0])
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"sgd", "{learning_rate: 0}", "learning_rate"},
		{"sgd", "{learning_rate: .nan}", "learning_rate"},
		{"sgd", "{momentum: 1}", "momentum"},
		{"sgd", "{momentum: -0.1}", "momentum"},
		{"sgd", "{nesterov: true}", "nesterov"},
		{"adam", "{learning_rate: -1}", "learning_rate"},
		{"adam", "{beta_1: 1}", "beta_1"},
		{"adam", "{beta_2: 1.5}", "beta_2"},
		{"adam", "{epsilon: 0}", "epsilon"},
		{"adam", "{learningrate: 1}", "learningrate"},
		{"adadelta", "{rho: 1}", "rho"},
		{"adagrad", "{initial_accumulator_value: -1}", "initial_accumulator_value"},
		{"rmsprop", "{momentum: 1}", "momentum"},
		{"nadam", "{epsilon: 0}", "epsilon"},
		{"sgd", "{weight_decay: -1}", "weight_decay"},
		{"sgd", "{clipnorm: .inf}", "clipnorm"},
		{"sgd", "{clipnorm: 1, clipvalue: 1}", "more than one"},
		{"sgd", "{learning_rate: {}}", "learning_rate"},
		{"sgd", "{learning_rate: fast}", "fast"},
		{"sgd", "{learning_rate: {cosine: {}}}", "cosine"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 1, decay_step: 3}}}", "decay_step"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 1}}}", "decay_steps"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 1, decay_steps: 3, warmup_steps: 3}}}", "warmup_target"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 1, decay_steps: 3, warmup_target: 0}}}", "warmup_target"},
		{"sgd", "{learning_rate: {cosine_decay: {initial_learning_rate: 1, decay_steps: 3, alpha: 2}}}", "alpha"},
		{"sgd", "{learning_rate: {piecewise_constant_decay: {boundaries: [1], values: [1]}}}", "one value more"},
		{"sgd", "{learning_rate: {piecewise_constant_decay: {boundaries: [2, 1], values: [1, 2, 3]}}}", "must rise"},
		{"sgd", "{learning_rate: {piecewise_constant_decay: {boundaries: [1], values: [1, -1]}}}", "values[1]"},
		{"sgd", "{learning_rate: {polynomial_decay: {initial_learning_rate: 1, decay_steps: 0}}}", "decay_steps"},
		{"sgd", "{learning_rate: {constant: 1, polynomial_decay: {initial_learning_rate: 1, decay_steps: 1}}}", "2 schedules"},
		{"sgd", "{learning_rate: {constant: 0}}", "learning_rate"},
	} {
		_, err := New(c.name, yamlFields(c.doc), 3)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v does not name %s", c.name, c.doc, err, c.want)
		}
	}
}

func TestUnknownOptimizerSuggestsTheNearest(t *testing.T) {
	_, err := New("adan", nil, 1)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if e.ErrorKind() != "spec" || !strings.Contains(e.ErrorHint(), `"adam"`) || !strings.Contains(e.Error(), "adan") {
		t.Errorf("kind %s, %s, hint %s", e.ErrorKind(), e.Error(), e.ErrorHint())
	}
	_, err = New("lbfgs", nil, 1)
	if !errors.As(err, &e) || strings.Contains(e.ErrorHint(), "did you mean") {
		t.Errorf("lbfgs: hint %s", e.ErrorHint())
	}
}

// BenchmarkApply takes every update by turns with a copy of the parameters, in the same run: x_memcpy is the shortest time
// of the update against the shortest of copying as many bytes as the update reads and writes.
func BenchmarkApply(b *testing.B) {
	const n = 648_010 // a 784-500-500-10 network
	for _, c := range []struct{ label, name, doc string }{
		{"sgd", "sgd", "{}"}, {"momentum", "sgd", "{momentum: 0.9}"}, {"nesterov", "sgd", "{momentum: 0.9, nesterov: true}"},
		{"adagrad", "adagrad", "{}"}, {"rmsprop", "rmsprop", "{}"}, {"adadelta", "adadelta", "{}"},
		{"adam", "adam", "{}"}, {"amsgrad", "adam", "{amsgrad: true}"}, {"adamw", "adamw", "{}"}, {"nadam", "nadam", "{}"},
		{"adam_clipnorm", "adam", "{clipnorm: 0.001}"},
	} {
		b.Run(c.label, func(b *testing.B) {
			o, err := New(c.name, yamlFields(c.doc), n)
			if err != nil {
				b.Fatal(err)
			}
			p, g := make([]float32, n), make([]float32, n)
			for i := range g {
				g[i] = 0.01
			}
			moved := 3 // the gradient is read, the parameters are read and written
			for _, s := range o.Slots() {
				moved += 2 * (len(s) / n)
			}
			from, to := make([]float32, moved*n/2), make([]float32, moved*n/2) // a copy reads and writes each
			b.ReportAllocs()
			update, plain := time.Hour, time.Hour // shortest of each
			for b.Loop() {
				start := time.Now()
				o.Apply(p, g)
				middle := time.Now()
				copy(to, from)
				update, plain = min(update, middle.Sub(start)), min(plain, time.Since(middle))
			}
			b.ReportMetric(float64(4*n*moved)/float64(update), "GB/s")
			b.ReportMetric(float64(update)/float64(plain), "x_memcpy")
		})
	}
}

// The kernels that this machine can choose from give the same steps, but for the rounding of what some of them fuse.
func TestEveryKernelTakesTheSameSteps(t *testing.T) {
	const n = 2*blockSize + 37
	for _, c := range every() {
		var first []float32
		for _, name := range kernel.Names() {
			k, err := kernel.Select(name)
			if err != nil {
				t.Fatal(err)
			}
			o, err := New(c.name, WithKernel(k, yamlFields(c.doc)), n)
			if err != nil {
				t.Fatal(err)
			}
			p, g := make([]float32, n), make([]float32, n)
			for step := range 5 {
				for i := range g {
					g[i] = float32(gradient(float64(p[i]), i, step))
				}
				o.Apply(p, g)
			}
			if first == nil {
				first = p
			}
			for i := range p {
				if d := math.Abs(float64(p[i] - first[i])); d > 2e-6*(0.1+math.Abs(float64(first[i]))) {
					t.Fatalf("%s %s: element %d is %g with %s, %g with %s", c.name, c.doc, i, p[i], name, first[i], kernel.Names()[0])
				}
			}
		}
	}
}
