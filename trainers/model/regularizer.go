package model

import "fmt"

// Regularizer adds L1·Σ|w| + L2·Σw² to the loss, as keras.regularizers.L1L2: not divided by the number of rows, and
// with no factor of a half. The zero value adds nothing.
type Regularizer struct {
	L1 float64 `yaml:"l1"`
	L2 float64 `yaml:"l2"`
}

func (r Regularizer) check() error {
	if !(r.L1 >= 0 && r.L2 >= 0) {
		return fmt.Errorf("a regularizer with l1 %g and l2 %g: both must be at least 0", r.L1, r.L2)
	}
	return nil
}

// decay is a regularizer of a part of the parameters.
type decay struct {
	off, len int
	reg      Regularizer
}

func finite(v float32) bool { return v-v == 0 }

// regularize adds the penalties' gradients to Grads and gives their sum.
func (n *Network) regularize() float32 {
	var sum float64
	for _, d := range n.decay {
		w, g := n.params[d.off:d.off+d.len], n.grads[d.off:d.off+d.len]
		l1, l2 := float32(d.reg.L1), float32(2*d.reg.L2)
		var ones, squares float64
		for i, v := range w {
			squares += float64(v) * float64(v)
			g[i] += l2 * v
			switch {
			case v > 0:
				ones += float64(v)
				g[i] += l1
			case v < 0:
				ones -= float64(v)
				g[i] -= l1
			}
		}
		sum += d.reg.L1*ones + d.reg.L2*squares
	}
	return float32(sum)
}
