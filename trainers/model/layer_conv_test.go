package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// imageNet is a chain of layers on images in float64, written as the obvious loops.
type imageNet struct {
	ops    []Op
	input  []int
	params []float64
}

// image is one row with its shape.
type image struct {
	h, w, c int
	x       []float64
}

func (m image) at(y, x, c int) float64 { return m.x[(y*m.w+x)*m.c+c] }

// windows calls f for every window of a layer with the place of its result and the cells that lie inside the image.
func (m image) windows(size, strides, dilation Pair, padding string, f func(oy, ox int, cells [][4]int)) (oh, ow int) {
	span := [2]int{(size[0]-1)*dilation[0] + 1, (size[1]-1)*dilation[1] + 1}
	in, out, before := [2]int{m.h, m.w}, [2]int{}, [2]int{}
	for d := range 2 {
		if padding == "same" {
			out[d] = int(math.Ceil(float64(in[d]) / float64(strides[d])))
			before[d] = max((out[d]-1)*strides[d]+span[d]-in[d], 0) / 2
		} else {
			out[d] = (in[d]-span[d])/strides[d] + 1
		}
	}
	for oy := range out[0] {
		for ox := range out[1] {
			var cells [][4]int
			for ky := range size[0] {
				for kx := range size[1] {
					y, x := oy*strides[0]-before[0]+ky*dilation[0], ox*strides[1]-before[1]+kx*dilation[1]
					if y >= 0 && y < m.h && x >= 0 && x < m.w {
						cells = append(cells, [4]int{y, x, ky, kx})
					}
				}
			}
			f(oy, ox, cells)
		}
	}
	return out[0], out[1]
}

func (n *imageNet) row(x []float64) []float64 {
	m := image{1, 1, len(x), x}
	if len(n.input) == 3 {
		m = image{n.input[0], n.input[1], n.input[2], x}
	}
	p := n.params
	take := func(k int) []float64 { v := p[:k]; p = p[k:]; return v }
	for _, op := range n.ops {
		next := image{h: 1, w: 1}
		switch op := op.(type) {
		case *Conv2D:
			w := take(op.KernelSize[0] * op.KernelSize[1] * m.c * op.Filters)
			b := make([]float64, op.Filters)
			if op.UseBias {
				b = take(op.Filters)
			}
			next.c = op.Filters
			next.h, next.w = m.windows(op.KernelSize, op.Strides, op.DilationRate, op.Padding, func(_, _ int, cells [][4]int) {
				for f := range op.Filters {
					s := b[f]
					for _, at := range cells {
						for c := range m.c {
							s += m.at(at[0], at[1], c) * w[((at[2]*op.KernelSize[1]+at[3])*m.c+c)*op.Filters+f]
						}
					}
					next.x = append(next.x, s)
				}
			})
			next.x = activate(op.Activation, next.x, next.c)
		case *MaxPooling2D, *AveragePooling2D:
			pool, mean := &Pooling{}, false
			switch op := op.(type) {
			case *MaxPooling2D:
				pool = &op.Pooling
			case *AveragePooling2D:
				pool, mean = &op.Pooling, true
			}
			strides := pool.Strides
			if strides == (Pair{}) {
				strides = pool.PoolSize
			}
			next.c = m.c
			next.h, next.w = m.windows(pool.PoolSize, strides, Pair{1, 1}, pool.Padding, func(_, _ int, cells [][4]int) {
				for c := range m.c {
					top, sum := math.Inf(-1), 0.0
					for _, at := range cells {
						top = math.Max(top, m.at(at[0], at[1], c))
						sum += m.at(at[0], at[1], c) / float64(len(cells))
					}
					if mean {
						top = sum
					}
					next.x = append(next.x, top)
				}
			})
		case *GlobalAveragePooling2D, *GlobalMaxPooling2D:
			_, most := op.(*GlobalMaxPooling2D)
			next.c = m.c
			for c := range m.c {
				top, sum := math.Inf(-1), 0.0
				for i := range m.h * m.w {
					top = math.Max(top, m.x[i*m.c+c])
					sum += m.x[i*m.c+c] / float64(m.h*m.w)
				}
				if !most {
					top = sum
				}
				next.x = append(next.x, top)
			}
		case *Dense:
			w, b := take(len(m.x)*op.Units), take(op.Units)
			next.c, next.x = op.Units, product(m.x, w, len(m.x), op.Units)
			for i := range next.x {
				next.x[i] += b[i]
			}
			next.x = activate(op.Activation, next.x, op.Units)
		case *Flatten:
			next.c, next.x = len(m.x), m.x
		case *Reshape:
			next = image{op.TargetShape[0], op.TargetShape[1], op.TargetShape[2], m.x}
		default:
			panic(fmt.Sprintf("%T", op))
		}
		m = next
	}
	return m.x
}

func conv(filters int, edit func(*Conv2D)) *Conv2D {
	c := newConv2D()
	c.Filters, c.KernelSize = filters, Pair{3, 3}
	if edit != nil {
		edit(c)
	}
	return c
}

// checkImages compares outputs, loss and all gradients of a step with the reference, for every kernel set.
func checkImages(t *testing.T, r *rand.Rand, input []int, rows int, ops ...Op) {
	t.Helper()
	for _, name := range kernel.Names() {
		set, err := kernel.Select(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Compile(define(t, input, ops...), Config{Kernel: set, Batch: rows + r.IntN(3), Loss: "mean_squared_error"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n.Params() {
			n.Params()[i] = r.Float32() - 0.5
		}
		b := randomBatch(r, n, rows, false)
		ref := imageNet{ops: ops, input: input, params: wide(n.Params())}
		in, out := n.InputWidths()[0], n.OutputWidths()[0]
		x, y := wide(b.X[0]), wide(b.Y[0])
		f := func() float64 {
			var sum float64
			for i := range rows {
				for j, v := range ref.row(x[i*in:][:in]) {
					d := v - y[i*out+j]
					sum += d * d / float64(out*rows)
				}
			}
			return sum
		}
		for range 2 { // the second step finds buffers in use
			loss, err := n.Step(b)
			if err != nil {
				t.Fatal(err)
			}
			if want := f(); math.Abs(float64(loss)-want) > 1e-5*(1+want) {
				t.Fatalf("%s: loss %g, want %g", name, loss, want)
			}
		}
		p := [][]float32{make([]float32, rows*out)}
		if err := n.Predict(b, p); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for j, want := range ref.row(x[i*in:][:in]) {
				for _, got := range []float32{n.Output(0)[i*out+j], p[0][i*out+j]} {
					if math.Abs(float64(got)-want) > 1e-5*(1+math.Abs(want)) {
						t.Fatalf("%s: output[%d][%d] = %g, want %g", name, i, j, got, want)
					}
				}
			}
		}
		var scale float64
		for _, g := range n.Grads() {
			scale = max(scale, math.Abs(float64(g)))
		}
		const h = 1e-7
		for i, v := range ref.params {
			ref.params[i] = v + h
			up := f()
			ref.params[i] = v - h
			down := f()
			ref.params[i] = v
			if want, got := (up-down)/(2*h), float64(n.Grads()[i]); !(math.Abs(got-want) <= 1e-6+2e-5*(scale+math.Abs(want))) {
				t.Fatalf("%s: gradient[%d] (%s) = %g, finite difference %g", name, i, nameAt(n, i), got, want)
			}
		}
	}
}

func TestGradientsOfRandomConvolutions(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 0))
	for range 30 {
		first := conv(1+r.IntN(4), func(c *Conv2D) {
			c.KernelSize = Pair{1 + r.IntN(3), 1 + r.IntN(3)}
			c.Padding = []string{"valid", "same"}[r.IntN(2)]
			switch r.IntN(3) {
			case 0:
				c.Strides = Pair{1 + r.IntN(2), 1 + r.IntN(2)}
			case 1:
				c.DilationRate = Pair{1 + r.IntN(2), 1 + r.IntN(2)}
			}
			c.Activation = []string{"linear", "relu", "tanh"}[r.IntN(3)]
			c.UseBias = r.IntN(2) == 1
		})
		second := conv(1+r.IntN(3), func(c *Conv2D) {
			c.KernelSize = Pair{1 + r.IntN(2), 1 + r.IntN(2)}
			c.Padding = []string{"valid", "same"}[r.IntN(2)]
			c.Activation = []string{"linear", "relu"}[r.IntN(2)]
			c.UseBias = r.IntN(2) == 1
		})
		checkImages(t, r, []int{7 + r.IntN(3), 7 + r.IntN(3), 1 + r.IntN(3)}, 1+r.IntN(3), first, second, &Flatten{}, dense(2, "linear"))
	}
}

// Wide enough for the way that reads images where they stand, with a fused pooling.
func TestGradientsOfWideConvolutions(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 0))
	for _, padding := range []string{"valid", "same"} {
		pool := &MaxPooling2D{newPooling()}
		checkImages(t, r, []int{6, 15, 2}, 3, conv(3, func(c *Conv2D) { c.Padding, c.Activation = padding, "relu" }),
			conv(2, func(c *Conv2D) { c.Padding, c.Activation = padding, "relu" }), pool, &Flatten{}, dense(3, "linear"))
	}
}

func TestGradientsOfPoolings(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 0))
	pooling := func() Pooling {
		p := Pooling{PoolSize: Pair{1 + r.IntN(3), 1 + r.IntN(3)}, Padding: []string{"valid", "same"}[r.IntN(2)]}
		if r.IntN(2) == 1 {
			p.Strides = Pair{1 + r.IntN(3), 1 + r.IntN(3)}
		}
		return p
	}
	for range 12 {
		shape := []int{5 + r.IntN(4), 5 + r.IntN(4), 1 + r.IntN(2)}
		relu := conv(1+r.IntN(20), func(c *Conv2D) { c.KernelSize, c.Activation = Pair{2, 2}, "relu" })
		tanh := conv(1+r.IntN(3), func(c *Conv2D) { c.KernelSize, c.Activation = Pair{2, 2}, "tanh" }) // the pooling is apart
		checkImages(t, r, shape, 1+r.IntN(3), relu, &MaxPooling2D{pooling()}, &Flatten{}, dense(1, "linear"))
		checkImages(t, r, shape, 1+r.IntN(3), tanh, &MaxPooling2D{pooling()}, &Flatten{}, dense(2, "linear"))
		checkImages(t, r, shape, 1+r.IntN(3), tanh, &AveragePooling2D{pooling()}, &Flatten{}, dense(2, "linear"))
	}
	for _, op := range []Op{&GlobalAveragePooling2D{}, &GlobalMaxPooling2D{}, &GlobalMaxPooling2D{GlobalPooling{KeepDims: true}}} {
		ops := []Op{conv(5, nil), op}
		if g, ok := op.(*GlobalMaxPooling2D); ok && g.KeepDims {
			ops = append(ops, conv(2, func(c *Conv2D) { c.KernelSize = Pair{1, 1} }), &Flatten{})
		}
		checkImages(t, r, []int{6, 7, 2}, 2, append(ops, dense(3, "linear"))...)
	}
}

// A pooling of other channels than the filters is not part of the convolution before it.
func TestGradientsOfAPoolingOfReshapedFilters(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 0))
	for _, shape := range [][]int{{4, 4, 4}, {8, 2, 4}, {8, 4, 2}, {4, 2, 8}, {2, 4, 8}} {
		checkImages(t, r, []int{6, 6, 1}, 3, conv(4, func(c *Conv2D) { c.Activation = "relu" }), &Reshape{TargetShape: shape}, &MaxPooling2D{newPooling()}, &Flatten{}, dense(2, "linear"))
	}
}

// A convolution whose result is read by a pooling and by another layer too.
func TestAConvolutionWithTwoReaders(t *testing.T) {
	d := define(t, []int{4, 4, 1}, conv(2, func(c *Conv2D) { c.Activation = "relu" }), &MaxPooling2D{newPooling()}, &Flatten{}, dense(1, "linear"))
	d.Layers = append(d.Layers, Layer{Name: "flat", From: []string{d.Layers[0].Name}, Op: &Flatten{}}, Layer{Name: "all", From: []string{"flat"}, Op: dense(1, "linear")})
	d.Outputs = append(d.Outputs, "all")
	n := compile(t, d, Config{Batch: 2, Loss: "mean_squared_error"})
	// With one reader the pooling is part of the convolution; with two, that would be computed twice.
	one := compile(t, define(t, []int{4, 4, 1}, conv(2, nil), &MaxPooling2D{newPooling()}, &Flatten{}, dense(1, "linear")), Config{Batch: 2, Loss: "mse"})
	for plan, want := range map[*graph.Plan]string{one.train: "conv2d max-pooled", n.train: "max_pooling2d"} {
		text := strings.Join(plan.Describe(), "\n")
		if strings.Count(text, "conv2d [")+strings.Count(text, "conv2d (")+strings.Count(text, "conv2d max-pooled") != 1 || !strings.Contains(text, want) {
			t.Errorf("want one convolution and %s:\n%s", want, text)
		}
	}
	r := rand.New(rand.NewPCG(34, 0))
	for i := range n.Params() {
		n.Params()[i] = r.Float32() - 0.5
	}
	b := randomBatch(r, n, 2, false)
	if _, err := n.Step(b); err != nil {
		t.Fatal(err)
	}
	// Central differences of the loss itself, in float32: coarse, but a gradient from one reader alone is far off.
	for i := range 20 {
		old, grad := n.Params()[i], n.Grads()[i]
		at := func(v float32) float64 {
			n.Params()[i] = v
			loss, err := n.Step(b)
			if err != nil {
				t.Fatal(err)
			}
			return float64(loss)
		}
		want := (at(old+1e-2) - at(old-1e-2)) / 2e-2
		n.Params()[i] = old
		if math.Abs(float64(grad)-want) > 2e-2*(1+math.Abs(want)) {
			t.Errorf("gradient[%d] = %g, difference %g", i, grad, want)
		}
	}
}

func TestImageLayersThatDoNotFitAreRefused(t *testing.T) {
	for _, c := range []struct {
		op    Op
		input []int
		want  string
	}{
		{conv(0, nil), []int{8, 8, 1}, "filters"},
		{conv(2, func(c *Conv2D) { c.KernelSize = Pair{0, 3} }), []int{8, 8, 1}, "kernel_size"},
		{conv(2, func(c *Conv2D) { c.Strides = Pair{1, -1} }), []int{8, 8, 1}, "strides"},
		{conv(2, func(c *Conv2D) { c.Padding = "causal" }), []int{8, 8, 1}, "causal"},
		{conv(2, func(c *Conv2D) { c.Strides, c.DilationRate = Pair{2, 2}, Pair{2, 2} }), []int{8, 8, 1}, "dilation_rate"},
		{conv(2, nil), []int{2, 8, 1}, "3 × 3"},
		{conv(2, nil), []int{8, 8}, "[height, width, channels]"},
		{conv(maxFloats, nil), []int{8, 8, 4}, "too large"},
		{&MaxPooling2D{Pooling{PoolSize: Pair{17, 16}, Padding: "valid"}}, []int{20, 20, 1}, "256"},
		{&MaxPooling2D{Pooling{PoolSize: Pair{2, 2}}}, []int{8, 8, 1}, "padding"},
		{&AveragePooling2D{Pooling{PoolSize: Pair{9, 2}, Padding: "valid"}}, []int{8, 8, 1}, "9 × 2"},
		{&GlobalAveragePooling2D{}, []int{8}, "[height, width, channels]"},
	} {
		_, err := FromLayers([]LayerItem{{Name: c.op.Kind(), Decode: func(into any) error { copyOp(into, c.op); return nil }}}, []Input{{Shape: c.input}})
		var e *pipeline.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error()+e.Hint, c.want) {
			t.Errorf("%s on %v: %v does not name %s", c.op.Kind(), c.input, err, c.want)
		}
	}
}

func TestSizesAreOneNumberOrTwo(t *testing.T) {
	for doc, want := range map[string]Pair{"{filters: 1, kernel_size: 5}": {5, 5}, "{filters: 1, kernel_size: [2, 3]}": {2, 3}} {
		c := newConv2D()
		if err := yaml.UnmarshalWithOptions([]byte(doc), c, yaml.Strict()); err != nil || c.KernelSize != want || c.Strides != (Pair{1, 1}) {
			t.Errorf("%s: %v, %v", doc, c.KernelSize, err)
		}
	}
	for _, doc := range []string{"{kernel_size: [1, 2, 3]}", "{kernel_size: wide}", "{kernel_size: 2.5}"} {
		if err := yaml.UnmarshalWithOptions([]byte(doc), newConv2D(), yaml.Strict()); err == nil || !strings.Contains(err.Error(), "one whole number or a list of two") {
			t.Errorf("%s: %v", doc, err)
		}
	}
	p := &MaxPooling2D{newPooling()}
	if err := yaml.UnmarshalWithOptions([]byte("{pool_size: [3, 2], padding: same}"), p, yaml.Strict()); err != nil || p.PoolSize != (Pair{3, 2}) || p.Padding != "same" {
		t.Errorf("%+v, %v", p, err)
	}
}

// imageClassifier is a small network of both ways of convolution, a fused pooling and one apart.
func imageClassifier(t testing.TB, set kernel.Set, batch int) *Network {
	t.Helper()
	relu := func(c *Conv2D) { c.Activation = "relu" }
	n, err := Compile(define(t, []int{20, 20, 2}, conv(6, relu), &MaxPooling2D{newPooling()}, conv(5, func(c *Conv2D) { c.Activation = "tanh" }),
		&MaxPooling2D{newPooling()}, &Flatten{}, dense(4, "softmax")), Config{Kernel: set, Batch: batch, Loss: "categorical_crossentropy"})
	if err != nil {
		t.Fatal(err)
	}
	n.Init(3)
	return n
}

func TestStepsOnImagesAllocateNothing(t *testing.T) {
	for _, name := range kernel.Names() {
		n := imageClassifier(t, kernels(t, name), 70) // more than a block of images
		b := randomBatch(rand.New(rand.NewPCG(35, 0)), n, 70, false)
		if allocs := testing.AllocsPerRun(3, func() {
			if _, err := n.Step(b); err != nil {
				t.Fatal(err)
			}
		}); allocs != 0 {
			t.Errorf("%s: %v allocations a step", name, allocs)
		}
	}
}

// Replicas share the kernel set and nothing else.
func TestReplicasOnImagesDoNotMix(t *testing.T) {
	for _, name := range kernel.Names() {
		set := kernels(t, name)
		train := func(seed uint64) []float32 {
			n := imageClassifier(t, set, 9)
			b := randomBatch(rand.New(rand.NewPCG(seed, 0)), n, 9, false)
			for range 4 {
				if _, err := n.Step(b); err != nil {
					t.Error(err)
				}
				for i, g := range n.Grads() {
					n.Params()[i] -= 0.1 * g
				}
			}
			return n.Params()
		}
		alone := [][]float32{train(1), train(2), train(3)}
		together := make([][]float32, len(alone))
		var wg sync.WaitGroup
		for i := range together {
			wg.Go(func() { together[i] = train(uint64(i + 1)) })
		}
		wg.Wait()
		for i := range alone {
			if !slices.Equal(alone[i], together[i]) {
				t.Errorf("%s: replica %d trained otherwise beside others", name, i)
			}
		}
	}
}

// The same rows alone and among others give the same results: images of a block do not see each other.
func TestAPredictionDoesNotDependOnItsBatch(t *testing.T) {
	for _, name := range kernel.Names() {
		n := imageClassifier(t, kernels(t, name), 50)
		b := randomBatch(rand.New(rand.NewPCG(36, 0)), n, 50, false)
		all, one := [][]float32{make([]float32, 50*4)}, [][]float32{make([]float32, 4)}
		if err := n.Predict(b, all); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := n.Predict(&pipeline.Batch{Rows: 1, X: [][]float32{b.X[0][i*800:][:800]}}, one); err != nil {
				t.Fatal(err)
			}
			for j, v := range one[0] {
				if want := all[0][i*4+j]; math.Abs(float64(v-want)) > 1e-6 {
					t.Fatalf("%s: row %d alone gives %v, among others %v", name, i, one[0], all[0][i*4:][:4])
				}
			}
		}
	}
}
