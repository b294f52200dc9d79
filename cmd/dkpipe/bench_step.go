package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// benchNet is a network that steps are measured on.
type benchNet struct {
	name     string
	input    []int
	layers   []model.Op
	momentum float64
	products func(batch int) []*product32 // the bare products of a step
}

// benchNets lists a perceptron of two equal hidden layers, and the perceptron and the convolutional network that other
// systems were measured on too (trainers/BENCHMARKS.md).
func benchNets() []benchNet {
	return []benchNet{
		{"mlp 784-500-500-10", []int{784}, perceptron(500, 500, 10), 0, func(b int) []*product32 { return stepProducts(b, 784, 500, 500, 10) }},
		{"mlp 784-500-300-10", []int{784}, perceptron(500, 300, 10), 0.9, func(b int) []*product32 { return stepProducts(b, 784, 500, 300, 10) }},
		{"cnn", []int{28, 28, 1}, convolutional(), 0.9, convolutionalProducts},
	}
}

// layer gives a layer with its defaults, changed by edit.
func layer[T model.Op](kind string, edit func(T)) model.Op {
	op, err := model.NewOp(kind)
	if err != nil {
		panic(err) // the names stand below
	}
	if edit != nil {
		edit(op.(T))
	}
	return op
}

func perceptron(units ...int) []model.Op {
	var ops []model.Op
	for i, u := range units {
		ops = append(ops, layer("dense", func(d *model.Dense) {
			d.Units, d.Activation = u, "relu"
			if i == len(units)-1 {
				d.Activation = "softmax"
			}
		}))
	}
	return ops
}

// convolutional is two convolutions of 32 filters of 3 × 3, a max-pooling, and dense layers of 225 and 10 units.
func convolutional() []model.Op {
	conv := layer("conv2d", func(c *model.Conv2D) { c.Filters, c.KernelSize, c.Activation = 32, model.Pair{3, 3}, "relu" })
	ops := []model.Op{conv, conv, layer[*model.MaxPooling2D]("max_pooling2d", nil), layer[*model.Flatten]("flatten", nil)}
	return append(ops, perceptron(225, 10)...)
}

// convolutionalProducts has the products of the convolutions image by image: their operands, windows laid out as
// rows, would not fit any cache for a whole batch.
func convolutionalProducts(batch int) []*product32 {
	one := []*product32{
		newProduct("conv1 y", false, false, 26*26, 32, 9), newProduct("conv1 dw", true, false, 9, 32, 26*26),
		newProduct("conv2 y", false, false, 24*24, 32, 288), newProduct("conv2 dw", true, false, 288, 32, 24*24),
		newProduct("conv2 dx", false, true, 24*24, 288, 32),
	}
	var all []*product32
	for range batch {
		all = append(all, one...)
	}
	dense := stepProducts(batch, 4608, 225, 10)
	return append(append(all, dense...), newProduct("dx0 = dy wT", false, true, batch, 4608, 225))
}

// definition makes a chain of the network's layers.
func (b benchNet) definition() *model.Definition {
	def := &model.Definition{Name: b.name, Inputs: []model.Input{{Name: "x", Shape: b.input}}}
	from := "x"
	for i, op := range b.layers {
		name := fmt.Sprintf("%s_%d", op.Kind(), i)
		def.Layers = append(def.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
		from = name
	}
	def.Outputs = []string{from}
	return def
}

// stepper is a network with its optimizer and a batch.
type stepper struct {
	net    *model.Network
	opt    optim.Piecewise
	update func(at int, grads []float32)
	data   *pipeline.Batch
}

func (b benchNet) stepper(set kernel.Set, batch int) (*stepper, error) {
	net, err := model.Compile(b.definition(), model.Config{Kernel: set, Batch: batch, Loss: "categorical_crossentropy"})
	if err != nil {
		return nil, err
	}
	net.Init(1)
	opt, err := optim.New("sgd", func(into any) error {
		into.(*optim.SGD).Momentum = b.momentum
		return nil
	}, len(net.Params()))
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(3, 4))
	in, out := net.InputWidths()[0], net.OutputWidths()[0]
	x, y := make([]float32, batch*in), make([]float32, batch*out)
	for i := range x {
		x[i] = r.Float32()
	}
	for i := range batch {
		y[i*out+r.IntN(out)] = 1
	}
	pieces, params := optim.Pieces(opt), net.Params()
	update := func(at int, grads []float32) { pieces.Update(at, params[at:at+len(grads)], grads) }
	return &stepper{net, pieces, update, &pipeline.Batch{Rows: batch, X: [][]float32{x}, Y: [][]float32{y}}}, nil
}

// step is a step as a worker takes it.
func (s *stepper) step() error {
	s.opt.Begin()
	_, err := s.net.Descend(s.data, s.opt.Lazy(), s.update)
	return err
}

func (s *stepper) steps(n int) error {
	for range n {
		if err := s.step(); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) benchStep(ctx context.Context, rounds int) ([]benchCase, error) {
	set, err := kernel.Select(a.kernel("auto"))
	if err != nil {
		return nil, err
	}
	var contests []contest
	for _, b := range benchNets() {
		for _, batch := range []int{32, 128} {
			first, err := b.stepper(set, batch)
			if err != nil {
				return nil, err
			}
			second, err := b.stepper(set, batch)
			if err != nil {
				return nil, err
			}
			products := b.products(batch)
			contests = append(contests, contest{
				name: b.name + "/batch " + strconv.Itoa(batch), unit: "samples/s", amount: float64(batch),
				work: first.step,
				limit: func() error {
					for _, p := range products {
						p.run(set)
					}
					return nil
				},
			}, twoReplicas(b, batch, first, second))
		}
	}
	return compete(ctx, rounds, contests)
}

// twoReplicas runs two replicas at the same time against one.
func twoReplicas(b benchNet, batch int, first, second *stepper) contest {
	const steps = 16 // starting a goroutine must not count
	return contest{
		name: b.name + "/batch " + strconv.Itoa(batch) + "/two replicas to one", unit: "samples/s", amount: float64(2 * steps * batch),
		work: func() error {
			var wg sync.WaitGroup
			var other error
			wg.Go(func() { other = second.steps(steps) })
			err := first.steps(steps)
			wg.Wait()
			if err == nil {
				err = other
			}
			return err
		},
		limit: func() error { return first.steps(2 * steps) },
	}
}
