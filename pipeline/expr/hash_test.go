package expr

import (
	"math"
	"strings"
	"testing"
)

// TestHashEqualsSpark holds values that SELECT xxhash64(…) gave on Spark 3.5.5, 4.0.1 and 4.3.0.
func TestHashEqualsSpark(t *testing.T) {
	const s = HashSeed
	for _, c := range []struct {
		name string
		got  uint64
		want int64
	}{
		{"''", HashString("", s), -7444071767201028348},
		{"'a'", HashString("a", s), -8582455328737087284},
		{"'hello world'", HashString("hello world", s), 7620854247404556961},
		{"'Grüße, 世界'", HashString("Grüße, 世界", s), -5804867975701851622},
		{"'The quick …'", HashString("The quick brown fox jumps over the lazy dog", s), -6152153990451020481},
		{"INT 0", HashInt32(0, s), 3614696996920510707},
		{"INT 1", HashInt32(1, s), -6698625589789238999},
		{"INT -1", HashInt32(-1, s), 2017008487422258757},
		{"INT 42", HashInt32(42, s), -387659249110444264},
		{"INT min", HashInt32(math.MinInt32, s), 2073849959933241805},
		{"INT max", HashInt32(math.MaxInt32, s), 1508894993788531228},
		{"BIGINT 0", HashInt64(0, s), -5252525462095825812},
		{"BIGINT 1", HashInt64(1, s), -7001672635703045582},
		{"BIGINT -1", HashInt64(-1, s), 3858142552250413010},
		{"BIGINT 42", HashInt64(42, s), -6876166290308861218},
		{"BIGINT max", HashInt64(math.MaxInt64, s), -3246596055638297850},
		{"DOUBLE 0", HashFloat64(0, s), -5252525462095825812},
		{"DOUBLE -0", HashFloat64(math.Copysign(0, -1), s), -5252525462095825812},
		{"DOUBLE 1", HashFloat64(1, s), -2162451265447482029},
		{"DOUBLE pi", HashFloat64(math.Pi, s), 5978819882446174359},
		{"DOUBLE NaN", HashFloat64(math.NaN(), s), -3127944061524951246},
		{"DOUBLE other NaN", HashFloat64(math.Float64frombits(0xfff8000000000123), s), -3127944061524951246},
		{"FLOAT 1", HashFloat32(1, s), 700633588856507837},
		{"FLOAT 3.14", HashFloat32(3.14, s), -7283597122065597797},
		{"NULL", s, 42},
		{"(1L, 7)", HashInt32(7, HashInt64(1, s)), -2138601514710548393},
		{"('a', 7)", HashInt32(7, HashString("a", s)), -3997527857389255009},
		{"('a', 'b')", HashString("b", HashString("a", s)), -7357372313250070212},
		{"(1, 7L)", HashInt64(7, HashInt32(1, s)), -3556563385944273995},
		{"X'00FF'", HashBytes([]byte{0, 0xff}, s), 879945414100663330},
		{"true", HashBool(true, s), -6698625589789238999},
		{"SMALLINT 5", HashInt32(5, s), 504019808641096632},
	} {
		if int64(c.got) != c.want {
			t.Errorf("xxhash64(%s) = %d, want %d", c.name, int64(c.got), c.want)
		}
	}
}

func TestHashOfTextAndBytesAgree(t *testing.T) {
	s := strings.Repeat("0123456789abcdef", 6)
	for n := range len(s) {
		if a, b := HashString(s[:n], 7), HashBytes([]byte(s[:n]), 7); a != b {
			t.Fatalf("%d bytes: %x as text, %x as bytes", n, a, b)
		}
	}
}

func TestPmodIsNeverNegative(t *testing.T) {
	for h, want := range map[int64]int64{-1: 9, -10: 0, 19: 9, math.MinInt64: 2} {
		if got := Pmod64(uint64(h), 10); got != want {
			t.Errorf("pmod(%d, 10) = %d, want %d", h, got, want)
		}
	}
}

func BenchmarkHashInt64(b *testing.B) {
	h := HashSeed
	for b.Loop() {
		h = HashInt64(1, h)
	}
	if h == 0 {
		b.Fatal("no hash")
	}
}
