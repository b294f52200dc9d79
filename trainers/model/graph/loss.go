package graph

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// LossConfig is a loss with its options. Options that a loss does not have are ignored.
type LossConfig struct {
	Name       string  // one of Losses
	FromLogits bool    // of cross-entropies: the prediction is what a softmax or sigmoid would get
	Smoothing  float64 // of cross-entropies: label_smoothing, 0 to 1
	Delta      float64 // of huber: where it becomes linear; 0 means 1
}

// rowLoss is the loss of one vector: the last dimension of an output. A batch's loss is Σ over rows of weight · mean
// over the row's vectors, with the weights given as an input that already holds the 1/rows of the mean.
type rowLoss struct {
	// value is the loss of a vector; grad fills d(loss)/dp. p is the prediction and t the target, of equal length or,
	// when sparse, t is one number, the index of a class. x is what the final softmax or sigmoid got: of a fused loss,
	// and grad is then with respect to x.
	value  func(x, p, t []float32) float64
	grad   func(p, t, dp []float32)
	sparse bool
}

// lossAliases are second names of losses, as Keras has them.
func lossAliases() map[string]string {
	return map[string]string{
		"mse": "mean_squared_error", "mae": "mean_absolute_error", "mape": "mean_absolute_percentage_error",
		"msle": "mean_squared_logarithmic_error", "huber_loss": "huber", "logcosh": "log_cosh", "bce": "binary_crossentropy",
		"kld": "kl_divergence", "kullback_leibler_divergence": "kl_divergence", "cosine": "cosine_similarity",
	}
}

// CanonicalLoss gives the one name of a loss that has several.
func CanonicalLoss(name string) string {
	if long, ok := lossAliases()[name]; ok {
		return long
	}
	return name
}

// Losses lists the names that Loss takes, without aliases, in alphabetical order.
func Losses() []string {
	return []string{
		"binary_crossentropy", "categorical_crossentropy", "categorical_hinge", "cosine_similarity", "hinge", "huber",
		"kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
		"mean_squared_logarithmic_error", "poisson", "sparse_categorical_crossentropy", "squared_hinge",
	}
}

// SparseLoss tells whether a loss takes the index of a class as its target.
func SparseLoss(name string) bool { return name == "sparse_categorical_crossentropy" }

// rowLoss finds the loss for a prediction that is, or is not, given as what a softmax or sigmoid got.
func (c LossConfig) rowLoss(fused bool) (rowLoss, bool) {
	delta := c.Delta
	if delta == 0 {
		delta = 1
	}
	l, ok := map[string]rowLoss{
		"binary_crossentropy":             {value: binaryValue, grad: binaryGrad},
		"categorical_crossentropy":        {value: crossEntropyValue, grad: crossEntropyGrad},
		"sparse_categorical_crossentropy": {value: sparseValue, grad: sparseGrad, sparse: true},
		"categorical_hinge":               {value: categoricalHingeValue, grad: categoricalHingeGrad},
		"cosine_similarity":               {value: cosineValue, grad: cosineGrad},
		"hinge":                           mean(hinge),
		"huber":                           mean(huber(delta)),
		"kl_divergence":                   {value: divergenceValue, grad: divergenceGrad},
		"log_cosh":                        mean(logCosh),
		"mean_absolute_error":             mean(absolute),
		"mean_absolute_percentage_error":  mean(percentage),
		"mean_squared_error":              {value: mseValue, grad: mseGrad},
		"mean_squared_logarithmic_error":  mean(logarithmic),
		"poisson":                         mean(poisson),
		"squared_hinge":                   mean(squaredHinge),
	}[CanonicalLoss(c.Name)]
	if fused {
		switch CanonicalLoss(c.Name) {
		case "binary_crossentropy":
			l = rowLoss{value: sigmoidBinaryValue, grad: sigmoidBinaryGrad}
		case "categorical_crossentropy":
			l = rowLoss{value: softmaxCrossEntropyValue, grad: softmaxCrossEntropyGrad}
		case "sparse_categorical_crossentropy":
			l = rowLoss{value: sparseSoftmaxValue, grad: sparseSoftmaxGrad, sparse: true}
		}
	}
	return l, ok
}

// squash names the activation that a loss is fused with; empty when there is none.
func (c LossConfig) squash() string {
	switch CanonicalLoss(c.Name) {
	case "binary_crossentropy":
		return "sigmoid"
	case "categorical_crossentropy", "sparse_categorical_crossentropy":
		return "softmax"
	}
	return ""
}

// Loss adds a loss as a scalar. last is the last dimension of pred, whose rows hold one or several such vectors.
// target has pred's width or, for a sparse loss, one number a vector; weight has width 1 and holds sample weight / rows.
// Cross-entropies of a softmax (binary: sigmoid) work on the activation's input, which loses no precision.
func (b *Builder) Loss(c LossConfig, pred, target, weight Node, last int) (Node, error) {
	if last < 1 || pred.width%last != 0 || weight.width != 1 {
		return Node{}, fmt.Errorf("%s: a last dimension of %d in rows of %d", c.Name, last, pred.width)
	}
	squash := c.squash()
	if c.FromLogits && squash != "" {
		var err error
		if pred, err = b.Activation(pred, squash, last); err != nil {
			return Node{}, err
		}
	}
	logits, fused := pred, false
	switch o := pred.n.Op().(type) {
	case *softmaxOp:
		fused = squash == "softmax" && o.width == last
	case *activationOp:
		fused = squash == "sigmoid" && o.f.name == "sigmoid"
	}
	if fused {
		logits = Node{pred.n.Op().(op).about().in[0], pred.width}
	}
	l, ok := c.rowLoss(fused)
	if !ok {
		return Node{}, fmt.Errorf("there is no loss %q", c.Name)
	}
	o := &lossOp{meta: meta{kind: CanonicalLoss(c.Name)}, l: l, lead: pred.width / last, width: last, target: last}
	if l.sparse {
		o.target = 1
	}
	if target.width != o.lead*o.target {
		return Node{}, fmt.Errorf("%s: the model's output has width %d, the target %d", c.Name, pred.width, target.width)
	}
	if s := smoothing(c, last); s != nil {
		s.width = target.width
		var err error
		if target, err = b.matrix(s, target.width, target.n); err != nil {
			return Node{}, err
		}
	}
	return b.apply(o, tensor.ScalarShape(), logits.n, pred.n, target.n, weight.n)
}

// lossOp is Σ over rows of weight · mean loss of the row's vectors. Inputs: logits, p, target, weight; logits is p
// itself unless the loss is fused with the last activation.
type lossOp struct {
	meta
	l           rowLoss
	lead, width int // vectors of width floats in a row of the prediction
	target      int // floats of the target for each: width, or 1
}

func (o *lossOp) run(f *frame, in [][]float32, out []float32) {
	var sum float64
	for i := range f.rows {
		var row float64
		for k := i * o.lead; k < (i+1)*o.lead; k++ {
			t := in[2][k*o.target:][:o.target]
			if o.l.sparse && !isIndex(t[0], o.width) {
				f.fail(i, "the target is %v, and the classes of %s are 0 to %d", t[0], o.kind, o.width-1)
				return
			}
			row += o.l.value(in[0][k*o.width:][:o.width], in[1][k*o.width:][:o.width], t)
		}
		sum += float64(in[3][i]) * row / float64(o.lead)
	}
	out[0] = float32(sum)
}

// isIndex tells whether v is a whole number from 0 to n-1.
func isIndex(v float32, n int) bool { return v >= 0 && v < float32(n) && v == float32(int(v)) }

// DiffWRT: a fused loss has its gradient with respect to the logits, any other with respect to p, which is the same
// node; either way it is the first input.
func (o *lossOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *lossOp) SymDiff(in gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	g := &lossGradOp{meta: meta{kind: o.kind + " gradient"}, l: o.l, lead: o.lead, width: o.width, target: o.target}
	d, err := o.b.matrix(g, o.lead*o.width, in[1], in[2], in[3], grad)
	return nodes(d, Node{}, Node{}, Node{}), err
}

// lossGradOp is the gradient of a lossOp times the gradient that comes in. Inputs: p, target, weight, grad (scalar).
type lossGradOp struct {
	meta
	l                   rowLoss
	lead, width, target int
}

func (o *lossGradOp) run(f *frame, in [][]float32, out []float32) {
	for i := range f.rows {
		w := in[2][i] * in[3][0] / float32(o.lead)
		for k := i * o.lead; k < (i+1)*o.lead; k++ {
			d := out[k*o.width:][:o.width]
			o.l.grad(in[0][k*o.width:][:o.width], in[1][k*o.target:][:o.target], d)
			for j := range d {
				d[j] *= w
			}
		}
	}
}

// smoothOp is t·keep + rest: targets that are a little less sure (Szegedy et al. 2016, section 7).
type smoothOp struct {
	meta
	width      int
	keep, rest float32
}

// smoothing gives the operation that a loss wants its targets to go through, or nil.
func smoothing(c LossConfig, last int) *smoothOp {
	squash := c.squash()
	if c.Smoothing == 0 || squash == "" || SparseLoss(CanonicalLoss(c.Name)) {
		return nil
	}
	rest := c.Smoothing / float64(last)
	if squash == "sigmoid" {
		rest = c.Smoothing / 2
	}
	return &smoothOp{meta: meta{kind: "label smoothing"}, keep: float32(1 - c.Smoothing), rest: float32(rest)}
}

func (o *smoothOp) run(f *frame, in [][]float32, out []float32) {
	n := f.rows * o.width
	t, y := in[0][:n], out[:n]
	for i, v := range t {
		y[i] = v*o.keep + o.rest
	}
}

// scaleOp is x · factor, for the weight of one loss among several.
type scaleOp struct {
	meta
	factor float32
}

// Scale multiplies a scalar by a constant.
func (b *Builder) Scale(x Node, factor float64) (Node, error) {
	if factor == 1 {
		return x, nil
	}
	return b.apply(&scaleOp{meta{kind: "scale"}, float32(factor)}, tensor.ScalarShape(), x.n)
}

func (o *scaleOp) run(_ *frame, in [][]float32, out []float32) { out[0] = in[0][0] * o.factor }

func (o *scaleOp) DiffWRT(int) []bool { return o.wrt(1) }

func (o *scaleOp) SymDiff(_ gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	d, err := o.b.apply(&scaleOp{meta{kind: "scale gradient"}, o.factor}, tensor.ScalarShape(), grad)
	return nodes(d), err
}

// RowFunc gives the loss of one row of width floats, whose vectors have last of them. A target of a sparse loss that
// is no class gives NaN. The function belongs to one goroutine and does not allocate.
func (c LossConfig) RowFunc(width, last int) func(p, t []float32) float64 {
	l, ok := c.rowLoss(c.FromLogits)
	if !ok {
		return nil
	}
	probability := make([]float32, last)
	smooth := make([]float32, last)
	o := smoothing(c, last)
	target := last
	if l.sparse {
		target = 1
	}
	lead := width / last
	return func(p, t []float32) float64 {
		var sum float64
		for k := range lead {
			x, y := p[k*last:][:last], t[k*target:][:target]
			if l.sparse && !isIndex(y[0], last) {
				return math.NaN()
			}
			if o != nil {
				for j, v := range y {
					smooth[j] = v*o.keep + o.rest
				}
				y = smooth
			}
			q := x
			if c.FromLogits && c.squash() == "softmax" { // a sigmoid's loss does not look at the probability
				softmaxRow(x, probability)
				q = probability
			}
			sum += l.value(x, q, y)
		}
		return sum / float64(lead)
	}
}
