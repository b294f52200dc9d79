package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"

	"github.com/apache/arrow-go/v18/arrow"
)

// Table reads the rows of a source, file after file, batch after batch. It is used by one goroutine.
type Table struct {
	open   pipeline.Opener
	src    pipeline.Source
	text   blocks
	units  [][]string // files that are read together: one, or a pair of IDX files
	cols   []field
	cur    fileReader
	at     int // units opened
	b      batch
	rows   int64
	err    error
	schema *arrow.Schema
}

// OpenTable opens a source and finds out its columns: from the header and a prefix of text files, from the footer or
// schema of others. Errors are of kind Data, Corrupt, MissingColumn, BadSpec or Unsupported, or the Opener's.
func OpenTable(ctx context.Context, open pipeline.Opener, src pipeline.Source) (*Table, error) {
	return openTable(ctx, open, src, textBlocks())
}

func openTable(ctx context.Context, open pipeline.Opener, src pipeline.Source, text blocks) (*Table, error) {
	t := &Table{open: open, src: src, text: text}
	if err := t.group(); err != nil {
		return nil, err
	}
	if err := t.advance(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// group says which files are read together.
func (t *Table) group() error {
	switch t.src.Format {
	case pipeline.CSV, pipeline.Parquet, pipeline.Arrow, pipeline.JSON, pipeline.IDX:
	case pipeline.Table, pipeline.SQL:
		return unsupportedErr("set spark.remote, or name files", "source: %s needs Spark", t.src.Format)
	default:
		return specErr("use csv, parquet, arrow, json or idx", "source: unknown format %q", t.src.Format)
	}
	if len(t.src.Files) == 0 {
		return specErr("name at least one file", "source: %s has no files", t.src.Format)
	}
	if len(t.src.Types) > 0 && t.src.Format != pipeline.CSV && t.src.Format != pipeline.JSON {
		return specErr("remove source.types, or use the cast transformer", "source.types: a %s file has types of its own", t.src.Format)
	}
	if t.src.Format == pipeline.IDX && len(t.src.Files) > 1 {
		if len(t.src.Files)%2 != 0 {
			return specErr("give pairs of files: images, labels, images, labels", "source.idx has %d files", len(t.src.Files))
		}
		for i := 0; i < len(t.src.Files); i += 2 {
			t.units = append(t.units, t.src.Files[i:i+2])
		}
		return nil
	}
	for i := range t.src.Files {
		t.units = append(t.units, t.src.Files[i:i+1])
	}
	return nil
}

// advance opens the next unit and compares its columns with those of the first.
func (t *Table) advance(ctx context.Context) error {
	unit := t.units[t.at]
	r, err := t.reader(ctx, unit)
	if err != nil {
		return err
	}
	if t.at == 0 {
		t.cols = r.fields()
	} else if err := sameTypes(unit[0], r.fields(), t.cols); err != nil {
		return errors.Join(err, r.Close())
	}
	t.cur = r
	t.at++
	return nil
}

func (t *Table) reader(ctx context.Context, unit []string) (fileReader, error) {
	switch t.src.Format {
	case pipeline.Parquet:
		return asReader(openParquet(ctx, t.open, unit[0]))
	case pipeline.Arrow:
		return asReader(openArrow(ctx, t.open, unit[0]))
	case pipeline.IDX:
		return asReader(openIDXPair(ctx, t.open, unit, t.rows))
	}
	s, err := openText(ctx, t.open, unit[0])
	if err != nil {
		return nil, err
	}
	var r fileReader
	if t.src.Format == pipeline.CSV {
		r, err = asReader(openCSV(s, t.text, t.src.Types, t.cols))
	} else {
		r, err = asReader(openJSON(s, t.text, t.src.Types, t.cols))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return r, nil
}

// asReader keeps a nil pointer from becoming an interface that is not nil.
func asReader[R fileReader](r R, err error) (fileReader, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// next reads the next batch of rows; it gives io.EOF at the end of the last file. A source without any row is an
// error: nothing good comes of training on nothing.
func (t *Table) next(ctx context.Context) (*batch, error) {
	if t.err != nil {
		return nil, t.err
	}
	t.err = t.step(ctx)
	if t.err != nil {
		return nil, t.err
	}
	t.rows += int64(t.b.n)
	return &t.b, nil
}

func (t *Table) step(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		err := t.cur.next(&t.b)
		if err != io.EOF {
			return err
		}
		if t.at == len(t.units) {
			break
		}
		done := t.cur
		t.cur = nil
		if err := done.Close(); err != nil {
			return err
		}
		if err := t.advance(ctx); err != nil {
			return err
		}
	}
	if t.rows > 0 {
		return io.EOF
	}
	what := t.units[0][0]
	if n := len(t.units); n > 1 {
		what = fmt.Sprintf("%s and %d more", what, n-1)
	}
	return dataErr("check that the file was written to its end", "empty source: %s: columns, but no rows", what)
}

// Fields gives the columns that trees can use, in the order of the source.
func (t *Table) Fields() expr.Schema { return usable(t.cols) }

// Unused gives the columns that trees cannot use, with the reason: "is of the type map<utf8, int64>".
func (t *Table) Unused() (columns []string, why []string) {
	for _, f := range t.cols {
		if f.refused != "" {
			columns, why = append(columns, f.Name), append(why, f.refused)
		}
	}
	return columns, why
}

// Pass says which columns go to an output as they are, before a Replay is made: the whole numbers of a text file then
// stay whole numbers, although the steps that read them would take others too.
func (t *Table) Pass(columns ...string) {
	for i := range t.cols {
		if slices.Contains(columns, t.cols[i].Name) {
			t.cols[i].passed = true
		}
	}
}

// Schema gives Fields in Arrow's terms: int64, float32, float64, bool, utf8 and fixed-size lists of floats.
func (t *Table) Schema() *arrow.Schema {
	if t.schema == nil {
		t.schema = arrowSchema(t.Fields())
	}
	return t.schema
}

// Next gives the next rows, or io.EOF. The record is valid until the next call of Next or Close; a caller that keeps
// it must copy it. Errors are sticky.
func (t *Table) Next(ctx context.Context) (arrow.RecordBatch, error) {
	b, err := t.next(ctx)
	if err != nil {
		return nil, err
	}
	cols := make([]*column, 0, len(b.cols))
	for i, f := range t.cols {
		if f.refused == "" {
			cols = append(cols, &b.cols[i])
		}
	}
	return record(t.Schema(), cols, b.n), nil
}

// Share is the part of the source that was read so far, 0 to 1, every file counting the same; 0 where that is not known.
func (t *Table) Share() float64 {
	here := 0.0
	if r, ok := t.cur.(interface{ share() float64 }); ok {
		here = min(1, r.share())
	}
	return (float64(t.at-1) + here) / float64(len(t.units))
}

// Place says where row i of the last batch came from.
func (t *Table) Place(i int) Place { return t.b.place(i) }

// Close closes the open file. It is safe to call twice.
func (t *Table) Close() error {
	if t.cur == nil {
		return nil
	}
	c := t.cur
	t.cur = nil
	if t.err == nil {
		t.err = errors.New("the table is closed")
	}
	return c.Close()
}
