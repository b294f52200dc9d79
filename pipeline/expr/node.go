package expr

// Node is one operator of a tree. A node is not changed after it was built, so trees may share nodes and may be used
// from several goroutines. Build nodes with the functions of build.go: they fill exactly the fields that an operator
// reads. Trees from files pass Check before anything else looks at them.
type Node struct {
	Op   Op
	Args []*Node

	Name  string    // Col: the column; Param: the text to print, for example min(label)
	Kind  Kind      // Lit, Param: element kind of the value; Cast: element kind of the result
	Width int       // Lit, Param: 0 for a scalar, else the vector's width; OneHot, Slice: width of the result; Substr: length
	From  int       // At, Slice, Substr: first position, from 0
	Null  bool      // Lit: the value is NULL
	Num   float64   // Lit of Float32 or Float64; AtLeast: the threshold
	Int   int64     // Lit of Int64; Lit of Bool as 0 or 1; Pmod: the divisor
	Text  string    // Lit of String
	Vec   []float64 // Lit: the elements of a vector; Bucket: the splits, rising
	Texts []string  // IndexOf: the vocabulary, each text once
}

// Op names an operator. Its name is also its form in JSON.
type Op string

// The operators. The table in ops.go says what each takes and gives; there is no other operator.
const (
	Col   Op = "col"   // a column of the schema
	Lit   Op = "lit"   // a value
	Param Op = "param" // a fitted value that is not known yet: for printing only, refused by Check

	Cast Op = "cast" // to another element kind; NULL when the value has no equivalent

	Add      Op = "add"
	Sub      Op = "sub"
	Mul      Op = "mul"
	Div      Op = "div" // by zero: NaN
	Pow      Op = "pow"
	Least    Op = "least"    // smaller of two
	Greatest Op = "greatest" // greater of two
	Clip     Op = "clip"     // value, low, high
	Abs      Op = "abs"
	Exp      Op = "exp"
	Log      Op = "log" // natural; of zero or less: NaN
	Sqrt     Op = "sqrt"
	Floor    Op = "floor"
	IfNaN    Op = "nanvl"    // the second argument where the first is NaN
	SumOf    Op = "vec_sum"  // sum of a vector, from the first element to the last
	MaxOf    Op = "vec_max"  // greatest element
	ArgMax   Op = "arg_max"  // position of the greatest element, the first of equals
	AtLeast  Op = "at_least" // first position with an element >= Num, or -1
	Bucket   Op = "bucket"   // how many of the splits in Vec are <= the value
	OneHot   Op = "one_hot"  // 1 at the position, 0 elsewhere; all 0 for what is no position
	Vector   Op = "vector"   // scalars and vectors, one after the other
	At       Op = "at"       // one element
	Slice    Op = "slice"    // Width elements from From on
	IndexOf  Op = "index_of" // position in Texts, or -1
	Hash     Op = "xxhash64" // of all arguments, chained, seed 42: as Spark
	Pmod     Op = "pmod"     // remainder by Int, never negative
	Lower    Op = "lower"    // ASCII letters only
	Trim     Op = "trim"     // spaces (U+0020) at both ends
	Substr   Op = "substr"   // Width characters from character From on
	Join     Op = "concat"   // texts, one after the other
	Eq       Op = "eq"       // comparisons: NaN equals NaN and is greater than all else, -0 equals 0
	Ne       Op = "ne"
	Lt       Op = "lt"
	Le       Op = "le"
	Gt       Op = "gt"
	Ge       Op = "ge"
	And      Op = "and"
	Or       Op = "or"
	Not      Op = "not"
	Case     Op = "case" // condition, value, condition, value, …, else
	First    Op = "coalesce"
	IsNull   Op = "is_null"
	IsNaN    Op = "is_nan"   // of a vector: any element is NaN; of NULL: false
	IsValid  Op = "is_valid" // no argument is NULL or NaN, or holds NaN
)

// Limits of a tree that Check accepts.
const (
	MaxDepth = 200     // nodes on the way from the root to a leaf
	MaxNodes = 200_000 // nodes of a tree
	MaxWidth = 1 << 20 // elements of a vector
	MaxTexts = 1 << 20 // texts of a vocabulary
)

// AnyWidth stands for a width that is known only after fitting. It appears in previews (see Preview), never in a
// tree that Check accepts.
const AnyWidth = -1
