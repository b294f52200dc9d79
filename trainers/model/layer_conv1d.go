package model

import (
	"fmt"

	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// Conv1D is a convolution of sequences with channels last, as keras.layers.Conv1D: that of images one row high. Its kernel
// has the shape [steps, channels, filters]. With causal padding no result depends on later steps.
type Conv1D struct {
	Convolution  `yaml:",inline"`
	KernelSize   int `yaml:"kernel_size"`   // steps
	Strides      int `yaml:"strides"`       // default 1
	DilationRate int `yaml:"dilation_rate"` // default 1; not together with strides
}

var (
	_ Op        = (*Conv1D)(nil)
	_ activated = (*Conv1D)(nil)
)

func newConv1D() *Conv1D { return &Conv1D{Convolution: newConvolution(), Strides: 1, DilationRate: 1} }

// Kind is conv1d.
func (*Conv1D) Kind() string { return "conv1d" }

func (c *Conv1D) check() error {
	return first(c.Convolution.check(), checkSteps("kernel_size", c.KernelSize), checkSteps("strides", c.Strides), checkSteps("dilation_rate", c.DilationRate),
		checkOneStep(c.Strides, c.DilationRate, 1), checkPadding(c.Padding, "causal", "same", "valid"))
}

// checkSteps checks a size along a sequence.
func checkSteps(field string, v int) error {
	if v < 1 || v > maxFloats {
		return fmt.Errorf("%s is %d, must be at least 1", field, v)
	}
	return nil
}

// line lays a window over sequences of shape in.
func line(in [][]int, size, stride, dilation int, padding string) (kernel.Window, error) {
	x, err := one(in)
	if err != nil {
		return kernel.Window{}, err
	}
	if len(x) != 2 {
		return kernel.Window{}, badShape("sequences of shape [steps, channels]", x)
	}
	g := kernel.Window{H: 1, W: x[0], C: x[1], KH: 1, KW: size, SY: 1, SX: stride, DY: 1, DX: dilation, OH: 1}
	if g.Left, g.OW = along(g.W, size, stride, dilation, padding); g.OW == 0 {
		return g, fmt.Errorf("a window of %d steps does not fit into a sequence of %d", (size-1)*dilation+1, g.W)
	}
	return g, nil
}

func (c *Conv1D) window(in [][]int) (kernel.Window, error) {
	return line(in, c.KernelSize, c.Strides, c.DilationRate, c.Padding)
}

func (c *Conv1D) shape(in [][]int) ([]int, error) {
	g, err := c.window(in)
	if err != nil {
		return nil, err
	}
	return c.result(c.kernel(in, g.KW), g.OW)
}

func (c *Conv1D) variables(in [][]int) []variable { return c.weights(c.kernel(in, c.KernelSize)) }

func (c *Conv1D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := c.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return c.slide(l, in[0], g)
}
