package graph

import "math"

// This file holds the losses of one vector, with the formulas and the guards of Keras 3.

// epsilon is what Keras keeps probabilities away from 0 and 1 by, and divisors away from 0.
const epsilon = 1e-7

func clip(p float64) float64 { return min(max(p, epsilon), 1-epsilon) }

func clipped(p float64) bool { return p < epsilon || p > 1-epsilon }

// single is the loss of one number p for its target t, and its derivative by p.
type single func(p, t float64) (value, slope float64)

// mean makes the loss of a vector: the mean over its numbers.
func mean(s single) rowLoss {
	return rowLoss{
		value: func(_, p, t []float32) float64 {
			var sum float64
			for j, v := range p {
				l, _ := s(float64(v), float64(t[j]))
				sum += l
			}
			return sum / float64(len(p))
		},
		grad: func(p, t, dp []float32) {
			scale := 1 / float64(len(p))
			for j, v := range p {
				_, d := s(float64(v), float64(t[j]))
				dp[j] = float32(d * scale)
			}
		},
	}
}

// sign is -1, 0 or 1, and NaN for NaN.
func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

func absolute(p, t float64) (value, slope float64) { return math.Abs(p - t), sign(p - t) }

// percentage is 100·|t - p| / |t|.
func percentage(p, t float64) (value, slope float64) {
	scale := 100 / max(math.Abs(t), epsilon)
	return scale * math.Abs(p-t), scale * sign(p-t)
}

// logarithmic is (log(p + 1) - log(t + 1))², with both at least epsilon.
func logarithmic(p, t float64) (value, slope float64) {
	d := math.Log1p(max(p, epsilon)) - math.Log1p(max(t, epsilon))
	if p < epsilon {
		return d * d, 0
	}
	return d * d, 2 * d / (p + 1)
}

func huber(delta float64) single {
	return func(p, t float64) (value, slope float64) {
		e := p - t
		if math.Abs(e) <= delta {
			return e * e / 2, e
		}
		return delta*math.Abs(e) - delta*delta/2, delta * sign(e)
	}
}

// logCosh is log(cosh(p - t)), written so that it does not overflow.
func logCosh(p, t float64) (value, slope float64) {
	e := p - t
	return math.Abs(e) + math.Log1p(math.Exp(-2*math.Abs(e))) - math.Ln2, math.Tanh(e)
}

// hinge is max(1 - t·p, 0) for targets of -1 and 1; a target of 0 counts as -1.
func hinge(p, t float64) (value, slope float64) {
	if t == 0 {
		t = -1
	}
	if v := 1 - t*p; v > 0 || v != v {
		return v, -t
	}
	return 0, 0
}

func squaredHinge(p, t float64) (value, slope float64) {
	v, d := hinge(p, t)
	return v * v, 2 * v * d
}

// poisson is p - t·log(p).
func poisson(p, t float64) (value, slope float64) {
	return p - t*math.Log(p+epsilon), 1 - t/(p+epsilon)
}

func mseValue(_, p, t []float32) float64 {
	var sum float64
	for j, v := range p {
		d := float64(v) - float64(t[j])
		sum += d * d
	}
	return sum / float64(len(p))
}

func mseGrad(p, t, dp []float32) {
	scale := 2 / float32(len(p))
	for j, v := range p {
		dp[j] = scale * (v - t[j])
	}
}

// softmaxCrossEntropyValue is -Σ t_j log p_j with log p_j = x_j - x_m + log p_m, where m is the largest logit: p_m is
// at least 1/n, so no logarithm of a vanishing number is taken. Targets need not sum to 1.
func softmaxCrossEntropyValue(x, p, t []float32) float64 {
	m := largest(x)
	logTop := math.Log(float64(p[m]))
	var sum float64
	for j, tj := range t {
		if tj != 0 {
			sum -= float64(tj) * (float64(x[j]) - float64(x[m]) + logTop)
		}
	}
	return sum
}

// largest gives the index of the largest value, the first of equals.
func largest(x []float32) int {
	m := 0
	for j, v := range x {
		if v > x[m] {
			m = j
		}
	}
	return m
}

func softmaxCrossEntropyGrad(p, t, dx []float32) {
	var total float32
	for _, v := range t {
		total += v
	}
	for j, v := range p {
		dx[j] = total*v - t[j]
	}
}

// sparseSoftmaxValue is softmaxCrossEntropyValue for a target that is 1 at one class, whose index is t[0].
func sparseSoftmaxValue(x, p, t []float32) float64 {
	m, class := largest(x), int(t[0])
	return -(float64(x[class]) - float64(x[m]) + math.Log(float64(p[m])))
}

func sparseSoftmaxGrad(p, t, dx []float32) {
	copy(dx, p)
	dx[int(t[0])]--
}

// crossEntropyValue is Keras' form for outputs that are not a softmax: vectors are scaled to sum 1, then clipped.
func crossEntropyValue(_, p, t []float32) float64 {
	var sum float64
	total := sumOf(p)
	for j, tj := range t {
		sum -= float64(tj) * math.Log(clip(float64(p[j])/total))
	}
	return sum
}

func sumOf(p []float32) float64 {
	var total float64
	for _, v := range p {
		total += float64(v)
	}
	return total
}

func crossEntropyGrad(p, t, dp []float32) {
	var dot float64
	total := sumOf(p)
	for j, tj := range t {
		q := float64(p[j]) / total
		if !clipped(q) {
			dot -= float64(tj) // d/dq_j times q_j
		}
	}
	for j, tj := range t {
		q := float64(p[j]) / total
		var dq float64
		if !clipped(q) {
			dq = -float64(tj) / q
		}
		dp[j] = float32((dq - dot) / total)
	}
}

func sparseValue(_, p, t []float32) float64 {
	return -math.Log(clip(float64(p[int(t[0])]) / sumOf(p)))
}

func sparseGrad(p, t, dp []float32) {
	class, total := int(t[0]), sumOf(p)
	q := float64(p[class]) / total
	if clipped(q) {
		clear(dp)
		return
	}
	for j := range dp {
		dp[j] = float32(1 / total)
	}
	dp[class] = float32((1 - 1/q) / total)
}

// sigmoidBinaryValue is the mean over outputs of max(x, 0) - x t + log(1 + e^-|x|).
func sigmoidBinaryValue(x, _, t []float32) float64 {
	var sum float64
	for j, v := range x {
		z := float64(v)
		sum += max(z, 0) - z*float64(t[j]) + math.Log1p(math.Exp(-math.Abs(z)))
	}
	return sum / float64(len(x))
}

func sigmoidBinaryGrad(p, t, dx []float32) {
	scale := 1 / float32(len(p))
	for j, v := range p {
		dx[j] = scale * (v - t[j])
	}
}

func binaryValue(_, p, t []float32) float64 {
	var sum float64
	for j, v := range p {
		q, tj := clip(float64(v)), float64(t[j])
		sum -= tj*math.Log(q) + (1-tj)*math.Log(1-q)
	}
	return sum / float64(len(p))
}

func binaryGrad(p, t, dp []float32) {
	for j, v := range p {
		q, tj := float64(v), float64(t[j])
		if clipped(q) {
			dp[j] = 0
			continue
		}
		dp[j] = float32((q - tj) / (q * (1 - q)) / float64(len(p)))
	}
}

// divergenceValue is Σ t log(t / p), with both between epsilon and 1.
func divergenceValue(_, p, t []float32) float64 {
	var sum float64
	for j, v := range p {
		q, tj := min(max(float64(v), epsilon), 1), min(max(float64(t[j]), epsilon), 1)
		sum += tj * math.Log(tj/q)
	}
	return sum
}

func divergenceGrad(p, t, dp []float32) {
	for j, v := range p {
		q, tj := float64(v), min(max(float64(t[j]), epsilon), 1)
		if q < epsilon || q > 1 {
			dp[j] = 0
			continue
		}
		dp[j] = float32(-tj / q)
	}
}

// categoricalHingeValue is max(1 + max_j (1 - t_j) p_j - Σ t_j p_j, 0).
func categoricalHingeValue(_, p, t []float32) float64 {
	_, margin := wrongest(p, t)
	if margin > 0 || margin != margin {
		return margin
	}
	return 0
}

// wrongest gives the class of the largest (1 - t_j) p_j, and the margin 1 + that - Σ t_j p_j.
func wrongest(p, t []float32) (class int, margin float64) {
	var right float64
	worst := math.Inf(-1)
	for j, v := range p {
		right += float64(t[j]) * float64(v)
		if wrong := (1 - float64(t[j])) * float64(v); wrong > worst || wrong != wrong {
			class, worst = j, wrong
		}
	}
	return class, 1 + worst - right
}

func categoricalHingeGrad(p, t, dp []float32) {
	class, margin := wrongest(p, t)
	if margin <= 0 {
		clear(dp)
		return
	}
	for j, v := range t {
		dp[j] = -v
	}
	dp[class] += 1 - t[class]
}

// cosineValue is minus the cosine of the angle between prediction and target.
func cosineValue(_, p, t []float32) float64 {
	dot, np, nt := norms(p, t)
	return -dot / (max(np, epsilon) * max(nt, epsilon))
}

func norms(p, t []float32) (dot, np, nt float64) {
	for j, v := range p {
		x, y := float64(v), float64(t[j])
		dot += x * y
		np += x * x
		nt += y * y
	}
	return dot, math.Sqrt(np), math.Sqrt(nt)
}

func cosineGrad(p, t, dp []float32) {
	dot, np, nt := norms(p, t)
	nt = max(nt, epsilon)
	if np < epsilon {
		for j, v := range t {
			dp[j] = float32(-float64(v) / (nt * epsilon))
		}
		return
	}
	cos := dot / (np * nt)
	for j, v := range p {
		dp[j] = float32(-(float64(t[j])/nt - cos*float64(v)/np) / np)
	}
}
