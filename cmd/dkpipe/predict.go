package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
	"dkpipe/pipeline/local"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
	"dkpipe/trainers"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
)

// predictOptions are what predict is asked for.
type predictOptions struct {
	model, in, out string
	keep           []string
	probabilities  bool
	types          map[string]string // of columns of text files: column -> type
	remote         string            // of Spark
	mode           string            // what becomes of an output that exists
	stage          string            // where rows wait for Spark
}

// Prefixes that tell what --in and --out name when it is no file.
const (
	tablePrefix = "table:"
	queryPrefix = "sql:"
)

func (a *app) predictCommand() *cobra.Command {
	var o predictOptions
	c := &cobra.Command{
		Use:   "predict --model MODEL --in FILE --out FILE",
		Short: "Run raw rows through a model and the transformers it was trained with",
		Long: "Replays the fitted transformers of the model on raw rows and adds the column prediction: the class for a model with\n" +
			"several outputs, else the value. An ensemble predicts together: by the mean of its members' outputs, or by the most\n" +
			"votes (the lowest class of equals); one that lists adds prediction_0, prediction_1 and so on, a column a member. Columns that the model does not read are passed through. The output appears when it\n" +
			"is complete, in one step.\n\n" +
			"--in   a file, a folder or a glob: .csv, .parquet, .arrow or .jsonl; table:NAME or sql:QUERY are read through Spark\n" +
			"--out  a file, .csv or .parquet; table:NAME is made by Spark\n\n" +
			"Spark is where --spark-remote or SPARK_REMOTE says. Rows for a table wait as Parquet in a folder that Spark can read:\n" +
			"--stage, or else /tmp on the HDFS of the model or the input. Without one they are sent through the connection, which\n" +
			"takes 64 MiB.",
		Example: "  dkpipe predict --model out/model --in digits.csv --out predictions.parquet\n" +
			"  dkpipe predict --model out/model --in 'new/*.parquet' --out predictions.csv --keep id --probabilities\n" +
			"  dkpipe predict --model hdfs:///models/churn --in \"sql:SELECT * FROM customers WHERE ds = '2026-11-22'\" \\\n" +
			"    --out table:churn.scores --mode overwrite",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.model == "" || o.in == "" || o.out == "" {
				return usage("dkpipe predict --model out/model --in new.csv --out predictions.csv", "predict needs --model, --in and --out")
			}
			j, err := a.commandJob("predict")
			if err != nil {
				return err
			}
			return j.finish(c.Context(), j.runPredict(c.Context(), o))
		},
	}
	c.Flags().StringVar(&o.model, "model", "", "the model: a root or one version, `URI`")
	c.Flags().StringVar(&o.in, "in", "", "raw rows: a file, a folder, a glob, table:NAME or sql:QUERY, `URI`")
	c.Flags().StringVar(&o.out, "out", "", "where predictions go: a file or table:NAME, `URI`")
	c.Flags().StringSliceVar(&o.keep, "keep", nil, "columns to pass through (default: all that the model does not read)")
	c.Flags().BoolVar(&o.probabilities, "probabilities", false, "add the model's outputs as the list column probabilities")
	c.Flags().StringToStringVar(&o.types, "types", nil, "types of columns of CSV and JSON files, `NAME=TYPE`: bool, int64, float64 or string")
	c.Flags().Lookup("types").DefValue = "" // and not []
	c.Flags().StringVar(&o.mode, "mode", "", "when the output exists: error, overwrite or append (default: error for a table, overwrite for a file)")
	c.Flags().StringVar(&o.remote, "spark-remote", "", "the Spark Connect server, sc://`HOST:PORT` (default: SPARK_REMOTE)")
	c.Flags().StringVar(&o.stage, "stage", "", "a folder that Spark can read, where rows for a table wait, `URI`")
	return c
}

// check finds out what is wrong with the flags, and gives the format of a file.
func (o predictOptions) check() (pipeline.Format, error) {
	if o.mode != "" && o.mode != "error" && o.mode != "overwrite" && o.mode != "append" {
		hint := "known: error, overwrite, append"
		if near := spec.Nearest(o.mode, []string{"error", "overwrite", "append"}); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		return "", usage(hint, "--mode %s: there is no such mode", o.mode)
	}
	if name, ok := strings.CutPrefix(o.out, tablePrefix); ok {
		if !sparkconn.IsTableName(name) {
			return "", usage("write table:name, table:schema.name or table:catalog.schema.name, with backticks round a part of other characters", "--out %s: %q is no table's name", o.out, name)
		}
		return "", nil
	}
	if strings.HasPrefix(o.out, queryPrefix) {
		return "", usage("name a file or table:NAME", "--out %s: a query is no place for predictions", o.out)
	}
	format, err := formatOf(o.out)
	switch {
	case err != nil:
		return "", err
	case format != pipeline.CSV && format != pipeline.Parquet:
		return "", usage("end the name in .csv or .parquet", "%s: predictions are written as CSV or Parquet", o.out)
	case strings.HasSuffix(o.out, ".gz"):
		return "", usage("end the name in .csv or .parquet", "%s: predictions are not compressed as a whole", o.out)
	case o.mode == "append":
		return "", usage("write another file, or append to a table: --out table:NAME", "--mode append: nothing is appended to a file")
	case o.stage != "":
		return "", usage("leave it out", "--stage is for --out table:NAME")
	}
	return format, nil
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
	format, err := o.check()
	if err != nil {
		return err
	}
	b, where, err := j.openBundle(ctx, o.model)
	if err != nil {
		return err
	}
	var to *tableOutput
	if format == "" {
		if to, err = j.openTableOutput(ctx, o, where); err != nil {
			return err
		}
		defer to.close(ctx)
	}
	in, err := j.openRows(ctx, o.in, o.remote, o.types, b)
	if err != nil {
		return err
	}
	defer in.close()
	if slices.ContainsFunc(in.files, func(f string) bool { return path.Clean(f) == path.Clean(o.out) }) {
		return usage("write to another file", "--out %s is one of the files of --in", o.out)
	}
	p, err := newPredictor(b, in.table, o)
	if err != nil {
		return err
	}
	if names, why := in.table.Unused(); len(names) > 0 && o.keep == nil {
		j.report.Warnings = append(j.report.Warnings, fmt.Sprintf("left out of the output: column %q, which %s", names[0], why[0])+andMore(names))
	}
	var rows int64
	if to != nil {
		rows, err = to.write(ctx, p)
	} else {
		rows, err = j.writePredictions(ctx, o, format, p)
	}
	if err != nil {
		return in.explain(err)
	}
	j.report.Model, j.report.Output = where.String(), o.out
	j.report.Rows = map[string]int64{"predicted": rows}
	return nil
}

func andMore(names []string) string {
	if len(names) < 2 {
		return ""
	}
	return fmt.Sprintf(", and %d more: %s", len(names)-1, strings.Join(names[1:min(len(names), 6)], ", "))
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
	net           model.Replica
	suffixes      []string // of the names of columns, one an output
	keep          []int    // columns of the table that are passed through
	schema        *arrow.Schema
	width         int
	probabilities bool

	batch pipeline.Batch
	out   [][]float32
	index []int32 // for every row of the record: its row in out, or -1
}

func newPredictor(b *bundle.Bundle, table *local.Table, o predictOptions) (*predictor, error) {
	keep, err := keptColumns(table, b, o.keep)
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
	nets, err := b.Networks(256)
	if err != nil {
		return nil, err
	}
	var net model.Replica = nets[0]
	suffixes := []string{""}
	if e := b.Ensemble; e != nil {
		members := make([]model.Replica, len(nets))
		for i, n := range nets {
			members[i] = n
		}
		if net, err = trainers.NewCombined(trainers.Combine(e.Combine), members); err != nil {
			return nil, err
		}
		if e.Combine == string(trainers.List) {
			suffixes = nil
			for k := range members {
				suffixes = append(suffixes, memberSuffix(k))
			}
		}
	}
	widths := nets[0].OutputWidths()
	if len(widths) != 1 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the model has %d outputs; predict writes one", len(widths))}
	}
	var have []int
	for _, c := range replay.Columns() {
		have = append(have, c.Width())
	}
	if want := nets[0].InputWidths(); !slices.Equal(want, have) {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the model takes inputs of width %v, the transformed rows have %v", want, have),
			Hint: "predict on rows with the columns that the model was trained on"}
	}
	p := &predictor{table: table, replay: replay, net: net, keep: keep, width: widths[0], suffixes: suffixes, probabilities: o.probabilities, out: make([][]float32, len(suffixes))}
	var fields []arrow.Field
	for _, i := range p.keep {
		fields = append(fields, table.Schema().Field(i))
	}
	for _, suffix := range suffixes {
		var kind arrow.DataType = arrow.PrimitiveTypes.Float32
		if p.width > 1 {
			kind = arrow.PrimitiveTypes.Int64
		}
		fields = append(fields, arrow.Field{Name: "prediction" + suffix, Type: kind, Nullable: true})
		if p.probabilities {
			fields = append(fields, arrow.Field{Name: "probabilities" + suffix, Type: arrow.FixedSizeListOf(int32(p.width), arrow.PrimitiveTypes.Float32), Nullable: true})
		}
	}
	for i, f := range fields[:len(p.keep)] {
		if slices.ContainsFunc(fields[len(p.keep):], func(own arrow.Field) bool { return own.Name == f.Name }) {
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
	if format == pipeline.CSV {
		out, err = local.NewCSVWriter(w, p.schema)
	} else {
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
	for k := range p.out {
		if need := rows.N * p.width; cap(p.out[k]) < need {
			p.out[k] = make([]float32, need)
		} else {
			p.out[k] = p.out[k][:need]
		}
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
	for _, out := range p.out {
		columns = append(columns, p.prediction(out))
		if p.probabilities {
			columns = append(columns, p.outputs(out))
		}
	}
	return array.NewRecordBatch(p.schema, columns, int64(n)), nil
}

// prediction is the class (the lowest index of the greatest output) or the value of every row.
func (p *predictor) prediction(out []float32) arrow.Array {
	if p.width == 1 {
		b := array.NewFloat32Builder(memory.DefaultAllocator)
		b.Reserve(len(p.index))
		for _, i := range p.index {
			if i < 0 {
				b.UnsafeAppendBoolToBitmap(false)
			} else {
				b.UnsafeAppend(out[i])
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
		best, row := 0, out[int(i)*p.width:][:p.width]
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
func (p *predictor) outputs(out []float32) arrow.Array {
	b := array.NewFixedSizeListBuilder(memory.DefaultAllocator, int32(p.width), arrow.PrimitiveTypes.Float32)
	values := b.ValueBuilder().(*array.Float32Builder)
	for _, i := range p.index {
		if i < 0 {
			b.AppendNull()
			continue
		}
		b.Append(true)
		values.AppendValues(out[int(i)*p.width:][:p.width], nil)
	}
	return b.NewArray()
}
