package psrpc

import (
	"strings"
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
		switch c.Unit {
		case "GB/s":
			b.ReportMetric(c.Ratio, c.Name+"/bare-tcp")
		default:
			b.ReportMetric(c.Value, c.Name+"_"+strings.ReplaceAll(c.Unit, " ", "_"))
		}
	}
}

// The benchmark works at a size that a test can afford, and what the wire allocates is a small part of what goes over it
// (protobuf bytes would be more than all of it).
func TestBenchExchangeMeasures(t *testing.T) {
	cases, err := BenchExchange(t.Context(), BenchOptions{Floats: 1 << 20, Rounds: 5})
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 7+4*len(benchedCodecs()) {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		switch c.Unit {
		case "GB/s":
			if c.Value <= 0 || c.Reference <= 0 || c.Ratio <= 0 {
				t.Errorf("%+v", c)
			}
		case "B/B":
			if c.Value > 0.3 && !raceEnabled {
				t.Errorf("%s: %.3f bytes allocated for each byte on the wire", c.Name, c.Value)
			}
		}
	}
}
