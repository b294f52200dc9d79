package local

import (
	"fmt"
	"math"
	"slices"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// hashRange is the number of hash classes that the parts of a split share.
const hashRange = 1_000_000

// trainPart is the name of the part that statistics come from.
const trainPart = "train"

// splitter gives every row its hash and its part.
type splitter struct {
	key    int // column of the source, or -1
	seed   int64
	bounds []int64 // first class that is beyond the part
	train  int

	row   int64
	seeds []int64
	hash  []uint64
	part  []uint8
}

func newSplitter(s pipeline.Split, cols []field) (*splitter, error) {
	p := &splitter{key: -1, seed: s.Seed, train: slices.IndexFunc(s.Parts, func(x pipeline.Part) bool { return x.Name == trainPart })}
	if len(s.Parts) == 0 {
		p.train, p.bounds = 0, []int64{hashRange}
	} else if p.train < 0 {
		return nil, specErr("add train: 0.8 to split", "split: there is no part named train")
	}
	if len(s.Parts) > math.MaxUint8 {
		return nil, specErr("use fewer parts", "split: %d parts", len(s.Parts))
	}
	sum := 0.0
	for _, part := range s.Parts {
		if !(part.Fraction >= 0 && part.Fraction <= 1) {
			return nil, specErr("use fractions between 0 and 1", "split: the fraction of %s is %v", part.Name, part.Fraction)
		}
		sum += part.Fraction
		p.bounds = append(p.bounds, int64(math.Round(sum*hashRange)))
	}
	if len(s.Parts) > 0 && math.Abs(sum-1) > 1e-6 {
		return nil, specErr("make the fractions sum to 1", "split: the fractions sum to %v", sum)
	}
	p.bounds[len(p.bounds)-1] = hashRange
	if s.Key == "" {
		return p, nil
	}
	p.key = slices.IndexFunc(cols, func(f field) bool { return f.Name == s.Key })
	switch {
	case p.key < 0:
		return nil, &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("split.key: the source has no column %q", s.Key), Hint: didYouMean(s.Key, cols)}
	case cols[p.key].refused != "":
		return nil, unsupportedErr("split by another column", "split.key: column %q %s", s.Key, cols[p.key].refused)
	case cols[p.key].Type.Width > 0:
		return nil, unsupportedErr("split by a scalar column", "split.key: column %q is %s", s.Key, cols[p.key].Type)
	}
	return p, nil
}

// batch fills hash and part. Without a key the row's number is hashed, which spreads the rows over the shards, and
// every row is a training row.
func (p *splitter) batch(b *batch) {
	p.seeds = grow(p.seeds, b.n)
	p.hash = grow(p.hash, b.n)
	p.part = grow(p.part, b.n)
	for i := range p.seeds {
		p.seeds[i] = int64(expr.HashSeed)
	}
	if p.key >= 0 {
		hashInto(p.seeds, &b.cols[p.key])
	} else {
		for i := range p.seeds {
			p.seeds[i] = int64(expr.HashInt64(p.row+int64(i), expr.HashSeed))
		}
	}
	p.row += int64(b.n)
	for i, s := range p.seeds {
		h := expr.HashInt64(p.seed, uint64(s))
		p.hash[i] = h
		p.part[i] = uint8(p.train)
		if p.key >= 0 {
			p.part[i] = p.partOf(h)
		}
	}
}

func (p *splitter) partOf(h uint64) uint8 {
	class := expr.Pmod64(h, hashRange)
	for i, b := range p.bounds {
		if class < b {
			return uint8(i)
		}
	}
	return uint8(len(p.bounds) - 1)
}
