package pipetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"dkpipe/pipeline"
)

// Row is one finished row as a Recorder or a reader of shards saw it.
type Row struct {
	Part    uint8
	Hash    uint64
	Vectors [][]float32 // as pipeline.Rows.Vectors, one row
	Keep    []any       // int64, float64, string, or nil for NULL
}

// Recorder is a pipeline.Sink that keeps the rows it gets, in order, and fails when the promises of the door are
// broken: Start once and first, slices of the right length, no rows after Finish.
type Recorder struct {
	Parts []string // names of the parts; none: train

	mu       sync.Mutex
	columns  []pipeline.ColumnInfo
	rows     []Row
	started  bool
	finished bool
}

var _ pipeline.Sink = (*Recorder)(nil)

// Columns gives what Start was called with.
func (r *Recorder) Columns() []pipeline.ColumnInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.columns)
}

// Rows gives the rows that came, in order.
func (r *Recorder) Rows() []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rows)
}

// Touched tells whether the sink was used at all.
func (r *Recorder) Touched() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started || r.finished || len(r.rows) > 0
}

// Start takes the columns.
func (r *Recorder) Start(columns []pipeline.ColumnInfo) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started {
		return fmt.Errorf("sink: Start was called twice")
	}
	r.started = true
	r.columns = slices.Clone(columns)
	return nil
}

// Write copies the rows.
func (r *Recorder) Write(ctx context.Context, b *pipeline.Rows) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !r.started || r.finished {
		return fmt.Errorf("sink: rows before Start or after Finish")
	}
	var vectors, keeps []pipeline.ColumnInfo
	for _, c := range r.columns {
		if c.Role == "keep" {
			keeps = append(keeps, c)
		} else {
			vectors = append(vectors, c)
		}
	}
	if len(b.Part) != b.N || len(b.Hash) != b.N || len(b.Vectors) != len(vectors) || len(b.Keep) != len(keeps) {
		return fmt.Errorf("sink: a block of %d rows has %d parts, %d hashes, %d vectors, %d keep columns; want %d vectors and %d keep columns",
			b.N, len(b.Part), len(b.Hash), len(b.Vectors), len(b.Keep), len(vectors), len(keeps))
	}
	for i := 0; i < b.N; i++ {
		row := Row{Part: b.Part[i], Hash: b.Hash[i]}
		for j, c := range vectors {
			w := Width(c)
			if len(b.Vectors[j]) != b.N*w {
				return fmt.Errorf("sink: column %s has %d floats for %d rows of %d", c.Name, len(b.Vectors[j]), b.N, w)
			}
			row.Vectors = append(row.Vectors, slices.Clone(b.Vectors[j][i*w:(i+1)*w]))
		}
		for j, c := range keeps {
			v, err := cell(&b.Keep[j], c, i)
			if err != nil {
				return err
			}
			row.Keep = append(row.Keep, v)
		}
		r.rows = append(r.rows, row)
	}
	return nil
}

func cell(k *pipeline.KeepColumn, c pipeline.ColumnInfo, i int) (any, error) {
	if k.Valid != nil && (i >= len(k.Valid) || !k.Valid[i]) {
		return nil, nil
	}
	switch {
	case c.DType == "int64" && i < len(k.Int64):
		return k.Int64[i], nil
	case c.DType == "float64" && i < len(k.Float64):
		return k.Float64[i], nil
	case c.DType == "string" && i < len(k.String):
		return k.String[i], nil
	}
	return nil, fmt.Errorf("sink: keep column %s of type %s has no value for row %d", c.Name, c.DType, i)
}

// Finish counts the rows of each part as one shard without bytes.
func (r *Recorder) Finish(context.Context) ([]pipeline.ShardInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started || r.finished {
		return nil, fmt.Errorf("sink: Finish before Start, or twice")
	}
	r.finished = true
	parts := r.Parts
	if len(parts) == 0 {
		parts = []string{"train"}
	}
	out := make([]pipeline.ShardInfo, len(parts))
	for i, p := range parts {
		out[i] = pipeline.ShardInfo{Split: p, Path: p + "/part-00000.parquet"}
	}
	for _, row := range r.rows {
		if int(row.Part) >= len(out) {
			return nil, fmt.Errorf("sink: a row of part %d, there are %d", row.Part, len(out))
		}
		out[row.Part].Rows++
	}
	return out, nil
}

// Width is the number of floats of a column in one row.
func Width(c pipeline.ColumnInfo) int {
	w := 1
	for _, n := range c.Shape {
		w *= n
	}
	return w
}

// SameFloats tells whether two vectors are equal bit by bit, NaN included.
func SameFloats(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}
