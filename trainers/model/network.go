package model

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"dkpipe/pipeline"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model/graph"
)

// Config says what a definition is compiled for.
type Config struct {
	Kernel      kernel.Set      // nil: the fastest of this machine
	Batch       int             // largest number of rows of a Step, at least 1; Predict works through any number in such pieces
	Loss        string          // one of Losses, of every output; empty and no Losses: the network can only predict
	Losses      []Loss          // instead of Loss: one an output, in the order of the definition
	Seed        uint64          // of what is random in a Step (dropout); give every worker its own
	ClassWeight map[int]float64 // factor of a row by its class (arg-max of the target; a target of width 1 is rounded); absent classes have 1
}

// Network is a compiled definition. It belongs to one goroutine; two networks share nothing but the kernel set.
type Network struct {
	def     *Definition
	cfg     Config
	shapes  map[string][]int // of one row of every input and layer
	vars    []Variable
	layout  []ParamSpec // of the trained ones
	kept    []ParamSpec // of the others
	initial []variable  // one a variable: how it starts
	moving  bool        // a Step changes some of the state
	decay   []decay     // what is regularized
	params  []float32
	grads   []float32
	state   []float32
	inputs  []int // widths
	outputs []int
	losses  []Loss       // one an output, or none
	targets []int        // widths
	rules   []targetRule // of the targets, one an output
	train   *graph.Plan  // nil without a loss
	predict *graph.Plan  // nil until the first Predict
	stats   *graph.Plan  // nil until the first Gather

	steps   uint64
	weights []float32   // row weight / rows, one a row
	feed    [][]float32 // inputs of a plan: X, then Y, then weights
	class   []float32   // factor by class, or nil
}

var _ Descender = (*Network)(nil)

// Compile makes a network with all parameters zero; call Init or copy trained ones into Params. Its time is
// milliseconds, its memory is the parameters and the activations of Batch rows; the first Grads or Step adds the gradient, and
// the first Descend the largest piece of one. The definition must not be changed afterwards.
func Compile(d *Definition, cfg Config) (*Network, error) {
	shapes, err := d.shapes()
	if err != nil {
		return nil, err
	}
	if cfg.Batch < 1 {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("a batch size of %d: must be at least 1", cfg.Batch)}
	}
	if cfg.Kernel == nil {
		if cfg.Kernel, err = kernel.Select("auto"); err != nil {
			return nil, err
		}
	}
	n := &Network{def: d, cfg: cfg, shapes: shapes}
	n.inputs, n.outputs = d.Widths()
	if n.losses, err = d.losses(cfg); err != nil {
		return nil, err
	}
	if err := n.lay(); err != nil {
		return nil, err
	}
	n.params, n.state = make([]float32, total(n.layout)), make([]float32, total(n.kept))
	n.initState()
	if n.losses == nil {
		return n, nil
	}
	if err := n.prepareLoss(); err != nil {
		return nil, err
	}
	n.weights = make([]float32, cfg.Batch)
	n.feed = make([][]float32, len(n.inputs)+len(n.outputs)+1)
	if n.train, err = n.compile(training); err != nil {
		return nil, err
	}
	return n, nil
}

func total(layout []ParamSpec) int {
	if len(layout) == 0 {
		return 0
	}
	last := layout[len(layout)-1]
	return last.Off + last.Len
}

// prepareLoss checks what the losses need beside themselves, and the class weights.
func (n *Network) prepareLoss() error {
	if len(n.layout) == 0 {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: "the model has no layer that can be trained",
			Hint: "add a dense layer, or take trainable: false off one"}
	}
	for i, l := range n.losses {
		n.targets = append(n.targets, l.TargetWidth(n.shapes[n.def.Outputs[i]]))
		n.rules = append(n.rules, l.targetRule())
	}
	if len(n.cfg.ClassWeight) == 0 {
		return nil
	}
	if len(n.outputs) != 1 {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("class_weight with %d outputs", len(n.outputs)), Hint: "use sample weights"}
	}
	classes := max(lastOf(n.shapes[n.def.Outputs[0]]), 2)
	if t := n.targets[0]; t != 1 && t != classes {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("class_weight with several classes a row: the output has shape %v", n.shapes[n.def.Outputs[0]]),
			Hint: "use sample weights"}
	}
	n.class = make([]float32, classes)
	for i := range n.class {
		n.class[i] = 1
	}
	for c, w := range n.cfg.ClassWeight {
		if c < 0 || c >= classes || !(w >= 0) {
			return &pipeline.Error{Kind: pipeline.BadSpec,
				Message: fmt.Sprintf("class_weight {%d: %g}: the classes are 0 to %d, weights are at least 0", c, w, classes-1)}
		}
		n.class[c] = float32(w)
	}
	return nil
}

// purpose is what a plan is for.
type purpose int

const (
	inference  purpose = iota
	training           // with gradients
	statistics         // of a training pass, without gradients
)

// compile builds the graph over the flat vectors.
func (n *Network) compile(what purpose) (*graph.Plan, error) {
	b := graph.NewBuilder(graph.Config{Kernel: n.cfg.Kernel, Rows: n.cfg.Batch, Params: n.params, State: n.state})
	values := map[string]graph.Node{}
	for i, in := range n.def.Inputs {
		values[in.Name] = b.Input(n.inputs[i])
	}
	readers := map[string]int{}
	for _, name := range n.def.Outputs {
		readers[name]++
	}
	for _, l := range n.def.Layers {
		for _, name := range l.From {
			readers[name]++
		}
	}
	next := 0
	for i, l := range n.def.Layers {
		lg := &layerGraph{b: b, training: what != inference, frozen: l.Frozen, alone: len(l.From) > 0 && readers[l.From[0]] == 1, seed: n.cfg.Seed + uint64(i)<<32}
		for ; next < len(n.vars) && n.vars[next].Layer == i; next++ {
			switch v := n.vars[next]; {
			case n.initial[next].state:
				lg.state = append(lg.state, v.Off)
			case v.State:
				lg.params = append(lg.params, b.Frozen(v.Off, v.Shape))
			default:
				lg.params = append(lg.params, b.Param(v.Off, v.Shape))
			}
		}
		var in []graph.Node
		for _, name := range l.From {
			in = append(in, values[name])
			lg.in = append(lg.in, n.shapes[name])
		}
		v, err := l.Op.build(lg, in)
		if err != nil {
			return nil, &pipeline.Error{Kind: pipeline.Internal, Message: "layer " + l.Name, Err: err}
		}
		values[l.Name] = v
	}
	outputs := make([]graph.Node, len(n.def.Outputs))
	for i, name := range n.def.Outputs {
		outputs[i] = values[name]
	}
	var plan *graph.Plan
	var err error
	switch what {
	case training:
		plan, err = n.compileLoss(b, outputs)
	case statistics:
		plan, err = b.Statistics()
	default:
		plan, err = b.Inference(outputs)
	}
	if err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Internal, Message: "compile model " + n.def.Name, Err: err}
	}
	return plan, nil
}

// compileLoss adds the targets, the row weights and the loss, which is the weighted sum over the outputs.
func (n *Network) compileLoss(b *graph.Builder, outputs []graph.Node) (*graph.Plan, error) {
	targets := make([]graph.Node, len(outputs))
	for i, width := range n.targets {
		targets[i] = b.Input(width)
	}
	weight := b.Input(1)
	var sum graph.Node
	for i, l := range n.losses {
		loss, err := b.Loss(l.config(), outputs[i], targets[i], weight, lastOf(n.shapes[n.def.Outputs[i]]))
		if err == nil && l.Weight > 0 {
			loss, err = b.Scale(loss, l.Weight)
		}
		if err == nil && i > 0 {
			loss, err = b.Add(sum, loss)
		}
		if err != nil {
			return nil, err
		}
		sum = loss
	}
	return b.Training(outputs, sum)
}

// Init draws new parameters from a seed, and sets the state to its start. The same seed and definition give the same
// values on every machine.
func (n *Network) Init(seed uint64) {
	drawn := uint64(0) // counts weights: neither state nor freezing a layer moves the draws of what comes after it
	for i, v := range n.vars {
		if !n.initial[i].state {
			w := n.params
			if v.State {
				w = n.state
			}
			w = w[v.Off : v.Off+v.Len]
			n.initial[i].init.fill(w, v.Shape, rand.NewPCG(seed, drawn))
			constant(w[n.initial[i].ones[0]:n.initial[i].ones[1]], 1)
			drawn++
		}
	}
	n.initState()
}

// initState gives every variable that is never trained its first value, which is never random.
func (n *Network) initState() {
	for i, v := range n.vars {
		if n.initial[i].state {
			n.initial[i].init.fill(n.state[v.Off:v.Off+v.Len], v.Shape, nil)
		}
	}
}

// Definition gives what was compiled.
func (n *Network) Definition() *Definition { return n.def }

// Layout lists the tensors of the flat vectors, in order and without gaps: len(Params()) floats in all.
func (n *Network) Layout() []ParamSpec { return n.layout }

// StateLayout lists the tensors of State, in order and without gaps.
func (n *Network) StateLayout() []ParamSpec { return n.kept }

// InputWidths is the number of floats in a row of every input.
func (n *Network) InputWidths() []int { return n.inputs }

// OutputWidths is the number of floats in a row of every output.
func (n *Network) OutputWidths() []int { return n.outputs }

// TargetWidths is the number of floats in a row of every target; nil when the network was compiled without a loss.
func (n *Network) TargetWidths() []int { return n.targets }

// Params is the live flat parameter vector.
func (n *Network) Params() []float32 { return n.params }

// Grads is the live flat gradient of the last Step; nil when the network was compiled without a loss.
func (n *Network) Grads() []float32 {
	if n.grads == nil && n.train != nil {
		n.grads = make([]float32, len(n.params))
	}
	return n.grads
}

// Settled tells whether no Step changes State: it is empty, or holds the weights of frozen layers only.
func (n *Network) Settled() bool { return !n.moving }

// State is the live flat vector of what layers keep beside their parameters: StateLayout says what. A Step changes the
// moving statistics in it, and leaves the weights of frozen layers alone.
func (n *Network) State() []float32 { return n.state }

// Step runs forward and backward over at most Config.Batch rows. Sample and class weights count as in Keras: the loss
// is the sum of weighted losses divided by the number of rows, not by the sum of weights.
func (n *Network) Step(b *pipeline.Batch) (float32, error) {
	if err := n.load(b); err != nil {
		return 0, err
	}
	return n.ran(n.train.Train(b.Rows, n.steps, n.feed, n.Grads()))
}

// Descend is Step for who changes the parameters while the gradient is computed; see Descender. Where a layer has a regularizer,
// whose penalty is part of the loss, the whole gradient is computed first, as by Step.
func (n *Network) Descend(b *pipeline.Batch, lazy bool, update func(at int, grads []float32)) (float32, error) {
	if len(n.decay) > 0 {
		loss, err := n.Step(b)
		if err == nil && finite(loss) {
			update(0, n.grads)
		}
		return loss, err
	}
	if err := n.load(b); err != nil {
		return 0, err
	}
	return n.ran(n.train.Descend(b.Rows, n.steps, n.feed, lazy, update))
}

// ran ends a step.
func (n *Network) ran(err error) (float32, error) {
	clear(n.feed) // the batch belongs to its reader
	if err != nil {
		return 0, badRow(0, err)
	}
	n.steps++
	return n.train.Loss() + n.regularize(), nil
}

// load checks a batch and makes it what the next step is computed from.
func (n *Network) load(b *pipeline.Batch) error {
	if n.train == nil {
		return &pipeline.Error{Kind: pipeline.Internal, Message: "the model was compiled without a loss and cannot be trained"}
	}
	if b.Rows < 1 || b.Rows > n.cfg.Batch {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("a batch of %d rows for a model that was compiled for 1 to %d", b.Rows, n.cfg.Batch)}
	}
	if err := checkBatch("x", b.Rows, b.X, n.inputs, "takes an input"); err != nil {
		return err
	}
	if err := checkBatch("y", b.Rows, b.Y, n.targets, "takes a target"); err != nil {
		return err
	}
	if b.Weight != nil && len(b.Weight) != b.Rows {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("a batch of %d rows has %d weights", b.Rows, len(b.Weight))}
	}
	if err := n.checkTargets(b.Y); err != nil {
		return err
	}
	n.weigh(b)
	copy(n.feed, b.X)
	copy(n.feed[len(b.X):], b.Y)
	n.feed[len(n.feed)-1] = n.weights
	return nil
}

// Gather makes State what it is to be for the present parameters, batch by batch: the statistics of all rows that were
// given since seen was 0, and not an average in which older batches fade. seen is the number of rows before this batch.
// Layers work as in training, and nothing else of the replica changes. Only the first call allocates.
func (n *Network) Gather(b *pipeline.Batch, seen int64) error {
	if n.Settled() {
		return nil
	}
	if b.Rows < 1 || b.Rows > n.cfg.Batch {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("a batch of %d rows for a model that was compiled for 1 to %d", b.Rows, n.cfg.Batch)}
	}
	if err := checkBatch("x", b.Rows, b.X, n.inputs, "takes an input"); err != nil {
		return err
	}
	if n.stats == nil {
		p, err := n.compile(statistics)
		if err != nil {
			return err
		}
		n.stats = p
	}
	if err := n.stats.Gather(b.Rows, uint64(seen), seen, b.X); err != nil {
		return badRow(0, err)
	}
	return nil
}

// badRow says what is wrong with the values of a row; at is the number of the plan's first row in the batch.
func badRow(at int, err error) error {
	var row *graph.RowError
	if errors.As(err, &row) {
		return &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("row %d of the batch: %s", at+row.Row, row.Text)}
	}
	return &pipeline.Error{Kind: pipeline.Internal, Message: "the model", Err: err}
}

// Output gives an output of the last Step, as it was in training (with dropout): Rows × width, valid until the next
// Step. Metrics of a training step are computed from it without a second pass.
// Nil before the first one, and without a loss.
func (n *Network) Output(i int) []float32 {
	if n.steps == 0 {
		return nil
	}
	return n.train.Output(i)
}

// weigh fills weights with sample weight × class weight / rows.
func (n *Network) weigh(b *pipeline.Batch) {
	mean := 1 / float32(b.Rows)
	for i := range b.Rows {
		w := mean
		if b.Weight != nil {
			w *= b.Weight[i]
		}
		if n.class != nil {
			w *= n.class[n.classOf(b.Y[0][i*n.targets[0]:][:n.targets[0]])]
		}
		n.weights[i] = w
	}
}

// classOf gives the class of a row's target: the arg-max, or of a single number its nearest class.
func (n *Network) classOf(t []float32) int {
	if len(t) == 1 {
		if !(t[0] >= 0) { // what is no class is refused elsewhere
			return 0
		}
		return int(min(t[0]+0.5, float32(len(n.class)-1)))
	}
	best := 0
	for j, v := range t {
		if v > t[best] {
			best = j
		}
	}
	return best
}

// checkBatch compares the columns of a batch with the widths that the model was compiled for.
func checkBatch(role string, rows int, columns [][]float32, widths []int, verb string) error {
	if len(columns) != len(widths) {
		return &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("the batch has %d %s columns, the model %s for each of %d", len(columns), role, verb, len(widths)),
			Hint:    "compare columns." + role + " of the job with the model"}
	}
	for i, c := range columns {
		if len(c) == rows*widths[i] {
			continue
		}
		return &pipeline.Error{Kind: pipeline.BadSpec,
			Message: fmt.Sprintf("%s column %d has width %s, the model %s of width %d", role, i, perRow(len(c), rows), verb, widths[i]),
			Hint:    "compare columns." + role + " of the job with the model"}
	}
	return nil
}

// perRow writes floats per row: 64, or 63.5 for a batch that is cut off.
func perRow(floats, rows int) string { return fmt.Sprintf("%.4g", float64(floats)/float64(rows)) }

// Predict fills out with the outputs in inference mode, in pieces of Config.Batch rows.
func (n *Network) Predict(b *pipeline.Batch, out [][]float32) error {
	if err := n.checkPredict(b, out); err != nil || b.Rows == 0 {
		return err
	}
	return n.predictRows(b, out, 0, b.Rows)
}

// checkPredict compares a batch, and the room for what is predicted for it, with the model.
func (n *Network) checkPredict(b *pipeline.Batch, out [][]float32) error {
	if b.Rows == 0 {
		return nil
	}
	if err := checkBatch("x", b.Rows, b.X, n.inputs, "takes an input"); err != nil {
		return err
	}
	if len(out) != len(n.outputs) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("predict into %d slices, the model has %d outputs", len(out), len(n.outputs))}
	}
	for i, w := range n.outputs {
		if len(out[i]) < b.Rows*w {
			return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("predict %d rows of width %d into %d floats", b.Rows, w, len(out[i]))}
		}
	}
	return nil
}

// predictRows is Predict for the rows from..to of a batch that fits.
func (n *Network) predictRows(b *pipeline.Batch, out [][]float32, from, to int) error {
	if n.predict == nil {
		p, err := n.compile(inference)
		if err != nil {
			return err
		}
		n.predict = p
	}
	if n.feed == nil {
		n.feed = make([][]float32, len(n.inputs))
	}
	for at := from; at < to; at += n.cfg.Batch {
		rows := min(n.cfg.Batch, to-at)
		for i, w := range n.inputs {
			n.feed[i] = b.X[i][at*w:][:rows*w]
		}
		if err := n.predict.Run(rows, 0, n.feed); err != nil {
			clear(n.feed)
			return badRow(at, err)
		}
		for i, w := range n.outputs {
			copy(out[i][at*w:], n.predict.Output(i)[:rows*w])
		}
	}
	clear(n.feed)
	return nil
}
