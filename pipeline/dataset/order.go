package dataset

import "math/bits"

// The order of the rows of one shard in one epoch is a pure function of (seed, shard, epoch), of the shard's row
// groups and of the window size, which follows from the feed's budget. Nothing else, in particular not the number of
// workers, goes into it. The row groups are permuted and packed into windows; inside a window all rows are permuted.
// A window is what a reader holds in memory, so any position of an epoch can be reached by reading one window. A
// shard that is one window is shuffled fully.

// window is a run of row groups whose rows are shuffled together.
type window struct {
	groups []int
	start  int64 // rows of the epoch before it
	rows   int
}

// maxWindowRows keeps row numbers of a window in 32 bits.
const maxWindowRows = 1 << 31

// packWindows cuts the row groups, in the order given, into windows of at most size rows, at least one group each.
func packWindows(groups []int, rows []int64, size int64) []window {
	size = min(size, maxWindowRows)
	var out []window
	var at int64
	for _, g := range groups {
		n := rows[g]
		if n == 0 {
			continue
		}
		if len(out) == 0 || int64(out[len(out)-1].rows)+n > size {
			out = append(out, window{start: at})
		}
		w := &out[len(out)-1]
		w.groups = append(w.groups, g)
		w.rows += int(n)
		at += n
	}
	return out
}

// groupOrder gives the order of a shard's row groups.
func groupOrder(n int, shuffle bool, k uint64) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	if shuffle {
		r := rng(k)
		for i := n - 1; i > 0; i-- {
			j := r.below(uint64(i + 1))
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// permute fills idx with a permutation of 0..len(idx)-1.
func permute(idx []uint32, k uint64) {
	r := rng(k)
	for i := range idx {
		j := r.below(uint64(i + 1))
		idx[i] = idx[j]
		idx[j] = uint32(i)
	}
}

// key mixes numbers into one: the state of a generator.
func key(parts ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, p := range parts {
		h = mix(h ^ mix(p+0x9e3779b97f4a7c15))
	}
	return h
}

// rng is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). It is spelled out here
// because the order of rows must be the same in every version of the program.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

// below gives a number in 0..n-1 (Lemire: Fast Random Integer Generation in an Interval, 2019), without the rejection
// step: the bias is below n/2^64.
func (r *rng) below(n uint64) uint64 {
	hi, _ := bits.Mul64(r.next(), n)
	return hi
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
