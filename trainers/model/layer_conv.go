package model

import (
	"fmt"
	"slices"

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

// Convolution is what Conv1D and Conv2D have in common: activation(x * kernel + bias), where * is a cross-correlation.
// Groups of channels are not supported.
type Convolution struct {
	Filters           int         `yaml:"filters"`    // >= 1
	Padding           string      `yaml:"padding"`    // valid (default) or same; of Conv1D also causal
	Activation        string      `yaml:"activation"` // default linear
	UseBias           bool        `yaml:"use_bias"`   // default true
	KernelInitializer Initializer `yaml:"kernel_initializer"`
	BiasInitializer   Initializer `yaml:"bias_initializer"`
	KernelRegularizer Regularizer `yaml:"kernel_regularizer"`
	BiasRegularizer   Regularizer `yaml:"bias_regularizer"`
}

// newConvolution has Keras' defaults.
func newConvolution() Convolution {
	return Convolution{Padding: "valid", Activation: "linear", UseBias: true, KernelInitializer: GlorotUniform, BiasInitializer: Zeros}
}

func (c *Convolution) check() error {
	if c.Filters < 1 || c.Filters > maxFloats {
		return fmt.Errorf("filters is %d, must be at least 1", c.Filters)
	}
	return first(checkActivation(c.Activation), c.KernelInitializer.check(), c.BiasInitializer.check(), c.KernelRegularizer.check(), c.BiasRegularizer.check())
}

// checkOneStep refuses strides together with a dilation rate.
func checkOneStep[T comparable](strides, dilation, one T) error {
	if strides == one || dilation == one {
		return nil
	}
	return &pipeline.Error{Kind: pipeline.Unsupported,
		Message: fmt.Sprintf("strides %v together with dilation_rate %v", strides, dilation), Hint: "leave one of them at 1, as Keras asks too"}
}

func checkPadding(padding string, known ...string) error {
	if slices.Contains(known, padding) {
		return nil
	}
	return unknown(pipeline.Unsupported, "padding", padding, known)
}

func (c *Convolution) activation() string { return c.Activation }

// kernel is the shape of the weights of a window of this size.
func (c *Convolution) kernel(in [][]int, window ...int) []int {
	return append(window, lastOf(in[0]), c.Filters)
}

// result is the shape of one row: every filter at so many places.
func (c *Convolution) result(kernel []int, places ...int) ([]int, error) {
	if size(kernel) < 0 {
		return nil, fmt.Errorf("a kernel of shape %v is too large", kernel)
	}
	out := append(places, c.Filters)
	if size(out) < 0 {
		return nil, fmt.Errorf("a result of shape %v is too large", out)
	}
	return out, nil
}

func (c *Convolution) weights(kernel []int) []variable {
	v := []variable{{name: "kernel", shape: kernel, init: c.KernelInitializer, reg: c.KernelRegularizer}}
	if c.UseBias {
		v = append(v, variable{name: "bias", shape: []int{c.Filters}, init: c.BiasInitializer, reg: c.BiasRegularizer})
	}
	return v
}

func (c *Convolution) slide(l *layerGraph, x graph.Node, g kernel.Window) (graph.Node, error) {
	var bias graph.Node
	if c.UseBias {
		bias = l.params[1]
	}
	if c.Activation == "relu" {
		return l.b.Conv(x, l.params[0], bias, g, true)
	}
	z, err := l.b.Conv(x, l.params[0], bias, g, false)
	if err != nil {
		return z, err
	}
	return l.activate(z, c.Activation, []int{c.Filters})
}

// along lays windows along one direction: the padding before the first one, and how many there are; none where not even
// one fits.
func along(length, size, stride, dilation int, padding string) (before, count int) {
	span := (size-1)*dilation + 1
	count = (length + stride - 1) / stride
	switch {
	case padding == "causal": // a window ends where its result is
		return span - 1, count
	case padding == "same":
		return max((count-1)*stride+span-length, 0) / 2, count
	case span > length:
		return 0, 0
	}
	return 0, (length-span)/stride + 1
}

// window lays a window over images of shape in.
func window(in [][]int, size, strides, dilation Pair, padding string) (kernel.Window, error) {
	x, err := one(in)
	if err != nil {
		return kernel.Window{}, err
	}
	if len(x) != 3 {
		return kernel.Window{}, badShape("images of shape [height, width, channels]", x)
	}
	g := kernel.Window{H: x[0], W: x[1], C: x[2], KH: size[0], KW: size[1], SY: strides[0], SX: strides[1], DY: dilation[0], DX: dilation[1]}
	g.Top, g.OH = along(g.H, g.KH, g.SY, g.DY, padding)
	g.Left, g.OW = along(g.W, g.KW, g.SX, g.DX, padding)
	if g.OH == 0 || g.OW == 0 {
		return g, fmt.Errorf("a window of %d × %d does not fit into an image of %d × %d", (g.KH-1)*g.DY+1, (g.KW-1)*g.DX+1, g.H, g.W)
	}
	return g, nil
}

func badShape(want string, x []int) error {
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("takes %s, gets shape %v", want, x),
		Hint: "give the column this shape, or put a reshape layer before it"}
}

// Conv2D is a convolution of images with channels last, as keras.layers.Conv2D. Its kernel has the shape
// [rows, columns, channels, filters].
type Conv2D struct {
	Convolution  `yaml:",inline"`
	KernelSize   Pair `yaml:"kernel_size"`   // rows, columns
	Strides      Pair `yaml:"strides"`       // default 1
	DilationRate Pair `yaml:"dilation_rate"` // default 1; not together with strides
}

var (
	_ Op        = (*Conv2D)(nil)
	_ activated = (*Conv2D)(nil)
)

func newConv2D() *Conv2D {
	return &Conv2D{Convolution: newConvolution(), Strides: Pair{1, 1}, DilationRate: Pair{1, 1}}
}

// Kind is conv2d.
func (*Conv2D) Kind() string { return "conv2d" }

func (c *Conv2D) check() error {
	return first(c.Convolution.check(), c.KernelSize.check("kernel_size"), c.Strides.check("strides"), c.DilationRate.check("dilation_rate"),
		checkOneStep(c.Strides, c.DilationRate, Pair{1, 1}), checkPadding(c.Padding, "same", "valid"))
}

func (c *Conv2D) window(in [][]int) (kernel.Window, error) {
	return window(in, c.KernelSize, c.Strides, c.DilationRate, c.Padding)
}

func (c *Conv2D) shape(in [][]int) ([]int, error) {
	g, err := c.window(in)
	if err != nil {
		return nil, err
	}
	return c.result(c.kernel(in, g.KH, g.KW), g.OH, g.OW)
}

func (c *Conv2D) variables(in [][]int) []variable {
	return c.weights(c.kernel(in, c.KernelSize[0], c.KernelSize[1]))
}

func (c *Conv2D) build(l *layerGraph, in []graph.Node) (graph.Node, error) {
	g, err := c.window(l.in)
	if err != nil {
		return graph.Node{}, err
	}
	return c.slide(l, in[0], g)
}
