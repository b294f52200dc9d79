package ps

import "math"

// nonFinite gives the index of the first NaN or infinity in x, or -1. It runs over every delta, so the loop does
// without branches: adding 2^23 to the bits of a magnitude carries into the sign bit exactly when the exponent is all
// ones.
func nonFinite(x []float32) int {
	const chunk = 1024
	for lo := 0; lo < len(x); lo += chunk {
		part := x[lo:min(lo+chunk, len(x))]
		var a, b, c, d uint32
		i := 0
		for ; i+8 <= len(part); i += 8 {
			p := part[i : i+8 : i+8]
			a |= carry(p[0]) | carry(p[4])
			b |= carry(p[1]) | carry(p[5])
			c |= carry(p[2]) | carry(p[6])
			d |= carry(p[3]) | carry(p[7])
		}
		for ; i < len(part); i++ {
			a |= carry(part[i])
		}
		if (a|b|c|d)>>31 == 0 {
			continue
		}
		for i, v := range part {
			if carry(v)>>31 != 0 {
				return lo + i
			}
		}
	}
	return -1
}

func carry(v float32) uint32 { return math.Float32bits(v)&0x7fffffff + 0x00800000 }
