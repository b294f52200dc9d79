package ps

import (
	"fmt"
	"slices"
)

// Partition says which of several data servers holds which block of the parameters. It is computed, not stored: equal
// arguments place equally, everywhere. One more server takes its share from the others, which keep the rest of theirs: no
// block moves between two servers that were there before.
type Partition struct {
	params, block int
	ranges        [][]Range // by server, ascending
	sizes         []int     // elements by server
}

// Range is the elements from Lo to below Hi.
type Range struct{ Lo, Hi int }

// NewPartition places params parameters, in blocks of block (0 means DefaultBlock), on servers numbered from 0. The blocks of
// any two servers differ in number by at most one.
func NewPartition(params, block, servers int) (*Partition, error) {
	if block == 0 {
		block = DefaultBlock
	}
	if params < 0 || block < 0 || servers < 1 || servers > 1<<12 {
		return nil, &Error{Kind: "spec", Message: fmt.Sprintf("%d parameters in blocks of %d cannot be placed on %d parameter servers", params, block, servers)}
	}
	p := &Partition{params: params, block: block, ranges: make([][]Range, servers), sizes: make([]int, servers)}
	for s, blocks := range place((params+block-1)/block, servers) {
		for _, b := range blocks {
			p.add(s, Range{b * block, min((b+1)*block, params)})
		}
	}
	return p, nil
}

// place gives the blocks of every server, ascending. The servers come one after the other, and each takes what all those
// before it have at the end of theirs beyond their new share.
func place(blocks, servers int) [][]int {
	held := make([][]int, servers)
	for b := range blocks {
		held[0] = append(held[0], b)
	}
	for s := 1; s < servers; s++ {
		for o := range s {
			keep := (blocks - o + s) / (s + 1) // the blocks of o when there are s+1 servers
			held[s] = append(held[s], held[o][keep:]...)
			held[o] = held[o][:keep]
		}
		slices.Sort(held[s])
	}
	return held
}

func (p *Partition) add(s int, r Range) {
	p.sizes[s] += r.Hi - r.Lo
	if n := len(p.ranges[s]); n > 0 && p.ranges[s][n-1].Hi == r.Lo {
		p.ranges[s][n-1].Hi = r.Hi
		return
	}
	p.ranges[s] = append(p.ranges[s], r)
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
