package trainers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Metric is a named figure of merit: a number, or a confusion matrix.
type Metric struct {
	Name   string
	Value  float64          // NaN beside a matrix
	Matrix *ConfusionMatrix // nil beside a number
}

// String is the name and the number, or the name and below it the matrix as a table.
func (m Metric) String() string {
	if m.Matrix != nil {
		return m.Name + "\n" + m.Matrix.String()
	}
	return fmt.Sprintf("%s %.6g", m.Name, m.Value)
}

// ConfusionMatrix counts what was taken for what: Counts[t][p] rows, or their weights, are of class t and were predicted
// to be of class p. Rows whose prediction is NaN, or whose class does not exist, are not counted.
type ConfusionMatrix struct{ Counts [][]float64 }

// String is a table with a line for every true class and a column for every predicted one.
func (c *ConfusionMatrix) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "true\\predicted\t")
	for p := range c.Counts {
		fmt.Fprintf(w, "%d\t", p)
	}
	for t, row := range c.Counts {
		fmt.Fprintf(w, "\n%d\t", t)
		for _, n := range row {
			fmt.Fprintf(w, "%.6g\t", n)
		}
	}
	fmt.Fprintln(w)
	w.Flush() // into memory
	return b.String()
}

// Metrics is an ordered list of figures. In JSON it is an object in that order, in which a value that JSON cannot
// hold (NaN, infinity) is null and a confusion matrix a list with a list for every true class.
type Metrics []Metric

// Get gives the number of a name.
func (m Metrics) Get(name string) (value float64, ok bool) {
	for _, x := range m {
		if x.Name == name && x.Matrix == nil {
			return x.Value, true
		}
	}
	return 0, false
}

// MarshalJSON writes an object.
func (m Metrics) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		value, err := x.valueJSON()
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (m Metric) valueJSON() ([]byte, error) {
	if m.Matrix == nil {
		return Number(m.Value).MarshalJSON()
	}
	rows := make([][]Number, len(m.Matrix.Counts))
	for i, row := range m.Matrix.Counts {
		for _, n := range row {
			rows[i] = append(rows[i], Number(n))
		}
	}
	return json.Marshal(rows)
}

// UnmarshalJSON reads an object and keeps its order; null becomes NaN.
func (m *Metrics) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("metrics: not a JSON object: %.40s", data)
	}
	*m = Metrics{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("metrics: %v: %w", name, err)
		}
		x := Metric{Name: name.(string)}
		if err := x.read(value); err != nil {
			return fmt.Errorf("metrics: %v: %w", name, err)
		}
		*m = append(*m, x)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("metrics: text after the object")
	}
	return nil
}

// read takes a number or a matrix.
func (m *Metric) read(value json.RawMessage) error {
	if value[0] != '[' {
		return json.Unmarshal(value, (*Number)(&m.Value))
	}
	var rows [][]Number
	if err := json.Unmarshal(value, &rows); err != nil {
		return err
	}
	m.Value, m.Matrix = math.NaN(), &ConfusionMatrix{Counts: make([][]float64, len(rows))}
	for i, row := range rows {
		if len(row) != len(rows) {
			return fmt.Errorf("a matrix of %d rows has %d columns", len(rows), len(row))
		}
		for _, n := range row {
			m.Matrix.Counts[i] = append(m.Matrix.Counts[i], float64(n))
		}
	}
	return nil
}

// Number is a float64 that is null in JSON when it is NaN or infinite, and NaN when it is read from null.
type Number float64

// MarshalJSON writes a number or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if x := float64(n); math.IsNaN(x) || math.IsInf(x, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads a number or null.
func (n *Number) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}
