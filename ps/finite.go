package ps

// nonFinite gives the index of the first NaN or infinity in x, or -1. It runs over every delta, so the loop does without
// branches: v - v is 0 for every finite v and NaN for all others, and a NaN stays in a sum. Eight sums keep the additions
// from waiting for one another.
func nonFinite(x []float32) int {
	const chunk = 4096
	for lo := 0; lo < len(x); lo += chunk {
		part := x[lo:min(lo+chunk, len(x))]
		var a, b, c, d, e, f, g, h float32
		rest := part
		for ; len(rest) >= 8; rest = rest[8:] {
			a += rest[0] - rest[0]
			b += rest[1] - rest[1]
			c += rest[2] - rest[2]
			d += rest[3] - rest[3]
			e += rest[4] - rest[4]
			f += rest[5] - rest[5]
			g += rest[6] - rest[6]
			h += rest[7] - rest[7]
		}
		for _, v := range rest {
			a += v - v
		}
		if a+b+c+d+e+f+g+h == 0 {
			continue
		}
		for i, v := range part {
			if v-v != 0 {
				return lo + i
			}
		}
	}
	return -1
}
