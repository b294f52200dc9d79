package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"dkpipe/pipeline"
)

// Output is a file being written. Nothing is promised to readers before Close returned nil; Abort removes what was
// written and does nothing after Close.
type Output interface {
	io.Writer
	io.Closer
	Abort()
}

// Creator makes a new file below the stage folder, and the folder above it when that is missing. name is a slash
// path such as train/part-00000.parquet.
type Creator interface {
	Create(ctx context.Context, name string) (Output, error)
}

// CreateFunc is a function that is a Creator.
type CreateFunc func(ctx context.Context, name string) (Output, error)

// Create calls f.
func (f CreateFunc) Create(ctx context.Context, name string) (Output, error) { return f(ctx, name) }

// Defaults of WriterOptions.
const (
	DefaultWriteBudget = 64 << 20
	DefaultGroupBytes  = 2 << 20
)

// WriterOptions says how rows become shards. The zero value writes one shard of training rows.
type WriterOptions struct {
	Parts       []string // names of the parts, in the order of Rows.Part; none: train alone
	Shards      int      // shards a part; 0: 1
	BudgetBytes int64    // memory for rows; what does not fit waits in TempDir; 0: DefaultWriteBudget
	GroupBytes  int64    // bytes of a row group, which is what a feed reads and shuffles at a time; 0: DefaultGroupBytes
	TempDir     string   // local folder for rows that do not fit; empty: the system's
	// Temp is asked for that folder, in the place of TempDir, when there are rows that do not fit; may be nil.
	Temp func() (string, error)
	// Progress is called while Finish writes, with the rows written so far and the rows there are; may be nil.
	Progress func(rows, total int64)
}

// ShardOf gives the shard of a row: pmod(hash as a signed 64-bit integer, shards), the value of
// pmod(xxhash64(key, seed), n) in Spark SQL when n is a BIGINT. For a power of two these are the hash's low bits.
// Inside a shard rows stand in ascending order of the signed hash, as SORT BY has them, and rows of equal hash in the
// order they came.
func ShardOf(hash uint64, shards int) int {
	n := int64(shards)
	return int((int64(hash)%n + n) % n)
}

// ShardPath is the path of a shard inside a version's folder.
func ShardPath(part string, shard int) string {
	return fmt.Sprintf("%s/part-%05d.parquet", part, shard)
}

// Writer is the pipeline.Sink that makes a dataset's shards. Rows that fit the budget are sorted in memory; more are
// written to one temporary file as sorted runs, which Finish merges, so memory does not depend on how many rows there
// are or how unevenly their keys are spread. It belongs to one goroutine. Close removes the temporary file; call it
// whatever happened.
type Writer struct {
	create Creator
	opt    WriterOptions
	schema *rowSchema // nil before Start
	arena  arena
	runs   *runFile // nil while everything fits
	rows   int64
	done   bool
	err    error // sticky
}

var _ pipeline.Sink = (*Writer)(nil)

// NewWriter makes a writer that creates its shards with create.
func NewWriter(create Creator, opt WriterOptions) (*Writer, error) {
	if len(opt.Parts) == 0 {
		opt.Parts = []string{"train"}
	}
	if opt.Shards == 0 {
		opt.Shards = 1
	}
	if opt.BudgetBytes == 0 {
		opt.BudgetBytes = DefaultWriteBudget
	}
	if opt.GroupBytes == 0 {
		opt.GroupBytes = DefaultGroupBytes
	}
	bad := func(format string, args ...any) (*Writer, error) {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "dataset writer: " + fmt.Sprintf(format, args...)}
	}
	seen := map[string]bool{}
	for _, p := range opt.Parts {
		if !partName(p) || seen[p] {
			return bad("bad or doubled part name %q", p)
		}
		seen[p] = true
	}
	switch {
	case opt.Shards < 0 || opt.Shards > 100000:
		return bad("%d shards, want 1 to 100000", opt.Shards)
	case len(opt.Parts) > 256:
		return bad("%d parts, want at most 256", len(opt.Parts))
	case opt.BudgetBytes < 0 || opt.GroupBytes < 0 || opt.GroupBytes > 1<<30:
		return bad("budget of %d bytes with row groups of %d", opt.BudgetBytes, opt.GroupBytes)
	}
	return &Writer{create: create, opt: opt}, nil
}

// Start takes the columns of the rows to come. Vector columns must have the encoding f32le (or none named) with no
// scale and no offset: the writer stores what it gets.
func (w *Writer) Start(columns []pipeline.ColumnInfo) error {
	if w.err != nil {
		return w.err
	}
	if w.schema != nil {
		return w.fail(&pipeline.Error{Kind: pipeline.Internal, Message: "dataset writer: started twice"})
	}
	s, err := newRowSchema(columns)
	if err != nil {
		return w.fail(&pipeline.Error{Kind: pipeline.Internal, Message: "dataset writer", Err: err})
	}
	w.schema = s
	return nil
}

// Write adds a block of rows. It copies them.
func (w *Writer) Write(ctx context.Context, r *pipeline.Rows) error {
	if w.err != nil {
		return w.err
	}
	if w.schema == nil || w.done {
		return w.fail(&pipeline.Error{Kind: pipeline.Internal, Message: "dataset writer: rows before Start or after Finish"})
	}
	if err := ctx.Err(); err != nil {
		return w.fail(interrupted("dataset writer", context.Cause(ctx)))
	}
	if err := w.schema.check(r, len(w.opt.Parts)); err != nil {
		return w.fail(&pipeline.Error{Kind: pipeline.Internal, Message: "dataset writer", Err: err})
	}
	for i := 0; i < r.N; i++ {
		n := w.schema.size(r, i)
		if n > maxRecord {
			return w.fail(&pipeline.Error{Kind: pipeline.Data,
				Message: fmt.Sprintf("row %d of the prepared rows has %d bytes, at most %d can be stored", w.rows+int64(i), n, maxRecord),
				Hint:    "drop long text from columns.keep"})
		}
		if w.arena.full(n, w.opt.BudgetBytes) {
			if err := w.spill(ctx); err != nil {
				return w.fail(err)
			}
		}
		bucket := uint32(r.Part[i])*uint32(w.opt.Shards) + uint32(ShardOf(r.Hash[i], w.opt.Shards))
		w.schema.encode(w.arena.add(bucket, int64(r.Hash[i]), n), r, i)
	}
	w.rows += int64(r.N)
	return nil
}

func (w *Writer) spill(ctx context.Context) error {
	if w.runs == nil {
		dir := cmp.Or(w.opt.TempDir, os.TempDir())
		if w.opt.Temp != nil {
			var err error
			if dir, err = w.opt.Temp(); err != nil {
				return err
			}
		}
		f, err := newRunFile(dir)
		if err != nil {
			return tempError(dir, err)
		}
		w.runs = f
	}
	if err := w.runs.append(ctx, w.arena.sorted()); err != nil {
		return tempError(w.runs.dir, err)
	}
	w.arena.reset()
	return nil
}

// Finish writes the shards, all parts × Shards of them, empty ones too, and describes them in that order.
func (w *Writer) Finish(ctx context.Context) ([]pipeline.ShardInfo, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.schema == nil || w.done {
		return nil, w.fail(&pipeline.Error{Kind: pipeline.Internal, Message: "dataset writer: Finish before Start, or twice"})
	}
	w.done = true
	shards, err := w.finish(ctx)
	if err != nil {
		w.fail(err)
		w.Close()
		return nil, w.err
	}
	return shards, w.Close()
}

func (w *Writer) finish(ctx context.Context) ([]pipeline.ShardInfo, error) {
	var rows recordSource
	if w.runs == nil {
		rows = w.arena.sorted()
	} else {
		if w.arena.len() > 0 {
			if err := w.spill(ctx); err != nil {
				return nil, err
			}
		}
		w.arena.free()
		m, err := w.runs.merge(ctx, w.opt.BudgetBytes/2)
		if err != nil {
			return nil, tempError(w.runs.dir, err)
		}
		rows = m
	}
	var written int64
	progress := func(n int64) {
		written += n
		if w.opt.Progress != nil {
			w.opt.Progress(written, w.rows)
		}
	}
	out := newShardWriter(w.schema, w.opt.GroupBytes)
	var shards []pipeline.ShardInfo
	ok, err := rows.next()
	for b := 0; b < len(w.opt.Parts)*w.opt.Shards; b++ {
		if err != nil {
			break
		}
		part := w.opt.Parts[b/w.opt.Shards]
		path := ShardPath(part, b%w.opt.Shards)
		file, createErr := w.create.Create(ctx, path)
		if createErr != nil {
			return nil, createErr
		}
		take := func() ([]byte, bool, error) {
			if !ok || err != nil || rows.bucket() != uint32(b) {
				return nil, false, err
			}
			return rows.body(), true, nil
		}
		step := func() { ok, err = rows.next() }
		info, writeErr := out.write(ctx, file, path, take, step, progress)
		if writeErr != nil {
			file.Abort()
			return nil, writeErr
		}
		info.Split, info.Path = part, path
		shards = append(shards, info)
	}
	if err != nil {
		return nil, tempError(w.runs.dir, err)
	}
	return shards, nil
}

// Close removes what is left on local disk. It is safe to call twice, and keeps Finish's shards.
func (w *Writer) Close() error {
	w.arena.free()
	if !w.done {
		w.done = true
	}
	if w.runs == nil {
		return nil
	}
	runs := w.runs
	w.runs = nil
	if err := runs.remove(); err != nil {
		return tempError(runs.dir, err)
	}
	return nil
}

func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// tempError gives an error of the local temporary folder its kind.
func tempError(dir string, err error) error {
	if _, ok := errKind(err); ok || err == nil {
		return err
	}
	e := &pipeline.Error{Kind: pipeline.Internal, Message: "temporary rows in " + dir, Err: err}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return interrupted(e.Message, err)
	case errors.Is(err, syscall.ENOSPC):
		e.Kind, e.Hint = pipeline.NoSpace, "name a folder with more room in TMPDIR"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Hint = pipeline.Usage, "name a folder that exists in TMPDIR"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = pipeline.Denied, "name a folder that can be written in TMPDIR"
	}
	return e
}

// interrupted is the error of a cancelled context.
func interrupted(what string, cause error) error {
	kind := pipeline.Interrupted
	if errors.Is(cause, context.DeadlineExceeded) {
		kind = pipeline.Timeout
	}
	return &pipeline.Error{Kind: kind, Message: what, Err: cause}
}
