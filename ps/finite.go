package ps

import (
	"math"
	"unsafe"
)

// MaxDelta bounds the elements of a delta, 2^60. Nothing that still learns is near it. Whatever is below can be squared and
// added up within float32; and a centre that is finite stays so when it is added to: from 2^85 on, such a delta is less than
// half of the last bit and changes nothing.
const MaxDelta = 1 << 60

const (
	magnitude = 1<<31 - 1
	distance  = 1<<31 - (127+60)<<23 // added to the bits of a magnitude, reaches the sign bit from MaxDelta on
)

// unfit gives the index of the first element of x that is NaN, infinite, or MaxDelta or more in magnitude; -1 if there is
// none. It runs over every delta, so the loop does without branches and takes two elements at a time: what is added to one
// half of a word never carries into the other.
func unfit(x []float32) int {
	const (
		chunk = 4096
		both  = 1<<32 + 1
	)
	for lo := 0; lo < len(x); lo += chunk {
		part := x[lo:min(lo+chunk, len(x))]
		head, pairs, tail := paired(part)
		var a, b, c, d uint64
		for ; len(pairs) >= 4; pairs = pairs[4:] {
			a |= pairs[0]&(magnitude*both) + distance*both
			b |= pairs[1]&(magnitude*both) + distance*both
			c |= pairs[2]&(magnitude*both) + distance*both
			d |= pairs[3]&(magnitude*both) + distance*both
		}
		for _, p := range pairs {
			a |= p&(magnitude*both) + distance*both
		}
		if (a|b|c|d)&(1<<31*both) == 0 && !large(head) && !large(tail) {
			continue
		}
		for i := range part {
			if large(part[i : i+1]) {
				return lo + i
			}
		}
	}
	return -1
}

func large(x []float32) bool {
	var a uint32
	for _, v := range x {
		a |= math.Float32bits(v)&magnitude + distance
	}
	return a>>31 != 0
}

// paired gives x as aligned words of two elements, and what is before and behind them.
func paired(x []float32) (head []float32, pairs []uint64, tail []float32) {
	if len(x) > 0 && uintptr(unsafe.Pointer(&x[0]))%8 != 0 {
		head, x = x[:1], x[1:]
	}
	n := len(x) / 2
	if n == 0 {
		return head, nil, x
	}
	return head, unsafe.Slice((*uint64)(unsafe.Pointer(&x[0])), n), x[2*n:]
}

// nonFinite gives the index of the first element of x that is NaN or infinite; -1 if there is none.
func nonFinite(x []float32) int {
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}
