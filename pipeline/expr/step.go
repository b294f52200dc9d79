package expr

import "encoding/json"

// Step is one transformer as the spec gives it, not fitted yet. Steps are pure: they see no data, only
// schemas and statistics, so an engine on a cluster and the embedded one fit them alike.
type Step interface {
	// Op is the transformer's name in the spec.
	Op() string
	// Needs lists the statistics that Fit wants, computed over the columns of in. None: the step is fitted as it is.
	// It fails when a named column is absent (a *ColumnError) or of a type that the step cannot take.
	Needs(in Schema) ([]Stat, error)
	// Fit gives the fitted transformer. got has one value for every Stat of Needs(in), in that order.
	Fit(in Schema, got []StatValue) (Fitted, error)
}

// StatKind names an aggregate.
type StatKind string

// The aggregates. NULL and NaN do not count, except for CountInvalid.
const (
	Count        StatKind = "count"
	CountInvalid StatKind = "count_invalid" // NULL or NaN
	Min          StatKind = "min"
	Max          StatKind = "max"
	Mean         StatKind = "mean"
	StddevPop    StatKind = "stddev_pop"
	StddevSamp   StatKind = "stddev_samp"
	Distinct     StatKind = "distinct" // values with their counts, most frequent first, ties by value
	Quantiles    StatKind = "quantiles"
)

// Stat asks for one aggregate of a column.
type Stat struct {
	Kind        StatKind
	Column      string
	PerPosition bool      // of a vector column: one value a position, else one over all positions
	Limit       int       // Distinct: refuse more values than this
	Quantiles   []float64 // Quantiles: which, 0..1, percentile_disc semantics
}

// StatValue is the answer to a Stat: Values for all but Distinct, which fills Distinct and Counts. Where there is no
// value to count, and for StddevSamp of one value, Values holds NaN (Count and CountInvalid: 0). Infinities count.
type StatValue struct {
	Values   []float64 // one value, or one a position, or one a quantile
	Distinct []string
	Counts   []int64
	Approx   bool // a quantile above the exact limit
}

// Fitted is a fitted transformer: data only. It is replayed by evaluating its outputs; the code of the transformer
// that made it is not needed for that.
type Fitted struct {
	Op      string          `json:"op"`
	Params  json.RawMessage `json:"params"` // fields and fitted values, for people and for export
	Inputs  []string        `json:"inputs"`
	Outputs []Column        `json:"outputs,omitempty"` // added to the schema; a column of the same name is replaced
	Only    []string        `json:"only,omitempty"`    // afterwards these columns are kept, in this order; empty: all
	Filter  *Node           `json:"filter,omitempty"`  // rows where it is not true are left out
	Invalid Invalid         `json:"invalid,omitempty"` // what becomes of a row with a guard that is not true; empty: Fail
	Guards  []Guard         `json:"guards,omitempty"`  // what must be true of every row, in order; see Invalid
}

// Guard is a condition on every row. An engine that reports a broken one says the transformer, the row's place, Says,
// and which of the columns that the condition reads is NULL or NaN, at which position of a vector:
// "assemble: column "p3": NaN", "one_hot: label is outside 0..9: 12".
type Guard struct {
	Expr *Node  `json:"expr"` // Bool over the inputs; true for a row that is fine, NULL counts as false
	Says string `json:"says"` // what is wrong with a row: "label is outside 0..9"
}

// Column is one output of a fitted transformer.
type Column struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
	Expr *Node  `json:"expr"`
}

// Invalid says what happens to a row with a value that a transformer cannot take.
type Invalid string

// The rules of handle_invalid.
const (
	Fail Invalid = "error" // the run ends with an error that names the row and what is wrong
	Skip Invalid = "skip"  // the row is left out and counted
	Keep Invalid = "keep"  // the row stays; the outputs say what becomes of it, and there are no guards
)
