package model

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// Pair is a size in rows and columns. In a job file it may be written as one number for both: kernel_size: 3.
type Pair [2]int

// UnmarshalYAML takes one number or a list of two.
func (p *Pair) UnmarshalYAML(decode func(any) error) error {
	var v any
	if err := decode(&v); err != nil {
		return err
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v, v}
	}
	err := fmt.Errorf("want one whole number or a list of two: 3 or [3, 3]")
	if len(list) != 2 {
		return err
	}
	for i, n := range list {
		size, ok := wholeNumber(n)
		if !ok {
			return err
		}
		p[i] = size
	}
	return nil
}

// wholeNumber takes what a decoder makes of a number. Decoding into an int would cut a fraction off.
func wholeNumber(v any) (int, bool) {
	switch n := v.(type) {
	case uint64:
		return int(n), n <= maxFloats
	case int64:
		return int(n), n >= -maxFloats && n <= maxFloats
	}
	return 0, false
}

func (p Pair) check(field string) error {
	for _, v := range p {
		if v < 1 || v > maxFloats {
			return fmt.Errorf("%s is %d × %d, both must be at least 1", field, p[0], p[1])
		}
	}
	return nil
}

// Conv2D is activation(x * kernel + bias) over images with channels last, as keras.layers.Conv2D: a cross-correlation.
// Its kernel has the shape [rows, columns, channels, filters]. Groups of channels are not supported.
type Conv2D struct {
	Filters           int         `yaml:"filters"`       // >= 1
	KernelSize        Pair        `yaml:"kernel_size"`   // rows, columns
	Strides           Pair        `yaml:"strides"`       // default 1
	Padding           string      `yaml:"padding"`       // valid (default) or same
	DilationRate      Pair        `yaml:"dilation_rate"` // default 1; not together with strides
	Activation        string      `yaml:"activation"`    // default linear
	UseBias           bool        `yaml:"use_bias"`      // default true
	KernelInitializer Initializer `yaml:"kernel_initializer"`
	BiasInitializer   Initializer `yaml:"bias_initializer"`
	KernelRegularizer Regularizer `yaml:"kernel_regularizer"`
	BiasRegularizer   Regularizer `yaml:"bias_regularizer"`
}

var (
	_ Op        = (*Conv2D)(nil)
	_ activated = (*Conv2D)(nil)
)

// newConv2D has Keras' defaults.
func newConv2D() *Conv2D {
	return &Conv2D{Strides: Pair{1, 1}, Padding: "valid", DilationRate: Pair{1, 1}, Activation: "linear", UseBias: true,
		KernelInitializer: GlorotUniform, BiasInitializer: Zeros}
}

// Kind is conv2d.
func (*Conv2D) Kind() string { return "conv2d" }

func (c *Conv2D) check() error {
	if c.Filters < 1 || c.Filters > maxFloats {
		return fmt.Errorf("filters is %d, must be at least 1", c.Filters)
	}
	if c.Strides != (Pair{1, 1}) && c.DilationRate != (Pair{1, 1}) {
		return &pipeline.Error{Kind: pipeline.Unsupported,
			Message: fmt.Sprintf("strides %v together with dilation_rate %v", c.Strides, c.DilationRate), Hint: "leave one of them at 1, as Keras asks too"}
	}
	if err := checkActivation(c.Activation); err != nil {
		return err
	}
	return first(c.KernelSize.check("kernel_size"), c.Strides.check("strides"), c.DilationRate.check("dilation_rate"), checkPadding(c.Padding),
		c.KernelInitializer.check(), c.BiasInitializer.check(), c.KernelRegularizer.check(), c.BiasRegularizer.check())
}

func checkPadding(padding string) error {
	if padding == "valid" || padding == "same" {
		return nil
	}
	return unknown(pipeline.Unsupported, "padding", padding, []string{"same", "valid"})
}

func (c *Conv2D) activation() string { return c.Activation }

// window lays a window over images of shape in.
func window(in [][]int, size, strides, dilation Pair, padding string) (kernel.Window, error) {
	x, err := one(in)
	if err != nil {
		return kernel.Window{}, err
	}
	if len(x) != 3 {
		return kernel.Window{}, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("takes images of shape [height, width, channels], gets shape %v", x),
			Hint: "give the column this shape, or put a reshape layer before it"}
	}
	g := kernel.Window{H: x[0], W: x[1], C: x[2], KH: size[0], KW: size[1], SY: strides[0], SX: strides[1], DY: dilation[0], DX: dilation[1]}
	high, wide := (g.KH-1)*g.DY+1, (g.KW-1)*g.DX+1
	if padding == "same" {
		g.OH, g.OW = (g.H+g.SY-1)/g.SY, (g.W+g.SX-1)/g.SX
		g.Top, g.Left = max((g.OH-1)*g.SY+high-g.H, 0)/2, max((g.OW-1)*g.SX+wide-g.W, 0)/2
		return g, nil
	}
	if high > g.H || wide > g.W {
		return g, fmt.Errorf("a window of %d × %d does not fit into an image of %d × %d", high, wide, g.H, g.W)
	}
	g.OH, g.OW = (g.H-high)/g.SY+1, (g.W-wide)/g.SX+1
	return g, nil
}

func (c *Conv2D) window(in [][]int) (kernel.Window, error) {
	return window(in, c.KernelSize, c.Strides, c.DilationRate, c.Padding)
}

func (c *Conv2D) shape(in [][]int) ([]int, error) {
	g, err := c.window(in)
	if err != nil {
		return nil, err
	}
	if size([]int{g.KH, g.KW, g.C, c.Filters}) < 0 {
		return nil, fmt.Errorf("a kernel of %d × %d × %d × %d is too large", g.KH, g.KW, g.C, c.Filters)
	}
	out := []int{g.OH, g.OW, c.Filters}
	if size(out) < 0 {
		return nil, fmt.Errorf("a result of shape %v is too large", out)
	}
	return out, nil
}

func (c *Conv2D) variables(in [][]int) []variable {
	v := []variable{{name: "kernel", shape: []int{c.KernelSize[0], c.KernelSize[1], lastOf(in[0]), c.Filters}, init: c.KernelInitializer, reg: c.KernelRegularizer}}
	if c.UseBias {
		v = append(v, variable{name: "bias", shape: []int{c.Filters}, init: c.BiasInitializer, reg: c.BiasRegularizer})
	}
	return v
}

func (c *Conv2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := c.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	var bias graph.Node
	if c.UseBias {
		bias = l.params[1]
	}
	if c.Activation == "relu" {
		return l.b.Conv(in[0], l.params[0], bias, g, true)
	}
	z, err := l.b.Conv(in[0], l.params[0], bias, g, false)
	if err != nil {
		return z, err
	}
	return l.activate(z, c.Activation, []int{g.OH, g.OW, c.Filters})
}
