package kernel

import "math"

// plain holds the kernels besides products in Go: what runs where there is no assembly, and what the assembly is
// tested against. The conversions to float32 forbid the compiler to fuse a product with a sum, so the bits are the same
// everywhere.
type plain struct{}

func (plain) Add(x, y, z []float32) {
	y, z = y[:len(x)], z[:len(x)]
	for i, v := range x {
		z[i] = v + y[i]
	}
}

func (plain) Mul(x, y, z []float32) {
	y, z = y[:len(x)], z[:len(x)]
	for i, v := range x {
		z[i] = v * y[i]
	}
}

func (plain) ReLU(x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = rectified(v)
	}
}

// rectified is max(x, 0) with NaN kept.
func rectified(x float32) float32 { return max(x, 0) }

func (plain) ReLUGrad(y, dy, dx []float32) {
	dy, dx = dy[:len(y)], dx[:len(y)]
	for i, v := range y {
		d := dy[i]
		if !(v > 0) {
			d = 0
		}
		dx[i] = d
	}
}

func (plain) Sigmoid(x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = float32(1 / (1 + math.Exp(-float64(v))))
	}
}

func (plain) SigmoidGrad(y, dy, dx []float32) {
	dy, dx = dy[:len(y)], dx[:len(y)]
	for i, v := range y {
		dx[i] = float32(dy[i]*v) * (1 - v)
	}
}

func (plain) Tanh(x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = float32(math.Tanh(float64(v)))
	}
}

func (plain) TanhGrad(y, dy, dx []float32) {
	dy, dx = dy[:len(y)], dx[:len(y)]
	for i, v := range y {
		dx[i] = dy[i] * (1 - float32(v*v))
	}
}

func (plain) Exp(x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] = float32(math.Exp(float64(v)))
	}
}

func (plain) Momentum(rate, momentum float32, nesterov bool, g, v, p []float32) {
	v, p = v[:len(g)], p[:len(g)]
	for i, gi := range g {
		down := float32(rate * gi)
		w := float32(momentum*v[i]) - down
		v[i] = w
		if nesterov {
			w = float32(momentum*w) - down
		}
		p[i] += w
	}
}

func (plain) Adam(rate, c1, c2, eps float32, g, m, v, p []float32) {
	m, v, p = m[:len(g)], v[:len(g)], p[:len(g)]
	for i, gi := range g {
		mi := m[i] + float32((gi-m[i])*c1)
		vi := v[i] + float32((float32(gi*gi)-v[i])*c2)
		m[i], v[i] = mi, vi
		p[i] -= float32(rate*mi) / (float32(math.Sqrt(float64(vi))) + eps)
	}
}
