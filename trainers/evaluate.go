package trainers

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// EvalConfig says what to evaluate on which data.
type EvalConfig struct {
	Feed     pipeline.Feed
	Replicas []model.Replica // one goroutine works with each; at least one
	Params   []float32       // copied into every replica; nil: the replicas are used as they are
	State    []float32       // likewise
	Shapes   [][]int         // of one row of the model's outputs; nil: Widths
	Widths   []int           // of the model's outputs; nil: as wide as the targets
	Loss     string          // name of the loss of every output
	Losses   []model.Loss    // instead of Loss: one an output
	Metrics  []string        // names of MetricNames or of losses; name_2 is for the second output alone
}

// Evaluation is how good a model is on a split. Metrics are the loss and then the metrics in the order of EvalConfig.
// Figures are of all rows, weighted when the split has weights; means are Σ w v / Σ w. A model with several outputs has
// the weighted sum of its losses as its loss, then loss_1, loss_2 and so on, and metrics with the output's number:
// accuracy_1, accuracy_2. Penalties of regularizers are not in the loss.
type Evaluation struct {
	Rows    int64    `json:"rows"`
	Metrics Metrics  `json:"metrics"`
	Notes   []string `json:"notes,omitempty"` // what has to be known to read them
}

// Evaluate runs a split through replicas in inference mode, in one pass with bounded memory. The figures are the same
// bit for bit for any number of replicas: each shard is measured on its own, and shards are merged in their order.
// A split without rows is an error of kind data, an unknown loss or metric one of kind unsupported.
func Evaluate(ctx context.Context, cfg EvalConfig) (Evaluation, error) {
	if cfg.Feed == nil || len(cfg.Replicas) == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Internal, Message: "evaluate needs a feed and at least one replica"}
	}
	if err := CheckMetrics(cfg.Metrics); err != nil {
		return Evaluation{}, err
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err != nil {
		return Evaluation{}, err
	}
	all := &evaluation{cfg: cfg, done: map[int]*measured{}}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range cfg.Replicas[:min(len(cfg.Replicas), max(1, len(shards)))] {
		if err := load(r, cfg.Params, cfg.State); err != nil {
			return Evaluation{}, err
		}
		g.Go(func() error {
			e := evaluator{all: all, replica: r}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(shards) {
					return nil
				}
				m := &measured{}
				if err := e.shard(ctx, shards[i], m); err != nil {
					return err
				}
				all.finish(i, m)
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Evaluation{}, err
	}
	return all.figures()
}

// load copies parameters and state into a replica.
func load(r model.Replica, params, state []float32) error {
	if params != nil && len(params) != len(r.Params()) || state != nil && len(state) != len(r.State()) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("the model has %d parameters and %d values of state, not %d and %d",
			len(r.Params()), len(r.State()), len(params), len(state))}
	}
	copy(r.Params(), params)
	copy(r.State(), state)
	return nil
}

// figure is one figure of one output.
type figure struct {
	name   string
	output int
	make   func(o output) (meter, error)
	scores *scoreLimit // shared by its meters of all shards
}

// evaluation is what the goroutines of Evaluate share.
type evaluation struct {
	cfg EvalConfig

	mu      sync.Mutex
	outputs []output // known from the first batch on
	list    []figure
	err     error // of the plan
	planned bool
	total   measured // of shards 0 to merged - 1
	merged  int
	done    map[int]*measured // shards that wait for an earlier one
}

// measured is what is known of a shard or of several.
type measured struct {
	rows   int64
	weight float64
	meters []meter // one a figure; nil before the first batch
}

// plan finds the shapes of outputs and the figures, from the first batch that there is.
func (a *evaluation) plan(b *pipeline.Batch) ([]output, []figure, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.planned {
		a.planned = true
		a.outputs, a.list, a.err = a.cfg.plan(b)
	}
	return a.outputs, a.list, a.err
}

func (cfg EvalConfig) plan(b *pipeline.Batch) ([]output, []figure, error) {
	var outputs []output
	var list []figure
	for k, y := range b.Y {
		target := len(y) / b.Rows
		shape := []int{target}
		if k < len(cfg.Shapes) {
			shape = cfg.Shapes[k]
		} else if k < len(cfg.Widths) {
			shape = []int{cfg.Widths[k]}
		}
		o, err := newOutput(shape, target)
		if err != nil {
			return nil, nil, err
		}
		outputs = append(outputs, o)
		loss := cfg.loss(k)
		if err := loss.Check(); err != nil {
			return nil, nil, err
		}
		list = append(list, figure{name: "loss", output: k, make: func(o output) (meter, error) { return newLossMeter(loss, o) }})
		for _, name := range cfg.Metrics {
			base, only := splitMetric(name)
			if only > len(b.Y) {
				return nil, nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("metric %s: the model has %d outputs", name, len(b.Y))}
			}
			if only > 0 && only != k+1 {
				continue
			}
			make, _ := findMetric(base) // CheckMetrics knows it
			label := name
			if only == 0 && len(b.Y) > 1 {
				label = fmt.Sprintf("%s_%d", name, k+1)
			}
			list = append(list, figure{name: label, output: k, make: make, scores: &scoreLimit{}})
		}
	}
	return outputs, list, nil
}

func (cfg EvalConfig) loss(output int) model.Loss {
	if output < len(cfg.Losses) {
		return cfg.Losses[output]
	}
	return model.Loss{Name: cfg.Loss}
}

// finish merges shards as far as there is no gap, so that few wait in memory.
func (a *evaluation) finish(shard int, m *measured) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done[shard] = m
	for ; a.done[a.merged] != nil; a.merged++ {
		a.total.merge(a.done[a.merged])
		delete(a.done, a.merged)
	}
}

func (m *measured) merge(later *measured) {
	m.rows += later.rows
	m.weight += later.weight
	if m.meters == nil {
		m.meters = later.meters
		return
	}
	for i, l := range later.meters {
		m.meters[i].merge(l)
	}
}

// evaluator is one goroutine of Evaluate.
type evaluator struct {
	all     *evaluation
	replica model.Replica
	outputs []output
	list    []figure
	out     [][]float32
}

func (e *evaluator) shard(ctx context.Context, s pipeline.Shard, m *measured) (err error) {
	reader, err := e.all.cfg.Feed.Open(ctx, s, pipeline.Cursor{})
	if err != nil {
		return err
	}
	defer func() {
		if e := reader.Close(); err == nil {
			err = e
		}
	}()
	for {
		b, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.prepare(b, m); err != nil {
			return err
		}
		if err := e.replica.Predict(b, e.out); err != nil {
			return err
		}
		m.rows += int64(b.Rows)
		m.weight += weights(b)
		for i, f := range e.list {
			m.meters[i].add(e.out[f.output], b.Y[f.output], b.Weight)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func weights(b *pipeline.Batch) float64 {
	if b.Weight == nil {
		return float64(b.Rows)
	}
	var sum float64
	for _, w := range b.Weight[:b.Rows] {
		sum += float64(w)
	}
	return sum
}

// prepare makes room for b's predictions and, at the first batch, the meters.
func (e *evaluator) prepare(b *pipeline.Batch, m *measured) (err error) {
	if e.list == nil {
		if e.outputs, e.list, err = e.all.plan(b); err != nil {
			return err
		}
		e.out = make([][]float32, len(e.outputs))
	}
	if m.meters == nil {
		for _, f := range e.list {
			o := e.outputs[f.output]
			o.scores = f.scores
			meter, err := f.make(o)
			if err != nil {
				return err
			}
			m.meters = append(m.meters, meter)
		}
	}
	for k, o := range e.outputs {
		e.out[k] = slices.Grow(e.out[k][:0], b.Rows*o.size())[:b.Rows*o.size()]
	}
	return nil
}

// figures names what was measured.
func (a *evaluation) figures() (Evaluation, error) {
	total := a.total
	if total.rows == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: "the split to evaluate has no rows",
			Hint: "give the split a larger share, or evaluate another one"}
	}
	if total.weight == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the weights of all %d rows are 0", total.rows)}
	}
	result := Evaluation{Rows: total.rows, Metrics: Metrics{{Name: "loss"}}}
	for i, f := range a.list {
		x := Metric{Name: f.name}
		var note string
		x.Value, x.Matrix, note = total.meters[i].figure()
		if note != "" {
			result.Notes = append(result.Notes, x.Name+": "+note)
		}
		if f.name == "loss" {
			factor := a.cfg.loss(f.output).Weight
			if factor == 0 {
				factor = 1
			}
			result.Metrics[0].Value += factor * x.Value
			if len(a.outputs) == 1 {
				continue
			}
			x.Name = fmt.Sprintf("loss_%d", f.output+1)
		}
		result.Metrics = append(result.Metrics, x)
	}
	return result, nil
}
