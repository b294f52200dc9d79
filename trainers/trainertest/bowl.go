package trainertest

import (
	"math"
	"math/rand/v2"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// Bowl is the quadratic loss ½ Σ h_i (x_i - t_i)² in as many parameters as a row has targets: its curvatures h go from 1 to
// the condition number, evenly by ratio. The mean over rows has its least value where x is the mean of the targets.
type Bowl struct {
	h, params, grads []float32
}

var _ model.Replica = (*Bowl)(nil)

// NewBowl makes a bowl with all parameters at 0.
func NewBowl(params int, condition float64) *Bowl {
	b := &Bowl{h: make([]float32, params), params: make([]float32, params), grads: make([]float32, params)}
	for i := range b.h {
		b.h[i] = float32(math.Pow(condition, float64(i)/float64(max(1, params-1))))
	}
	return b
}

// Targets makes rows for a bowl: noisy targets with these rows' mean as the minimum, which is given beside them.
func Targets(rows, params int, noise float64, seed uint64) (feed *Feed, minimum []float32) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	f := &Feed{Inputs: 1, Outputs: params, X: make([]float32, rows), Y: make([]float32, rows*params), Seed: seed}
	minimum = make([]float32, params)
	for k := range minimum {
		at, sum := rnd.NormFloat64(), 0.0
		for r := range rows {
			v := float32(at + noise*rnd.NormFloat64())
			f.Y[r*params+k] = v
			sum += float64(v)
		}
		minimum[k] = float32(sum / float64(rows))
	}
	return f, minimum
}

// Params implements model.Replica.
func (b *Bowl) Params() []float32 { return b.params }

// Grads implements model.Replica.
func (b *Bowl) Grads() []float32 { return b.grads }

// State implements model.Replica.
func (b *Bowl) State() []float32 { return nil }

// Step implements model.Replica.
func (b *Bowl) Step(batch *pipeline.Batch) (float32, error) {
	n := len(b.params)
	clear(b.grads)
	scale := 1 / float32(batch.Rows)
	var loss float32
	for r := range batch.Rows {
		for k, t := range batch.Y[0][r*n : (r+1)*n] {
			d := b.params[k] - t
			loss += b.h[k] * d * d / 2 * scale
			b.grads[k] += b.h[k] * d * scale
		}
	}
	return loss, nil
}

// Predict implements model.Replica: it gives the parameters for every row.
func (b *Bowl) Predict(batch *pipeline.Batch, out [][]float32) error {
	for r := range batch.Rows {
		copy(out[0][r*len(b.params):], b.params)
	}
	return nil
}

// Distance is how far x is from the minimum, by the curvatures: the square root of twice the loss above the least.
func (b *Bowl) Distance(x, minimum []float32) float64 {
	var sum float64
	for i, h := range b.h {
		d := float64(x[i] - minimum[i])
		sum += float64(h) * d * d
	}
	return math.Sqrt(sum)
}
