package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/local"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

// predictOptions are what predict is asked for.
type predictOptions struct {
	model, in, out string
	keep           []string
	probabilities  bool
}

func (a *app) predictCommand() *cobra.Command {
	var o predictOptions
	c := &cobra.Command{
		Use:   "predict --model MODEL --in FILE --out FILE",
		Short: "Run raw rows through a model and the transformers it was trained with",
		Long: "Replays the fitted transformers of the model on raw rows and adds the column prediction: the class for a model with\n" +
			"several outputs, else the value. Columns that the model does not read are passed through. Formats follow the file\n" +
			"names: .csv, .parquet, .arrow, .jsonl in; .csv, .parquet out. The output appears when it is complete.",
		Example: "  dkpipe predict --model out/model --in digits.csv --out predictions.parquet\n" +
			"  dkpipe predict --model out/model --in 'new/*.parquet' --out predictions.csv --keep id --probabilities",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.model == "" || o.in == "" || o.out == "" {
				return usage("dkpipe predict --model out/model --in new.csv --out predictions.csv", "predict needs --model, --in and --out")
			}
			j := a.looseJob("predict")
			return j.finish(c.Context(), j.runPredict(c.Context(), o))
		},
	}
	c.Flags().StringVar(&o.model, "model", "", "the model: a root or one version, `URI`")
	c.Flags().StringVar(&o.in, "in", "", "raw rows: a file, a folder or a glob, `URI`")
	c.Flags().StringVar(&o.out, "out", "", "where predictions go, `URI`")
	c.Flags().StringSliceVar(&o.keep, "keep", nil, "columns to pass through (default: all that the model does not read)")
	c.Flags().BoolVar(&o.probabilities, "probabilities", false, "add the model's outputs as the list column probabilities")
	return c
}

// formatOf tells a format by the ending of a file's name.
func formatOf(name string) (pipeline.Format, error) {
	switch ext := strings.ToLower(path.Ext(strings.TrimSuffix(name, ".gz"))); ext {
	case ".csv":
		return pipeline.CSV, nil
	case ".parquet":
		return pipeline.Parquet, nil
	case ".arrow", ".feather", ".ipc":
		return pipeline.Arrow, nil
	case ".json", ".jsonl", ".ndjson":
		return pipeline.JSON, nil
	default:
		return "", usage("use .csv, .parquet, .arrow or .jsonl", "%s: the ending does not tell the format", name)
	}
}

func (j *job) runPredict(ctx context.Context, o predictOptions) error {
	format, err := formatOf(o.out)
	if err != nil {
		return err
	}
	if format != pipeline.CSV && format != pipeline.Parquet {
		return usage("end the name in .csv or .parquet", "%s: predictions are written as CSV or Parquet", o.out)
	}
	if strings.HasSuffix(o.out, ".gz") {
		return usage("end the name in .csv or .parquet", "%s: predictions are not compressed as a whole", o.out)
	}
	b, where, err := j.openBundle(ctx, o.model)
	if err != nil {
		return err
	}
	files, err := expand(ctx, j.stores, []string{o.in})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(files, func(f string) bool { return path.Clean(f) == path.Clean(o.out) }) {
		return usage("write to another file", "--out %s is one of the files of --in", o.out)
	}
	inFormat, err := formatOf(files[0])
	if err != nil {
		return err
	}
	table, err := local.OpenTable(ctx, anywhere{j.stores}, pipeline.Source{Format: inFormat, Files: files})
	if err != nil {
		return err
	}
	defer table.Close()
	p, err := newPredictor(b, table, o)
	if err != nil {
		return err
	}
	rows, err := j.writePredictions(ctx, o.out, format, p)
	if err != nil {
		return err
	}
	j.report.Model, j.report.Output = where.String(), o.out
	j.report.Rows = map[string]int64{"predicted": rows}
	return nil
}

// writePredictions runs the whole table into a new file beside its final name, and renames it.
func (j *job) writePredictions(ctx context.Context, out string, format pipeline.Format, p *predictor) (rows int64, err error) {
	at, err := openPlace(ctx, j.stores, out)
	if err != nil {
		return 0, err
	}
	dir, base := path.Split(at.path)
	temp := fmt.Sprintf("%s.%s.part-%x", dir, base, time.Now().UnixNano())
	f, err := at.fs.Create(ctx, temp)
	if err != nil {
		return 0, withHint(err, "the folder of --out must exist and be writable")
	}
	defer func() {
		if err != nil {
			f.Abort()
			_ = at.fs.Remove(context.WithoutCancel(ctx), temp) // what Abort could not remove
		}
	}()
	b := j.bars.start("predict", 0)
	defer func() { b.done(err == nil, "") }()
	rows, err = p.run(ctx, f, format, func(n int64) { b.set(n, 0, thousands(n)+" rows") })
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = at.fs.Rename(ctx, temp, at.path)
	}
	return rows, err
}

// recordWriter is a table writer of package local.
type recordWriter interface {
	Write(arrow.RecordBatch) error
	Close() error
}

// predictor runs batches of raw rows through a model.
type predictor struct {
	table         *local.Table
	replay        *local.Replay
	net           *model.Network
	keep          []int // columns of the table that are passed through
	schema        *arrow.Schema
	width         int
	probabilities bool

	batch pipeline.Batch
	out   [][]float32
	index []int32 // for every row of the record: its row in out, or -1
}

func newPredictor(b *bundle.Bundle, table *local.Table, o predictOptions) (*predictor, error) {
	replay, err := local.NewReplay(table, b.Transform, pipeline.Columns{X: b.X})
	if err != nil {
		return nil, err
	}
	net, err := b.Network(256)
	if err != nil {
		return nil, err
	}
	widths := net.OutputWidths()
	if len(widths) != 1 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the model has %d outputs; predict writes one", len(widths))}
	}
	var have []int
	for _, c := range replay.Columns() {
		have = append(have, c.Width())
	}
	if want := net.InputWidths(); !slices.Equal(want, have) {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the model takes inputs of width %v, the transformed rows have %v", want, have),
			Hint: "predict on rows with the columns that the model was trained on"}
	}
	p := &predictor{table: table, replay: replay, net: net, width: widths[0], probabilities: o.probabilities, out: make([][]float32, 1)}
	if p.keep, err = keptColumns(table, b, o.keep); err != nil {
		return nil, err
	}
	var fields []arrow.Field
	for _, i := range p.keep {
		fields = append(fields, table.Schema().Field(i))
	}
	if p.width > 1 {
		fields = append(fields, arrow.Field{Name: "prediction", Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	} else {
		fields = append(fields, arrow.Field{Name: "prediction", Type: arrow.PrimitiveTypes.Float32, Nullable: true})
	}
	if p.probabilities {
		fields = append(fields, arrow.Field{Name: "probabilities", Type: arrow.FixedSizeListOf(int32(p.width), arrow.PrimitiveTypes.Float32), Nullable: true})
	}
	for i, f := range fields[:len(p.keep)] {
		if f.Name == "prediction" || f.Name == "probabilities" {
			return nil, usage("name the columns to pass through with --keep", "column %d of the rows is called %s, like what predict adds", i+1, f.Name)
		}
	}
	p.schema = arrow.NewSchema(fields, nil)
	return p, nil
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

// run writes all rows with their predictions and gives their number.
func (p *predictor) run(ctx context.Context, w io.Writer, format pipeline.Format, progress func(int64)) (int64, error) {
	var out recordWriter
	var err error
	if format == pipeline.CSV {
		out, err = local.NewCSVWriter(w, p.schema)
	} else {
		out, err = local.NewParquetWriter(w, p.schema)
	}
	if err != nil {
		return 0, err
	}
	var rows int64
	for {
		rec, err := p.table.Next(ctx)
		if errors.Is(err, io.EOF) {
			return rows, out.Close()
		}
		if err != nil {
			return rows, err
		}
		predicted, err := p.predict(rec)
		if err != nil {
			return rows, err
		}
		if err := out.Write(predicted); err != nil {
			return rows, hdfsio.Wrap("write", "predictions", err)
		}
		rows += rec.NumRows()
		progress(rows)
	}
}

// predict gives the kept columns of a record and the prediction of every row; rows that a step leaves out have NULL.
func (p *predictor) predict(rec arrow.RecordBatch) (arrow.RecordBatch, error) {
	n := int(rec.NumRows())
	rows, from, err := p.replay.Batch()
	if err != nil {
		return nil, err
	}
	if need := rows.N * p.width; cap(p.out[0]) < need {
		p.out[0] = make([]float32, need)
	} else {
		p.out[0] = p.out[0][:need]
	}
	p.batch.Rows, p.batch.X = rows.N, rows.Vectors
	if rows.N > 0 {
		if err := p.net.Predict(&p.batch, p.out); err != nil {
			return nil, err
		}
	}
	if cap(p.index) < n {
		p.index = make([]int32, n)
	}
	p.index = p.index[:n]
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
	columns = append(columns, p.prediction())
	if p.probabilities {
		columns = append(columns, p.outputs())
	}
	return array.NewRecordBatch(p.schema, columns, int64(n)), nil
}

// prediction is the class (the lowest index of the greatest output) or the value of every row.
func (p *predictor) prediction() arrow.Array {
	if p.width == 1 {
		b := array.NewFloat32Builder(memory.DefaultAllocator)
		b.Reserve(len(p.index))
		for _, i := range p.index {
			if i < 0 {
				b.UnsafeAppendBoolToBitmap(false)
			} else {
				b.UnsafeAppend(p.out[0][i])
			}
		}
		return b.NewArray()
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Reserve(len(p.index))
	for _, i := range p.index {
		if i < 0 {
			b.UnsafeAppendBoolToBitmap(false)
			continue
		}
		best, row := 0, p.out[0][int(i)*p.width:][:p.width]
		for k, v := range row {
			if v > row[best] {
				best = k
			}
		}
		b.UnsafeAppend(int64(best))
	}
	return b.NewArray()
}

// outputs are the model's outputs as lists.
func (p *predictor) outputs() arrow.Array {
	b := array.NewFixedSizeListBuilder(memory.DefaultAllocator, int32(p.width), arrow.PrimitiveTypes.Float32)
	values := b.ValueBuilder().(*array.Float32Builder)
	for _, i := range p.index {
		if i < 0 {
			b.AppendNull()
			continue
		}
		b.Append(true)
		values.AppendValues(p.out[0][int(i)*p.width:][:p.width], nil)
	}
	return b.NewArray()
}
