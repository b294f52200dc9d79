package expr

// accept is the set of types that an argument may have.
type accept uint8

const (
	aBool accept = 1 << iota
	aInt
	aFloat // Float32 or Float64
	aText
	aVec

	aNumber = aInt | aFloat
	aEach   = aNumber | aVec // elementwise operators
	aScalar = aBool | aNumber | aText
	aAny    = aScalar | aVec
)

// Nulls says when an operator gives NULL.
type Nulls string

// The rules for NULL.
const (
	NullIn    Nulls = "NULL when an argument is NULL"
	NullNever Nulls = "never NULL"
	NullOwn   Nulls = "see the operator" // said in Info.Rule
)

// Info is one row of the operator table: what an operator takes, gives and promises, and its form in Spark SQL.
// Type checking reads this table; both back ends are tested against it by testdata/golden.json.
type Info struct {
	Op    Op
	Nulls Nulls
	Rule  string // NaN, edges and what is computed
	Spark string // a, b, c are the arguments; v is a vector, e an element; arguments are cast to DOUBLE where arithmetic needs it

	least, most int      // number of arguments; most 0: any number from least on
	args        []accept // one an argument; the last one repeats
	result      func(n *Node, args []Type) (Type, error)
}

// Table gives the operator table, in the order of the documentation. The caller owns the slice.
func Table() []Info { return append([]Info(nil), table...) }

// Lookup gives the row of one operator.
func (op Op) Lookup() (Info, bool) { i, ok := byOp[op]; return i, ok }

var byOp = func() map[Op]Info {
	m := make(map[Op]Info, len(table))
	for _, i := range table {
		m[i.Op] = i
	}
	return m
}()

// No operator raises an error: where Spark would under ANSI rules, the tree has NULL (scalars) or NaN (numbers that
// may sit in a vector), so results do not depend on the session's ANSI setting nor on the order of evaluation.
//
// Elementwise operators take scalars and vectors: a scalar meets every element of a vector, two vectors must have
// one width. They compute in float64 whatever the argument's kind and give Float64. A vector is NULL as a whole;
// its elements are never NULL. In Spark a lambda's variable hides a column of its name (e, i, s below stand for names
// that no column has).
var table = []Info{
	{Op: Col, Nulls: NullOwn, Rule: "the column's value", Spark: "`a`", result: typeOfCol},
	{Op: Lit, Nulls: NullOwn, Rule: "the value", Spark: "1.5D, 7L, 'text', true, array(1D, 2D), CAST(NULL AS DOUBLE); NaN as double('NaN'); $ in a text as \\u0024, for Spark replaces ${…} in statements", result: typeOfLit},
	{Op: Param, Nulls: NullOwn, Rule: "never evaluated", Spark: ":name", result: typeOfParam},

	{Op: Cast, Nulls: NullOwn, least: 1, most: 1, args: []accept{aAny}, result: typeOfCast,
		Rule: "NULL in, NULL out. To Float32: through Float64, nearest even, beyond its range ±Inf. Float to Int64: towards zero; NaN or outside of int64: NULL. " +
			"Bool to number: 0 or 1. Number to Bool: not zero, so NaN is true. Text to number: characters <= U+0020 at the ends are dropped; Int64 is [+-]?[0-9]+ inside int64; " +
			"Float64 is [+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)? or, in any case, [+-]?inf, [+-]?infinity, nan; else NULL. " +
			"Text to Bool, in any case: t true y yes 1, f false n no 0; else NULL. Int64 and Bool to text: decimal digits; true, false. Floats to text: refused. Vectors: Float32 and Float64, each element",
		Spark: "try_cast(a AS …); CAST(CAST(a AS DOUBLE) AS FLOAT); CASE WHEN a < 9223372036854775808D THEN try_cast(a AS BIGINT) END, for Spark makes the greatest BIGINT of 2^63; " +
			"CASE WHEN a RLIKE '…' THEN try_cast(a AS DOUBLE) END; transform(v, e -> CAST(e AS FLOAT))"},

	each(Add, 2, "IEEE 754", "a + b; transform(v, e -> e + b), zip_with(v, w, (e, f) -> e + f), transform(v, (e, i) -> e + array(…)[i])"),
	each(Sub, 2, "IEEE 754", "a - b"),
	each(Mul, 2, "IEEE 754", "a * b"),
	each(Div, 2, "a divisor of 0 or -0 gives NaN; else IEEE 754", "if(b = 0D, a * double('NaN'), a / b)"),
	each(Pow, 2, "IEEE 754 pow, with NaN for a base of 1 or -1 and an exponent that is NaN or infinite (as Java)", "power(a, b)"),
	each(Least, 2, "NaN when one is NaN; the first of equals", "CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN isnan(a) OR isnan(b) THEN double('NaN') WHEN b < a THEN b ELSE a END"),
	each(Greatest, 2, "NaN when one is NaN; the first of equals", "CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN isnan(a) OR isnan(b) THEN double('NaN') WHEN b > a THEN b ELSE a END"),
	each(Clip, 3, "a < b: b; else a > c: c; else a. NaN in any: NaN", "CASE WHEN a IS NULL OR b IS NULL OR c IS NULL THEN NULL WHEN isnan(a) OR isnan(b) OR isnan(c) THEN double('NaN') WHEN a < b THEN b WHEN a > c THEN c ELSE a END"),
	each(Abs, 1, "IEEE 754", "abs(a)"),
	each(Exp, 1, "within 1 ulp of float32", "exp(a)"),
	each(Log, 1, "natural logarithm, within 1 ulp of float32; of 0 or less: NaN", "coalesce(ln(a), a * double('NaN'))"),
	each(Sqrt, 1, "IEEE 754; of less than 0: NaN", "sqrt(a)"),
	each(Floor, 1, "of -0: 0; NaN and ±Inf stay", "if(abs(a) < 4503599627370496D, CAST(floor(a) AS DOUBLE), a)"),
	each(IfNaN, 2, "b where a is NaN, else a", "if(b IS NULL, NULL, nanvl(a, b))"),

	{Op: SumOf, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: fixed(Float64),
		Rule: "float64, added from the first element to the last, starting from 0", Spark: "aggregate(v, 0D, (s, e) -> s + e)"},
	{Op: MaxOf, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: fixed(Float64),
		Rule: "NaN counts as greatest; the first of equals", Spark: "array_max(v)"},
	{Op: ArgMax, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: fixed(Int64),
		Rule: "NaN counts as greatest; the first of equals; -0 equals 0", Spark: "array_position(v, array_max(v)) - 1"},
	{Op: AtLeast, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: typeOfAtLeast,
		Rule: "Num is a number; NaN elements count as greater than it; -1 when none", Spark: "array_position(transform(v, e -> e >= …), true) - 1"},
	{Op: Bucket, Nulls: NullIn, least: 1, most: 1, args: []accept{aNumber}, result: typeOfBucket,
		Rule: "splits strictly rise and are not NaN; a NaN value gives the number of splits", Spark: "CAST(size(filter(array(…), s -> s <= a)) AS BIGINT)"},
	{Op: OneHot, Nulls: NullIn, least: 1, most: 1, args: []accept{aNumber}, result: typeOfOneHot,
		Rule: "Float32; a value that is not one of the whole numbers 0..Width-1 gives zeros only", Spark: "if(a >= 0 AND a < W AND a = floor(a), concat(array_repeat(0F, CAST(a AS INT)), array(1F), array_repeat(0F, CAST(W - 1 - a AS INT))), array_repeat(0F, W))"},
	{Op: Vector, Nulls: NullIn, least: 1, args: []accept{aEach}, result: typeOfVector,
		Rule: "Float32 when every argument is, else Float64", Spark: "concat(array(a, b), v), CASE to NULL when one is NULL"},
	{Op: At, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: typeOfAt,
		Rule: "the element's kind stays", Spark: "v[From]"},
	{Op: Slice, Nulls: NullIn, least: 1, most: 1, args: []accept{aVec}, result: typeOfSlice,
		Rule: "the element's kind stays", Spark: "slice(v, From + 1, Width)"},
	{Op: IndexOf, Nulls: NullIn, least: 1, most: 1, args: []accept{aText}, result: typeOfIndexOf,
		Rule: "byte for byte; -1 for a text that is not in the vocabulary", Spark: "array_position(array('x', 'y'), a) - 1"},
	{Op: Hash, Nulls: NullNever, least: 1, args: []accept{aScalar}, result: fixed(Int64),
		Rule: "XXH64, seed 42, each argument's hash seeding the next; NULL leaves the seed; Bool as INT 0 or 1; -0 as 0; one NaN; see hash.go", Spark: "xxhash64(a, b)"},
	{Op: Pmod, Nulls: NullIn, least: 1, most: 1, args: []accept{aInt}, result: typeOfPmod,
		Rule: "in 0..Int-1", Spark: "pmod(a, 10L)"},

	{Op: Lower, Nulls: NullIn, least: 1, most: 1, args: []accept{aText}, result: fixed(String),
		Rule: "A..Z only: case rules of other letters differ between Unicode versions and libraries", Spark: "translate(a, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')"},
	{Op: Trim, Nulls: NullIn, least: 1, most: 1, args: []accept{aText}, result: fixed(String),
		Rule: "U+0020 at both ends", Spark: "trim(a)"},
	{Op: Substr, Nulls: NullIn, least: 1, most: 1, args: []accept{aText}, result: typeOfSubstr,
		Rule: "in code points; beyond the end: what there is", Spark: "substring(a, From + 1, Width)"},
	{Op: Join, Nulls: NullIn, least: 1, args: []accept{aText}, result: fixed(String),
		Rule: "in order", Spark: "concat(a, b)"},

	compare(Eq, "a = b"), compare(Ne, "a <> b"), compare(Lt, "a < b"), compare(Le, "a <= b"), compare(Gt, "a > b"), compare(Ge, "a >= b"),

	{Op: And, Nulls: NullOwn, least: 1, args: []accept{aBool}, result: fixed(Bool),
		Rule: "false when one is false, else NULL when one is NULL, else true", Spark: "a AND b"},
	{Op: Or, Nulls: NullOwn, least: 1, args: []accept{aBool}, result: fixed(Bool),
		Rule: "true when one is true, else NULL when one is NULL, else false", Spark: "a OR b"},
	{Op: Not, Nulls: NullIn, least: 1, most: 1, args: []accept{aBool}, result: fixed(Bool), Rule: "", Spark: "NOT a"},
	{Op: Case, Nulls: NullOwn, least: 3, args: []accept{aAny}, result: typeOfCase,
		Rule: "conditions and values in turn, last the value for the rest; a NULL condition is not true; values of one type", Spark: "CASE WHEN a THEN b ELSE c END"},
	{Op: First, Nulls: NullOwn, least: 1, args: []accept{aAny}, result: typeOfSame,
		Rule: "the first that is not NULL; all of one type", Spark: "coalesce(a, b)"},
	{Op: IsNull, Nulls: NullNever, least: 1, most: 1, args: []accept{aAny}, result: fixed(Bool), Rule: "", Spark: "a IS NULL"},
	{Op: IsNaN, Nulls: NullNever, least: 1, most: 1, args: []accept{aEach}, result: fixed(Bool),
		Rule: "of a vector: an element is NaN; of NULL: false", Spark: "isnan(a); coalesce(exists(v, e -> isnan(e)), false)"},
	{Op: IsValid, Nulls: NullNever, least: 1, args: []accept{aAny}, result: fixed(Bool),
		Rule: "every argument is not NULL, is not NaN and holds no NaN", Spark: "a IS NOT NULL AND NOT isnan(a) AND NOT exists(v, e -> isnan(e))"},
}

func each(op Op, n int, rule, spark string) Info {
	return Info{Op: op, Nulls: NullIn, Rule: rule, Spark: spark, least: n, most: n, args: []accept{aEach}, result: typeOfEach}
}

func compare(op Op, spark string) Info {
	return Info{Op: op, Nulls: NullIn, Spark: spark, least: 2, most: 2, args: []accept{aScalar}, result: typeOfCompare,
		Rule: "two numbers (as int64 when both are, else as float64), two texts (byte order) or two Bools (false < true); NaN equals NaN and is greater than all else; -0 equals 0"}
}
