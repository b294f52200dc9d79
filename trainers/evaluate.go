package trainers

import (
	"context"
	"fmt"
	"io"
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
	Widths   []int           // of the model's outputs, for sparse targets; nil: as wide as the targets
	Loss     string          // name of the loss
	Metrics  []string        // accuracy, mse, mae, or the name of any loss
}

// Evaluation is how good a model is on a split. Metrics are the loss and then the metrics in the order of EvalConfig.
// Every figure is the mean over the rows, weighted when the split has weights: Σ w v / Σ w. A model with several
// outputs has the sum of the losses as its loss, and metrics with the output's number: accuracy_1, accuracy_2.
type Evaluation struct {
	Rows    int64   `json:"rows"`
	Metrics Metrics `json:"metrics"`
}

// Evaluate runs a split through replicas in inference mode, in one pass with constant memory. The figures are the
// same bit for bit for any number of replicas: sums are kept per shard and added in shard order.
// A split without rows is an error of kind data, an unknown loss or metric one of kind unsupported.
func Evaluate(ctx context.Context, cfg EvalConfig) (Evaluation, error) {
	if cfg.Feed == nil || len(cfg.Replicas) == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Internal, Message: "evaluate needs a feed and at least one replica"}
	}
	shards, err := cfg.Feed.Shards(ctx)
	if err != nil {
		return Evaluation{}, err
	}
	sums := make([]evalSums, len(shards))
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range cfg.Replicas[:min(len(cfg.Replicas), max(1, len(shards)))] {
		if err := load(r, cfg.Params, cfg.State); err != nil {
			return Evaluation{}, err
		}
		g.Go(func() error {
			e := evaluator{cfg: cfg, replica: r}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(shards) {
					return nil
				}
				if err := e.shard(ctx, shards[i], &sums[i]); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Evaluation{}, err
	}
	return cfg.merge(sums)
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

// evalSums are what one shard adds to the figures.
type evalSums struct {
	rows    int64
	weight  float64
	values  []float64 // output-major: loss, then metrics
	outputs int
}

// evaluator is one goroutine of Evaluate.
type evaluator struct {
	cfg     EvalConfig
	replica model.Replica
	out     [][]float32
	widths  []int // of predictions
	targets []int // widths of the targets that funcs were resolved for
	funcs   []rowFunc
}

func (e *evaluator) shard(ctx context.Context, s pipeline.Shard, sums *evalSums) (err error) {
	reader, err := e.cfg.Feed.Open(ctx, s, pipeline.Cursor{})
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
		if err := e.resolve(b); err != nil {
			return err
		}
		if err := e.replica.Predict(b, e.out); err != nil {
			return err
		}
		e.add(b, sums)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// resolve makes room for b's predictions and, once, finds the functions for its widths.
func (e *evaluator) resolve(b *pipeline.Batch) error {
	if e.funcs == nil {
		names := append([]string{e.cfg.Loss}, e.cfg.Metrics...)
		e.out = make([][]float32, len(b.Y))
		for k, y := range b.Y {
			target := len(y) / b.Rows
			width := target
			if k < len(e.cfg.Widths) {
				width = e.cfg.Widths[k]
			}
			e.widths, e.targets = append(e.widths, width), append(e.targets, target)
			for _, name := range names {
				f, err := resolveRowFunc(name, width, target)
				if err != nil {
					return err
				}
				e.funcs = append(e.funcs, f)
			}
		}
	}
	for k := range e.out {
		n := b.Rows * e.widths[k]
		if cap(e.out[k]) < n {
			e.out[k] = make([]float32, n)
		}
		e.out[k] = e.out[k][:n]
	}
	return nil
}

// add scores a batch.
func (e *evaluator) add(b *pipeline.Batch, sums *evalSums) {
	if sums.values == nil {
		sums.values, sums.outputs = make([]float64, len(e.funcs)), len(e.out)
	}
	perOutput := len(e.funcs) / max(1, len(e.out))
	for k, out := range e.out {
		width, target := e.widths[k], e.targets[k]
		for j, f := range e.funcs[k*perOutput : (k+1)*perOutput] {
			var sum float64
			for i := range b.Rows {
				v := f(out[i*width:(i+1)*width], b.Y[k][i*target:(i+1)*target])
				if b.Weight != nil {
					v *= float64(b.Weight[i])
				}
				sum += v
			}
			sums.values[k*perOutput+j] += sum
		}
	}
	sums.rows += int64(b.Rows)
	if b.Weight == nil {
		sums.weight += float64(b.Rows)
		return
	}
	for _, w := range b.Weight[:b.Rows] {
		sums.weight += float64(w)
	}
}

// merge adds up the shards and names the figures.
func (cfg EvalConfig) merge(shards []evalSums) (Evaluation, error) {
	var total evalSums
	for _, s := range shards {
		total.rows += s.rows
		total.weight += s.weight
		if total.values == nil && s.values != nil {
			total.values, total.outputs = make([]float64, len(s.values)), s.outputs
		}
		for i, v := range s.values {
			total.values[i] += v
		}
	}
	if total.rows == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: "the split to evaluate has no rows",
			Hint: "give the split a larger share, or evaluate another one"}
	}
	if total.weight == 0 {
		return Evaluation{}, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the weights of all %d rows are 0", total.rows)}
	}
	result := Evaluation{Rows: total.rows, Metrics: Metrics{{Name: "loss"}}}
	perOutput := 1 + len(cfg.Metrics)
	for k := range total.outputs {
		loss := total.values[k*perOutput] / total.weight
		result.Metrics[0].Value += loss
		if total.outputs > 1 {
			result.Metrics = append(result.Metrics, Metric{fmt.Sprintf("loss_%d", k+1), loss})
		}
		for j, name := range cfg.Metrics {
			if total.outputs > 1 {
				name = fmt.Sprintf("%s_%d", name, k+1)
			}
			result.Metrics = append(result.Metrics, Metric{name, total.values[k*perOutput+1+j] / total.weight})
		}
	}
	return result, nil
}
