package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"dkpipe/trainers/kernel"
)

// product32 is one matrix product of a training step: op(A) is m×k, op(B) is k×n.
type product32 struct {
	name           string
	transA, transB bool
	m, n, k        int
	a, b, c        []float32
}

func newProduct(name string, transA, transB bool, m, n, k int) *product32 {
	r := rand.New(rand.NewPCG(1, 2))
	vector := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = r.Float32() - 0.5
		}
		return x
	}
	return &product32{name: name, transA: transA, transB: transB, m: m, n: n, k: k, a: vector(m * k), b: vector(k * n), c: vector(m * n)}
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

// stepProducts lists the bare products of a step of dense layers: forward, weight gradients, and input gradients of all
// layers but the first.
func stepProducts(batch int, widths ...int) []*product32 {
	var all []*product32
	for i := 0; i+1 < len(widths); i++ {
		all = append(all, newProduct(fmt.Sprintf("y%d = x w", i), false, false, batch, widths[i+1], widths[i]))
	}
	for i := len(widths) - 2; i >= 0; i-- {
		all = append(all, newProduct(fmt.Sprintf("dw%d = xT dy", i), true, false, widths[i], widths[i+1], batch))
		if i > 0 {
			all = append(all, newProduct(fmt.Sprintf("dx%d = dy wT", i), false, true, batch, widths[i], widths[i+1]))
		}
	}
	return all
}

func (a *app) benchKernel(ctx context.Context, rounds int) ([]benchCase, error) {
	set, err := kernel.Select(a.kernel("auto"))
	if err != nil {
		return nil, err
	}
	var contests []contest
	for _, batch := range []int{32, 128} {
		for _, p := range stepProducts(batch, 784, 500, 500, 10) {
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
