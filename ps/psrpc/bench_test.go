package psrpc

import (
	"testing"
)

// BenchmarkExchange is one exchange of a 19.2 MB model over loopback; the ratio is to a bare socket in the same round.
func BenchmarkExchange(b *testing.B) {
	cases, err := BenchExchange(b.Context(), BenchOptions{Rounds: max(b.N, 5)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range cases {
		b.Logf("%-24s %8.3f %-12s limit %8.3f ratio %.2f", c.Name, c.Value, c.Unit, c.Reference, c.Ratio)
		if c.Ratio > 0 && c.Unit == "GB/s" {
			b.ReportMetric(c.Ratio, c.Name[len("exchange/"):]+"-ratio")
		}
	}
}

// The benchmark works at a size that a test can afford, and the wire costs no allocation that grows with the model.
func TestBenchExchangeMeasures(t *testing.T) {
	cases, err := BenchExchange(t.Context(), BenchOptions{Floats: 1 << 19, Rounds: 5})
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 6 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		if c.Unit == "B/B" {
			if c.Value > 0.05 && !raceEnabled {
				t.Errorf("%s: %.3f bytes allocated for each byte on the wire", c.Name, c.Value)
			}
		} else if c.Value <= 0 || c.Reference <= 0 || c.Ratio <= 0 {
			t.Errorf("%+v", c)
		}
	}
}
