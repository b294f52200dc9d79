package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// benchWidths are the layers of the network that step and kernel are measured on: 784-500-500-10.
func benchWidths() []int { return []int{784, 500, 500, 10} }

// product32 is one matrix product of a training step: op(A) is m×k, op(B) is k×n.
type product32 struct {
	name           string
	transA, transB bool
	m, n, k        int
	a, b, c        []float32
}

func (p *product32) run(set kernel.Set) {
	lda, ldb := p.k, p.n
	if p.transA {
		lda = p.m
	}
	if p.transB {
		ldb = p.k
	}
	set.Gemm(p.transA, p.transB, p.m, p.n, p.k, 1, p.a, lda, p.b, ldb, 0, p.c, p.n)
}

func (p *product32) flops() float64 { return 2 * float64(p.m) * float64(p.n) * float64(p.k) }

// stepProducts lists the bare products of a step: forward, weight gradients, and input gradients of all layers but the
// first.
func stepProducts(batch int) []*product32 {
	r := rand.New(rand.NewPCG(1, 2))
	vector := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = r.Float32() - 0.5
		}
		return x
	}
	w := benchWidths()
	var all []*product32
	add := func(name string, ta, tb bool, m, n, k int) {
		all = append(all, &product32{name: name, transA: ta, transB: tb, m: m, n: n, k: k, a: vector(m * k), b: vector(k * n), c: vector(m * n)})
	}
	for i := 0; i+1 < len(w); i++ {
		add(fmt.Sprintf("y%d = x w", i), false, false, batch, w[i+1], w[i])
	}
	for i := len(w) - 2; i >= 0; i-- {
		add(fmt.Sprintf("dw%d = xT dy", i), true, false, w[i], w[i+1], batch)
		if i > 0 {
			add(fmt.Sprintf("dx%d = dy wT", i), false, true, batch, w[i], w[i+1])
		}
	}
	return all
}

func benchStep(ctx context.Context, rounds int) ([]benchCase, error) {
	set, err := kernel.Select("auto")
	if err != nil {
		return nil, err
	}
	var contests []contest
	for _, batch := range []int{32, 128} {
		net, opt, err := benchNetwork(set, batch)
		if err != nil {
			return nil, err
		}
		data := benchBatch(batch)
		products := stepProducts(batch)
		contests = append(contests, contest{
			name: "mlp/batch=" + strconv.Itoa(batch), unit: "samples/s", amount: float64(batch),
			work: func() error {
				if _, err := net.Step(data); err != nil {
					return err
				}
				opt.Apply(net.Params(), net.Grads())
				return nil
			},
			limit: func() error {
				for _, p := range products {
					p.run(set)
				}
				return nil
			},
		})
	}
	return compete(ctx, rounds, contests)
}

// benchNetwork is the network of benchWidths with plain SGD.
func benchNetwork(set kernel.Set, batch int) (*model.Network, optim.Optimizer, error) {
	w := benchWidths()
	def := &model.Definition{Name: "bench", Inputs: []model.Input{{Name: "x", Shape: []int{w[0]}}}}
	from := "x"
	for i, units := range w[1:] {
		op, err := model.NewOp("dense")
		if err != nil {
			return nil, nil, err
		}
		dense := op.(*model.Dense)
		dense.Units, dense.Activation = units, "relu"
		if i == len(w)-2 {
			dense.Activation = "softmax"
		}
		name := "dense_" + strconv.Itoa(i)
		def.Layers = append(def.Layers, model.Layer{Name: name, From: []string{from}, Op: dense})
		from = name
	}
	def.Outputs = []string{from}
	net, err := model.Compile(def, model.Config{Kernel: set, Batch: batch, Loss: "categorical_crossentropy"})
	if err != nil {
		return nil, nil, err
	}
	net.Init(1)
	opt, err := optim.New("sgd", func(any) error { return nil }, len(net.Params()))
	return net, opt, err
}

func benchBatch(rows int) *pipeline.Batch {
	r := rand.New(rand.NewPCG(3, 4))
	w := benchWidths()
	x, y := make([]float32, rows*w[0]), make([]float32, rows*w[len(w)-1])
	for i := range x {
		x[i] = r.Float32()
	}
	for i := range rows {
		y[i*w[len(w)-1]+r.IntN(w[len(w)-1])] = 1
	}
	return &pipeline.Batch{Rows: rows, X: [][]float32{x}, Y: [][]float32{y}}
}

func benchKernel(ctx context.Context, rounds int) ([]benchCase, error) {
	set, err := kernel.Select("auto")
	if err != nil {
		return nil, err
	}
	var contests []contest
	for _, batch := range []int{32, 128} {
		for _, p := range stepProducts(batch) {
			contests = append(contests, contest{
				name: fmt.Sprintf("%s/%s/%dx%dx%d", set.Name(), p.name, p.m, p.n, p.k), unit: "GFLOP/s", amount: p.flops() / 1e9,
				work:  func() error { p.run(set); return nil },
				limit: func() error { p.gonum(); return nil },
			})
		}
	}
	return compete(ctx, rounds, contests)
}

// gonum runs the product with gonum's own entry point.
func (p *product32) gonum() {
	general := func(rows, cols int, data []float32) blas32.General {
		return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
	}
	ta, tb := blas.NoTrans, blas.NoTrans
	a, b := general(p.m, p.k, p.a), general(p.k, p.n, p.b)
	if p.transA {
		ta, a = blas.Trans, general(p.k, p.m, p.a)
	}
	if p.transB {
		tb, b = blas.Trans, general(p.n, p.k, p.b)
	}
	blas32.Gemm(ta, tb, 1, a, b, 0, general(p.m, p.n, p.c))
}
