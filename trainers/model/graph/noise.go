package graph

import "math/rand/v2"

// Noise adds numbers from a normal distribution. They depend on seed and on the step number of the run only. Leave it
// out of an inference graph.
func (b *Builder) Noise(x Node, dev float64, seed uint64) (Node, error) {
	if dev == 0 {
		return x, nil
	}
	o := &noiseOp{meta: meta{kind: "gaussian noise"}, width: x.width, seed: seed, dev: dev}
	o.normal = rand.New(&o.pcg)
	noise, err := b.matrix(o, x.width, x.n)
	if err != nil {
		return Node{}, err
	}
	return b.Add(x, noise)
}

// noiseOp draws the noise of a step. Its input gives the place in the graph only.
type noiseOp struct {
	meta
	width  int
	seed   uint64
	dev    float64
	pcg    rand.PCG
	normal *rand.Rand
}

func (o *noiseOp) run(f *frame, _ [][]float32, out []float32) {
	o.pcg.Seed(o.seed, f.step)
	y := out[:f.rows*o.width]
	for i := range y {
		y[i] = float32(o.dev * o.normal.NormFloat64())
	}
}
