package optim

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// fields decodes as a job file does: strictly, over the defaults that the target already holds.
func fields(doc string) func(any) error {
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
	o, err := New(name, fields(doc), n)
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

// A checkpoint of the slots continues a run exactly.
func TestSlotsContinueARun(t *testing.T) {
	for _, c := range []struct{ name, doc string }{{"sgd", "{momentum: 0.9}"}, {"sgd", "{}"}, {"adam", "{}"}} {
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
		whole, _ := New(c.name, fields(c.doc), n)
		first, _ := New(c.name, fields(c.doc), n)
		second, _ := New(c.name, fields(c.doc), n)
		a, b := make([]float32, n), make([]float32, n)
		run(whole, a, 0, 8)
		run(first, b, 0, 3)
		for i, s := range first.Slots() {
			copy(second.Slots()[i], s)
		}
		run(second, b, 3, 8)
		if !slices.Equal(a, b) {
			t.Errorf("%s %s: %v after a resume, %v without", c.name, c.doc, b, a)
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	for _, c := range []struct{ name, doc string }{{"sgd", "{}"}, {"sgd", "{momentum: 0.9, nesterov: true}"}, {"adam", "{}"}} {
		o, err := New(c.name, fields(c.doc), 1000)
		if err != nil {
			t.Fatal(err)
		}
		p, g := make([]float32, 1000), make([]float32, 1000)
		if a := testing.AllocsPerRun(5, func() { o.Apply(p, g) }); a != 0 {
			t.Errorf("%s %s: %v allocations a step", c.name, c.doc, a)
		}
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
	} {
		_, err := New(c.name, fields(c.doc), 3)
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

func BenchmarkApply(b *testing.B) {
	const n = 648_010 // a 784-500-500-10 network
	for _, c := range []struct{ label, name, doc string }{
		{"sgd", "sgd", "{}"}, {"momentum", "sgd", "{momentum: 0.9}"}, {"adam", "adam", "{}"},
	} {
		b.Run(c.label, func(b *testing.B) {
			o, err := New(c.name, fields(c.doc), n)
			if err != nil {
				b.Fatal(err)
			}
			p, g := make([]float32, n), make([]float32, n)
			for i := range g {
				g[i] = 0.01
			}
			b.SetBytes(4 * n)
			b.ReportAllocs()
			for b.Loop() {
				o.Apply(p, g)
			}
		})
	}
}
