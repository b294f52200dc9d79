package psrpc

import (
	"fmt"
	"math"

	"dkpipe/ps"
)

// Codec says how the elements of a vector become bytes on the wire. A lossy one is for rules whose commits are differences:
// what it leaves out of one commit rides with a later one (error feedback), which makes no sense of whole vectors.
type Codec uint8

const (
	// FP32 sends the bits as they are.
	FP32 Codec = iota
	// BF16 sends the upper 16 bits, rounded to nearest even: half the bytes, a relative error of at most 2^-8.
	BF16
	// Int8 sends blocks of 256 elements as multiples of the block's largest magnitude over 127: 3.94 times fewer bytes.
	// What rounding took away is added to the next commit (Karimireddy et al., ICML 2019, arXiv 1901.09847).
	Int8
	// TopK sends the largest one per cent of each 64 Ki elements, with their indices: 66 times fewer bytes. All others wait
	// and grow in the residual (Lin et al., ICLR 2018, arXiv 1712.01887).
	TopK
	// Auto lets a client choose among FP32, BF16 and Int8 by the speed at which its first pull arrived.
	Auto
)

// Codecs are the names that ParseCodec knows.
func Codecs() []string { return []string{"fp32", "bf16", "int8", "topk", "auto"} }

// ParseCodec reads a name of Codecs; the empty text is FP32.
func ParseCodec(name string) (Codec, error) {
	for i, n := range Codecs() {
		if name == n {
			return Codec(i), nil
		}
	}
	if name == "" {
		return FP32, nil
	}
	return 0, &ps.Error{Kind: "spec", Message: fmt.Sprintf("codec %q is not known", name), Hint: fmt.Sprintf("choose one of %v", Codecs())}
}

// String gives the name.
func (c Codec) String() string {
	if int(c) < len(Codecs()) {
		return Codecs()[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// ReplyCodec is what replies to commits of this codec travel as: the centre has no residual to catch what is lost, so it
// is never coarser than BF16.
func (c Codec) ReplyCodec() Codec {
	if c == FP32 {
		return FP32
	}
	return BF16
}

// The speeds, in bytes of a second, below which packing pays: one core packs and unpacks int8 at 1 GB/s and bf16 at 1.4.
const (
	fastLink = 500e6
	slowLink = 250e6
)

// chooseCodec is Auto's choice for a link that carried vectors of float32 at so many bytes in a second.
func chooseCodec(bytesPerSecond float64) Codec {
	switch {
	case !(bytesPerSecond > 0) || bytesPerSecond >= fastLink:
		return FP32
	case bytesPerSecond >= slowLink:
		return BF16
	}
	return Int8
}

// packed is the greatest number of bytes that n elements of a piece take.
func (c Codec) packed(n int) int {
	switch c {
	case BF16:
		return 2 * n
	case Int8:
		return n + 4*blocksOf(n, int8Block)
	case TopK:
		size := 0
		for ; n > 0; n -= topSegment {
			size += 4 + 6*topCount(min(n, topSegment))
		}
		return size
	}
	return 4 * n
}

func blocksOf(n, block int) int { return (n + block - 1) / block }

// unpack decodes all of b into dst, of at most frameFloats elements. It trusts nothing about b; after an error dst holds
// anything.
func (c Codec) unpack(dst []float32, b []byte) error {
	switch c {
	case BF16:
		return unpackBF16(dst, b)
	case Int8:
		return unpackInt8(dst, b)
	case TopK:
		return unpackTopK(dst, b)
	}
	return malformed("a piece in %v", c)
}

// finite32 says whether v is neither NaN nor infinite.
func finite32(v float32) bool { return v-v == 0 }

// nan32 marks what has to be refused on the other side too.
func nan32() float32 { return float32(math.NaN()) }
