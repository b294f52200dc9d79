package local

import (
	"math"
	"strconv"

	"dkpipe/pipeline/expr"
)

// castKernel gives the casts that are no part of an elementwise chain: those that read or give Bool, Int64 or text.
// The result is NULL where the argument is, and where the value has no equivalent.
func castKernel(from, to expr.Type) kernel {
	if from == to {
		return same1
	}
	var one func(out, a *column, r int) bool
	switch to.Kind {
	case expr.Int64:
		one = castToInt(from.Kind)
	case expr.Bool:
		one = castToBool(from.Kind)
	case expr.Float64:
		one = func(out, a *column, r int) (ok bool) { out.f64[r], ok = castToFloat(a, r); return ok }
	case expr.Float32:
		one = func(out, a *column, r int) bool {
			x, ok := castToFloat(a, r)
			out.f32[r] = float32(x)
			return ok
		}
	case expr.String:
		one = castToText
	}
	return func(out *column, args []*column, n int) {
		a := args[0]
		valid := bitmap(out.valid)
		anyNull := false
		for r := range n {
			null := a.isNull(r)
			if !one(out, a, r) || null {
				valid.clear(r)
				anyNull = true
			} else {
				valid.set(r)
			}
		}
		if !anyNull {
			out.valid = nil
		}
	}
}

// same1 copies its argument.
func same1(out *column, args []*column, n int) {
	pick(out, n, func(int) *column { return args[0] })
}

func castToInt(from expr.Kind) func(out, a *column, r int) bool {
	switch from {
	case expr.Bool:
		return func(out, a *column, r int) bool { out.i64[r] = int64(b2i(a.bool[r])); return true }
	case expr.String:
		return func(out, a *column, r int) (ok bool) { out.i64[r], ok = textToInt(a.str(r)); return ok }
	}
	return func(out, a *column, r int) (ok bool) { out.i64[r], ok = floatToInt(a.number(r)); return ok }
}

// floatToInt rounds towards zero.
func floatToInt(x float64) (int64, bool) {
	if x >= -(1<<63) && x < 1<<63 {
		return int64(x), true
	}
	return 0, false
}

func castToBool(from expr.Kind) func(out, a *column, r int) bool {
	switch from {
	case expr.Int64:
		return func(out, a *column, r int) bool { out.bool[r] = a.i64[r] != 0; return true }
	case expr.String:
		return func(out, a *column, r int) (ok bool) { out.bool[r], ok = textToBool(a.str(r)); return ok }
	}
	return func(out, a *column, r int) bool { out.bool[r] = a.number(r) != 0; return true }
}

func castToFloat(a *column, r int) (float64, bool) {
	switch a.typ.Kind {
	case expr.Bool:
		return float64(b2i(a.bool[r])), true
	case expr.String:
		return textToFloat(a.str(r))
	}
	return a.number(r), true
}

func castToText(out, a *column, r int) bool {
	switch a.typ.Kind {
	case expr.Bool:
		out.text = strconv.AppendBool(out.text, a.bool[r])
	case expr.Int64:
		out.text = strconv.AppendInt(out.text, a.i64[r], 10)
	}
	out.off[r+1] = int32(len(out.text))
	return true
}

// trimControls drops characters up to U+0020 at both ends, as Spark does before it casts a text.
func trimControls(b []byte) []byte {
	for len(b) > 0 && b[0] <= ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] <= ' ' {
		b = b[:len(b)-1]
	}
	return b
}

func textToInt(b []byte) (int64, bool) {
	b = trimControls(b)
	neg := len(b) > 0 && b[0] == '-'
	if neg || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	var u uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || u > (1<<63)/10 {
			return 0, false
		}
		u = u*10 + d
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), true
	case !neg && u < 1<<63:
		return int64(u), true
	}
	return 0, false
}

// textToFloat takes [+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?, [+-]?inf, [+-]?infinity and nan.
func textToFloat(b []byte) (float64, bool) {
	b = trimControls(b)
	if foldEqual(b, "nan") {
		return math.NaN(), true
	}
	s, sign := b, 1
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	if foldEqual(s, "inf") || foldEqual(s, "infinity") {
		return math.Inf(sign), true
	}
	if !isDecimal(s) {
		return 0, false
	}
	x, _ := strconv.ParseFloat(view(b), 64) // out of range: ±Inf, as Java
	return x, true
}

func isDecimal(s []byte) bool {
	digits := func() (n int) {
		for len(s) > 0 && s[0]-'0' <= 9 {
			s = s[1:]
			n++
		}
		return n
	}
	n := digits()
	if len(s) > 0 && s[0] == '.' {
		s = s[1:]
		n += digits()
	}
	if n == 0 {
		return false
	}
	if len(s) > 0 && s[0]|0x20 == 'e' {
		s = s[1:]
		if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
			s = s[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return len(s) == 0
}

func textToBool(b []byte) (v, ok bool) {
	b = trimControls(b)
	for _, s := range [...]string{"t", "true", "y", "yes"} {
		if foldEqual(b, s) {
			return true, true
		}
	}
	for _, s := range [...]string{"f", "false", "n", "no"} {
		if foldEqual(b, s) {
			return false, true
		}
	}
	switch string(b) {
	case "1":
		return true, true
	case "0":
		return false, true
	}
	return false, false
}
