package optim

import (
	"math"

	"dkpipe/trainers/kernel"
)

// Common are the fields that every optimizer has. A step is: clip the gradient, take weight decay off the parameters,
// then the algorithm's rule.
type Common struct {
	LearningRate Rate `yaml:"learning_rate"` // a number above 0, or a schedule
	// WeightDecay is decoupled from the gradient (Loshchilov and Hutter 2019, algorithm 2): p -= learning_rate *
	// weight_decay * p, for every parameter. Default 0, of adamw 0.004.
	WeightDecay float64 `yaml:"weight_decay"`
	// At most one of the next three; 0, the default, is none.
	ClipNorm       float64 `yaml:"clipnorm"`        // largest 2-norm of each tensor's gradient
	GlobalClipNorm float64 `yaml:"global_clipnorm"` // largest 2-norm of the whole gradient (Pascanu et al. 2013, algorithm 1)
	ClipValue      float64 `yaml:"clipvalue"`       // largest magnitude of each element

	kernel kernel.Set // nil: the fastest of this machine
}

func (c *Common) shared() *Common { return c }

func (c *Common) check() error {
	if err := c.LearningRate.check(); err != nil {
		return err
	}
	err := checkBounds(atLeastZero("weight_decay", c.WeightDecay), atLeastZero("clipnorm", c.ClipNorm),
		atLeastZero("global_clipnorm", c.GlobalClipNorm), atLeastZero("clipvalue", c.ClipValue))
	if err != nil {
		return err
	}
	if c.ClipNorm > 0 && c.ClipValue > 0 || c.ClipNorm > 0 && c.GlobalClipNorm > 0 || c.ClipValue > 0 && c.GlobalClipNorm > 0 {
		return &Error{Message: "more than one of clipnorm, global_clipnorm and clipvalue is set", Hint: "keep one"}
	}
	return nil
}

func (c *Common) clips() bool { return c.ClipNorm > 0 || c.GlobalClipNorm > 0 || c.ClipValue > 0 }

// clipper says what happens to the gradient of one tensor: it is scaled, or its elements are cut off.
type clipper struct {
	scale float32
	limit float32 // 0: none
}

func (c *Common) clipper(grad []float32) clipper {
	if c.ClipValue > 0 {
		return clipper{scale: 1, limit: float32(c.ClipValue)}
	}
	most := max(c.ClipNorm, c.GlobalClipNorm) // at most one is set
	if most == 0 {
		return clipper{scale: 1}
	}
	norm := math.Sqrt(sumOfSquares(grad))
	if norm <= most {
		return clipper{scale: 1}
	}
	if c.GlobalClipNorm > 0 && math.IsInf(norm, 1) {
		norm = math.NaN() // as Keras: a gradient that overflowed must not look like one that is 0
	}
	return clipper{scale: float32(most / norm)}
}

// clip gives g clipped; the result is g itself when nothing is to do, else it is in dst.
func (c clipper) clip(k kernel.Set, dst, g []float32) []float32 {
	switch {
	case c.limit > 0:
		dst = dst[:len(g)]
		for i, v := range g {
			dst[i] = min(max(v, -c.limit), c.limit)
		}
		return dst
	case c.scale != 1:
		dst = dst[:len(g)]
		clear(dst)
		k.Axpy(c.scale, g, dst)
		return dst
	default:
		return g
	}
}

// sumOfSquares adds in float64, in four sums that do not wait for each other.
func sumOfSquares(v []float32) float64 {
	var a, b, c, d float64
	for ; len(v) >= 4; v = v[4:] {
		a += float64(v[0]) * float64(v[0])
		b += float64(v[1]) * float64(v[1])
		c += float64(v[2]) * float64(v[2])
		d += float64(v[3]) * float64(v[3])
	}
	for _, x := range v {
		a += float64(x) * float64(x)
	}
	return (a + b) + (c + d)
}
