package graph

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"dkpipe/trainers/kernel"
)

func newBuilder(t testing.TB, rows, params int) (*Builder, Config) {
	t.Helper()
	k, err := kernel.Select("gonum")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Kernel: k, Rows: rows, Params: make([]float32, params)}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range cfg.Params {
		cfg.Params[i] = 2*r.Float32() - 1
	}
	return NewBuilder(cfg), cfg
}

// must unwraps what a builder method gives.
func must(t testing.TB) func(Node, error) Node {
	return func(n Node, err error) Node {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// A residual branch makes gorgonia add gradients with an operation of its own, and a shared kernel adds two
// gradients of one parameter: both must come out right and in the flat vector.
func TestGradientsAddUpWhereAValueHasSeveralReaders(t *testing.T) {
	const rows, width = 3, 4
	b, cfg := newBuilder(t, rows, width*width)
	ok := must(t)
	x := b.Input(width)
	w := b.Param(0, []int{width, width})
	h1 := ok(b.Activation(ok(b.Dense(x, w, Node{}, false)), "tanh", width))
	h2 := ok(b.Activation(ok(b.Dense(h1, w, Node{}, false)), "tanh", width)) // the kernel again
	sum := ok(b.Add(h1, h2))                                                 // h1 again
	target, weight := b.Input(width), b.Input(1)
	plan, err := b.Training([]Node{sum}, ok(b.Loss(LossConfig{Name: "mse"}, sum, target, weight, width)))
	if err != nil {
		t.Fatal(err)
	}
	xs, ys := make([]float32, rows*width), make([]float32, rows*width)
	for i := range xs {
		xs[i], ys[i] = float32(i%5)/3-0.5, float32(i%3)
	}
	weights := []float32{1. / 3, 1. / 3, 1. / 3}
	grads := make([]float32, width*width)
	if err := plan.Train(rows, 0, [][]float32{xs, ys, weights}, grads); err != nil {
		t.Fatal(err)
	}

	p := make([]float64, width*width)
	for i, v := range cfg.Params {
		p[i] = float64(v)
	}
	layer := func(in []float64) []float64 {
		out := make([]float64, rows*width)
		for n := range rows {
			for u := range width {
				var s float64
				for k := range width {
					s += in[n*width+k] * p[k*width+u]
				}
				out[n*width+u] = math.Tanh(s)
			}
		}
		return out
	}
	loss := func() float64 {
		in := make([]float64, len(xs))
		for i, v := range xs {
			in[i] = float64(v)
		}
		a := layer(in)
		c := layer(a)
		var l float64
		for i := range a {
			d := a[i] + c[i] - float64(ys[i])
			l += d * d / width / rows
		}
		return l
	}
	if got, want := float64(plan.Loss()), loss(); math.Abs(got-want) > 1e-5 {
		t.Fatalf("loss %g, want %g", got, want)
	}
	for i := range p {
		const h = 1e-7
		old := p[i]
		p[i] = old + h
		up := loss()
		p[i] = old - h
		down := loss()
		p[i] = old
		if want := (up - down) / (2 * h); math.Abs(float64(grads[i])-want) > 1e-5 {
			t.Errorf("gradient[%d] = %g, finite difference %g", i, grads[i], want)
		}
	}
}

// The product for the gradient of the model's input costs a quarter of a step and nobody reads it.
func TestTheInputGradientIsNotComputed(t *testing.T) {
	b, _ := newBuilder(t, 2, 3*4+4+4*2+2)
	ok := must(t)
	x := ok(b.Dropout(b.Input(3), 0.5, 1)) // not a parameter, also through another operation
	h := ok(b.Dense(x, b.Param(0, []int{3, 4}), b.Param(12, []int{4}), true))
	y := ok(b.Activation(ok(b.Dense(h, b.Param(16, []int{4, 2}), b.Param(24, []int{2}), false)), "softmax", 2))
	plan, err := b.Training([]Node{y}, ok(b.Loss(LossConfig{Name: "categorical_crossentropy"}, y, b.Input(2), b.Input(1), 2)))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan.Describe(), "\n")
	for op, want := range map[string]int{": dense input gradient": 1, ": dense kernel gradient": 2, ": column sum": 2, ": relu gradient": 1,
		": dropout gradient": 0, ": softmax gradient": 0, ": categorical_crossentropy gradient": 1} {
		if got := strings.Count(text, op); got != want {
			t.Errorf("%d times %q, want %d, in\n%s", got, op, want, text)
		}
	}
}

func TestDropoutKeepsTheExpectation(t *testing.T) {
	const width = 200_001 // odd: the last draw fills one value only
	for _, rate := range []float64{0.1, 0.5, 0.9} {
		b, _ := newBuilder(t, 1, 0)
		x := b.Input(width)
		plan, err := b.Inference([]Node{must(t)(b.Dropout(x, rate, 3))})
		if err != nil {
			t.Fatal(err)
		}
		ones := make([]float32, width)
		for i := range ones {
			ones[i] = 1
		}
		if err := plan.Run(1, 1, [][]float32{ones}); err != nil {
			t.Fatal(err)
		}
		var sum float64
		zeros := 0
		for _, v := range plan.Output(0) {
			sum += float64(v)
			if v == 0 {
				zeros++
			}
		}
		if share := float64(zeros) / width; math.Abs(share-rate) > 0.01 {
			t.Errorf("rate %g: %g dropped", rate, share)
		}
		if mean := sum / width; math.Abs(mean-1) > 0.02 {
			t.Errorf("rate %g: mean %g", rate, mean)
		}
	}
}

func TestAParameterThatDoesNotMatterIsAnError(t *testing.T) {
	b, _ := newBuilder(t, 1, 8)
	ok := must(t)
	x := b.Input(2)
	y := ok(b.Dense(x, b.Param(0, []int{2, 2}), Node{}, false))
	b.Param(4, []int{2, 2})
	if _, err := b.Training([]Node{y}, ok(b.Loss(LossConfig{Name: "mse"}, y, b.Input(2), b.Input(1), 2))); err == nil {
		t.Error("a parameter without gradient was accepted")
	}
}

func TestShapesThatDoNotFitAreErrors(t *testing.T) {
	b, _ := newBuilder(t, 1, 8)
	x, w := b.Input(3), b.Param(0, []int{2, 2})
	if _, err := b.Dense(x, w, Node{}, false); err == nil {
		t.Error("dense took a kernel of another height")
	}
	if _, err := b.Add(x, b.Input(2)); err == nil {
		t.Error("add took two widths")
	}
	if _, err := b.Loss(LossConfig{Name: "mse"}, x, b.Input(2), b.Input(1), 3); err == nil {
		t.Error("the loss took a target of another width")
	}
	if _, err := b.Activation(x, "swoosh", 3); err == nil {
		t.Error("an unknown activation was taken")
	}
	if _, err := b.Loss(LossConfig{Name: "hubber"}, x, x, b.Input(1), 3); err == nil {
		t.Error("an unknown loss was taken")
	}
}

// A buffer that nobody reads any more is used again: inference of a deep network needs no more than of a shallow one,
// and training about one buffer a layer.
func TestBuffersAreUsedAgain(t *testing.T) {
	const rows, width, layers = 4, 16, 40
	b, _ := newBuilder(t, rows, layers*(width*width+width))
	ok := must(t)
	x := b.Input(width)
	h := x
	for i := range layers {
		at := i * (width*width + width)
		h = ok(b.Activation(ok(b.Dense(h, b.Param(at, []int{width, width}), b.Param(at+width*width, []int{width}), false)), "tanh", width))
	}
	plan, err := b.Inference([]Node{h})
	if err != nil {
		t.Fatal(err)
	}
	if got, limit := plan.Bytes(), 3*4*rows*width; got > limit {
		t.Errorf("inference takes %d bytes, want at most %d", got, limit)
	}
	loss := ok(b.Loss(LossConfig{Name: "mse"}, h, b.Input(width), b.Input(1), width))
	plan, err = b.Training([]Node{h}, loss)
	if err != nil {
		t.Fatal(err)
	}
	if got, limit := plan.Bytes(), (2*layers+6)*4*rows*width; got > limit {
		t.Errorf("training takes %d bytes, want at most %d", got, limit)
	}
}
