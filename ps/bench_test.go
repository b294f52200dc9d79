package ps

import (
	"context"
	"fmt"
	"testing"
)

// add is c = c + d, the cheapest rule there is.
type add struct{}

func (add) Slots() int          { return 0 }
func (add) RepliesCentre() bool { return true }
func (add) Apply(centre, _, delta, reply []float32, _ Commit) {
	delta, reply = delta[:len(centre)], reply[:len(centre)]
	for i, d := range delta {
		c := centre[i] + d
		centre[i], reply[i] = c, c
	}
}

// BenchmarkExchange is a commit of a 19.2 MB model to a server in the same process: the check (BenchmarkUnfit), then the
// rule, which here is a plain Go loop. It must not allocate. MB/s counts the delta.
func BenchmarkExchange(b *testing.B) {
	for _, n := range []int{1 << 10, 4798010} {
		for _, inPlace := range []bool{false, true} {
			b.Run(fmt.Sprintf("floats=%d/in-place=%v", n, inPlace), func(b *testing.B) {
				core, err := NewCore(make([]float32, n), add{}, Options{Shards: 1, Epochs: 1})
				if err != nil {
					b.Fatal(err)
				}
				s := NewServer(core, nil)
				life, err := s.Join(0)
				if err != nil {
					b.Fatal(err)
				}
				u, _, err := s.Next(b.Context(), 0, life)
				if err != nil {
					b.Fatal(err)
				}
				c := Commit{Incarnation: life, Steps: 1, Samples: 1, Delta: make([]float32, n), Positions: []Position{{Unit: u.ID, Cursor: []byte("cursor")}}}
				dst := make([]float32, n)
				if inPlace {
					dst = c.Delta
				}
				ctx := context.Background()
				b.SetBytes(int64(4 * n))
				b.ReportAllocs()
				for b.Loop() {
					c.Seq++
					ack, err := s.Exchange(ctx, c, dst)
					if err != nil {
						b.Fatal(err)
					}
					c.Base = ack.Version
				}
			})
		}
	}
}

// BenchmarkCopy is the yardstick: one vector copied, the least that any reply costs.
func BenchmarkCopy(b *testing.B) {
	const n = 4798010
	x, y := make([]float32, n), make([]float32, n)
	b.SetBytes(4 * n)
	for b.Loop() {
		copy(x, y)
	}
}

// BenchmarkUnfit is the check that every delta goes through.
func BenchmarkUnfit(b *testing.B) {
	for _, n := range []int{1 << 12, 4798010} {
		b.Run(fmt.Sprintf("floats=%d", n), func(b *testing.B) {
			x := make([]float32, n)
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				if unfit(x) >= 0 {
					b.Fatal("found")
				}
			}
		})
	}
}
