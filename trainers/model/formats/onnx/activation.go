package onnx

import (
	"math"

	"dkpipe/trainers/model"
)

// activation translates a named activation.
func (b *builder) activation(x tensorValue, l model.Layer, name string) (tensorValue, error) {
	in := []string{x.name}
	op, attrs := "", []attr(nil)
	switch model.CanonicalActivation(name) {
	case "linear":
		return x, nil
	case "relu":
		op = "Relu"
	case "relu6":
		x.name = b.node("Clip", []string{x.name, b.number(0), b.number(6)})
		return x, nil
	case "leaky_relu":
		op, attrs = "LeakyRelu", []attr{{"alpha", float32(0.2)}}
	case "elu":
		op, attrs = "Elu", []attr{{"alpha", float32(1)}}
	case "selu":
		op, attrs = "Selu", []attr{{"alpha", float32(1.6732632423543772)}, {"gamma", float32(1.0507009873554805)}}
	case "softplus":
		op = "Softplus"
	case "softsign":
		op = "Softsign"
	case "tanh":
		op = "Tanh"
	case "sigmoid":
		op = "Sigmoid"
	case "hard_sigmoid":
		op, attrs = "HardSigmoid", []attr{{"alpha", float32(1. / 6)}, {"beta", float32(0.5)}}
	case "hard_sigmoid_keras2":
		op, attrs = "HardSigmoid", []attr{{"alpha", float32(0.2)}, {"beta", float32(0.5)}}
	case "hard_silu":
		op = "HardSwish"
	case "exponential":
		op = "Exp"
	case "softmax":
		axis := -1
		if x.first {
			axis = 1
		}
		op, attrs = "Softmax", []attr{{"axis", axis}}
	case "silu":
		x.name = b.node("Mul", []string{x.name, b.node("Sigmoid", in)})
		return x, nil
	case "mish":
		x.name = b.node("Mul", []string{x.name, b.node("Tanh", []string{b.node("Softplus", in)})})
		return x, nil
	case "gelu": // x/2 · (1 + erf(x/√2))
		erf := b.node("Erf", []string{b.node("Mul", []string{x.name, b.number(float32(math.Sqrt2 / 2))})})
		x.name = b.halfTimes(x.name, erf)
		return x, nil
	case "gelu_tanh": // x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))
		cube := b.node("Mul", []string{b.node("Mul", []string{x.name, x.name}), x.name})
		sum := b.node("Add", []string{x.name, b.node("Mul", []string{cube, b.number(0.044715)})})
		x.name = b.halfTimes(x.name, b.node("Tanh", []string{b.node("Mul", []string{sum, b.number(float32(math.Sqrt(2 / math.Pi)))})}))
		return x, nil
	default:
		return x, unsupported("export to keras or safetensors", "layer %s: activation %q has no equivalent", l.Name, name)
	}
	x.name = b.node(op, in, attrs...)
	return x, nil
}

// halfTimes is x/2 · (1 + y).
func (b *builder) halfTimes(x, y string) string {
	return b.node("Mul", []string{b.node("Mul", []string{x, b.number(0.5)}), b.node("Add", []string{y, b.number(1)})})
}

// gate gives the name and the parameters of an activation inside of a recurrent layer; "" when ONNX has no such one.
func gate(name string) (op string, alpha, beta float32) {
	switch model.CanonicalActivation(name) {
	case "linear":
		return "Affine", 1, 0
	case "relu":
		return "Relu", 0, 0
	case "leaky_relu":
		return "LeakyRelu", 0.2, 0
	case "elu":
		return "Elu", 1, 0
	case "tanh":
		return "Tanh", 0, 0
	case "sigmoid":
		return "Sigmoid", 0, 0
	case "hard_sigmoid":
		return "HardSigmoid", 1. / 6, 0.5
	case "hard_sigmoid_keras2":
		return "HardSigmoid", 0.2, 0.5
	case "softsign":
		return "Softsign", 0, 0
	case "softplus":
		return "Softplus", 0, 0
	}
	return "", 0, 0
}
