package local

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"unicode/utf8"

	"dkpipe/pipeline/expr"
)

// kernelOf gives the whole-column form of an operator, or nil for an unknown one. types knows the arguments.
func kernelOf(n *expr.Node, t expr.Type, types *typer) kernel {
	switch n.Op {
	case expr.Cast:
		return castKernel(types.of(n.Args[0]), t)
	case expr.SumOf:
		return sumOf
	case expr.MaxOf:
		return func(out *column, args []*column, n int) {
			eachRow(args[0], n, func(r int, v []float64) { out.f64[r] = v[argMax(v)] })
		}
	case expr.ArgMax:
		return func(out *column, args []*column, n int) {
			eachRow(args[0], n, func(r int, v []float64) { out.i64[r] = int64(argMax(v)) })
		}
	case expr.AtLeast:
		return atLeast(n.Num)
	case expr.Bucket:
		return bucket(n.Vec)
	case expr.OneHot:
		return oneHot
	case expr.Vector:
		return assemble
	case expr.At:
		return at(n.From)
	case expr.Slice:
		return slice(n.From)
	case expr.IndexOf:
		return indexOf(n.Texts)
	case expr.Hash:
		return hash
	case expr.Pmod:
		return pmod(n.Int)
	case expr.Lower:
		return lower
	case expr.Trim:
		return textKernel(func(s []byte) []byte { return bytes.Trim(s, " ") })
	case expr.Substr:
		return textKernel(func(s []byte) []byte { return substr(s, n.From, n.Width) })
	case expr.Join:
		return join
	}
	return logicKernel(n, types)
}

// eachRow calls f with every row of a vector column as float64; the slice is used again for the next row.
func eachRow(v *column, n int, f func(r int, row []float64)) {
	w := v.width()
	if v.typ.Kind == expr.Float64 {
		for r := range n {
			f(r, v.f64[r*w:(r+1)*w])
		}
		return
	}
	var few [64]float64
	buf := few[:]
	if w > len(buf) {
		buf = grow(v.f64, w) // the memory of the kind that the column is not
		v.f64 = buf
	}
	for r := range n {
		for i, x := range v.f32[r*w : (r+1)*w] {
			buf[i] = float64(x)
		}
		f(r, buf[:w])
	}
}

func sumOf(out *column, args []*column, n int) {
	eachRow(args[0], n, func(r int, v []float64) {
		s := 0.0
		for _, x := range v {
			s += x
		}
		out.f64[r] = s
	})
}

// argMax takes NaN as greatest and the first of equals.
func argMax(v []float64) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
		if x != x {
			return i
		}
	}
	return best
}

func atLeast(threshold float64) kernel {
	return func(out *column, args []*column, n int) {
		eachRow(args[0], n, func(r int, v []float64) {
			out.i64[r] = int64(slices.IndexFunc(v, func(x float64) bool { return x >= threshold || x != x }))
		})
	}
}

func bucket(splits []float64) kernel {
	return func(out *column, args []*column, n int) {
		for r := range n {
			x := args[0].number(r)
			if x != x {
				out.i64[r] = int64(len(splits))
				continue
			}
			lo, hi := 0, len(splits)
			for lo < hi {
				if mid := (lo + hi) / 2; splits[mid] <= x {
					lo = mid + 1
				} else {
					hi = mid
				}
			}
			out.i64[r] = int64(lo)
		}
	}
}

func oneHot(out *column, args []*column, n int) {
	w := out.typ.Width
	clear(out.f32[:n*w])
	a := args[0]
	for r := range n {
		if a.typ.Kind == expr.Int64 {
			if k := a.i64[r]; k >= 0 && k < int64(w) {
				out.f32[r*w+int(k)] = 1
			}
			continue
		}
		if x := a.number(r); x >= 0 && x < float64(w) && x == math.Floor(x) {
			out.f32[r*w+int(x)] = 1
		}
	}
}

// assembleRows is how many rows assemble fills at a time: their targets stay in the cache while the columns, which
// lie far apart, come by.
const assembleRows = 8

func assemble(out *column, args []*column, n int) {
	w := out.typ.Width
	for r := 0; r < n; r += assembleRows {
		rows := min(assembleRows, n-r)
		at := r * w
		for _, a := range args {
			if out.typ.Kind == expr.Float32 {
				place(out.f32[at:], a, a.f32, r, rows, w)
			} else {
				switch a.typ.Kind {
				case expr.Float64:
					place(out.f64[at:], a, a.f64, r, rows, w)
				case expr.Float32:
					place(out.f64[at:], a, a.f32, r, rows, w)
				default:
					place(out.f64[at:], a, a.i64, r, rows, w)
				}
			}
			at += a.width()
		}
	}
}

// place writes rows of a into dst, whose rows are stride apart.
func place[D float32 | float64, S float32 | float64 | int64](dst []D, a *column, src []S, r, rows, stride int) {
	w := a.width()
	if w == 1 {
		for i, x := range src[r : r+rows] {
			dst[i*stride] = D(x)
		}
		return
	}
	for i := range rows {
		to := dst[i*stride : i*stride+w]
		for j, x := range src[(r+i)*w : (r+i+1)*w] {
			to[j] = D(x)
		}
	}
}

func at(from int) kernel {
	return func(out *column, args []*column, n int) { cut(out, args[0], from, n) }
}

func slice(from int) kernel { return at(from) }

// cut copies elements from, from+1, ... of every row.
func cut(out, v *column, from, n int) {
	w, k := v.width(), out.width()
	for r := range n {
		if v.typ.Kind == expr.Float64 {
			copy(out.f64[r*k:(r+1)*k], v.f64[r*w+from:])
		} else {
			copy(out.f32[r*k:(r+1)*k], v.f32[r*w+from:])
		}
	}
}

func indexOf(texts []string) kernel {
	index := make(map[string]int64, len(texts))
	for i, s := range texts {
		index[s] = int64(i)
	}
	return func(out *column, args []*column, n int) {
		for r := range n {
			i, ok := index[string(args[0].str(r))]
			if !ok {
				i = -1
			}
			out.i64[r] = i
		}
	}
}

func hash(out *column, args []*column, n int) {
	seed := uint64(expr.HashSeed)
	for r := range n {
		out.i64[r] = int64(seed)
	}
	for _, a := range args {
		hashInto(out.i64[:n], a)
	}
	out.valid = nil
}

// hashInto replaces each seed by the hash of the column's value, chained as Spark does; a NULL leaves it.
func hashInto(seeds []int64, a *column) {
	for r, s := range seeds {
		if a.isNull(r) {
			continue
		}
		var h uint64
		switch a.typ.Kind {
		case expr.Int64:
			h = expr.HashInt64(a.i64[r], uint64(s))
		case expr.Float64:
			h = expr.HashFloat64(a.f64[r], uint64(s))
		case expr.Float32:
			h = expr.HashFloat32(a.f32[r], uint64(s))
		case expr.Bool:
			h = expr.HashBool(a.bool[r], uint64(s))
		case expr.String:
			h = expr.HashBytes(a.str(r), uint64(s))
		}
		seeds[r] = int64(h)
	}
}

func pmod(m int64) kernel {
	return func(out *column, args []*column, n int) {
		for r, x := range args[0].i64[:n] {
			out.i64[r] = expr.Pmod64(uint64(x), m)
		}
	}
}

func textKernel(f func([]byte) []byte) kernel {
	return func(out *column, args []*column, n int) {
		for r := range n {
			out.text = append(out.text, f(args[0].str(r))...)
			out.off[r+1] = int32(len(out.text))
		}
	}
}

func lower(out *column, args []*column, n int) {
	a := args[0]
	out.text = append(out.text, a.text[a.off[0]:a.off[n]]...)
	for i, c := range out.text {
		if c >= 'A' && c <= 'Z' {
			out.text[i] = c + 'a' - 'A'
		}
	}
	for r := range n + 1 {
		out.off[r] = a.off[r] - a.off[0]
	}
}

// substr counts code points; beyond the end it gives what there is.
func substr(s []byte, from, length int) []byte {
	i := skipRunes(s, 0, from)
	return s[i:skipRunes(s, i, length)]
}

func skipRunes(s []byte, i, n int) int {
	for ; n > 0 && i < len(s); n-- {
		_, size := utf8.DecodeRune(s[i:])
		i += size
	}
	return i
}

func join(out *column, args []*column, n int) {
	for r := range n {
		for _, a := range args {
			out.text = append(out.text, a.str(r)...)
		}
		out.off[r+1] = int32(len(out.text))
	}
}

// compareFloats is the order of Spark: NaN equals NaN and is greater than all else, -0 equals 0.
func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	}
	return -cmp.Compare(b2i(b != b), b2i(a != a))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
