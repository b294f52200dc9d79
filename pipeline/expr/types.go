// Package expr holds the typed expression tree that every fitted transformer compiles to.
//
// A tree is data: it is stored as JSON in a dataset's manifest and in a model bundle, rendered to Spark SQL by
// sparkconn, and evaluated over Arrow by pipeline/local. Both back ends give the same numbers, because this package
// defines each operator once. It imports nothing of dkpipe.
package expr

import "encoding/json"

// Kind is the type of one element.
type Kind string

// The element kinds. Arithmetic is done in float64; float32 appears where a tree casts to it.
const (
	Bool    Kind = "bool"
	Int64   Kind = "int64"
	Float32 Kind = "float32"
	Float64 Kind = "float64"
	String  Kind = "string"
)

// Type is a scalar (Width 0) or a vector of Width elements.
type Type struct {
	Kind  Kind `json:"kind"`
	Width int  `json:"width,omitempty"`
}

// Field is a named, typed column.
type Field struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}

// Schema lists the columns that a step can see, in order.
type Schema []Field

// Lookup gives the field of that name.
func (s Schema) Lookup(name string) (Field, bool) {
	for _, f := range s {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

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

// StatValue is the answer to a Stat: Values for all but Distinct, which fills Distinct and Counts.
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
	Outputs []Column        `json:"outputs,omitempty"`  // added to the schema; a column of the same name is replaced
	Only    []string        `json:"only,omitempty"`     // afterwards these columns are kept, in this order; empty: all
	Filter  *Node           `json:"filter,omitempty"`   // rows where it is not true are left out
	Invalid Invalid         `json:"invalid,omitempty"`  // what a row does whose Check is not true
	Check   *Node           `json:"check,omitempty"`    // Bool over the inputs: false marks an invalid row
	CheckOf string          `json:"check_of,omitempty"` // what to say about such a row: "label is outside 0..9"
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
	Fail Invalid = "error"
	Skip Invalid = "skip"
	Keep Invalid = "keep"
)

// ColumnError reports a column that the schema does not have.
type ColumnError struct {
	Column string
	Op     string // the transformer that asked
	Near   string // the nearest name that exists, or empty
}

func (e *ColumnError) Error() string {
	s := e.Op + ": there is no column " + quote(e.Column)
	if e.Near != "" {
		s += "; did you mean " + quote(e.Near) + "?"
	}
	return s
}

// ErrorKind makes the command line exit as for a missing column.
func (e *ColumnError) ErrorKind() string { return "missing_column" }

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }
