package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/local"
)

// importOptions are what import is asked for.
type importOptions struct {
	in          []string
	out         string
	format, to  string
	rowsPerFile int64
	rename      map[string]string // old name -> new name
	force       bool
}

type importReport struct {
	dataHead
	Output  string           `json:"output"`
	Format  pipeline.Format  `json:"format"` // of the files that were written
	Rows    int64            `json:"rows"`
	Files   int64            `json:"files"`
	Bytes   int64            `json:"bytes"`
	Parts   map[string]int64 `json:"parts,omitempty"` // rows by part, where the source has parts
	Columns []importedColumn `json:"columns"`
	Entries []summed         `json:"entries"`
}

type importedColumn struct {
	Name string `json:"name"`
	Type string `json:"type"` // in the words of Spark
}

func (r *importReport) print(a *app) {
	fmt.Fprintf(a.stdout, "%s: %s rows, %s, %s, %.2f s\n", r.Output, thousands(r.Rows), plural(r.Files, "file"), humanBytes(r.Bytes), r.Seconds)
	if len(r.Parts) > 0 {
		var parts []string
		for _, name := range idxParts() {
			if n, ok := r.Parts[name]; ok {
				parts = append(parts, thousands(n)+" "+name)
			}
		}
		fmt.Fprintf(a.stdout, "  parts    %s\n", strings.Join(parts, ", "))
	}
	var columns []string
	for _, c := range r.Columns {
		columns = append(columns, c.Name+" "+c.Type)
	}
	if n := len(columns); n > 8 {
		columns = append(append(columns[:4:4], fmt.Sprintf("… %d more …", n-5)), columns[n-1])
	}
	fmt.Fprintf(a.stdout, "  columns  %s\n", strings.Join(columns, ", "))
}

func (a *app) dataImportCommand() *cobra.Command {
	var o importOptions
	var rename []string
	c := &cobra.Command{
		Use:   "import --in FILES... --out FOLDER",
		Short: "Turn IDX, CSV, JSON, Arrow or Parquet files into a Parquet table on any store",
		Long: "Writes the folder FOLDER with files part-00000.parquet, …, which Spark, pandas and dkpipe read as one table. The folder\n" +
			"appears by one rename when every file is there and was read back; until then nothing is visible.\n\n" +
			"Formats follow the file names (.csv, .jsonl, .arrow, .parquet, …-idx3-ubyte, all but the last two also with .gz) or\n" +
			"--format. IDX files come in pairs of images and labels, told apart by their names; they become the columns id bigint,\n" +
			"pixels array<float>, label bigint and, when both the train and the t10k (or test) pair are given, part: train or test.\n" +
			"Integers become bigint; dates and times become text. Columns of nested types are left out.\n\n" +
			"A folder that exists is refused. --force replaces it when it is a table: it is moved aside, the new one takes its\n" +
			"place and the old one is removed. Stores have no exchange in one step, so for a moment between the two moves the\n" +
			"table is absent, never half there; when the second move fails the old table is moved back.",
		Example: "  dkpipe data import --in 'raw/*-ubyte.gz' --out hdfs://ns/data/fashion\n" +
			"  dkpipe data import --in digits.csv --out out/digits --rename label=digit\n" +
			"  dkpipe data import --in raw/a.csv,raw/b.csv --out out/table --rows-per-file 100000 --force",
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			r := &importReport{Columns: []importedColumn{}, Entries: []summed{}}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				o.in = append(o.in, args...)
				if err := o.check(rename); err != nil {
					return err
				}
				return j.importTable(ctx, o, r)
			})
		},
	}
	c.Flags().StringSliceVar(&o.in, "in", nil, "files, folders and patterns, `URI`s; more may follow the flags (there a comma is part of a name)")
	c.Flags().StringVar(&o.out, "out", "", "the folder to make, `URI`")
	c.Flags().StringVar(&o.format, "format", "", "format of the sources: idx, csv, json, arrow or parquet (default: by the names)")
	c.Flags().StringVar(&o.to, "to", "parquet", "format to write: parquet or csv")
	c.Flags().Int64Var(&o.rowsPerFile, "rows-per-file", 0, "start a new file after so many rows (default: after about 96 MiB, so that a file is one block of HDFS)")
	c.Flags().StringArrayVar(&rename, "rename", nil, "give a column another name, `OLD=NEW`; repeatable")
	c.Flags().BoolVarP(&o.force, "force", "f", false, "replace the table at FOLDER")
	return c
}

// check refuses what the flags alone show to be wrong.
func (o *importOptions) check(rename []string) error {
	const example = "dkpipe data import --in raw.csv --out out/table"
	switch {
	case len(o.in) == 0 || o.out == "":
		return usage(example, "import needs --in and --out")
	case o.to != "parquet" && o.to != "csv":
		return usage("--to parquet or --to csv", "--to: %q is not a format that import writes", o.to)
	case !slices.Contains([]string{"", "idx", "csv", "json", "arrow", "parquet"}, o.format):
		return usage("use idx, csv, json, arrow or parquet", "--format: %q is not a format that import reads", o.format)
	case o.rowsPerFile < 0:
		return usage("0 leaves it to the size of the files", "--rows-per-file: %d is negative", o.rowsPerFile)
	}
	o.rename = map[string]string{}
	for _, pair := range rename {
		old, name, ok := strings.Cut(pair, "=")
		if !ok || old == "" || name == "" {
			return usage("--rename label=digit", "--rename: want OLD=NEW, got %q", pair)
		}
		if _, again := o.rename[old]; again {
			return usage("give every column one name", "--rename: %q is renamed twice", old)
		}
		o.rename[old] = name
	}
	return nil
}

// importTable reads the sources and publishes the table.
func (j *job) importTable(ctx context.Context, o importOptions, r *importReport) error {
	target, err := openPlace(ctx, j.stores, o.out)
	if err != nil {
		return err
	}
	r.Output, r.Format = target.String(), pipeline.Format(o.to)
	if !isRoot(target.path) {
		j.tidy(ctx, target.beside("."))
	}
	if _, err := importTarget(ctx, target, o.force); err != nil { // before the work; and again after it
		return err
	}
	source, err := j.importSource(ctx, o)
	if err != nil {
		return err
	}
	opener := &countingOpener{Opener: anywhere{j.stores}}
	table, err := local.OpenTable(ctx, opener, source.Source)
	if err != nil {
		return err
	}
	defer table.Close()
	shape, err := newImportShape(table, source.parts != nil, o.rename)
	if err != nil {
		return err
	}
	r.Columns = shape.columns()
	stage := target.beside(ownName(tempPrefix))
	if err := stage.fs.Mkdir(ctx, stage.path); err != nil {
		return err
	}
	err = j.writeTable(ctx, source, table, opener, &tableFolder{at: stage, shape: shape, format: r.Format, rowsPerFile: o.rowsPerFile}, r)
	if err == nil {
		j.app.crash("imported")
		err = j.publishTable(ctx, stage, target, o.force)
	}
	if err != nil {
		j.discard(ctx, stage)
		return err
	}
	for i := range r.Entries {
		r.Entries[i].Path = target.join(r.Entries[i].Path).String()
	}
	return nil
}

// publishTable gives a complete table its name.
func (j *job) publishTable(ctx context.Context, stage, target place, force bool) error {
	replaces, err := importTarget(ctx, target, force)
	if err != nil {
		return err
	}
	if replaces {
		return j.replaceFolder(ctx, stage, target)
	}
	if err = move(ctx, stage, target); errors.Is(err, fs.ErrExist) {
		return usage("somebody else made it: look at it, or choose another name", "%s appeared while the table was written", target)
	}
	return err
}

// writeTable runs the whole source into a folder.
func (j *job) writeTable(ctx context.Context, source importSource, table *local.Table, opener *countingOpener, out *tableFolder,
	r *importReport) (err error) {
	bar := j.bars.start("import", 0)
	defer func() { bar.done(err == nil, thousands(r.Rows)+" rows") }()
	if source.parts != nil {
		r.Parts = map[string]int64{}
	}
	defer out.abort()
	for {
		rec, err := table.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		part := ""
		if source.parts != nil {
			part = source.parts[table.Place(0).File]
			r.Parts[part] += rec.NumRows()
		}
		if err := out.write(ctx, rec, part); err != nil {
			return err
		}
		r.Rows += rec.NumRows()
		bar.set(min(opener.read.Load(), source.bytes), source.bytes, thousands(r.Rows)+" rows")
	}
	if err := out.finish(ctx); err != nil {
		return err
	}
	r.Entries = out.files
	for _, f := range out.files {
		r.Files, r.Bytes = r.Files+1, r.Bytes+f.Bytes
	}
	return nil
}

// importTarget looks at what is at the target now; true when it is an empty folder or a table that will be replaced.
func importTarget(ctx context.Context, target place, force bool) (bool, error) {
	if isRoot(target.path) {
		return false, usage("name a folder to be made below it", "--out: %s is a whole store or the working directory", target)
	}
	info, there, err := stat(ctx, target)
	if err != nil || !there {
		return false, err
	}
	if !info.Dir {
		return false, usage("name a folder", "--out: %s is a file; import makes a folder of files", target)
	}
	below, err := target.fs.ReadDir(ctx, target.path)
	if err != nil || len(below) == 0 {
		return err == nil, err
	}
	if !force {
		return false, usage("--force replaces it; or choose another name", "--out: %s exists", target)
	}
	for _, e := range below {
		if e.Dir || !strings.HasPrefix(e.Name, "part-") && !hdfsio.Hidden(e.Name) {
			return false, usage("remove it yourself (dkpipe data rm -r), or choose another name",
				"--out: %s holds %s, so it is not only a table; --force does not replace it", target, e.Name)
		}
	}
	return true, nil
}

// replaceFolder puts a folder in another's place. No store exchanges two folders in one step: for the moment between
// the two renames there is none. From the first rename on an interruption waits, so that the moment stays short.
func (j *job) replaceFolder(ctx context.Context, stage, target place) error {
	old := target.beside(ownName(tempPrefix) + asideMark + path.Base(target.path))
	if err := move(ctx, target, old); err != nil {
		return err
	}
	j.app.crash("old table aside")
	sctx, cancel := settling(ctx)
	defer cancel()
	if err := move(sctx, stage, target); err != nil {
		if back := move(sctx, old, target); back != nil {
			return hinted{errors.Join(err, back), "the old table is now " + old.String() + ": rename it to " + target.String()}
		}
		return err
	}
	j.app.crash("table replaced")
	j.discard(ctx, old)
	return nil
}

// importShape is the table as it will be written: the source's columns, perhaps a part, and their new names.
type importShape struct {
	schema *arrow.Schema
	part   bool // the last column is the part
	texts  map[string]arrow.Array
}

func newImportShape(table *local.Table, part bool, rename map[string]string) (*importShape, error) {
	fields := slices.Clone(table.Schema().Fields())
	if len(fields) == 0 {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the source has no column of a type that import takes",
			Hint: "numbers, booleans, text, dates, times and lists of numbers are taken"}
	}
	if part {
		fields = append(fields, arrow.Field{Name: "part", Type: arrow.BinaryTypes.String, Nullable: true})
	}
	used, names := map[string]bool{}, map[string]bool{}
	for i, f := range fields {
		if name, ok := rename[f.Name]; ok {
			used[f.Name], fields[i].Name = true, name
		}
		if names[fields[i].Name] {
			return nil, usage("choose another name", "--rename: two columns would be called %q", fields[i].Name)
		}
		names[fields[i].Name] = true
	}
	for old := range rename {
		if !used[old] {
			return nil, table.Fields().Missing("--rename", old)
		}
	}
	return &importShape{schema: arrow.NewSchema(fields, nil), part: part, texts: map[string]arrow.Array{}}, nil
}

// columns describes the table.
func (s *importShape) columns() []importedColumn {
	var out []importedColumn
	for _, f := range s.schema.Fields() {
		out = append(out, importedColumn{f.Name, sparkType(f.Type)})
	}
	return out
}

// sparkType gives the name that Spark has for a type of a table.
func sparkType(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.FixedSizeListType:
		return "array<" + sparkType(t.Elem()) + ">"
	case *arrow.Int64Type:
		return "bigint"
	case *arrow.Float32Type:
		return "float"
	case *arrow.Float64Type:
		return "double"
	case *arrow.BooleanType:
		return "boolean"
	}
	return "string"
}

// countingOpener counts the bytes that are read from sources, for the progress bar.
type countingOpener struct {
	pipeline.Opener
	read atomic.Int64
}

func (o *countingOpener) Open(ctx context.Context, name string) (pipeline.Blob, error) {
	b, err := o.Opener.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &countingBlob{b, &o.read}, nil
}

type countingBlob struct {
	pipeline.Blob
	read *atomic.Int64
}

func (b *countingBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	b.read.Add(int64(n))
	return n, err
}

// partFile names the files of a table as Spark does.
func partFile(n int, format pipeline.Format) string {
	return fmt.Sprintf("part-%05d.%s", n, format)
}
