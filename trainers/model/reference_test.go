package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
)

// reference is a float64 forward pass over a definition with one input and one output, written as the obvious loops.
type reference struct {
	def   *Definition
	seed  uint64 // Config.Seed, for dropout masks
	train bool
	step  uint64
}

// forward gives the output for rows rows and flat parameters.
func (r reference) forward(params, x []float64, rows int) []float64 {
	width := len(x) / rows
	for i, l := range r.def.Layers {
		switch op := l.Op.(type) {
		case *Dense:
			y := make([]float64, rows*op.Units)
			w := params[:width*op.Units]
			params = params[len(w):]
			var b []float64
			if op.UseBias {
				b, params = params[:op.Units], params[op.Units:]
			}
			for n := range rows {
				for u := range op.Units {
					var sum float64
					for k := range width {
						sum += x[n*width+k] * w[k*op.Units+u]
					}
					if b != nil {
						sum += b[u]
					}
					y[n*op.Units+u] = sum
				}
			}
			x, width = y, op.Units
			x = activate(op.Activation, x, rows)
		case *Activation:
			x = activate(op.Activation, x, rows)
		case *Dropout:
			if r.train && op.Rate > 0 {
				seed := r.seed + uint64(i)<<32
				if op.Seed != nil {
					seed = uint64(*op.Seed)
				}
				x = dropped(x, op.Rate, seed, r.step)
			}
		case *Flatten:
		default:
			panic(fmt.Sprintf("the reference does not know %T", op))
		}
	}
	return x
}

func activate(name string, x []float64, rows int) []float64 {
	y := make([]float64, len(x))
	width := len(x) / rows
	for i, v := range x {
		switch name {
		case "linear":
			y[i] = v
		case "relu":
			y[i] = math.Max(v, 0)
		case "sigmoid":
			y[i] = 1 / (1 + math.Exp(-v))
		case "tanh":
			y[i] = math.Tanh(v)
		case "elu":
			y[i] = v
			if v < 0 {
				y[i] = math.Exp(v) - 1
			}
		case "softplus":
			y[i] = math.Log(1 + math.Exp(v))
		case "softmax":
			var sum float64
			for _, u := range x[i/width*width:][:width] {
				sum += math.Exp(u - v)
			}
			y[i] = 1 / sum
		default:
			panic(name)
		}
	}
	return y
}

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

// refLoss is Keras' loss: Σ weight·loss / rows.
func refLoss(name string, p, t, weight []float64, rows int) float64 {
	width := len(p) / rows
	var total float64
	for n := range rows {
		pn, tn := p[n*width:][:width], t[n*width:][:width]
		var sum, loss float64
		for _, v := range pn {
			sum += v
		}
		for j, v := range pn {
			switch name {
			case "mse", "mean_squared_error":
				loss += (v - tn[j]) * (v - tn[j]) / float64(width)
			case "categorical_crossentropy":
				loss -= tn[j] * math.Log(math.Min(math.Max(v/sum, 1e-7), 1-1e-7))
			case "binary_crossentropy":
				q := math.Min(math.Max(v, 1e-7), 1-1e-7)
				loss -= (tn[j]*math.Log(q) + (1-tn[j])*math.Log(1-q)) / float64(width)
			default:
				panic(name)
			}
		}
		total += weight[n] * loss
	}
	return total / float64(rows)
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// gradientCase is one network on one batch.
type gradientCase struct {
	layers []Op
	input  []int
	loss   string
	batch  int // compiled for
	rows   int
	weight bool
	class  map[int]float64
}

func define(t testing.TB, input []int, ops ...Op) *Definition {
	t.Helper()
	items := make([]LayerItem, len(ops))
	for i, op := range ops {
		items[i] = LayerItem{Name: op.Kind(), Decode: func(into any) error { copyOp(into.(Op), op); return nil }}
	}
	d, err := FromLayers(items, [][]int{input})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func copyOp(into, from Op) {
	switch op := from.(type) {
	case *Dense:
		*into.(*Dense) = *op
	case *Activation:
		*into.(*Activation) = *op
	case *Dropout:
		*into.(*Dropout) = *op
	}
}

func dense(units int, activation string) *Dense {
	return &Dense{Units: units, Activation: activation, UseBias: true, KernelInitializer: GlorotUniform, BiasInitializer: Zeros}
}

func gonum(t testing.TB) kernel.Set {
	t.Helper()
	k, err := kernel.Select("gonum")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func compile(t testing.TB, d *Definition, cfg Config) *Network {
	t.Helper()
	cfg.Kernel = gonum(t)
	n, err := Compile(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// randomBatch has inputs in [-1, 1] and targets that the loss takes.
func randomBatch(r *rand.Rand, n *Network, rows int, weighted bool) *pipeline.Batch {
	in, out := n.InputWidths()[0], n.OutputWidths()[0]
	b := &pipeline.Batch{Rows: rows, X: [][]float32{make([]float32, rows*in)}, Y: [][]float32{make([]float32, rows*out)}}
	for i := range b.X[0] {
		b.X[0][i] = 2*r.Float32() - 1
	}
	for i := range rows {
		row := b.Y[0][i*out:][:out]
		if r.IntN(3) == 0 { // soft targets
			for j := range row {
				row[j] = r.Float32()
			}
			continue
		}
		row[r.IntN(out)] = 1
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
	d := define(t, c.input, c.layers...)
	n := compile(t, d, Config{Batch: c.batch, Loss: c.loss, Seed: seed, ClassWeight: c.class})
	n.Init(r.Uint64())
	for i, p := range n.Params() {
		n.Params()[i] = p + 0.2*(r.Float32()-0.5) // biases too
	}
	b := randomBatch(r, n, c.rows, c.weight)
	loss, err := n.Step(b)
	if err != nil {
		t.Fatal(err)
	}
	ref := reference{def: d, seed: seed, train: true, step: 0}
	params, x, y := wide(n.Params()), wide(b.X[0]), wide(b.Y[0])
	weight := make([]float64, c.rows)
	for i := range weight {
		weight[i] = 1
		if b.Weight != nil {
			weight[i] = float64(b.Weight[i])
		}
		if w, ok := c.class[classOf(b.Y[0][i*n.outputs[0]:][:n.outputs[0]])]; ok {
			weight[i] *= w
		}
	}
	f := func() float64 { return refLoss(c.loss, ref.forward(params, x, c.rows), y, weight, c.rows) }
	if want := f(); math.Abs(float64(loss)-want) > 1e-5*(1+math.Abs(want)) {
		t.Fatalf("loss %g, want %g", loss, want)
	}
	for i, v := range ref.forward(params, x, c.rows) {
		if got := float64(n.Output(0)[i]); math.Abs(got-v) > 1e-5*(1+math.Abs(v)) {
			t.Fatalf("output[%d] = %g, want %g", i, got, v)
		}
	}
	scale := 0.0
	for _, g := range n.Grads() {
		scale = max(scale, math.Abs(float64(g)))
	}
	const h = 1e-7
	for i := range params {
		old := params[i]
		params[i] = old + h
		up := f()
		params[i] = old - h
		down := f()
		params[i] = old
		want, got := (up-down)/(2*h), float64(n.Grads()[i])
		if d := math.Abs(got - want); !(d <= 1e-6+2e-5*(scale+math.Abs(want))) {
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
