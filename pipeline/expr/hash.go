package expr

import (
	"math"
	"math/bits"
)

// HashSeed is the seed of the first column of Spark's xxhash64. The hash of a column is the seed of the next one; a
// NULL leaves the seed as it is.
const HashSeed uint64 = 42

// The constants of XXH64.
const (
	prime1 uint64 = 0x9E3779B185EBCA87
	prime2 uint64 = 0xC2B2AE3D27D4EB4F
	prime3 uint64 = 0x165667B19E3779F9
	prime4 uint64 = 0x85EBCA77C2B2AE63
	prime5 uint64 = 0x27D4EB2F165667C5
)

// HashInt64 is Spark's xxhash64 of a BIGINT: XXH64 over 8 bytes, little endian.
func HashInt64(v int64, seed uint64) uint64 {
	return avalanche(step8(seed+prime5+8, uint64(v)))
}

// HashInt32 is Spark's xxhash64 of an INT, SMALLINT or TINYINT: XXH64 over 4 bytes, little endian.
func HashInt32(v int32, seed uint64) uint64 {
	return avalanche(step4(seed+prime5+4, uint32(v)))
}

// HashBool is Spark's xxhash64 of a BOOLEAN: an INT 1 or 0.
func HashBool(v bool, seed uint64) uint64 {
	if v {
		return HashInt32(1, seed)
	}
	return HashInt32(0, seed)
}

// HashFloat64 is Spark's xxhash64 of a DOUBLE: its bits, with -0 as 0 and every NaN as one.
func HashFloat64(v float64, seed uint64) uint64 {
	switch {
	case v == 0:
		return HashInt64(0, seed)
	case v != v:
		return HashInt64(0x7ff8000000000000, seed)
	}
	return HashInt64(int64(math.Float64bits(v)), seed)
}

// HashFloat32 is Spark's xxhash64 of a FLOAT: its bits, with -0 as 0 and every NaN as one.
func HashFloat32(v float32, seed uint64) uint64 {
	switch {
	case v == 0:
		return HashInt32(0, seed)
	case v != v:
		return HashInt32(0x7fc00000, seed)
	}
	return HashInt32(int32(math.Float32bits(v)), seed)
}

// HashString is Spark's xxhash64 of a STRING: XXH64 over its UTF-8 bytes.
func HashString(s string, seed uint64) uint64 { return hashBytes(s, seed) }

// HashBytes is Spark's xxhash64 of a BINARY.
func HashBytes(b []byte, seed uint64) uint64 { return hashBytes(b, seed) }

// hashBytes is XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md, section "XXH64 algorithm description").
func hashBytes[T string | []byte](b T, seed uint64) uint64 {
	n := uint64(len(b))
	var h uint64
	if len(b) >= 32 {
		v1, v2, v3, v4 := seed+prime1+prime2, seed+prime2, seed, seed-prime1
		for len(b) >= 32 {
			v1 = round(v1, le64(b))
			v2 = round(v2, le64(b[8:]))
			v3 = round(v3, le64(b[16:]))
			v4 = round(v4, le64(b[24:]))
			b = b[32:]
		}
		h = bits.RotateLeft64(v1, 1) + bits.RotateLeft64(v2, 7) + bits.RotateLeft64(v3, 12) + bits.RotateLeft64(v4, 18)
		for _, v := range [4]uint64{v1, v2, v3, v4} {
			h = (h^round(0, v))*prime1 + prime4
		}
	} else {
		h = seed + prime5
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = step8(h, le64(b))
	}
	if len(b) >= 4 {
		h = step4(h, uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)
		b = b[4:]
	}
	for i := 0; i < len(b); i++ {
		h = bits.RotateLeft64(h^uint64(b[i])*prime5, 11) * prime1
	}
	return avalanche(h)
}

func le64[T string | []byte](b T) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func round(acc, lane uint64) uint64 {
	return bits.RotateLeft64(acc+lane*prime2, 31) * prime1
}

func step8(h, lane uint64) uint64 {
	return bits.RotateLeft64(h^round(0, lane), 27)*prime1 + prime4
}

func step4(h uint64, lane uint32) uint64 {
	return bits.RotateLeft64(h^uint64(lane)*prime1, 23)*prime2 + prime3
}

func avalanche(h uint64) uint64 {
	h ^= h >> 33
	h *= prime2
	h ^= h >> 29
	h *= prime3
	return h ^ h>>32
}

// Pmod64 is pmod(h, m) with h taken as Spark's signed BIGINT: in 0..m-1. m is greater than 0.
func Pmod64(h uint64, m int64) int64 {
	r := int64(h) % m
	if r < 0 {
		r += m
	}
	return r
}
