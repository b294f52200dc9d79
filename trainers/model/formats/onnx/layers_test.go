package onnx

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
)

// chain makes a definition of layers one after the other.
func chain(shape []int, ops ...model.Op) *model.Definition {
	d := &model.Definition{Name: "m", Inputs: []model.Input{{Name: "in", Shape: shape}}}
	from := "in"
	for i, op := range ops {
		name := fmt.Sprintf("l%d", i)
		d.Layers = append(d.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
		from = name
	}
	d.Outputs = []string{from}
	return d
}

// op makes a layer with its defaults and changes it.
func op[T model.Op](kind string, change ...func(T)) model.Op {
	o, err := model.NewOp(kind)
	if err != nil {
		panic(err)
	}
	for _, c := range change {
		c(o.(T))
	}
	return o
}

func dense(units int, activation string) model.Op {
	return op("dense", func(d *model.Dense) { d.Units, d.Activation = units, activation })
}

func conv(filters int, change ...func(*model.Conv2D)) model.Op {
	return op("conv2d", append([]func(*model.Conv2D){func(c *model.Conv2D) { c.Filters, c.KernelSize = filters, model.Pair{3, 2} }}, change...)...)
}

func conv1d(filters, size int, change func(*model.Conv1D)) model.Op {
	return op("conv1d", func(c *model.Conv1D) { c.Filters, c.KernelSize = filters, size }, change)
}

// both makes a layer that goes both ways, of a kind or of two.
func both(mode, kind, backward string, change func(*model.Recurrent)) model.Op {
	direction := func(kind string) (model.Op, *model.Recurrent) {
		o := op[model.Op](kind)
		r := cellOf(o).base
		change(r)
		return o, r
	}
	return op("bidirectional", func(b *model.Bidirectional) {
		b.MergeMode = mode
		var f, g *model.Recurrent
		if b.Layer.Op, f = direction(kind); backward != "" {
			b.BackwardLayer.Op, g = direction(backward)
			g.GoBackwards = !f.GoBackwards
		}
	})
}

// zoo has every layer that there is, in the places where the order of channels matters.
func zoo() map[string]*model.Definition {
	z := map[string]*model.Definition{
		"mlp":     chain([]int{5}, dense(7, "relu"), op[*model.Dropout]("dropout"), dense(4, "softmax")),
		"flatten": chain([]int{4, 5, 2}, op[*model.Flatten]("flatten"), dense(3, "linear")),
		"cnn": chain([]int{9, 8, 2}, conv(4, func(c *model.Conv2D) { c.Padding, c.Activation = "same", "relu" }), op[*model.MaxPooling2D]("max_pooling2d"),
			conv(3, func(c *model.Conv2D) { c.Strides, c.UseBias, c.Padding = model.Pair{2, 1}, false, "same" }), op[*model.Flatten]("flatten"), dense(4, "softmax")),
		"dilated": chain([]int{9, 8, 2}, conv(4, func(c *model.Conv2D) { c.DilationRate, c.Activation = model.Pair{2, 3}, "tanh" }),
			op("average_pooling2d", func(p *model.AveragePooling2D) {
				p.PoolSize, p.Strides, p.Padding = model.Pair{3, 2}, model.Pair{2, 1}, "same"
			}), op[*model.Dense]("dense", func(d *model.Dense) { d.Units = 3 })),
		"sequence": chain([]int{9, 2}, conv1d(4, 3, func(c *model.Conv1D) { c.Padding, c.Activation = "causal", "relu" }), op[*model.BatchNormalization]("batch_normalization"),
			conv1d(3, 2, func(c *model.Conv1D) { c.Strides, c.UseBias, c.Padding, c.Activation = 2, false, "same", "softmax" }), op[*model.Flatten]("flatten"), dense(4, "softmax")),
		"dilated sequence": chain([]int{11, 2}, conv1d(4, 3, func(c *model.Conv1D) { c.DilationRate, c.Padding, c.Activation = 2, "causal", "tanh" }),
			conv1d(3, 2, func(c *model.Conv1D) { c.DilationRate, c.Padding = 3, "same" }), conv1d(2, 4, func(c *model.Conv1D) { c.Padding, c.Strides = "causal", 3 }), dense(3, "linear")),
		"pools of sequences": chain([]int{11, 3}, conv1d(4, 2, func(c *model.Conv1D) {}), op[*model.MaxPooling1D]("max_pooling1d"),
			op("average_pooling1d", func(p *model.AveragePooling1D) { p.PoolSize, p.Strides, p.Padding = 4, 1, "same" }),
			op("max_pooling1d", func(p *model.MaxPooling1D) { p.PoolSize, p.Strides, p.Padding = 3, 2, "same" }), op[*model.Rectifier]("relu"),
			op[*model.GlobalAveragePooling1D]("global_average_pooling1d"), dense(2, "linear")),
		"global kept of a sequence": chain([]int{5, 3}, op("global_max_pooling1d", func(g *model.GlobalMaxPooling1D) { g.KeepDims = true }), conv1d(2, 1, func(c *model.Conv1D) {})),
		"padded pool": chain([]int{5, 6, 3}, op("max_pooling2d", func(p *model.MaxPooling2D) {
			p.PoolSize, p.Strides, p.Padding = model.Pair{2, 3}, model.Pair{2, 2}, "same"
		})),
		"global": chain([]int{5, 6, 3}, conv(4), op[*model.GlobalAveragePooling2D]("global_average_pooling2d"), dense(2, "linear")),
		"global kept": chain([]int{5, 6, 3}, op("global_max_pooling2d", func(g *model.GlobalMaxPooling2D) { g.KeepDims = true }), conv(2, func(c *model.Conv2D) { c.KernelSize = model.Pair{1, 1} }),
			op[*model.Flatten]("flatten")),
		"batch norm": chain([]int{6, 5, 2}, conv(3), op[*model.BatchNormalization]("batch_normalization"), op[*model.Rectifier]("relu"), op[*model.Flatten]("flatten"), dense(4, "linear"),
			op("batch_normalization", func(n *model.BatchNormalization) { n.Center, n.Epsilon = false, 0.1 }), op[*model.GaussianNoise]("gaussian_noise")),
		"norm of vectors": chain([]int{3, 4}, op("batch_normalization", func(n *model.BatchNormalization) { n.Scale = false }), op[*model.LayerNormalization]("layer_normalization"),
			op("layer_normalization", func(n *model.LayerNormalization) { n.Center, n.Scale = false, false })),
		"dense of vectors": chain([]int{3, 4}, dense(5, "sigmoid"), op("dense", func(d *model.Dense) { d.Units, d.UseBias = 2, false })),
		"reshape": chain([]int{12}, op("reshape", func(r *model.Reshape) { r.TargetShape = []int{2, 3, -1} }), conv(3, func(c *model.Conv2D) { c.KernelSize = model.Pair{2, 2} }),
			op("reshape", func(r *model.Reshape) { r.TargetShape = []int{-1} })),
		"lstm": chain([]int{4, 3}, op("lstm", func(c *model.LSTM) { c.Units, c.ReturnSequences = 5, true }), op("lstm", func(c *model.LSTM) {
			c.Units, c.UseBias, c.Activation, c.RecurrentActivation = 2, false, "softsign", "hard_sigmoid"
		})),
		"gru": chain([]int{4, 3}, op("gru", func(c *model.GRU) { c.Units, c.ReturnSequences = 5, true }), op("gru", func(c *model.GRU) { c.Units, c.ResetAfter, c.Activation = 2, false, "linear" }),
			dense(2, "linear")),
		"simple_rnn": chain([]int{4, 3}, op("simple_rnn", func(c *model.SimpleRNN) { c.Units, c.ReturnSequences = 5, true }), op("simple_rnn", func(c *model.SimpleRNN) {
			c.Units, c.UseBias, c.Activation = 2, false, "relu"
		})),
		"backwards": chain([]int{4, 3}, op("lstm", func(c *model.LSTM) { c.Units, c.ReturnSequences, c.GoBackwards = 5, true, true }),
			op("gru", func(c *model.GRU) { c.Units, c.ReturnSequences, c.GoBackwards = 3, true, true }),
			op("simple_rnn", func(c *model.SimpleRNN) { c.Units, c.GoBackwards = 2, true })),
		"bidirectional": chain([]int{4, 3}, both("concat", "lstm", "", func(r *model.Recurrent) { r.Units, r.ReturnSequences = 3, true }),
			both("sum", "gru", "", func(r *model.Recurrent) { r.Units, r.ReturnSequences, r.GoBackwards = 5, true, true }),
			both("mul", "simple_rnn", "", func(r *model.Recurrent) { r.Units, r.ReturnSequences, r.UseBias = 4, true, false }),
			both("concat", "gru", "lstm", func(r *model.Recurrent) { r.Units, r.ReturnSequences = 2, true }),
			both("ave", "simple_rnn", "gru", func(r *model.Recurrent) { r.Units, r.GoBackwards = 4, true })),
		"softmax of images": chain([]int{4, 4, 3}, conv(3, func(c *model.Conv2D) { c.Activation = "softmax" })),
		"rectifiers": chain([]int{6}, op[*model.Rectifier]("leaky_relu"), op[*model.ELU]("elu", func(e *model.ELU) { e.Alpha = 0.7 }), dense(6, "linear"),
			op("relu", func(r *model.Rectifier) { r.MaxValue = new(float64); *r.MaxValue = 0.4 }), dense(6, "linear"),
			op("relu", func(r *model.Rectifier) {
				r.Threshold, r.NegativeSlope, r.MaxValue = 0.1, 0.3, new(float64)
				*r.MaxValue = 0.7
			})),
	}
	addGraphs(z)
	return z
}

// addGraphs adds models that are no chains.
func addGraphs(z map[string]*model.Definition) {
	all := &model.Definition{Name: "activations", Inputs: []model.Input{{Name: "x", Shape: []int{40}}}}
	for _, a := range append(model.Activations(), "swish", "hard_swish") {
		all.Layers = append(all.Layers, model.Layer{Name: a, From: []string{"x"}, Op: &model.Activation{Activation: a}})
		all.Outputs = append(all.Outputs, a)
	}
	z["activations"] = all
	z["wide and deep"] = &model.Definition{Name: "wide", Inputs: []model.Input{{Name: "ids", Shape: []int{2}}, {Name: "numbers", Shape: []int{3}}},
		Layers: []model.Layer{
			{Name: "e", From: []string{"ids"}, Op: op("embedding", func(e *model.Embedding) { e.InputDim, e.OutputDim = 4, 3 })},
			{Name: "f", From: []string{"e"}, Op: &model.Flatten{}},
			{Name: "c", From: []string{"f", "numbers"}, Op: op[*model.Concatenate]("concatenate")},
			{Name: "p", From: []string{"c"}, Op: dense(2, "softmax")},
			{Name: "q", From: []string{"f"}, Op: dense(1, "sigmoid")},
		}, Outputs: []string{"q", "p"}}
	z["branches"] = &model.Definition{Name: "branches", Inputs: []model.Input{{Name: "x", Shape: []int{4, 5, 2}}}, Outputs: []string{"end", "c0", "a"}}
	add := func(name string, op model.Op, from ...string) {
		b := z["branches"]
		b.Layers = append(b.Layers, model.Layer{Name: name, From: from, Op: op})
	}
	same := func(c *model.Conv2D) { c.Padding = "same" }
	add("a", conv(2, same), "x")
	add("b", conv(2, same), "x")
	last := "x"
	for _, how := range []string{"add", "average", "maximum", "minimum", "multiply"} {
		add(how, op[*model.Merge](how), "a", last, "b")
		last = how
	}
	add("subtract", op[*model.Merge]("subtract"), "b", last)
	for i, axis := range []int{1, 2, 3, -2} {
		add(fmt.Sprintf("c%d", i), op("concatenate", func(c *model.Concatenate) { c.Axis = axis }), "a", "b")
	}
	add("mixed", op[*model.Concatenate]("concatenate"), "subtract", "x")
	add("g1", op[*model.GlobalMaxPooling2D]("global_max_pooling2d"), "c1")
	add("g2", op[*model.GlobalMaxPooling2D]("global_max_pooling2d"), "c2")
	add("g3", op[*model.GlobalMaxPooling2D]("global_max_pooling2d"), "c3")
	add("g4", op[*model.GlobalMaxPooling2D]("global_max_pooling2d"), "mixed")
	add("end", op[*model.Concatenate]("concatenate"), "g1", "g2", "g3", "g4")
	z["text"] = &model.Definition{Name: "text", Inputs: []model.Input{{Name: "ids", Shape: []int{9}}}, Outputs: []string{"p"},
		Layers: []model.Layer{
			{Name: "e", From: []string{"ids"}, Op: op("embedding", func(e *model.Embedding) { e.InputDim, e.OutputDim = 4, 3 })},
			{Name: "c", From: []string{"e"}, Op: conv1d(5, 3, func(c *model.Conv1D) { c.Padding, c.Activation = "same", "relu" })},
			{Name: "d", From: []string{"e"}, Op: conv1d(5, 2, func(c *model.Conv1D) { c.Padding = "same" })},
			{Name: "both", From: []string{"c", "d"}, Op: op[*model.Concatenate]("concatenate")},
			{Name: "g", From: []string{"both"}, Op: op[*model.GlobalMaxPooling1D]("global_max_pooling1d")},
			{Name: "p", From: []string{"g"}, Op: dense(2, "softmax")},
		}}
	z["branches of sequences"] = &model.Definition{Name: "sequences", Inputs: []model.Input{{Name: "x", Shape: []int{5, 2}}}, Outputs: []string{"all", "steps"},
		Layers: []model.Layer{
			{Name: "a", From: []string{"x"}, Op: conv1d(2, 3, func(c *model.Conv1D) { c.Padding = "causal" })},
			{Name: "b", From: []string{"x"}, Op: conv1d(2, 2, func(c *model.Conv1D) { c.Padding = "same" })},
			{Name: "sum", From: []string{"a", "b"}, Op: op[*model.Merge]("add")},
			{Name: "channels", From: []string{"sum", "b"}, Op: op[*model.Concatenate]("concatenate")},
			{Name: "steps", From: []string{"a", "b"}, Op: op("concatenate", func(c *model.Concatenate) { c.Axis = 1 })},
			{Name: "all", From: []string{"channels", "x"}, Op: op[*model.Concatenate]("concatenate")},
		}}
}

// filled gives a model random values, and random inputs of some rows.
func filled(t *testing.T, d *model.Definition, rows int) (Model, *pipeline.Batch) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	n, err := model.Compile(d, model.Config{Batch: rows})
	if err != nil {
		t.Fatal(err)
	}
	m := Model{Definition: d, Params: make([]float32, len(n.Params())), State: make([]float32, len(n.State()))}
	for i := range m.Params {
		m.Params[i] = r.Float32() - 0.5
	}
	for i := range m.State { // variances are positive
		m.State[i] = 0.5 + r.Float32()
	}
	b := &pipeline.Batch{Rows: rows}
	for i, w := range n.InputWidths() {
		x := make([]float32, rows*w)
		for k := range x {
			x[k] = 4*r.Float32() - 2
			if d.Inputs[i].Name == "ids" {
				x[k] = float32(r.IntN(4))
			}
		}
		b.X = append(b.X, x)
	}
	return m, b
}

func predict(t *testing.T, m Model, b *pipeline.Batch) [][]float32 {
	t.Helper()
	n, err := model.Compile(m.Definition, model.Config{Batch: b.Rows})
	if err != nil {
		t.Fatal(err)
	}
	copy(n.Params(), m.Params)
	copy(n.State(), m.State)
	var out [][]float32
	for _, w := range n.OutputWidths() {
		out = append(out, make([]float32, b.Rows*w))
	}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every layer, in every order of channels, gives in ONNX Runtime what it gives here.
func TestModelsPredictInONNXRuntimeAsHere(t *testing.T) {
	o := kerastest.Start(t)
	for name, d := range zoo() {
		t.Run(name, func(t *testing.T) {
			m, b := filled(t, d, 3)
			f, err := Build(m)
			if err != nil {
				t.Fatal(err)
			}
			var in []kerastest.Tensor
			for i, x := range b.X {
				in = append(in, kerastest.Tensor{Name: d.Inputs[i].Name, Shape: append([]int{b.Rows}, d.Inputs[i].Shape...), Data: x})
			}
			out, err := o.RunONNX(write(t, f), in...)
			if err != nil {
				t.Fatal(err)
			}
			want := predict(t, m, b)
			shapes := d.Shapes()
			for i, w := range want {
				if out[i].Name != d.Outputs[i] || !slices.Equal(out[i].Shape[1:], shapes[d.Outputs[i]]) {
					t.Errorf("output %d is %s of shape %v", i, out[i].Name, out[i].Shape)
				}
				near(t, out[i].Name, out[i].Data, w)
			}
		})
	}
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-5*max(1, math.Abs(float64(want[i]))) {
			t.Fatalf("%s[%d]: ONNX Runtime gives %g, here it is %g", what, i, got[i], want[i])
		}
	}
}

// A layer that is added must be added here, too, or refused by name.
func TestEveryLayerIsInTheZoo(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range zoo() {
		for _, l := range d.Layers {
			seen[l.Op.Kind()] = true
		}
	}
	for _, kind := range model.Kinds() {
		if !seen[kind] {
			t.Errorf("no model of the zoo has a layer %s", kind)
		}
	}
}

func TestImagesAreTransposedAtTheBordersOnly(t *testing.T) {
	m, _ := filled(t, zoo()["cnn"], 1)
	f, err := Build(m)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(f.graph), "\x22\tTranspose"); n != 2 {
		t.Errorf("%d transpositions in a chain of three image layers, want 2", n)
	}
}

func TestAnActivationWithoutEquivalentNamesItsLayer(t *testing.T) {
	m, _ := filled(t, chain([]int{4, 3}, op("lstm", func(c *model.LSTM) { c.Units, c.Activation = 2, "exponential" })), 1)
	_, err := Build(m)
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != pipeline.Unsupported || !strings.Contains(err.Error(), "l0 (lstm)") || !strings.Contains(err.Error(), `"exponential"`) {
		t.Errorf("got %v", err)
	}
}

// The format ends at 2 GiB. The memory of this test is never touched.
func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	d := chain([]int{30_000}, dense(20_000, "linear"))
	_, err := Build(Model{Definition: d, Params: make([]float32, 30_001*20_000)})
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != pipeline.Unsupported || !strings.Contains(err.Error(), "2 GiB") {
		t.Errorf("got %v", err)
	}
	if _, err := Build(Model{Definition: d}); err == nil || !strings.Contains(err.Error(), "600020000") {
		t.Errorf("without parameters: %v", err)
	}
}

// transformed is a model behind steps that use what transformers make.
func transformed(steps []expr.Fitted, x ...string) Model {
	d := chain([]int{4}, dense(3, "softmax"))
	m := Model{Definition: d, Transform: steps, X: x, Params: make([]float32, 15)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Params {
		m.Params[i] = r.Float32() - 0.5
	}
	return m
}

func step(opName string, width int, name string, n *expr.Node) expr.Fitted {
	return expr.Fitted{Op: opName, Inputs: expr.Columns(n), Outputs: []expr.Column{{Name: name, Type: expr.Type{Kind: expr.Float32, Width: width}, Expr: n}}}
}

func steps() []expr.Fitted {
	assemble := step("assemble", 3, "pixels", expr.To(expr.Float32, expr.Call(expr.Vector, expr.C("a"), expr.C("b"), expr.C("c"))))
	assemble.Guards = []expr.Guard{{Expr: expr.Call(expr.IsValid, expr.C("a"), expr.C("b"), expr.C("c"))}}
	scale := step("min_max", 3, "scaled", expr.To(expr.Float32, expr.Call(expr.Mul, expr.Call(expr.Sub, expr.C("pixels"), expr.Vec([]float64{1, 2, 3})), expr.Num(0.25))))
	label := step("one_hot", 3, "target", expr.Hot(expr.C("label"), 3))
	all := step("assemble", 4, "features", expr.To(expr.Float32, expr.Call(expr.Vector, expr.C("scaled"), expr.Call(expr.First, expr.To(expr.Float64, expr.Index(expr.C("city"), []string{"x", "y"})), expr.Num(-1)))))
	return []expr.Fitted{assemble, scale, label, all}
}

func TestTheFileTakesRawColumns(t *testing.T) {
	o := kerastest.Start(t)
	m := transformed(steps(), "features")
	f, err := Build(m)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range f.Inputs {
		got = append(got, fmt.Sprint(in.Name, " ", in.Type, in.Shape))
	}
	if want := []string{"a float64[1]", "b float64[1]", "c float64[1]", "city string[1]"}; !slices.Equal(got, want) {
		t.Errorf("inputs %q, want %q: the label is not needed", got, want)
	}
	out, err := o.RunONNX(write(t, f),
		kerastest.Tensor{Name: "a", Shape: []int{2, 1}, Wide: []float64{5, -1}}, kerastest.Tensor{Name: "b", Shape: []int{2, 1}, Wide: []float64{0, 0.3}},
		kerastest.Tensor{Name: "c", Shape: []int{2, 1}, Wide: []float64{7, 1e3}}, kerastest.Tensor{Name: "city", Shape: []int{2, 1}, Text: []string{"y", "unknown"}})
	if err != nil {
		t.Fatal(err)
	}
	want := predict(t, m, &pipeline.Batch{Rows: 2, X: [][]float32{{1, -0.5, 1, 1, -0.5, float32((0.3 - 2) * 0.25), float32((1e3 - 3) * 0.25), -1}}})
	near(t, "l0", out[0].Data, want[0])
	if len(out) != 1 {
		t.Errorf("%d outputs", len(out))
	}
}

// What is computed for nothing is not in the file: here the replacement of a NULL that cannot come.
func TestNothingIsLeftOver(t *testing.T) {
	f, err := Build(transformed(steps(), "features"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.tensors {
		if n := strings.Count(string(f.graph), c.name); n == 0 {
			t.Errorf("constant %s of shape %v is used nowhere", c.name, c.shape)
		}
		if len(c.wide) == 1 && c.wide[0] == -1 {
			t.Error("the replacement is there")
		}
	}
}

// Rows that the job leaves out are marked.
func TestRowsThatAreLeftOutAreMarked(t *testing.T) {
	o := kerastest.Start(t)
	s := steps()
	s[0].Invalid = expr.Skip
	s[1].Filter = expr.Call(expr.Gt, expr.C("a"), expr.Num(0))
	s[2].Filter = expr.Call(expr.Gt, expr.C("label"), expr.Num(0)) // of no concern to a prediction
	f, err := Build(transformed(s, "features"))
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	out, err := o.RunONNX(write(t, f),
		kerastest.Tensor{Name: "a", Shape: []int{3, 1}, Wide: []float64{1, -1, 1}}, kerastest.Tensor{Name: "b", Shape: []int{3, 1}, Wide: []float64{0, 1, nan}},
		kerastest.Tensor{Name: "c", Shape: []int{3, 1}, Wide: []float64{7, 1, 1}}, kerastest.Tensor{Name: "city", Shape: []int{3, 1}, Text: []string{"y", "x", "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if out[1].Name != "valid" || !slices.Equal(out[1].Ints, []int64{1, 0, 0}) {
		t.Errorf("got %+v", out[1])
	}
}

func TestWhatTheTypesOfColumnsLeaveOpen(t *testing.T) {
	one := func(n *expr.Node) Model { return transformed([]expr.Fitted{step("s", 4, "features", n)}, "features") }
	vector := one(expr.To(expr.Float32, expr.Call(expr.Mul, expr.C("v"), expr.Num(2))))
	f, err := Build(vector)
	if err != nil || len(f.Inputs) != 1 || f.Inputs[0].Type != "float32" || f.Inputs[0].Shape[0] != 4 {
		t.Errorf("a vector: %+v, %v", f, err)
	}
	raw := transformed(nil, "features")
	if f, err = Build(raw); err != nil || f.Inputs[0].Type != "float32" || f.Inputs[0].Shape[0] != 4 {
		t.Errorf("a raw column: %+v, %v", f, err)
	}
	mixed := one(expr.To(expr.Float32, expr.Call(expr.Vector, expr.C("v"), expr.C("x"))))
	if _, err = Build(mixed); err == nil || !strings.Contains(err.Error(), "features") {
		t.Errorf("a vector among numbers: %v", err)
	}
	mixed.Types = map[string]expr.Type{"v": {Kind: expr.Float64, Width: 3}, "x": {Kind: expr.Int64}}
	if f, err = Build(mixed); err != nil || f.Inputs[0].Type != "float64" || f.Inputs[0].Shape[0] != 3 || f.Inputs[1].Type != "int64" {
		t.Errorf("with types: %+v, %v", f, err)
	}
	if _, err := Build(transformed(nil, "l0")); err == nil || !strings.Contains(err.Error(), `"l0"`) {
		t.Errorf("a column with the name of the output: %v", err)
	}
	lower := one(expr.To(expr.Float32, expr.Call(expr.Vector, expr.Hot(expr.Index(expr.Call(expr.Lower, expr.C("s")), []string{"a"}), 4))))
	var e *pipeline.Error
	if _, err := Build(lower); !errors.As(err, &e) || e.Kind != pipeline.Unsupported || !strings.Contains(err.Error(), "s: lower") || !strings.Contains(e.Hint, "--without-transform") {
		t.Errorf("an operator without equivalent: %v", err)
	}
}
