package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// wire is a node's form in JSON. Numbers that JSON does not have are the texts NaN, Infinity and -Infinity.
type wire struct {
	Op    Op       `json:"op"`
	Args  []*wire  `json:"args,omitempty"`
	Name  string   `json:"name,omitempty"`
	Kind  Kind     `json:"kind,omitempty"`
	Width int      `json:"width,omitempty"`
	From  int      `json:"from,omitempty"`
	Null  bool     `json:"null,omitempty"`
	Num   *Float   `json:"num,omitempty"`
	Int   int64    `json:"int,omitempty"`
	Text  string   `json:"text,omitempty"`
	Vec   []Float  `json:"vec,omitempty"`
	Texts []string `json:"texts,omitempty"`
}

// Float is a float64 that keeps its value in JSON: shortest decimal form, -0, and the texts NaN, Infinity, -Infinity.
type Float float64

// MarshalJSON implements json.Marshaler.
func (f Float) MarshalJSON() ([]byte, error) {
	v := float64(f)
	switch {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	}
	return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Float) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`:
		*f = Float(math.NaN())
		return nil
	case `"Infinity"`:
		*f = Float(math.Inf(1))
		return nil
	case `"-Infinity"`:
		*f = Float(math.Inf(-1))
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("%.40s is not a number", b)
	}
	*f = Float(v)
	return nil
}

// Floats converts for JSON.
func Floats(v []float64) []Float {
	if v == nil {
		return nil
	}
	w := make([]Float, len(v))
	for i := range v {
		w[i] = Float(v[i])
	}
	return w
}

// MarshalJSON writes the tree. It fails on a tree deeper than MaxDepth.
func (n *Node) MarshalJSON() ([]byte, error) {
	w, err := toWire(n, 1)
	if err != nil {
		return nil, err
	}
	return json.Marshal(w)
}

func toWire(n *Node, depth int) (*wire, error) {
	if n == nil || depth > MaxDepth {
		return nil, errorf("expression: a node is missing, or more than %d levels", MaxDepth)
	}
	w := &wire{Op: n.Op, Name: n.Name, Kind: n.Kind, Width: n.Width, From: n.From, Null: n.Null, Int: n.Int, Text: n.Text, Vec: Floats(n.Vec), Texts: n.Texts}
	if n.Num != 0 || math.Signbit(n.Num) {
		num := Float(n.Num)
		w.Num = &num
	}
	for _, a := range n.Args {
		arg, err := toWire(a, depth+1)
		if err != nil {
			return nil, err
		}
		w.Args = append(w.Args, arg)
	}
	return w, nil
}

// UnmarshalJSON reads a tree. Unknown fields are errors: they would come from a newer version and change the meaning.
// Whether the tree can be used is for Check to say.
func (n *Node) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var w wire
	if err := d.Decode(&w); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errorf("expression: more than one value")
	}
	return fromWire(n, &w, 1)
}

func fromWire(n *Node, w *wire, depth int) error {
	if w == nil || depth > MaxDepth {
		return errorf("expression: a node is missing, or more than %d levels", MaxDepth)
	}
	*n = Node{Op: w.Op, Name: w.Name, Kind: w.Kind, Width: w.Width, From: w.From, Null: w.Null, Int: w.Int, Text: w.Text, Texts: w.Texts}
	if w.Num != nil {
		n.Num = float64(*w.Num)
	}
	if w.Vec != nil {
		n.Vec = make([]float64, len(w.Vec))
		for i, v := range w.Vec {
			n.Vec[i] = float64(v)
		}
	}
	if len(w.Args) > 0 {
		n.Args = make([]*Node, len(w.Args))
	}
	for i, a := range w.Args {
		n.Args[i] = new(Node)
		if err := fromWire(n.Args[i], a, depth+1); err != nil {
			return err
		}
	}
	return nil
}
