package graph

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// rowLoss is a loss of one row. A batch's loss is Σ over rows of weight · loss, with the weights given as an input
// that already holds the 1/rows of the mean.
type rowLoss struct {
	name string
	// value is the loss of a row; grad fills d(loss)/dp. p is the prediction and t the target, of equal length;
	// logits is what the final softmax or sigmoid got, for the losses that are fused with it, and grad is then with
	// respect to logits.
	value func(logits, p, t []float32) float64
	grad  func(p, t, dp []float32)
	fused bool
}

// Losses lists the names that Loss takes.
func Losses() []string {
	return []string{"binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "mse"}
}

// Loss adds a loss as a scalar. target has pred's width; weight has width 1 and holds sample weight / rows.
// Cross-entropies of a softmax (binary: sigmoid) work on the activation's input, which loses no precision.
func (b *Builder) Loss(name string, pred, target, weight Node) (Node, error) {
	if target.width != pred.width || weight.width != 1 {
		return Node{}, fmt.Errorf("%s: the model's output has width %d, the target %d", name, pred.width, target.width)
	}
	var l rowLoss
	logits := pred
	switch name {
	case "mse", "mean_squared_error":
		l = rowLoss{name: name, value: mseValue, grad: mseGrad}
	case "categorical_crossentropy":
		l = rowLoss{name: name, value: crossEntropyValue, grad: crossEntropyGrad}
		if o, ok := pred.n.Op().(*softmaxOp); ok {
			l = rowLoss{name: name, value: softmaxCrossEntropyValue, grad: softmaxCrossEntropyGrad, fused: true}
			logits = Node{o.in[0], pred.width}
		}
	case "binary_crossentropy":
		l = rowLoss{name: name, value: binaryValue, grad: binaryGrad}
		if o, ok := pred.n.Op().(*activationOp); ok && o.f.name == "sigmoid" {
			l = rowLoss{name: name, value: sigmoidBinaryValue, grad: sigmoidBinaryGrad, fused: true}
			logits = Node{o.in[0], pred.width}
		}
	default:
		return Node{}, fmt.Errorf("there is no loss %q", name)
	}
	o := &lossOp{meta: meta{kind: name}, l: l, width: pred.width}
	return b.apply(o, tensor.ScalarShape(), logits.n, pred.n, target.n, weight.n)
}

// lossOp is Σ over rows of weight · loss. Inputs: logits, p, target, weight; logits is p itself unless the loss is
// fused with the last activation.
type lossOp struct {
	meta
	l     rowLoss
	width int
}

func (o *lossOp) run(f *frame, in [][]float32, out []float32) {
	var sum float64
	for i := range f.rows {
		at := i * o.width
		sum += float64(in[3][i]) * o.l.value(in[0][at:][:o.width], in[1][at:][:o.width], in[2][at:][:o.width])
	}
	out[0] = float32(sum)
}

// DiffWRT: a fused loss has its gradient with respect to the logits, any other with respect to p, which is the same
// node; either way it is the first input.
func (o *lossOp) DiffWRT(int) []bool { return []bool{true, false, false, false} }

func (o *lossOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	d, err := o.b.matrix(&lossGradOp{meta: meta{kind: o.kind + " gradient"}, l: o.l, width: o.width}, o.width, in[1], in[2], in[3], grad)
	return nodes(d, Node{}, Node{}, Node{}), err
}

// lossGradOp is the gradient of a lossOp times the gradient that comes in. Inputs: p, target, weight, grad (scalar).
type lossGradOp struct {
	meta
	l     rowLoss
	width int
}

func (o *lossGradOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows {
		at := i * o.width
		d := out[at:][:o.width]
		o.l.grad(in[0][at:][:o.width], in[1][at:][:o.width], d)
		w := in[2][i] * in[3][0]
		for j := range d {
			d[j] *= w
		}
	}
}

// epsilon is what Keras keeps probabilities away from 0 and 1 by.
const epsilon = 1e-7

func clip(p float64) float64 { return min(max(p, epsilon), 1-epsilon) }

func clipped(p float64) bool { return p < epsilon || p > 1-epsilon }

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
	m := 0
	for j, v := range x {
		if v > x[m] {
			m = j
		}
	}
	logTop := math.Log(float64(p[m]))
	var sum float64
	for j, tj := range t {
		if tj != 0 {
			sum -= float64(tj) * (float64(x[j]) - float64(x[m]) + logTop)
		}
	}
	return sum
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

// crossEntropyValue is Keras' form for outputs that are not a softmax: rows are scaled to sum 1, then clipped.
func crossEntropyValue(_, p, t []float32) float64 {
	var total, sum float64
	for _, v := range p {
		total += float64(v)
	}
	for j, tj := range t {
		sum -= float64(tj) * math.Log(clip(float64(p[j])/total))
	}
	return sum
}

func crossEntropyGrad(p, t, dp []float32) {
	var total, dot float64
	for _, v := range p {
		total += float64(v)
	}
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
