package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// reference is a float64 forward pass over a definition, written as the obvious loops.
type reference struct {
	def    *Definition
	shapes map[string][]int
	vars   []Variable
	seed   uint64 // Config.Seed, for dropout masks
	train  bool
	step   uint64
	params []float64
	state  []float64
}

func newReference(t testing.TB, n *Network, seed uint64, train bool) *reference {
	t.Helper()
	vars, err := n.def.Variables()
	if err != nil {
		t.Fatal(err)
	}
	return &reference{def: n.def, shapes: n.def.Shapes(), vars: vars, seed: seed, train: train, params: wide(n.Params()), state: wide(n.State())}
}

// refLayer is what the reference of one layer gets.
type refLayer struct {
	*reference
	index int
	rows  int
	in    [][]float64
	shape [][]int // of a row of the inputs
	v     map[string][]float64
}

// forward gives the outputs for rows rows.
func (r *reference) forward(xs [][]float64, rows int) [][]float64 {
	values := map[string][]float64{}
	for i, in := range r.def.Inputs {
		values[in.Name] = xs[i]
	}
	for i, l := range r.def.Layers {
		rl := refLayer{reference: r, index: i, rows: rows, v: map[string][]float64{}}
		for _, name := range l.From {
			rl.in = append(rl.in, values[name])
			rl.shape = append(rl.shape, r.shapes[name])
		}
		for _, v := range r.vars {
			if v.Layer != i {
				continue
			}
			from := r.params
			if v.State {
				from = r.state
			}
			rl.v[v.Name[len(l.Name)+1:]] = from[v.Off : v.Off+v.Len]
		}
		values[l.Name] = rl.run(l.Op)
	}
	var out [][]float64
	for _, name := range r.def.Outputs {
		out = append(out, values[name])
	}
	return out
}

// run computes one layer.
func (r refLayer) run(op Op) []float64 {
	switch op := op.(type) {
	case *Dense:
		return r.dense(op)
	case *Activation:
		return activate(op.Activation, r.in[0], lastOf(r.shape[0]))
	case *Dropout:
		if r.train && op.Rate > 0 {
			seed := r.seed + uint64(r.index)<<32
			if op.Seed != nil {
				seed = uint64(*op.Seed)
			}
			return dropped(r.in[0], op.Rate, seed, r.step)
		}
		return r.in[0]
	case *Flatten, *Reshape:
		return r.in[0]
	}
	if y := r.more(op); y != nil {
		return y
	}
	panic(fmt.Sprintf("the reference does not know %T", op))
}

func (r refLayer) dense(op *Dense) []float64 {
	in := lastOf(r.shape[0])
	y := product(r.in[0], r.v["kernel"], in, op.Units)
	if op.UseBias {
		for i := range y {
			y[i] += r.v["bias"][i%op.Units]
		}
	}
	return activate(op.Activation, y, op.Units)
}

// product is x·w for rows of in floats.
func product(x, w []float64, in, out int) []float64 {
	rows := len(x) / in
	y := make([]float64, rows*out)
	for n := range rows {
		for u := range out {
			var sum float64
			for k := range in {
				sum += x[n*in+k] * w[k*out+u]
			}
			y[n*out+u] = sum
		}
	}
	return y
}

// activate applies a function to vectors of last numbers.
func activate(name string, x []float64, last int) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		if name == "softmax" {
			var sum float64
			for _, u := range x[i/last*last:][:last] {
				sum += math.Exp(u - v)
			}
			y[i] = 1 / sum
			continue
		}
		y[i] = refFunction(name, v)
	}
	return y
}

func refFunction(name string, v float64) float64 {
	logistic := 1 / (1 + math.Exp(-v))
	below := func(low, high float64) float64 {
		if v < 0 {
			return low
		}
		return high
	}
	switch name {
	case "linear":
		return v
	case "relu":
		return math.Max(v, 0)
	case "relu6":
		return math.Min(math.Max(v, 0), 6)
	case "leaky_relu":
		return below(0.2*v, v)
	case "elu":
		return below(math.Exp(v)-1, v)
	case "selu":
		return below(seluScale*seluAlpha*(math.Exp(v)-1), seluScale*v)
	case "gelu":
		return v / 2 * (1 + math.Erf(v/math.Sqrt2))
	case "gelu_tanh":
		return v / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
	case "softplus":
		return math.Log(1 + math.Exp(v))
	case "softsign":
		return v / (1 + math.Abs(v))
	case "tanh":
		return math.Tanh(v)
	case "sigmoid":
		return logistic
	case "hard_sigmoid":
		return math.Min(math.Max(v+3, 0), 6) / 6
	case "hard_sigmoid_keras2":
		return math.Min(math.Max(0.2*v+0.5, 0), 1)
	case "silu":
		return v * logistic
	case "hard_silu":
		return v * math.Min(math.Max(v+3, 0), 6) / 6
	case "exponential":
		return math.Exp(v)
	case "mish":
		return v * math.Tanh(math.Log(1+math.Exp(v)))
	}
	panic(name)
}

const (
	seluAlpha = 1.67326324235437728481704
	seluScale = 1.05070098735548049341933
)

// dropped draws the mask as documented: PCG seeded by (seed, step), two draws of 32 bits a number, low half first.
func dropped(x []float64, rate float64, seed, step uint64) []float64 {
	y := make([]float64, len(x))
	r := rand.NewPCG(seed, step)
	var bits uint64
	for i, v := range x {
		if i%2 == 0 {
			bits = r.Uint64()
		} else {
			bits >>= 32
		}
		if float64(uint32(bits)) >= math.Floor(rate*(1<<32)) {
			y[i] = v / (1 - rate)
		}
	}
	return y
}

// refPenalty is what the regularizers add.
func (r *reference) refPenalty() float64 {
	var sum float64
	for i, l := range r.def.Layers {
		in, _ := inputShapes(r.shapes, l)
		vars := l.Op.variables(in)
		for _, v := range r.vars {
			if v.Layer != i {
				continue
			}
			reg := vars[0].reg
			vars = vars[1:]
			if v.State {
				continue
			}
			for _, w := range r.params[v.Off : v.Off+v.Len] {
				sum += reg.L1*math.Abs(w) + reg.L2*w*w
			}
		}
	}
	return sum
}

// refLoss is Keras' loss of one output: Σ weight·loss / rows.
func refLoss(l Loss, p, t, weight []float64, rows, last int) float64 {
	lead := len(p) / rows / last
	target := len(t) / rows / lead
	var total float64
	for n := range rows {
		var row float64
		for k := n * lead; k < (n+1)*lead; k++ {
			row += refVector(l, p[k*last:][:last], t[k*target:][:target]) / float64(lead)
		}
		total += weight[n] * row
	}
	return total / float64(rows)
}

// refVector is the loss of one vector.
func refVector(l Loss, p, t []float64) float64 {
	name := CanonicalLoss(l.Name)
	p, t = refTargets(l, name, p, t)
	n := float64(len(p))
	const eps = 1e-7
	unit := func(v float64) float64 { return math.Min(math.Max(v, eps), 1-eps) }
	var loss, sum, pos, np, nt float64
	neg := math.Inf(-1)
	for j, v := range p {
		sum += v
		np += v * v
		nt += t[j] * t[j]
	}
	for j, v := range p {
		e := v - t[j]
		signed := t[j]
		if signed == 0 {
			signed = -1
		}
		switch name {
		case "mean_squared_error":
			loss += e * e / n
		case "mean_absolute_error":
			loss += math.Abs(e) / n
		case "mean_absolute_percentage_error":
			loss += 100 * math.Abs(e) / math.Max(math.Abs(t[j]), eps) / n
		case "mean_squared_logarithmic_error":
			d := math.Log(math.Max(v, eps)+1) - math.Log(math.Max(t[j], eps)+1)
			loss += d * d / n
		case "huber":
			delta := l.Delta
			if delta == 0 {
				delta = 1
			}
			if a := math.Abs(e); a > delta {
				loss += (delta*a - delta*delta/2) / n
			} else {
				loss += e * e / 2 / n
			}
		case "log_cosh":
			loss += math.Log(math.Cosh(e)) / n
		case "hinge":
			loss += math.Max(1-signed*v, 0) / n
		case "squared_hinge":
			loss += math.Pow(math.Max(1-signed*v, 0), 2) / n
		case "poisson":
			loss += (v - t[j]*math.Log(v+eps)) / n
		case "categorical_crossentropy", "sparse_categorical_crossentropy":
			loss -= t[j] * math.Log(unit(v/sum))
		case "binary_crossentropy":
			loss -= (t[j]*math.Log(unit(v)) + (1-t[j])*math.Log(1-unit(v))) / n
		case "kl_divergence":
			a, b := math.Min(math.Max(t[j], eps), 1), math.Min(math.Max(v, eps), 1)
			loss += a * math.Log(a/b)
		case "cosine_similarity":
			loss -= v * t[j] / math.Max(math.Sqrt(np), eps) / math.Max(math.Sqrt(nt), eps)
		case "categorical_hinge":
			pos += t[j] * v
			neg = math.Max(neg, (1-t[j])*v)
		default:
			panic(name)
		}
	}
	if name == "categorical_hinge" {
		return math.Max(neg-pos+1, 0)
	}
	return loss
}

// refTargets spreads the index of a class, smooths targets and makes probabilities of logits.
func refTargets(l Loss, name string, p, t []float64) ([]float64, []float64) {
	if name == "sparse_categorical_crossentropy" {
		hot := make([]float64, len(p))
		hot[int(t[0])] = 1
		t = hot
	}
	if l.LabelSmoothing > 0 {
		rest := l.LabelSmoothing / float64(len(t))
		if name == "binary_crossentropy" {
			rest = l.LabelSmoothing / 2
		}
		smooth := make([]float64, len(t))
		for j, v := range t {
			smooth[j] = v*(1-l.LabelSmoothing) + rest
		}
		t = smooth
	}
	if l.FromLogits {
		squash := "softmax"
		if name == "binary_crossentropy" {
			squash = "sigmoid"
		}
		p = activate(squash, p, len(p))
	}
	return p, t
}

// refClass is the arg-max, or of a single number the nearest class.
func refClass(t []float32) int {
	if len(t) == 1 {
		return int(math.Round(float64(t[0])))
	}
	best := 0
	for j, v := range t {
		if v > t[best] {
			best = j
		}
	}
	return best
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func wideAll(xs [][]float32) [][]float64 {
	var ys [][]float64
	for _, x := range xs {
		ys = append(ys, wide(x))
	}
	return ys
}

// gradientCase is one network on one batch.
type gradientCase struct {
	layers []Op        // in a chain, or
	def    *Definition // any
	input  []int
	ids    []int // of every input: 0 for numbers, else so many ids
	loss   string
	losses []Loss // instead of loss
	batch  int    // compiled for
	rows   int
	weight bool
	class  map[int]float64
	kernel string // default gonum
	loose  float64
}

// define makes a chain of copies of ops.
func define(t testing.TB, input []int, ops ...Op) *Definition {
	t.Helper()
	items := make([]LayerItem, len(ops))
	for i, op := range ops {
		items[i] = LayerItem{Name: op.Kind(), Decode: func(into any) error { copyOp(into, op); return nil }}
	}
	d, err := FromLayers(items, []Input{{Shape: input}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func dense(units int, activation string) *Dense {
	return &Dense{Units: units, Activation: activation, UseBias: true, KernelInitializer: GlorotUniform, BiasInitializer: Zeros}
}

func gonum(t testing.TB) kernel.Set { return kernels(t, "gonum") }

func kernels(t testing.TB, name string) kernel.Set {
	t.Helper()
	k, err := kernel.Select(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func compile(t testing.TB, d *Definition, cfg Config) *Network {
	t.Helper()
	if cfg.Kernel == nil {
		cfg.Kernel = gonum(t)
	}
	n, err := Compile(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// randomBatch has inputs in [-1, 1], or ids, and targets that the losses take.
func randomBatch(r *rand.Rand, n *Network, rows int, weighted bool, ids ...int) *pipeline.Batch {
	b := &pipeline.Batch{Rows: rows}
	for k, width := range n.InputWidths() {
		x := make([]float32, rows*width)
		for i := range x {
			x[i] = 2*r.Float32() - 1
			if k < len(ids) && ids[k] > 0 {
				x[i] = float32(r.IntN(ids[k]))
			}
		}
		b.X = append(b.X, x)
	}
	targets := n.TargetWidths()
	if targets == nil {
		targets = n.OutputWidths()
	}
	for k, width := range targets {
		last := lastOf(n.shapes[n.def.Outputs[k]])
		y := make([]float32, rows*width)
		if width < n.OutputWidths()[k] { // indices of classes
			for i := range y {
				y[i] = float32(r.IntN(last))
			}
			b.Y = append(b.Y, y)
			continue
		}
		for i := range len(y) / last {
			vector := y[i*last:][:last]
			if r.IntN(3) == 0 { // soft targets
				for j := range vector {
					vector[j] = r.Float32()
				}
				continue
			}
			vector[r.IntN(last)] = 1
		}
		b.Y = append(b.Y, y)
	}
	if weighted {
		b.Weight = make([]float32, rows)
		for i := range b.Weight {
			b.Weight[i] = float32(r.IntN(4)) / 2
		}
	}
	return b
}

// checkGradient compares loss, outputs and every gradient of one step with the float64 reference.
func checkGradient(t *testing.T, r *rand.Rand, c gradientCase) {
	t.Helper()
	const seed = 99
	d := c.def
	if d == nil {
		d = define(t, c.input, c.layers...)
	}
	if c.kernel == "" {
		c.kernel = "gonum"
	}
	n := compile(t, d, Config{Kernel: kernels(t, c.kernel), Batch: c.batch, Loss: c.loss, Losses: c.losses, Seed: seed, ClassWeight: c.class})
	n.Init(r.Uint64())
	for i, p := range n.Params() {
		n.Params()[i] = p + 0.2*(r.Float32()-0.5) // biases too
	}
	b := randomBatch(r, n, c.rows, c.weight, c.ids...)
	ref := newReference(t, n, seed, true)
	state := slices.Clone(n.State())
	loss, err := n.Step(b)
	if err != nil {
		t.Fatal(err)
	}
	checkDescend(t, n, b, loss, state)
	x, y := wideAll(b.X), wideAll(b.Y)
	weight := make([]float64, c.rows)
	for i := range weight {
		weight[i] = 1
		if b.Weight != nil {
			weight[i] = float64(b.Weight[i])
		}
		if w, ok := c.class[refClass(b.Y[0][i*n.targets[0]:][:n.targets[0]])]; ok {
			weight[i] *= w
		}
	}
	f := func() float64 {
		sum := ref.refPenalty()
		for k, out := range ref.forward(x, c.rows) {
			w := n.losses[k].Weight
			if w == 0 {
				w = 1
			}
			sum += w * refLoss(n.losses[k], out, y[k], weight, c.rows, lastOf(n.shapes[d.Outputs[k]]))
		}
		return sum
	}
	loose := max(c.loose, 1)
	if want := f(); math.Abs(float64(loss)-want) > loose*1e-5*(1+math.Abs(want)) {
		t.Fatalf("loss %g, want %g", loss, want)
	}
	for k, out := range ref.forward(x, c.rows) {
		for i, v := range out {
			if got := float64(n.Output(k)[i]); math.Abs(got-v) > loose*1e-5*(1+math.Abs(v)) {
				t.Fatalf("output %d [%d] = %g, want %g", k, i, got, v)
			}
		}
	}
	checkSlopes(t, n, ref, f, loose)
}

// checkSlopes compares every gradient with a finite difference of f by the parameters of ref.
func checkSlopes(t *testing.T, n *Network, ref *reference, f func() float64, loose float64) {
	t.Helper()
	scale := 0.0
	for _, g := range n.Grads() {
		scale = max(scale, math.Abs(float64(g)))
	}
	const h = 1e-7
	for i := range ref.params {
		old := ref.params[i]
		ref.params[i] = old + h
		up := f()
		ref.params[i] = old - h
		down := f()
		ref.params[i] = old
		want, got := (up-down)/(2*h), float64(n.Grads()[i])
		if d := math.Abs(got - want); !(d <= loose*(1e-6+2e-5*(scale+math.Abs(want)))) {
			t.Fatalf("gradient[%d] (%s) = %g, finite difference %g", i, nameAt(n, i), got, want)
		}
	}
}

func nameAt(n *Network, i int) string {
	for _, p := range n.Layout() {
		if i < p.Off+p.Len {
			return p.Name
		}
	}
	return "?"
}
