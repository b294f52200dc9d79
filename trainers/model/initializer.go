package model

import (
	"math"
	"math/rand/v2"

	"dkpipe/pipeline"
)

// Initializer names how a variable starts, as Keras does.
type Initializer string

// The initializers, with Keras' default parameters. fan_in and fan_out count a kernel's receptive field.
const (
	Zeros           Initializer = "zeros"
	Ones            Initializer = "ones"
	GlorotUniform   Initializer = "glorot_uniform"   // ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)
	GlorotNormal    Initializer = "glorot_normal"    // deviation sqrt(2 / (fan_in + fan_out)), truncated at two
	HeUniform       Initializer = "he_uniform"       // ±sqrt(6 / fan_in) (He et al. 2015, eq. 10)
	HeNormal        Initializer = "he_normal"        // deviation sqrt(2 / fan_in), truncated at two
	LecunUniform    Initializer = "lecun_uniform"    // ±sqrt(3 / fan_in)
	LecunNormal     Initializer = "lecun_normal"     // deviation sqrt(1 / fan_in), truncated at two
	RandomUniform   Initializer = "random_uniform"   // ±0.05
	RandomNormal    Initializer = "random_normal"    // deviation 0.05
	TruncatedNormal Initializer = "truncated_normal" // deviation 0.05, truncated at two
)

// Initializers lists the names.
func Initializers() []string {
	return []string{
		string(GlorotNormal), string(GlorotUniform), string(HeNormal), string(HeUniform), string(LecunNormal), string(LecunUniform),
		string(Ones), string(RandomNormal), string(RandomUniform), string(TruncatedNormal), string(Zeros),
	}
}

func (i Initializer) check() error {
	for _, n := range Initializers() {
		if n == string(i) {
			return nil
		}
	}
	return unknown(pipeline.Unsupported, "initializer", string(i), Initializers())
}

// truncatedStd is the standard deviation of a unit normal that is cut off at two: Keras divides by it.
const truncatedStd = 0.87962566103423978

// fill draws a variable. Uniform values are equal on every machine, bit by bit: additions and products are kept from
// being fused by the conversions. Normal values go through the standard library's exponential in rare cases.
func (i Initializer) fill(dst []float32, shape []int, r *rand.PCG) {
	in, out := fans(shape)
	switch i {
	case Ones:
		for j := range dst {
			dst[j] = 1
		}
	case GlorotUniform:
		uniform(dst, math.Sqrt(6/(in+out)), r)
	case GlorotNormal:
		truncated(dst, math.Sqrt(2/(in+out))/truncatedStd, r)
	case HeUniform:
		uniform(dst, math.Sqrt(6/in), r)
	case HeNormal:
		truncated(dst, math.Sqrt(2/in)/truncatedStd, r)
	case LecunUniform:
		uniform(dst, math.Sqrt(3/in), r)
	case LecunNormal:
		truncated(dst, math.Sqrt(1/in)/truncatedStd, r)
	case RandomUniform:
		uniform(dst, 0.05, r)
	case RandomNormal:
		n := rand.New(r)
		for j := range dst {
			dst[j] = float32(0.05 * n.NormFloat64())
		}
	case TruncatedNormal:
		truncated(dst, 0.05, r)
	default: // Zeros
		clear(dst)
	}
}

func uniform(dst []float32, limit float64, r *rand.PCG) {
	for j := range dst {
		u := float64(r.Uint64()>>11) * 0x1p-53
		dst[j] = float32(float64(u*(2*limit)) - limit)
	}
}

func truncated(dst []float32, dev float64, r *rand.PCG) {
	n := rand.New(r)
	for j := range dst {
		x := n.NormFloat64()
		for math.Abs(x) > 2 {
			x = n.NormFloat64()
		}
		dst[j] = float32(dev * x)
	}
}

// fans gives fan_in and fan_out as Keras computes them: the last two dimensions are channels, the ones before them
// the receptive field.
func fans(shape []int) (in, out float64) {
	switch len(shape) {
	case 0:
		return 1, 1
	case 1:
		return float64(shape[0]), float64(shape[0])
	}
	field := 1.0
	for _, d := range shape[:len(shape)-2] {
		field *= float64(d)
	}
	return field * float64(shape[len(shape)-2]), field * float64(shape[len(shape)-1])
}
