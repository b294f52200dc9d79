package pipeline

import (
	"context"

	"dkpipe/pipeline/expr"
)

// Format names what a source is made of.
type Format string

// The formats of a source. Table and SQL need Spark.
const (
	CSV     Format = "csv"
	Parquet Format = "parquet"
	Arrow   Format = "arrow"
	JSON    Format = "json"
	IDX     Format = "idx"
	Table   Format = "table"
	SQL     Format = "sql"
)

// Source says where rows come from.
type Source struct {
	Format Format
	Files  []string          // for files: names for the engine's Opener, in reading order
	Text   string            // for Table and SQL: the name or the query
	Types  map[string]string // declared column types that overrule what a text format's values suggest
}

// Expect holds what must be true of the source before anything is trained. A zero field expects nothing.
type Expect struct {
	MinRows int64
	MaxNull map[string]float64   // column -> largest share (0..1) of NULL (or NaN) values
	Labels  map[string][]float64 // column -> the only values it may have
}

// Columns gives the columns of the finished rows their roles.
type Columns struct {
	X, Y   []string // model inputs and outputs, in the model's order
	Weight string   // sample weights, or empty
	Keep   []string // scalar columns stored beside the features, for example a key
}

// Split cuts the rows into parts by the hash of a key: pmod(xxhash64(key, seed), 1000000) as Spark computes it with
// a BIGINT seed, so both engines put a row into the same part. An empty Key means that all rows are training rows.
type Split struct {
	Key   string
	Seed  int64
	Parts []Part // in the order of the hash range; the fractions sum to 1
}

// Part is a named share of the rows.
type Part struct {
	Name     string // train, validation or test
	Fraction float64
}

// Plan is a preprocessing job as data: what to read, what to check, how to transform and how to cut.
// Statistics are computed from training rows only, so nothing of the test rows leaks into a fitted transformer.
type Plan struct {
	Source  Source
	Expect  Expect
	Steps   []expr.Step   // as the spec gives them
	Fitted  []expr.Fitted // one a step, after Engine.Fit; nil before
	Columns Columns
	Split   Split
	Shards  int // shards a part
}

// Rows is a block of finished rows on its way from an engine into a dataset. Every slice has N rows.
// The engine owns the memory; a Sink copies what it keeps.
type Rows struct {
	N       int
	Part    []uint8      // index into Split.Parts
	Hash    []uint64     // the key's hash: decides shard and order inside it
	Vectors [][]float32  // X columns, then Y columns, then the weight (width 1) when there is one; N × width each
	Keep    []KeepColumn // as Columns.Keep
}

// KeepColumn holds one scalar column; exactly one of the value slices is set.
type KeepColumn struct {
	Int64   []int64
	Float64 []float64
	String  []string
	Valid   []bool // nil when no value is NULL
}

// ColumnInfo describes one column of a dataset.
type ColumnInfo struct {
	Name     string  `json:"name"`
	Role     string  `json:"role"`            // x, y, weight or keep
	DType    string  `json:"dtype"`           // float32 for x, y and weight; int64, float64 or string for keep
	Shape    []int   `json:"shape,omitempty"` // of one row; absent for scalars
	Encoding string  `json:"encoding"`        // f32le, list, avro_f32, u8, or plain for keep columns
	Scale    float64 `json:"scale"`           // a stored value v means v*Scale + Offset
	Offset   float64 `json:"offset"`
}

// Width is the number of values in one row: 1 for a scalar.
func (c ColumnInfo) Width() int {
	n := 1
	for _, d := range c.Shape {
		n *= d
	}
	return n
}

// ShardInfo describes one written shard.
type ShardInfo struct {
	Split  string `json:"split"`
	Path   string `json:"path"` // relative to the version's folder: train/part-00000.parquet
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Sink takes finished rows and makes shards of them.
type Sink interface {
	// Start is called once, before the first block, with the columns of the rows to come.
	Start(columns []ColumnInfo) error
	// Write adds a block; it does not keep the memory.
	Write(ctx context.Context, r *Rows) error
	// Finish sorts and writes what is left and gives the shards, in split and number order.
	Finish(ctx context.Context) ([]ShardInfo, error)
}

// Stage is where an engine writes a dataset version that nobody can see yet. An engine inside the process hands
// rows to Sink; an engine on a cluster writes files below URI itself.
type Stage struct {
	URI      string
	Sink     Sink
	Progress func(rows, total int64) // called now and then; total is 0 when unknown; may be nil
}

// Written says what Engine.Write produced.
type Written struct {
	Columns []ColumnInfo
	Shards  []ShardInfo
	Skipped int64 // rows left out by handle_invalid: skip or by a filter
}

// Engine runs plans. pipeline/local and sparkconn implement it, with equal numbers.
type Engine interface {
	// Explain describes what Fit and Write would do; values that are not fitted yet stand as :min(label).
	// It writes nothing.
	Explain(ctx context.Context, p Plan) (string, error)
	// Fit checks p.Expect, computes the statistics that the steps need and gives the plan with its fitted state.
	// Errors are of kind Data, MissingColumn, Expectation, Corrupt or the kinds of an unreachable store.
	Fit(ctx context.Context, p Plan) (Plan, error)
	// Write runs a fitted plan into a stage.
	Write(ctx context.Context, p Plan, s Stage) (Written, error)
}
