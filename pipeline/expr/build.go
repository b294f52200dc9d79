package expr

// C reads a column.
func C(name string) *Node { return &Node{Op: Col, Name: name} }

// Num is a Float64 literal.
func Num(v float64) *Node { return &Node{Op: Lit, Kind: Float64, Num: v} }

// Int is an Int64 literal.
func Int(v int64) *Node { return &Node{Op: Lit, Kind: Int64, Int: v} }

// Text is a String literal.
func Text(v string) *Node { return &Node{Op: Lit, Kind: String, Text: v} }

// Boolean is a Bool literal.
func Boolean(v bool) *Node {
	n := &Node{Op: Lit, Kind: Bool}
	if v {
		n.Int = 1
	}
	return n
}

// Vec is a literal Float64 vector. The slice is kept, not copied.
func Vec(v []float64) *Node { return &Node{Op: Lit, Kind: Float64, Width: len(v), Vec: v} }

// Null is a NULL literal of a type.
func Null(t Type) *Node { return &Node{Op: Lit, Kind: t.Kind, Width: t.Width, Null: true} }

// Unfitted stands for a fitted value in a preview; says is printed after a colon: min(label).
func Unfitted(says string, t Type) *Node {
	return &Node{Op: Param, Name: says, Kind: t.Kind, Width: t.Width}
}

// Call applies an operator that has no fields of its own: arithmetic, comparisons, logic, Case, First, Vector, Hash, ...
func Call(op Op, args ...*Node) *Node { return &Node{Op: op, Args: args} }

// To casts to an element kind.
func To(k Kind, x *Node) *Node { return &Node{Op: Cast, Kind: k, Args: []*Node{x}} }

// Hot is the one-hot vector of x.
func Hot(x *Node, width int) *Node { return &Node{Op: OneHot, Width: width, Args: []*Node{x}} }

// Element is one element of a vector.
func Element(x *Node, i int) *Node { return &Node{Op: At, From: i, Args: []*Node{x}} }

// Part is width elements of a vector.
func Part(x *Node, from, width int) *Node {
	return &Node{Op: Slice, From: from, Width: width, Args: []*Node{x}}
}

// SubText is length characters (code points) of a text from character from on.
func SubText(x *Node, from, length int) *Node {
	return &Node{Op: Substr, From: from, Width: length, Args: []*Node{x}}
}

// Index is the position of x in a vocabulary. The slice is kept, not copied.
func Index(x *Node, texts []string) *Node { return &Node{Op: IndexOf, Texts: texts, Args: []*Node{x}} }

// Splits counts the splits that are <= x. The slice is kept, not copied.
func Splits(x *Node, splits []float64) *Node {
	return &Node{Op: Bucket, Vec: splits, Args: []*Node{x}}
}

// FirstAtLeast is the first position with an element >= threshold.
func FirstAtLeast(x *Node, threshold float64) *Node {
	return &Node{Op: AtLeast, Num: threshold, Args: []*Node{x}}
}

// Modulo is the remainder by m > 0, in 0..m-1.
func Modulo(x *Node, m int64) *Node { return &Node{Op: Pmod, Int: m, Args: []*Node{x}} }
