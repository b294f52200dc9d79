package psrpc

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"dkpipe/ps"
)

func lossy() []Codec { return []Codec{BF16, Int8, TopK} }

// cross packs a commit and unpacks it on the other side.
func cross(t testing.TB, f *feedback, seq uint64, delta, got []float32) (bytes int) {
	t.Helper()
	f.begin(seq, len(delta))
	for i, lo := 0, 0; lo < len(delta); i, lo = i+1, lo+frameFloats {
		b := f.piece(i, delta)
		bytes += len(b)
		if err := f.codec.unpack(got[lo:min(lo+frameFloats, len(got))], b); err != nil {
			t.Fatal(err)
		}
	}
	return bytes
}

func normal(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 5))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64() * math.Exp(rng.NormFloat64()))
	}
	return x
}

// What arrived and what waits are together what was sent, within the rounding of the sums: nothing is lost for good.
func TestErrorFeedbackLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom([]Codec{Int8, TopK}).Draw(t, "codec")
		n := rapid.IntRange(1, 1500).Draw(t, "elements")
		commits := rapid.IntRange(1, 12).Draw(t, "commits")
		scale := rapid.SampledFrom([]float32{1e-42, 1e-30, 1e-3, 1, 1e20}).Draw(t, "scale")
		f := &feedback{codec: codec}
		sent, arrived, size := make([]float64, n), make([]float64, n), make([]float64, n)
		got := make([]float32, n)
		for seq := range commits {
			delta := normal(n, rapid.Uint64().Draw(t, "seed"))
			for i := range delta {
				delta[i] *= scale
				sent[i] += float64(delta[i])
				size[i] += math.Abs(float64(delta[i]))
			}
			crossRapid(t, f, uint64(seq+1), delta, got)
			for i, v := range got {
				arrived[i] += float64(v)
			}
		}
		for i := range sent {
			if diff := math.Abs(arrived[i] + float64(f.residual[i]) - sent[i]); diff > 1e-6*float64(commits)*size[i]+1e-44 {
				t.Fatalf("element %d: %g arrived, %g waits, %g was sent: %g off", i, arrived[i], f.residual[i], sent[i], diff)
			}
		}
	})
}

func crossRapid(t *rapid.T, f *feedback, seq uint64, delta, got []float32) {
	f.begin(seq, len(delta))
	for i, lo := 0, 0; lo < len(delta); i, lo = i+1, lo+frameFloats {
		if err := f.codec.unpack(got[lo:min(lo+frameFloats, len(got))], f.piece(i, delta)); err != nil {
			t.Fatal(err)
		}
	}
}

// The error of one commit is no more than the codec's step.
func TestCodecErrors(t *testing.T) {
	x := normal(3*frameFloats/2+77, 1)
	got := make([]float32, len(x))
	cross(t, &feedback{codec: BF16}, 1, x, got)
	for i, v := range x {
		if math.Abs(float64(got[i]-v)) > math.Abs(float64(v))/256 {
			t.Fatalf("bf16: %g became %g", v, got[i])
		}
	}
	cross(t, &feedback{codec: Int8}, 1, x, got)
	for lo := 0; lo < len(x); lo += int8Block {
		block := x[lo:min(lo+int8Block, len(x))]
		var most float64
		for _, v := range block {
			most = max(most, math.Abs(float64(v)))
		}
		for i, v := range block {
			if math.Abs(float64(got[lo+i]-v)) > most/254*1.0001 {
				t.Fatalf("int8: %g became %g in a block of up to %g", v, got[lo+i], most)
			}
		}
	}
	cross(t, &feedback{codec: TopK}, 1, x, got)
	for lo := 0; lo < len(x); lo += topSegment {
		sent, least, most := 0, math.Inf(1), 0.0
		for i, v := range x[lo:min(lo+topSegment, len(x))] {
			switch g := got[lo+i]; {
			case g == v && g != 0:
				sent++
				least = min(least, math.Abs(float64(v)))
			case g == 0:
				most = max(most, math.Abs(float64(v)))
			default:
				t.Fatalf("topk: %g became %g", v, g)
			}
		}
		if want := topCount(min(topSegment, len(x)-lo)); sent != want || least < most {
			t.Errorf("segment at %d: %d elements from %g up were sent, want %d; one of %g was not", lo, sent, least, want, most)
		}
	}
}

// A repeated commit has the same bytes, and its residual counts once.
func TestARepeatSendsTheSameBytes(t *testing.T) {
	for _, codec := range lossy() {
		f, once := &feedback{codec: codec}, &feedback{codec: codec}
		x := normal(frameFloats+500, 2)
		got, again := make([]float32, len(x)), make([]float32, len(x))
		f.begin(1, len(x))
		f.piece(0, x) // the connection breaks here
		cross(t, f, 1, x, got)
		cross(t, f, 1, x, got)
		cross(t, once, 1, x, again)
		cross(t, f, 2, x, got)
		cross(t, once, 2, x, again)
		for i := range got {
			if got[i] != again[i] {
				t.Fatalf("%v: element %d is %g after repeats, %g without", codec, i, got[i], again[i])
			}
		}
	}
}

// NaN and infinity arrive as such, so that the server refuses the commit, and leave nothing in the residual.
func TestNonFiniteArrives(t *testing.T) {
	for _, codec := range lossy() {
		for _, bad := range []float32{nan32(), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for _, n := range []int{1, 700} { // all of them, or one
				f := &feedback{codec: codec}
				x := normal(1000, 3)
				for i := range n {
					x[i] = bad
				}
				got := make([]float32, len(x))
				cross(t, f, 1, x, got)
				found := false
				for i, v := range got {
					found = found || !finite32(v)
					if f.residual != nil && !finite32(f.residual[i]) {
						t.Fatalf("%v: residual %g at %d", codec, f.residual[i], i)
					}
				}
				if !found {
					t.Errorf("%v: %g did not arrive", codec, bad)
				}
			}
		}
	}
}

// Measured bytes of a commit of 19.2 MB, frames included.
func TestCodecsSaveWhatTheySay(t *testing.T) {
	const n = 4798010
	x, got := normal(n, 4), make([]float32, n)
	for codec, least := range map[Codec]float64{BF16: 1.999, Int8: 3.9, TopK: 60} {
		bytes := cross(t, &feedback{codec: codec}, 1, x, got) + blocksOf(n, frameFloats)*codedHead
		if ratio := 4 * n / float64(bytes); ratio < least {
			t.Errorf("%v: %.3f times fewer bytes, want %g", codec, ratio, least)
		}
	}
}

func TestPackingDoesNotAllocate(t *testing.T) {
	x, got := normal(frameFloats+99, 6), make([]float32, frameFloats+99)
	for _, codec := range lossy() {
		f := &feedback{codec: codec}
		var seq uint64
		if n := testing.AllocsPerRun(5, func() {
			seq++
			cross(t, f, seq, x, got)
		}); n != 0 {
			t.Errorf("%v: %g allocations a commit", codec, n)
		}
	}
}

func TestChooseCodec(t *testing.T) {
	for speed, want := range map[float64]Codec{0: FP32, math.NaN(): FP32, 800e6: FP32, 300e6: BF16, 117e6: Int8, 1e6: Int8} {
		if got := chooseCodec(speed); got != want {
			t.Errorf("%g B/s: %v, want %v", speed, got, want)
		}
	}
	for _, name := range Codecs() {
		if c, err := ParseCodec(name); err != nil || c.String() != name {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	_, err := ParseCodec("zip")
	kind(t, err, "spec")
}

// The k-th largest magnitude, found by digits, is the one that sorting finds.
func TestKthMagnitude(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32(), 1, 300).Draw(t, "x")
		k := rapid.IntRange(1, len(x)).Draw(t, "k")
		threshold, above := kthMagnitude(x, k)
		larger, equal := 0, 0
		for _, v := range x {
			switch m := magnitude(v); {
			case m > threshold:
				larger++
			case m == threshold:
				equal++
			}
		}
		if larger != above || larger >= k || larger+equal < k {
			t.Fatalf("threshold %#x: %d above, found %d and %d at it, k %d of %d", threshold, above, larger, equal, k, len(x))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	x := normal(600, 7)
	for _, codec := range lossy() {
		fb := &feedback{codec: codec}
		fb.begin(1, len(x))
		f.Add(uint8(codec), 600, fb.piece(0, x))
	}
	f.Add(uint8(TopK), 70000, []byte{0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, codec uint8, n int, b []byte) {
		if n < 0 || n > frameFloats {
			return
		}
		dst := make([]float32, n)
		if err := Codec(codec).unpack(dst, b); err == nil && len(b) > Codec(codec).packed(n) && Codec(codec) != TopK {
			t.Errorf("%d bytes were taken for %d elements", len(b), n)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	x := normal(1<<20, 8)
	got := make([]float32, len(x))
	for _, codec := range lossy() {
		f := &feedback{codec: codec}
		var seq uint64
		b.Run(fmt.Sprintf("%v/pack", codec), func(b *testing.B) {
			b.SetBytes(4 << 20)
			for b.Loop() {
				seq++
				f.begin(seq, len(x))
				for i := range blocksOf(len(x), frameFloats) {
					f.piece(i, x)
				}
			}
		})
		b.Run(fmt.Sprintf("%v/unpack", codec), func(b *testing.B) {
			b.SetBytes(4 << 20)
			for b.Loop() {
				for i := range blocksOf(len(x), frameFloats) {
					if err := codec.unpack(got[i*frameFloats:(i+1)*frameFloats], f.piece(i, x)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// Whole exchanges with every codec: what the worker gets is the centre, and the centre is what was sent, up to what the
// codec leaves waiting.
func TestExchangeWithEveryCodec(t *testing.T) {
	const n = frameFloats + 1000
	for i, name := range Codecs() {
		codec := Codec(i)
		t.Run(name, func(t *testing.T) {
			srv := newCore(t, make([]float32, n), ps.Options{})
			ticket := NewTicket()
			addr := serve(t, srv, "127.0.0.1:0", ServerOptions{Ticket: ticket, Codec: codec})
			c := client(t, ClientOptions{Address: addr.String(), Ticket: ticket})
			dst, centre, sum, size := make([]float32, n), make([]float32, n), make([]float64, n), make([]float64, n)
			ack, err := c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation()}, dst)
			for seq := range uint64(4) {
				if err != nil {
					t.Fatal(err)
				}
				delta := normal(n, seq)
				for i, v := range delta {
					sum[i] += float64(v)
					size[i] += math.Abs(float64(v))
				}
				ack, err = c.Exchange(t.Context(), ps.Commit{Incarnation: c.Incarnation(), Seq: seq + 1, Base: ack.Version, Steps: 1, Delta: delta}, dst)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := srv.Centre(centre); err != nil {
				t.Fatal(err)
			}
			if codec == Auto && c.Codec() == Auto {
				t.Error("nothing was chosen")
			}
			residual, chosen := c.packer.feedback.residual, c.Codec()
			for i, v := range centre {
				if math.Abs(float64(dst[i]-v)) > math.Abs(float64(v))/256 {
					t.Fatalf("element %d: the worker got %g of %g", i, dst[i], v)
				}
				if residual != nil {
					v += residual[i]
				}
				tolerance := 2e-5 * (1 + math.Abs(sum[i]))
				if chosen == BF16 { // nothing catches what it rounds away
					tolerance = size[i] / 256
				}
				if math.Abs(float64(v)-sum[i]) > tolerance {
					t.Fatalf("element %d: centre and residual %g, sent %g", i, v, sum[i])
				}
			}
			if err := c.Rejoin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.packer.feedback.residual != nil {
				t.Error("a new life has the residual of the old one")
			}
		})
	}
}
