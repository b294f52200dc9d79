package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

// recordWriter is a table writer of package local.
type recordWriter interface {
	Write(arrow.RecordBatch) error
	Close() error
}

// predictor runs batches of raw rows through a model.
type predictor struct {
	table   *local.Table
	replay  *local.Replay
	net     model.Replica
	keep    []int             // columns of the table that are passed through
	outputs []predictedOutput // of all members, of an ensemble that lists
	schema  *arrow.Schema

	batch pipeline.Batch
	out   [][]float32 // one an output
	index []int32     // for every row of the record: its row in out, or -1
}

// predictedOutput is what is written of an output of the model.
type predictedOutput struct {
	width, last        int // floats in a row, and in each of its vectors
	probabilities, raw bool
	squash             string // what makes probabilities of logits: softmax, sigmoid, or nothing
	scratch            []float32
}

// outputOptions says what predict writes of every output besides the prediction.
type outputOptions struct{ probabilities, raw bool }

func newPredictor(b *bundle.Bundle, table *local.Table, named []string, o outputOptions, kernels string) (*predictor, error) {
	keep, err := keptColumns(table, b, named)
	if err != nil {
		return nil, err
	}
	for _, i := range keep {
		table.Pass(table.Schema().Field(i).Name)
	}
	replay, err := local.NewReplay(table, b.Transform, pipeline.Columns{X: b.X})
	if err != nil {
		return nil, err
	}
	nets, err := networksOf(b.Model, b.Ensemble, b.Params, b.State, spec.Train{BatchSize: 256, Kernel: kernels})
	if err != nil {
		return nil, err
	}
	var have []int
	for _, c := range replay.Columns() {
		have = append(have, c.Width())
	}
	if want := nets[0].InputWidths(); !slices.Equal(want, have) {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the model takes inputs of width %v, the transformed rows have %v", want, have),
			Hint: "predict on rows with the columns that the model was trained on"}
	}
	p := &predictor{table: table, replay: replay, keep: keep}
	how := trainers.Mean
	if b.Ensemble != nil {
		how = trainers.Combine(b.Ensemble.Combine)
	}
	if p.net, err = together(nets, b.Ensemble, how, runtime.GOMAXPROCS(0)); err != nil {
		return nil, err
	}
	var fields []arrow.Field
	for _, i := range p.keep {
		fields = append(fields, table.Schema().Field(i))
	}
	added := p.addOutputs(b, nets[0].OutputWidths(), o)
	p.out = make([][]float32, len(p.outputs))
	for i, f := range fields {
		if slices.ContainsFunc(added, func(a arrow.Field) bool { return a.Name == f.Name }) {
			return nil, usage("name the columns to pass through with --keep", "column %d of the rows is called %s, like what predict adds", i+1, f.Name)
		}
	}
	p.schema = arrow.NewSchema(append(fields, added...), nil)
	return p, nil
}

// addOutputs plans the columns of every output, which have these widths. Those of a model with several have the output's
// name at their ends, those of an ensemble that lists the member's number.
func (p *predictor) addOutputs(b *bundle.Bundle, widths []int, o outputOptions) []arrow.Field {
	if b.Ensemble == nil || b.Ensemble.Combine != string(trainers.List) {
		return p.addModel(b, widths, o, "")
	}
	var fields []arrow.Field
	for k := range b.Ensemble.Members {
		fields = append(fields, p.addModel(b, widths, o, memberSuffix(k))...)
	}
	return fields
}

// addModel is addOutputs of one model.
func (p *predictor) addModel(b *bundle.Bundle, widths []int, o outputOptions, suffix string) []arrow.Field {
	var fields []arrow.Field
	losses, shapes := bundleLosses(b), outputShapes(b.Model)
	shares := b.Ensemble != nil && b.Ensemble.Combine == string(trainers.Vote) // of votes, in the place of logits
	for i, w := range widths {
		out := predictedOutput{width: w, last: shapes[i][len(shapes[i])-1], probabilities: o.probabilities, raw: o.raw}
		if losses[i].FromLogits && !shares {
			out.squash = "softmax"
			if model.CanonicalLoss(losses[i].Name) == "binary_crossentropy" {
				out.squash = "sigmoid"
			}
		}
		end := suffix
		if len(b.Model.Outputs) > 1 {
			end = "_" + b.Model.Outputs[i] + suffix
		}
		var kind arrow.DataType = arrow.PrimitiveTypes.Float32
		if w > 1 {
			kind = arrow.PrimitiveTypes.Int64
		}
		fields = append(fields, arrow.Field{Name: "prediction" + end, Type: kind, Nullable: true})
		list := arrow.FixedSizeListOf(int32(w), arrow.PrimitiveTypes.Float32)
		if o.probabilities {
			fields = append(fields, arrow.Field{Name: "probabilities" + end, Type: list, Nullable: true})
		}
		if o.raw {
			fields = append(fields, arrow.Field{Name: "raw" + end, Type: list, Nullable: true})
		}
		p.outputs = append(p.outputs, out)
	}
	return fields
}

// keptColumns gives the columns of a table that are passed through: the named ones, or all that the model does not read.
func keptColumns(table *local.Table, b *bundle.Bundle, named []string) ([]int, error) {
	fields := table.Fields()
	var keep []int
	if named != nil {
		for _, name := range named {
			i := slices.IndexFunc(table.Schema().Fields(), func(f arrow.Field) bool { return f.Name == name })
			if i < 0 {
				return nil, fields.Missing("--keep", name)
			}
			keep = append(keep, i)
		}
		return keep, nil
	}
	reads := map[string]bool{}
	for _, x := range b.X {
		reads[x] = true
	}
	for _, f := range slices.Backward(b.Transform) { // a step is read when an output of it is
		if slices.ContainsFunc(f.Outputs, func(c expr.Column) bool { return reads[c.Name] }) {
			for _, in := range f.Inputs {
				reads[in] = true
			}
		}
	}
	for i, f := range table.Schema().Fields() {
		if !reads[f.Name] {
			keep = append(keep, i)
		}
	}
	return keep, nil
}

// progress shows on a bar how much of the rows is through.
func (p *predictor) progress(b *bar) func(rows int64) { return tableProgress(p.table, b) }

// tableProgress shows on a bar how much of a table was read.
func tableProgress(t *local.Table, b *bar) func(rows int64) {
	const fine = 1 << 20
	return func(rows int64) { b.set(int64(t.Share()*fine), fine, thousands(rows)+" rows") }
}

// run gives all rows with their predictions to write, record after record, and gives their number. A record is valid
// until write returns.
func (p *predictor) run(ctx context.Context, write func(arrow.RecordBatch) error, progress func(int64)) (int64, error) {
	var rows int64
	for {
		rec, err := p.table.Next(ctx)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		predicted, err := p.predict(rec)
		if err != nil {
			return rows, err
		}
		if err := write(predicted); err != nil {
			return rows, err
		}
		rows += rec.NumRows()
		progress(rows)
	}
}

// writeTo is run into a file of a format.
func (p *predictor) writeTo(ctx context.Context, w io.Writer, format pipeline.Format, progress func(int64)) (rows int64, err error) {
	var out recordWriter
	switch format {
	case pipeline.CSV:
		out, err = local.NewCSVWriter(w, p.schema)
	case pipeline.Arrow:
		out, err = local.NewArrowWriter(w, p.schema)
	default:
		out, err = local.NewParquetWriter(w, p.schema)
	}
	if err != nil {
		return 0, err
	}
	rows, err = p.run(ctx, func(rec arrow.RecordBatch) error { return hdfsio.Wrap("write", "predictions", out.Write(rec)) }, progress)
	if err == nil {
		err = hdfsio.Wrap("write", "predictions", out.Close())
	}
	return rows, err
}

// predict gives the kept columns of a record and the prediction of every row; rows that a step leaves out have NULL.
func (p *predictor) predict(rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	n := int(rec.NumRows())
	rows, from, err := p.replay.Batch()
	if err != nil {
		return nil, err
	}
	for i, o := range p.outputs {
		p.out[i] = slices.Grow(p.out[i][:0], rows.N*o.width)[:rows.N*o.width]
	}
	p.batch.Rows, p.batch.X = rows.N, rows.Vectors
	if err := p.net.Predict(&p.batch, p.out); err != nil {
		return nil, err
	}
	p.index = slices.Grow(p.index[:0], n)[:n]
	for i := range p.index {
		p.index[i] = -1
	}
	for i, row := range from {
		p.index[row] = int32(i)
	}
	var columns []arrow.Array
	for _, i := range p.keep {
		columns = append(columns, rec.Column(i))
	}
	for i := range p.outputs {
		o := &p.outputs[i]
		columns = append(columns, o.prediction(p.out[i], p.index))
		if o.probabilities {
			columns = append(columns, o.lists(o.likely(p.out[i]), p.index))
		}
		if o.raw {
			columns = append(columns, o.lists(p.out[i], p.index))
		}
	}
	return array.NewRecordBatch(p.schema, columns, int64(n)), nil
}

// prediction is the class (the lowest index of the greatest output) or the value of every row.
func (o *predictedOutput) prediction(out []float32, index []int32) arrow.Array {
	if o.width == 1 {
		b := array.NewFloat32Builder(memory.DefaultAllocator)
		b.Reserve(len(index))
		for _, i := range index {
			if i < 0 {
				b.UnsafeAppendBoolToBitmap(false)
			} else {
				b.UnsafeAppend(out[i])
			}
		}
		return b.NewArray()
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Reserve(len(index))
	for _, i := range index {
		if i < 0 {
			b.UnsafeAppendBoolToBitmap(false)
			continue
		}
		best, row := 0, out[int(i)*o.width:][:o.width]
		for k, v := range row {
			if v > row[best] {
				best = k
			}
		}
		b.UnsafeAppend(int64(best))
	}
	return b.NewArray()
}

// lists are vectors as lists.
func (o *predictedOutput) lists(out []float32, index []int32) arrow.Array {
	b := array.NewFixedSizeListBuilder(memory.DefaultAllocator, int32(o.width), arrow.PrimitiveTypes.Float32)
	values := b.ValueBuilder().(*array.Float32Builder)
	for _, i := range index {
		if i < 0 {
			b.AppendNull()
			continue
		}
		b.Append(true)
		values.AppendValues(out[int(i)*o.width:][:o.width], nil)
	}
	return b.NewArray()
}

// likely gives the outputs as probabilities: of a model that was trained on logits what softmax or sigmoid makes of them.
func (o *predictedOutput) likely(out []float32) []float32 {
	if o.squash == "" {
		return out
	}
	o.scratch = append(o.scratch[:0], out...)
	if o.squash == "sigmoid" {
		for i, v := range o.scratch {
			o.scratch[i] = float32(1 / (1 + math.Exp(-float64(v))))
		}
		return o.scratch
	}
	for v := range slices.Chunk(o.scratch, o.last) {
		most, sum := float64(slices.Max(v)), 0.0
		for _, x := range v {
			sum += math.Exp(float64(x) - most)
		}
		for i, x := range v {
			v[i] = float32(math.Exp(float64(x)-most) / sum)
		}
	}
	return o.scratch
}
