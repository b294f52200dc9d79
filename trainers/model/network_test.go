package model

import (
	"errors"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"dkpipe/pipeline"
)

// wantError checks kind and words of an error.
func wantError(t *testing.T, err error, kind pipeline.Kind, words ...string) {
	t.Helper()
	var e *pipeline.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
	text := e.Error() + " " + e.Hint
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	if e.Kind != kind {
		t.Errorf("kind %s, want %s: %s", e.Kind, kind, text)
	}
}

func classifier(t testing.TB) *Definition {
	return define(t, []int{6}, dense(8, "relu"), &Dropout{Rate: 0.3}, dense(3, "softmax"))
}

// The short last batch of an epoch runs on the same buffers and gives what a network of that size gives.
func TestShortBatchesEqualANetworkOfTheirSize(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	d := classifier(t)
	big := compile(t, d, Config{Batch: 16, Loss: "categorical_crossentropy", Seed: 4})
	big.Init(3)
	for step, rows := range []int{16, 5, 1, 16, 7} {
		small := compile(t, d, Config{Batch: rows, Loss: "categorical_crossentropy", Seed: 4})
		small.Init(3)
		small.steps = uint64(step) // the dropout mask belongs to the step
		b := randomBatch(r, big, rows, true)
		l1, err1 := big.Step(b)
		l2, err2 := small.Step(b)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if l1 != l2 || !slices.Equal(big.Grads(), small.Grads()) {
			t.Errorf("%d rows: loss %g in a network for 16, %g in one for %d", rows, l1, l2, rows)
		}
	}
}

func TestStepAndPredictDoNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	n := compile(t, classifier(t), Config{Batch: 16, Loss: "categorical_crossentropy", ClassWeight: map[int]float64{1: 2}})
	n.Init(3)
	full, short := randomBatch(r, n, 16, true), randomBatch(r, n, 5, false)
	out := [][]float32{make([]float32, 16*3)}
	allocs := testing.AllocsPerRun(10, func() {
		for _, b := range []*pipeline.Batch{full, short} {
			if _, err := n.Step(b); err != nil {
				t.Fatal(err)
			}
			if err := n.Predict(b, out); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations in two steps and two predictions", allocs)
	}
}

// Predict cuts any number of rows into pieces and leaves dropout out.
func TestPredictMatchesTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	d := classifier(t)
	for _, loss := range []string{"", "mse"} { // with and without a training plan
		n := compile(t, d, Config{Batch: 4, Loss: loss})
		n.Init(9)
		for _, rows := range []int{0, 1, 4, 11} {
			x := make([]float32, rows*6)
			for i := range x {
				x[i] = 4*r.Float32() - 2
			}
			out := [][]float32{make([]float32, rows*3)}
			if err := n.Predict(&pipeline.Batch{Rows: rows, X: [][]float32{x}}, out); err != nil {
				t.Fatal(err)
			}
			if rows == 0 {
				continue
			}
			for i, want := range newReference(t, n, 0, false).forward([][]float64{wide(x)}, rows)[0] {
				if math.Abs(float64(out[0][i])-want) > 1e-5 {
					t.Fatalf("%d rows: out[%d] = %g, want %g", rows, i, out[0][i], want)
				}
			}
		}
	}
}

// A pull is a copy into Params: nothing else has to be told.
func TestParamsAreLive(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	a := compile(t, classifier(t), Config{Batch: 4, Loss: "categorical_crossentropy"})
	b := compile(t, classifier(t), Config{Batch: 4, Loss: "categorical_crossentropy"})
	a.Init(1)
	b.Init(2)
	batch := randomBatch(r, a, 4, false)
	la, _ := a.Step(batch)
	lb, _ := b.Step(batch)
	if la == lb {
		t.Fatal("different parameters gave the same loss")
	}
	a.steps, b.steps = 0, 0
	copy(b.Params(), a.Params())
	lb, _ = b.Step(batch)
	if la != lb || !slices.Equal(a.Grads(), b.Grads()) {
		t.Errorf("loss %g after the copy, want %g", lb, la)
	}
}

func TestLayoutCoversTheVectorWithoutGaps(t *testing.T) {
	n := compile(t, classifier(t), Config{Batch: 4})
	off := 0
	var names []string
	for _, p := range n.Layout() {
		if p.Off != off || p.Len != size(p.Shape) {
			t.Errorf("%s at %d with %d floats of shape %v, expected at %d", p.Name, p.Off, p.Len, p.Shape, off)
		}
		off += p.Len
		names = append(names, p.Name)
	}
	if off != len(n.Params()) {
		t.Errorf("the layout covers %d of %d", off, len(n.Params()))
	}
	if want := []string{"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}; !slices.Equal(names, want) {
		t.Errorf("names %v", names)
	}
}

// The weights of Keras: the sum of weighted losses over the number of rows, not over the sum of weights.
func TestSampleWeightsDivideByTheNumberOfRows(t *testing.T) {
	d := define(t, []int{1}, dense(1, "linear"))
	n := compile(t, d, Config{Batch: 4, Loss: "mse"})
	n.Params()[0] = 1
	b := &pipeline.Batch{Rows: 4, X: [][]float32{{1, 2, 3, 4}}, Y: [][]float32{{0, 0, 0, 0}}, Weight: []float32{1, 0, 2, 0}}
	loss, err := n.Step(b)
	if err != nil || math.Abs(float64(loss)-(1*1+2*9)/4.0) > 1e-6 {
		t.Errorf("loss %g, %v; want 4.75", loss, err)
	}
	if want := float32((1*2*1*1 + 2*2*3*3) / 4.0); math.Abs(float64(n.Grads()[0]-want)) > 1e-5 {
		t.Errorf("kernel gradient %g, want %g", n.Grads()[0], want)
	}
}

// Dropout differs between steps and seeds, and repeats with both.
func TestDropoutFollowsSeedAndStep(t *testing.T) {
	d := define(t, []int{200}, &Dropout{Rate: 0.5}, dense(1, "linear"))
	run := func(seed uint64) []float32 {
		n := compile(t, d, Config{Batch: 1, Loss: "mse", Seed: seed})
		n.Init(1)
		var losses []float32
		for range 3 {
			x := make([]float32, 200)
			for i := range x {
				x[i] = 1
			}
			l, err := n.Step(&pipeline.Batch{Rows: 1, X: [][]float32{x}, Y: [][]float32{{5}}})
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, l)
		}
		return losses
	}
	a, again, other := run(1), run(1), run(2)
	if !slices.Equal(a, again) {
		t.Errorf("the same seed gave %v and %v", a, again)
	}
	if a[0] == a[1] || a[1] == a[2] || a[0] == other[0] {
		t.Errorf("losses do not differ: %v, other seed %v", a, other)
	}
}

// NaN in the parameters must reach the loss: the trainer stops on it.
func TestNaNIsNotHidden(t *testing.T) {
	for _, bits := range []uint32{0x7fc00000, 0xffc00000} { // both signs
		n := compile(t, define(t, []int{2}, dense(3, "relu"), dense(2, "softmax")), Config{Batch: 2, Loss: "categorical_crossentropy"})
		n.Init(1)
		n.Params()[0] = math.Float32frombits(bits)
		loss, err := n.Step(&pipeline.Batch{Rows: 2, X: [][]float32{{1, 1, 1, 1}}, Y: [][]float32{{1, 0, 0, 1}}})
		if err != nil || loss == loss {
			t.Errorf("loss %g, %v with a NaN parameter", loss, err)
		}
	}
}

func TestExtremeLogitsGiveAFiniteLoss(t *testing.T) {
	n := compile(t, define(t, []int{1}, dense(2, "softmax")), Config{Batch: 1, Loss: "categorical_crossentropy"})
	copy(n.Params(), []float32{500, -500, 0, 0})
	loss, err := n.Step(&pipeline.Batch{Rows: 1, X: [][]float32{{1}}, Y: [][]float32{{0, 1}}})
	if err != nil || math.Abs(float64(loss)-1000) > 1e-3 {
		t.Errorf("loss %g, %v; want 1000", loss, err)
	}
}

// Replicas share nothing: run under the race detector this also proves that graph building is safe.
func TestReplicasRunConcurrently(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	d := classifier(t)
	k := gonum(t)
	first := compile(t, d, Config{Batch: 8, Loss: "categorical_crossentropy"})
	b := randomBatch(r, first, 8, false)
	grads := make([][]float32, 4)
	var wg sync.WaitGroup
	for w := range grads {
		wg.Go(func() {
			n, err := Compile(d, Config{Kernel: k, Batch: 8, Loss: "categorical_crossentropy"})
			if err != nil {
				t.Error(err)
				return
			}
			n.Init(1)
			out := [][]float32{make([]float32, 8*3)}
			for range 20 {
				if _, err := n.Step(b); err != nil {
					t.Error(err)
				}
				if err := n.Predict(b, out); err != nil {
					t.Error(err)
				}
				for i, g := range n.Grads() {
					n.Params()[i] -= 0.1 * g
				}
			}
			grads[w] = n.Grads()
		})
	}
	wg.Wait()
	for _, g := range grads[1:] {
		if !slices.Equal(g, grads[0]) {
			t.Error("equal replicas ended with different gradients")
		}
	}
}

// A network learns what a line cannot separate.
func TestANetworkLearnsXor(t *testing.T) {
	n := compile(t, define(t, []int{2}, dense(16, "tanh"), dense(2, "softmax")), Config{Batch: 4, Loss: "categorical_crossentropy"})
	n.Init(1)
	b := &pipeline.Batch{Rows: 4, X: [][]float32{{0, 0, 0, 1, 1, 0, 1, 1}}, Y: [][]float32{{1, 0, 0, 1, 0, 1, 1, 0}}}
	var loss float32
	for range 1500 {
		var err error
		if loss, err = n.Step(b); err != nil {
			t.Fatal(err)
		}
		for i, g := range n.Grads() {
			n.Params()[i] -= 0.5 * g
		}
	}
	if !(loss < 0.05) {
		t.Errorf("loss %g after 1500 steps", loss)
	}
}

func TestBatchesThatDoNotFitAreRefused(t *testing.T) {
	n := compile(t, classifier(t), Config{Batch: 4, Loss: "categorical_crossentropy"})
	x, y := make([]float32, 2*6), make([]float32, 2*3)
	for name, c := range map[string]struct {
		b     pipeline.Batch
		kind  pipeline.Kind
		words []string
	}{
		"x width":    {pipeline.Batch{Rows: 2, X: [][]float32{x[:10]}, Y: [][]float32{y}}, pipeline.BadSpec, []string{"width 5", "width 6", "columns.x"}},
		"y width":    {pipeline.Batch{Rows: 2, X: [][]float32{x}, Y: [][]float32{make([]float32, 20)}}, pipeline.BadSpec, []string{"width 10", "width 3", "columns.y"}},
		"x columns":  {pipeline.Batch{Rows: 2, X: [][]float32{x, x}, Y: [][]float32{y}}, pipeline.BadSpec, []string{"2 x columns"}},
		"no targets": {pipeline.Batch{Rows: 2, X: [][]float32{x}}, pipeline.BadSpec, []string{"0 y columns"}},
		"too many":   {pipeline.Batch{Rows: 5, X: [][]float32{make([]float32, 30)}, Y: [][]float32{make([]float32, 15)}}, pipeline.Internal, []string{"5 rows", "4"}},
		"empty":      {pipeline.Batch{}, pipeline.Internal, []string{"0 rows"}},
		"weights":    {pipeline.Batch{Rows: 2, X: [][]float32{x}, Y: [][]float32{y}, Weight: []float32{1}}, pipeline.BadSpec, []string{"1 weights"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := n.Step(&c.b)
			wantError(t, err, c.kind, c.words...)
		})
	}
	wantError(t, n.Predict(&pipeline.Batch{Rows: 2, X: [][]float32{x[:10]}}, [][]float32{y}), pipeline.BadSpec, "width 5", "width 6")
	wantError(t, n.Predict(&pipeline.Batch{Rows: 2, X: [][]float32{x}}, [][]float32{y[:5]}), pipeline.Internal, "5 floats")
	wantError(t, n.Predict(&pipeline.Batch{Rows: 2, X: [][]float32{x}}, nil), pipeline.Internal, "0 slices")
	_, err := compile(t, classifier(t), Config{Batch: 4}).Step(&pipeline.Batch{Rows: 2, X: [][]float32{x}, Y: [][]float32{y}})
	wantError(t, err, pipeline.Internal, "without a loss")
}

func TestLossesThatDoNotFitAreRefused(t *testing.T) {
	k := gonum(t)
	for name, c := range map[string]struct {
		ops   []Op
		cfg   Config
		kind  pipeline.Kind
		words []string
	}{
		"unknown":         {[]Op{dense(2, "softmax")}, Config{Loss: "categorical_crosentropy"}, pipeline.Unsupported, []string{`"categorical_crossentropy"`}},
		"one class":       {[]Op{dense(1, "sigmoid")}, Config{Loss: "categorical_crossentropy"}, pipeline.BadSpec, []string{"width 1", "binary_crossentropy"}},
		"nothing learns":  {[]Op{&Flatten{}}, Config{Loss: "mse"}, pipeline.BadSpec, []string{"no layer"}},
		"class outside":   {[]Op{dense(2, "softmax")}, Config{Loss: "mse", ClassWeight: map[int]float64{2: 1}}, pipeline.BadSpec, []string{"{2: 1}", "0 to 1"}},
		"negative weight": {[]Op{dense(2, "softmax")}, Config{Loss: "mse", ClassWeight: map[int]float64{1: -1}}, pipeline.BadSpec, []string{"{1: -1}"}},
		"no batch":        {[]Op{dense(2, "softmax")}, Config{Loss: "mse", Batch: -1}, pipeline.BadSpec, []string{"batch size of -1"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Kernel = k
			if c.cfg.Batch == 0 {
				c.cfg.Batch = 2
			}
			_, err := Compile(define(t, []int{3}, c.ops...), c.cfg)
			wantError(t, err, c.kind, c.words...)
		})
	}
}

// The same seed gives the same bits on every machine; a change of this number breaks every published experiment.
func TestInitIsReproducible(t *testing.T) {
	n := compile(t, define(t, []int{30}, dense(20, "relu"), dense(10, "softmax")), Config{Batch: 1})
	n.Init(42)
	h := fnv.New64a()
	for _, p := range n.Params() {
		b := math.Float32bits(p)
		h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
	}
	if got, want := h.Sum64(), uint64(0x7e99fbc494b1cae7); got != want {
		t.Errorf("parameters of seed 42 hash to %#x, want %#x", got, want)
	}
	first := slices.Clone(n.Params())
	n.Init(43)
	if slices.Equal(first, n.Params()) {
		t.Error("another seed gave the same parameters")
	}
}

func TestInitializersHaveKerasRangesAndDeviations(t *testing.T) {
	const in, out = 300, 200
	for name, want := range map[Initializer]struct{ limit, dev float64 }{
		Zeros: {0, 0}, Ones: {1, 0},
		GlorotUniform:   {math.Sqrt(6.0 / (in + out)), math.Sqrt(2.0 / (in + out))},
		GlorotNormal:    {2 * math.Sqrt(2.0/(in+out)) / truncatedStd, math.Sqrt(2.0 / (in + out))},
		HeUniform:       {math.Sqrt(6.0 / in), math.Sqrt(2.0 / in)},
		HeNormal:        {2 * math.Sqrt(2.0/in) / truncatedStd, math.Sqrt(2.0 / in)},
		LecunUniform:    {math.Sqrt(3.0 / in), math.Sqrt(1.0 / in)},
		LecunNormal:     {2 * math.Sqrt(1.0/in) / truncatedStd, math.Sqrt(1.0 / in)},
		RandomUniform:   {0.05, 0.05 / math.Sqrt(3)},
		RandomNormal:    {math.Inf(1), 0.05},
		TruncatedNormal: {0.1, 0.05 * truncatedStd},
	} {
		l := dense(out, "linear")
		l.KernelInitializer = name
		n := compile(t, define(t, []int{in}, l), Config{Batch: 1})
		n.Init(5)
		kernel := n.Params()[:in*out]
		var sum, sq, top float64
		for _, v := range kernel {
			sum += float64(v)
			sq += float64(v) * float64(v)
			top = max(top, math.Abs(float64(v)))
		}
		mean := sum / (in * out)
		dev := math.Sqrt(max(sq/(in*out)-mean*mean, 0))
		if top > want.limit*(1+1e-6) || math.Abs(dev-want.dev) > 0.02*want.dev {
			t.Errorf("%s: largest %g (limit %g), deviation %g, want %g", name, top, want.limit, dev, want.dev)
		}
		if name != Ones && math.Abs(mean) > 0.02*want.limit {
			t.Errorf("%s: mean %g", name, mean)
		}
	}
}

func TestInitializersWithOptions(t *testing.T) {
	const in, out = 300, 200
	for name, want := range map[Initializer]struct{ mean, limit, dev float64 }{
		"constant(value=-0.5)":                                            {-0.5, 0.5, 0},
		"random_uniform(minval=1, maxval=3)":                              {2, 3, 1 / math.Sqrt(3)},
		"random_normal(mean=1,stddev=0.25)":                               {1, math.Inf(1), 0.25},
		"truncated_normal(stddev=2)":                                      {0, 4, 2 * truncatedStd},
		"variance_scaling":                                                {0, 2 * math.Sqrt(1.0/in) / truncatedStd, math.Sqrt(1.0 / in)},
		"variance_scaling(scale=3, mode=fan_out, distribution=uniform)":   {0, math.Sqrt(9.0 / out), math.Sqrt(3.0 / out)},
		"variance_scaling(mode=fan_avg, distribution=untruncated_normal)": {0, math.Inf(1), math.Sqrt(2.0 / (in + out))},
		"orthogonal(gain=2)":                                              {0, 2, 2 / math.Sqrt(in)},
	} {
		l := dense(out, "linear")
		l.KernelInitializer = name
		n := compile(t, define(t, []int{in}, l), Config{Batch: 1})
		n.Init(5)
		var sum, sq, top float64
		for _, v := range n.Params()[:in*out] {
			sum += float64(v)
			sq += (float64(v) - want.mean) * (float64(v) - want.mean)
			top = max(top, math.Abs(float64(v)))
		}
		if mean, dev := sum/(in*out), math.Sqrt(sq/(in*out)); top > want.limit*(1+1e-6) || math.Abs(dev-want.dev) > 0.02*want.dev+1e-7 || math.Abs(mean-want.mean) > 0.02*want.dev+1e-7 {
			t.Errorf("%s: mean %g, largest %g, deviation %g, want %+v", name, mean, top, dev, want)
		}
	}
	for _, bad := range []Initializer{"constant(value=x)", "constant(value=.inf", "constant(value=inf)", "random_normal(stddev=-1)", "random_uniform(minval=2)", "glorot_uniform(gain=2)",
		"variance_scaling(scale=0)", "variance_scaling(mode=fan)", "variance_scaling(distribution=normal)", "orthogonal(gain)", "x(y=1)", ""} {
		if bad.check() == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Columns of a tall kernel and rows of a wide one are orthogonal and of length 1.
func TestOrthogonalKernelsAreOrthogonal(t *testing.T) {
	for _, shape := range [][]int{{30, 20}, {20, 30}, {7, 7}, {3, 4, 2, 5}, {1, 9}} {
		cols := lastOf(shape)
		w := make([]float32, size(shape))
		Orthogonal.fill(w, shape, rand.NewPCG(1, 2))
		rows := len(w) / cols
		at := func(i, j int) float64 { return float64(w[i*cols+j]) }
		long, short := rows, cols
		if rows < cols {
			at = func(i, j int) float64 { return float64(w[j*cols+i]) }
			long, short = cols, rows
		}
		for a := range short {
			for b := range short {
				var dot, want float64
				for i := range long {
					dot += at(i, a) * at(i, b)
				}
				if a == b {
					want = 1
				}
				if math.Abs(dot-want) > 1e-6 {
					t.Fatalf("shape %v: vectors %d and %d have the product %g", shape, a, b, dot)
				}
			}
		}
	}
}

func TestRecurrentLayersStartAsInKeras(t *testing.T) {
	lstm := newLSTM()
	lstm.Units = 3
	n := compile(t, define(t, []int{2, 2}, lstm), Config{Batch: 1})
	n.Init(1)
	if bias := n.Params()[len(n.Params())-12:]; !slices.Equal(bias, []float32{0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("the bias of an LSTM starts as %v", bias)
	}
	gru := newGRU()
	gru.Units = 2
	layout, err := define(t, []int{2, 2}, gru).Layout()
	if err != nil || len(layout) != 3 || !slices.Equal(layout[2].Shape, []int{2, 6}) {
		t.Errorf("layout %+v, %v", layout, err)
	}
}
