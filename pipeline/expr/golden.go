package expr

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Golden is one example of testdata/golden.json: a tree, columns, rows and what the tree gives for each row. Every
// back end runs all examples; the file covers every operator of the table.
type Golden struct {
	Name   string
	Expr   *Node
	Schema Schema
	Rows   [][]Value // a value a column
	Type   Type      // of the result
	Want   []Value   // one a row
	Near   bool      // a float result may differ by 1 ulp of float32
}

// ParseGolden reads the examples. In the file a value is null, a number, a text, true or false, a list for a vector,
// or one of the texts NaN, Infinity, -Infinity where a float is meant.
func ParseGolden(data []byte) ([]Golden, error) {
	var file []struct {
		Name   string              `json:"name"`
		Expr   *Node               `json:"expr"`
		Schema Schema              `json:"schema"`
		Rows   [][]json.RawMessage `json:"rows"`
		Type   Type                `json:"type"`
		Want   []json.RawMessage   `json:"want"`
		Near   bool                `json:"near"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	out := make([]Golden, 0, len(file))
	for _, c := range file {
		g := Golden{Name: c.Name, Expr: c.Expr, Schema: c.Schema, Type: c.Type, Near: c.Near}
		if len(c.Want) != len(c.Rows) {
			return nil, fmt.Errorf("%s: %d results for %d rows", c.Name, len(c.Want), len(c.Rows))
		}
		for i, r := range c.Rows {
			if len(r) != len(c.Schema) {
				return nil, fmt.Errorf("%s: row %d has %d values for %d columns", c.Name, i, len(r), len(c.Schema))
			}
			row := make([]Value, len(r))
			for k, raw := range r {
				if err := row[k].parse(c.Schema[k].Type, raw); err != nil {
					return nil, fmt.Errorf("%s: row %d, column %s: %w", c.Name, i, c.Schema[k].Name, err)
				}
			}
			var want Value
			if err := want.parse(c.Type, c.Want[i]); err != nil {
				return nil, fmt.Errorf("%s: result %d: %w", c.Name, i, err)
			}
			g.Rows, g.Want = append(g.Rows, row), append(g.Want, want)
		}
		out = append(out, g)
	}
	return out, nil
}

func (v *Value) parse(t Type, raw json.RawMessage) error {
	v.Kind = t.Kind
	if string(raw) == "null" {
		v.Null = true
		return nil
	}
	if t.Width > 0 {
		var f []Float
		if err := json.Unmarshal(raw, &f); err != nil {
			return err
		}
		if len(f) != t.Width {
			return fmt.Errorf("%d elements for %s", len(f), t)
		}
		v.Vec = make([]float64, len(f))
		for i := range f {
			v.Vec[i] = float64(f[i])
		}
		return nil
	}
	switch t.Kind {
	case Bool:
		var b bool
		if err := json.Unmarshal(raw, &b); err != nil {
			return err
		}
		*v = truth(b)
		return nil
	case Int64:
		return json.Unmarshal(raw, &v.Int)
	case String:
		return json.Unmarshal(raw, &v.Text)
	}
	return json.Unmarshal(raw, (*Float)(&v.Num))
}
