package psrpc

import (
	"encoding/binary"
	"math"
)

const (
	topSegment = 64 << 10 // elements: an index takes two bytes
	topShare   = 100      // one element of that many is sent
)

// topCount is how many of n elements are sent.
func topCount(n int) int { return (n + topShare - 1) / topShare }

// packTopK appends the largest elements of x + residual: for each segment their number in 4 bytes, their indices in 2
// each, rising, and their values as float32. What is not sent stays in residual.
func packTopK(b []byte, x, residual []float32) []byte {
	for len(x) > 0 {
		n := min(len(x), topSegment)
		b = packTopSegment(b, x[:n], residual[:n])
		x, residual = x[n:], residual[n:]
	}
	return b
}

func packTopSegment(b []byte, x, residual []float32) []byte {
	residual = residual[:len(x)]
	for i, v := range x {
		residual[i] += v
	}
	k := topCount(len(x))
	threshold, above := kthMagnitude(residual, k)
	ties := k - above // of those at the threshold, the first ones
	at := len(b)
	b = b[:at+4+6*k]
	binary.LittleEndian.PutUint32(b[at:], uint32(k))
	index, value := b[at+4:at+4+2*k], b[at+4+2*k:]
	j := 0
	for i, a := range residual {
		switch m := magnitude(a); {
		case m < threshold:
			continue
		case m == threshold:
			if ties == 0 {
				continue
			}
			ties--
		}
		binary.LittleEndian.PutUint16(index[2*j:], uint16(i))
		binary.LittleEndian.PutUint32(value[4*j:], math.Float32bits(a))
		residual[i] = 0
		j++
	}
	if !finite32(math.Float32frombits(threshold)) { // more of them than are sent; the commit will be refused
		for i, a := range residual {
			if !finite32(a) {
				residual[i] = 0
			}
		}
	}
	return b
}

// magnitude orders floats by absolute value, NaN last.
func magnitude(v float32) uint32 { return math.Float32bits(v) &^ (1 << 31) }

// kthMagnitude finds the k-th largest magnitude of x, 1 <= k <= len(x), and how many are larger, by counting the digits of
// 31 bits from the highest on.
func kthMagnitude(x []float32, k int) (threshold uint32, above int) {
	const digit = 11
	var count [1 << digit]int32
	var prefix uint32
	for _, shift := range [3]uint{20, 9, 0} {
		width := uint(digit)
		if shift == 0 {
			width = 9
		}
		clear(count[:])
		for _, v := range x {
			m := magnitude(v)
			if m>>(shift+width) == prefix {
				count[m>>shift&(1<<width-1)]++
			}
		}
		d := uint32(1<<width - 1)
		for ; d > 0 && above+int(count[d]) < k; d-- {
			above += int(count[d])
		}
		prefix = prefix<<width | d
	}
	return prefix, above
}

func unpackTopK(dst []float32, b []byte) error {
	for len(dst) > 0 {
		n := min(len(dst), topSegment)
		if len(b) < 4 {
			return malformed("a piece of topk ends within a number")
		}
		k := uint64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; k > uint64(n) || uint64(len(b)) < 6*k {
			return malformed("%d of %d elements in %d bytes of topk", k, n, len(b))
		}
		index, value := b[:2*k], b[2*k:6*k]
		clear(dst[:n])
		next := 0
		for j := range int(k) {
			i := int(binary.LittleEndian.Uint16(index[2*j:]))
			if i < next || i >= n {
				return malformed("element %d of %d follows element %d", i, n, next-1)
			}
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(value[4*j:]))
			next = i + 1
		}
		dst, b = dst[n:], b[6*k:]
	}
	if len(b) != 0 {
		return malformed("%d bytes of topk too many", len(b))
	}
	return nil
}
