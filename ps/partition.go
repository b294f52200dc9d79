package ps

import "fmt"

// Partition says which of several data servers holds which block of the parameters. It is computed, not stored: equal
// arguments place equally, everywhere. One more server takes about as many blocks as it gets, and the others keep theirs.
type Partition struct {
	params, block int
	ranges        [][]Range // by server, ascending
	sizes         []int     // elements by server
}

// Range is the elements from Lo to below Hi.
type Range struct{ Lo, Hi int }

// NewPartition places params parameters, in blocks of block (0 means DefaultBlock), on servers numbered from 0. A block goes
// to the server of the highest hash (rendezvous hashing: Thaler and Ravishankar 1998) that is not full: none gets more than
// its share, rounded up.
func NewPartition(params, block, servers int) (*Partition, error) {
	if block == 0 {
		block = DefaultBlock
	}
	if params < 0 || block < 0 || servers < 1 || servers > 1<<12 {
		return nil, &Error{Kind: "spec", Message: fmt.Sprintf("%d parameters in blocks of %d cannot be placed on %d parameter servers", params, block, servers)}
	}
	p := &Partition{params: params, block: block, ranges: make([][]Range, servers), sizes: make([]int, servers)}
	blocks := (params + block - 1) / block
	room := make([]int, servers)
	for s := range room {
		room[s] = (blocks + servers - 1) / servers
	}
	for b := range blocks {
		best, most := -1, uint64(0)
		for s := range servers {
			if h := mix(uint64(b)<<12 | uint64(s)); room[s] > 0 && (best < 0 || h > most) {
				best, most = s, h
			}
		}
		room[best]--
		p.add(best, Range{b * block, min((b+1)*block, params)})
	}
	return p, nil
}

func (p *Partition) add(s int, r Range) {
	p.sizes[s] += r.Hi - r.Lo
	if n := len(p.ranges[s]); n > 0 && p.ranges[s][n-1].Hi == r.Lo {
		p.ranges[s][n-1].Hi = r.Hi
		return
	}
	p.ranges[s] = append(p.ranges[s], r)
}

// mix spreads the bits of x (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Servers is the number of servers.
func (p *Partition) Servers() int { return len(p.ranges) }

// Size is the number of parameters that server s holds.
func (p *Partition) Size(s int) int { return p.sizes[s] }

// Ranges gives what server s holds, ascending. It may not be changed.
func (p *Partition) Ranges(s int) []Range { return p.ranges[s] }

// Gather copies the part of server s out of whole, whose elements are width for each parameter, block by block.
func (p *Partition) Gather(s int, part, whole []float32, width int) {
	for _, r := range p.ranges[s] {
		part = part[copy(part, whole[width*r.Lo:width*r.Hi]):]
	}
}

// Scatter is the reverse of Gather.
func (p *Partition) Scatter(s int, whole, part []float32, width int) {
	for _, r := range p.ranges[s] {
		part = part[copy(whole[width*r.Lo:width*r.Hi], part):]
	}
}

// global is the parameter that element i of server s is.
func (p *Partition) global(s, i int) int {
	for _, r := range p.ranges[s] {
		if i < r.Hi-r.Lo {
			return r.Lo + i
		}
		i -= r.Hi - r.Lo
	}
	return p.params
}
