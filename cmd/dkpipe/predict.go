package main

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/sparkconn"
)

// predictOptions are what predict is asked for.
type predictOptions struct {
	model, in, out string
	keep           []string
	outputOptions
	types  map[string]string // of columns of text files: column -> type
	remote string            // of Spark
	mode   string            // what becomes of an output that exists
	stage  string            // where rows wait for Spark
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
		Long: "Replays the fitted transformers of the model on raw rows and adds the column prediction: the class, where the model\n" +
			"gives several numbers for a row, else the value. A model with several outputs adds columns for each, such as\n" +
			"prediction_price. An ensemble predicts together: by the mean of its members' outputs, or by the most votes (the lowest\n" +
			"class of equals); one that lists adds prediction_0, prediction_1 and so on, a column a member. Columns that the model\n" +
			"does not read are passed through. The output appears when it is complete, in one step.\n\n" +
			"--in   a file, a folder or a glob: .csv, .parquet, .arrow or .jsonl; table:NAME or sql:QUERY are read through Spark\n" +
			"--out  a file, .csv, .parquet or .arrow; table:NAME is made by Spark\n\n" +
			"Spark is where --spark-remote or SPARK_REMOTE says; PEM files for TLS: SPARK_REMOTE_CA, _CERT, _KEY.\n" +
			"Rows for a table wait as Parquet in a folder that Spark can read:\n" +
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
	c.Flags().BoolVar(&o.probabilities, "probabilities", false, "add the list column probabilities: the model's outputs, after softmax or sigmoid if it was trained on logits")
	c.Flags().BoolVar(&o.raw, "raw", false, "add the list column raw: the model's outputs as they are")
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
	case format == pipeline.JSON:
		return "", usage("end the name in .csv, .parquet or .arrow", "%s: predictions are written as CSV, Parquet or Arrow", o.out)
	case strings.HasSuffix(o.out, ".gz"):
		return "", usage("end the name in .csv, .parquet or .arrow", "%s: predictions are not compressed as a whole", o.out)
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
	if err := j.refuseToReplace(ctx, in.files, o.out); err != nil {
		return err
	}
	p, err := newPredictor(b, in.table, o.keep, o.outputOptions, j.app.kernel("auto"))
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
