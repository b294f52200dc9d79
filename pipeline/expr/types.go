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
