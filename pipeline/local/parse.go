package local

import (
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// digits7 counts the digits at the start of eight bytes and gives their value, which is right for up to seven. It has
// no branch that depends on the data: the lengths of numbers in a file cannot be foreseen.
func digits7(w uint64) (v int64, n int) {
	t := w ^ 0x3030303030303030 // digits become 0..9
	n = bits.TrailingZeros64((t+0x7676767676767676|t)&0x8080808080808080) >> 3
	t <<= (64 - uint(n)<<3) & 63 // the digits to the high end, zeros before them; no digits: unused
	t = t*10 + t>>8              // pairs, in every second byte
	const pairs = 0x000000ff000000ff
	t = ((t&pairs)*(100+1000000<<32) + (t>>16&pairs)*(1+10000<<32)) >> 32
	return int64(t), n
}

// scanInt reads the whole number at b[i:], of at most 18 digits. The caller checks what follows it at b[j]. b must
// end with a byte that is no digit.
func scanInt(b []byte, i int) (v int64, j int, ok bool) {
	j = i
	neg := b[i] == '-'
	if neg {
		j++
	}
	start := j
	var u uint64
	for {
		d := b[j] - '0'
		if d > 9 {
			break
		}
		u = u*10 + uint64(d)
		j++
	}
	if n := j - start; n == 0 || n > 18 {
		return 0, i, false
	}
	if neg {
		return -int64(u), j, true
	}
	return int64(u), j, true
}

// Powers of ten that a float64 holds exactly.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
	1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// scanFloat reads the decimal number at b[i:] when one multiplication or division of two exact numbers gives it,
// which is then correctly rounded (W. D. Clinger, How to read floating point numbers accurately, 1990).
// The caller checks what follows at b[j]. b must end with a byte that no number has.
func scanFloat(b []byte, i int) (v float64, j int, ok bool) {
	j = i
	neg := b[j] == '-'
	if neg {
		j++
	}
	var mant uint64
	digits, exp := 0, 0
	for {
		d := b[j] - '0'
		if d > 9 {
			break
		}
		mant = mant*10 + uint64(d)
		digits++
		j++
	}
	if b[j] == '.' {
		j++
		start := j
		for {
			d := b[j] - '0'
			if d > 9 {
				break
			}
			mant = mant*10 + uint64(d)
			digits++
			j++
		}
		exp = start - j
	}
	if digits == 0 || digits > 19 {
		return 0, i, false
	}
	if b[j]|0x20 == 'e' {
		e, k, ok := scanExponent(b, j+1)
		if !ok {
			return 0, i, false
		}
		exp += e
		j = k
	}
	if mant > 1<<53 || exp < -22 || exp > 22 {
		return 0, i, false
	}
	v = float64(mant)
	if exp < 0 {
		v /= pow10[-exp]
	} else {
		v *= pow10[exp]
	}
	if neg {
		v = -v
	}
	return v, j, true
}

func scanExponent(b []byte, j int) (e, next int, ok bool) {
	neg := b[j] == '-'
	if neg || b[j] == '+' {
		j++
	}
	start := j
	for {
		d := b[j] - '0'
		if d > 9 {
			break
		}
		e = e*10 + int(d)
		j++
	}
	if neg {
		e = -e
	}
	return e, j, j > start && j-start <= 3
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// view is b as a string that lives as long as b stays unchanged.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	v, err := strconv.ParseInt(view(b), 10, 64)
	return v, err == nil
}

// parseFloat takes decimal numbers, nan, inf and infinity in any case. What is too large for a float64 is refused.
func parseFloat(b []byte) (float64, bool) {
	digit := false
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			digit = true
		case c == '.', c == '-', c == '+', c == 'e', c == 'E':
		default:
			return parseNonFinite(b)
		}
	}
	if !digit {
		return 0, false
	}
	v, err := strconv.ParseFloat(view(b), 64)
	return v, err == nil
}

func parseNonFinite(b []byte) (float64, bool) {
	s := b
	sign := 1
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	switch {
	case foldEqual(s, "nan"):
		return math.NaN(), true
	case foldEqual(s, "inf"), foldEqual(s, "infinity"):
		return math.Inf(sign), true
	}
	return 0, false
}

func parseBool(b []byte) (v, ok bool) {
	switch {
	case foldEqual(b, "true"):
		return true, true
	case foldEqual(b, "false"):
		return false, true
	}
	return false, false
}

// foldEqual compares b with lower-case ASCII letters.
func foldEqual(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}
