package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"dkpipe/pipeline"
)

// Initializer says how a variable starts: one of Keras' names, alone or with what differs from Keras' defaults, as in
// random_normal(stddev=0.02). Seeds are not part of it: the run's seed decides.
type Initializer string

// Initializers that are often named.
const (
	Zeros           Initializer = "zeros"
	Ones            Initializer = "ones"
	GlorotUniform   Initializer = "glorot_uniform"   // ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)
	GlorotNormal    Initializer = "glorot_normal"    // deviation sqrt(2 / (fan_in + fan_out)), truncated at two
	HeUniform       Initializer = "he_uniform"       // ±sqrt(6 / fan_in) (He et al. 2015, eq. 10)
	HeNormal        Initializer = "he_normal"        // deviation sqrt(2 / fan_in), truncated at two
	LecunUniform    Initializer = "lecun_uniform"    // ±sqrt(3 / fan_in)
	LecunNormal     Initializer = "lecun_normal"     // deviation sqrt(1 / fan_in), truncated at two
	RandomUniform   Initializer = "random_uniform"   // minval -0.05 to maxval 0.05
	RandomNormal    Initializer = "random_normal"    // mean 0, stddev 0.05
	TruncatedNormal Initializer = "truncated_normal" // mean 0, stddev 0.05, truncated at two
	Orthogonal      Initializer = "orthogonal"       // rows or columns orthogonal to each other, of length gain (Saxe et al. 2014)
)

// InitializerConfig is an Initializer taken apart. fan_in and fan_out count a kernel's receptive field.
type InitializerConfig struct {
	Name         string
	Value        float64 // of constant
	Mean, Stddev float64 // of random_normal and truncated_normal
	Minval       float64 // of random_uniform
	Maxval       float64
	Gain         float64 // of orthogonal and identity
	Scale        float64 // of variance_scaling
	Mode         string  // of variance_scaling: fan_in, fan_out, fan_avg
	Distribution string  // of variance_scaling: truncated_normal, untruncated_normal, uniform
}

// DefaultInitializer gives a name's configuration with Keras' defaults. An unknown name is an error of kind Unsupported.
func DefaultInitializer(name string) (InitializerConfig, error) {
	if !slices.Contains(Initializers(), name) {
		return InitializerConfig{}, unknown(pipeline.Unsupported, "initializer", name, Initializers())
	}
	c := InitializerConfig{Name: name}
	switch name {
	case "random_normal", "truncated_normal":
		c.Stddev = 0.05
	case "random_uniform":
		c.Minval, c.Maxval = -0.05, 0.05
	case "orthogonal", "identity":
		c.Gain = 1
	case "variance_scaling":
		c.Scale, c.Mode, c.Distribution = 1, "fan_in", "truncated_normal"
	}
	return c, nil
}

// Initializers lists the names.
func Initializers() []string {
	return []string{
		"constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "ones",
		"orthogonal", "random_normal", "random_uniform", "truncated_normal", "variance_scaling", "zeros",
	}
}

// option is a number or a word of a configuration, by its name.
type option struct {
	name   string
	number *float64
	word   *string
}

// options lists what the initializer of this name takes.
func (c *InitializerConfig) options() []option {
	switch c.Name {
	case "constant":
		return []option{{name: "value", number: &c.Value}}
	case "random_normal", "truncated_normal":
		return []option{{name: "mean", number: &c.Mean}, {name: "stddev", number: &c.Stddev}}
	case "random_uniform":
		return []option{{name: "minval", number: &c.Minval}, {name: "maxval", number: &c.Maxval}}
	case "orthogonal", "identity":
		return []option{{name: "gain", number: &c.Gain}}
	case "variance_scaling":
		return []option{{name: "scale", number: &c.Scale}, {name: "mode", word: &c.Mode}, {name: "distribution", word: &c.Distribution}}
	}
	return nil
}

// Options gives the values of what the initializer takes, by Keras' names: numbers and words.
func (c InitializerConfig) Options() map[string]any {
	all := map[string]any{}
	for _, o := range c.options() {
		if o.number != nil {
			all[o.name] = *o.number
		} else {
			all[o.name] = *o.word
		}
	}
	return all
}

// Initializer writes a configuration in its shortest form.
func (c InitializerConfig) Initializer() Initializer {
	def, err := DefaultInitializer(c.Name)
	if err != nil {
		return Initializer(c.Name)
	}
	var args []string
	defaults := def.options()
	for i, o := range c.options() {
		switch {
		case o.number != nil && *o.number != *defaults[i].number:
			args = append(args, o.name+"="+strconv.FormatFloat(*o.number, 'g', -1, 64))
		case o.word != nil && *o.word != *defaults[i].word:
			args = append(args, o.name+"="+*o.word)
		}
	}
	if args == nil {
		return Initializer(c.Name)
	}
	return Initializer(c.Name + "(" + strings.Join(args, ", ") + ")")
}

// Config takes an initializer apart.
func (i Initializer) Config() (InitializerConfig, error) {
	name, rest, parts := strings.Cut(string(i), "(")
	c, err := DefaultInitializer(strings.TrimSpace(name))
	if err != nil || !parts {
		return c, err
	}
	bad := func(format string, args ...any) (InitializerConfig, error) {
		return c, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("initializer %q: ", string(i)) + fmt.Sprintf(format, args...),
			Hint: "write it like random_normal(stddev=0.02)"}
	}
	rest, closed := strings.CutSuffix(strings.TrimSpace(rest), ")")
	if !closed {
		return bad("the bracket is not closed")
	}
	known := c.options()
	for arg := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(arg, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		k := slices.IndexFunc(known, func(o option) bool { return o.name == key })
		if k < 0 {
			return bad("it has no %q", key)
		}
		if known[k].word != nil {
			*known[k].word = value
			continue
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return bad("%s is no number", key)
		}
		*known[k].number = f
	}
	if text := c.fault(); text != "" {
		return bad("%s", text)
	}
	return c, nil
}

// fault says what cannot be drawn; empty when all is well.
func (c InitializerConfig) fault() string {
	for _, o := range c.options() {
		if o.number != nil && (math.IsNaN(*o.number) || math.IsInf(*o.number, 0)) {
			return o.name + " is not finite"
		}
	}
	switch {
	case c.Stddev < 0:
		return "stddev is below 0"
	case c.Minval > c.Maxval:
		return "minval is above maxval"
	case c.Name != "variance_scaling":
		return ""
	case !(c.Scale > 0):
		return "scale must be above 0"
	case !slices.Contains([]string{"fan_in", "fan_out", "fan_avg"}, c.Mode):
		return "mode is fan_in, fan_out or fan_avg"
	case !slices.Contains([]string{"truncated_normal", "untruncated_normal", "uniform"}, c.Distribution):
		return "distribution is truncated_normal, untruncated_normal or uniform"
	}
	return ""
}

func (i Initializer) check() error {
	_, err := i.Config()
	return err
}

// truncatedStd is the standard deviation of a unit normal that is cut off at two: Keras divides by it.
const truncatedStd = 0.87962566103423978

// fill draws a variable. Uniform values are equal on every machine, bit by bit: additions and products are kept from
// being fused by the conversions. Normal values go through the standard library's exponential in rare cases.
// r may be nil for what is not random. The initializer is sound: check has seen it.
func (i Initializer) fill(dst []float32, shape []int, r *rand.PCG) {
	c, err := i.Config()
	if err != nil {
		clear(dst)
		return
	}
	in, out := fans(shape)
	switch c.Name {
	case "ones":
		constant(dst, 1)
	case "constant":
		constant(dst, float32(c.Value))
	case "glorot_uniform":
		uniform(dst, 0, math.Sqrt(6/(in+out)), r)
	case "glorot_normal":
		truncated(dst, 0, math.Sqrt(2/(in+out))/truncatedStd, r)
	case "he_uniform":
		uniform(dst, 0, math.Sqrt(6/in), r)
	case "he_normal":
		truncated(dst, 0, math.Sqrt(2/in)/truncatedStd, r)
	case "lecun_uniform":
		uniform(dst, 0, math.Sqrt(3/in), r)
	case "lecun_normal":
		truncated(dst, 0, math.Sqrt(1/in)/truncatedStd, r)
	case "random_uniform":
		uniform(dst, (c.Minval+c.Maxval)/2, (c.Maxval-c.Minval)/2, r)
	case "random_normal":
		normal(dst, c.Mean, c.Stddev, r)
	case "truncated_normal":
		truncated(dst, c.Mean, c.Stddev, r)
	case "variance_scaling":
		c.vary(dst, in, out, r)
	case "orthogonal":
		orthogonal(dst, shape, c.Gain, r)
	case "identity":
		clear(dst)
		for j := 0; j < min(shape[0], lastOf(shape)); j++ {
			dst[j*lastOf(shape)+j] = float32(c.Gain)
		}
	default: // zeros
		clear(dst)
	}
}

// vary is keras.initializers.VarianceScaling.
func (c InitializerConfig) vary(dst []float32, in, out float64, r *rand.PCG) {
	variance := c.Scale / max(1, map[string]float64{"fan_in": in, "fan_out": out, "fan_avg": (in + out) / 2}[c.Mode])
	switch c.Distribution {
	case "uniform":
		uniform(dst, 0, math.Sqrt(3*variance), r)
	case "untruncated_normal":
		normal(dst, 0, math.Sqrt(variance), r)
	default:
		truncated(dst, 0, math.Sqrt(variance)/truncatedStd, r)
	}
}

func constant(dst []float32, value float32) {
	for j := range dst {
		dst[j] = value
	}
}

func uniform(dst []float32, centre, limit float64, r *rand.PCG) {
	for j := range dst {
		u := float64(r.Uint64()>>11) * 0x1p-53
		dst[j] = float32(centre + (float64(u*(2*limit)) - limit))
	}
}

func normal(dst []float32, mean, dev float64, r *rand.PCG) {
	n := rand.New(r)
	for j := range dst {
		dst[j] = float32(mean + float64(dev*n.NormFloat64()))
	}
}

func truncated(dst []float32, mean, dev float64, r *rand.PCG) {
	n := rand.New(r)
	for j := range dst {
		x := n.NormFloat64()
		for math.Abs(x) > 2 {
			x = n.NormFloat64()
		}
		dst[j] = float32(mean + float64(dev*x))
	}
}

// orthogonal draws a normal matrix and makes its shorter side orthogonal to each other, one vector after the other,
// which is the QR decomposition with a positive diagonal. Dimensions before the last count as one.
func orthogonal(dst []float32, shape []int, gain float64, r *rand.PCG) {
	cols := lastOf(shape)
	rows := len(dst) / cols
	long, short := max(rows, cols), min(rows, cols)
	n := rand.New(r)
	q := make([][]float64, short) // vectors of length long
	for i := range q {
		q[i] = make([]float64, long)
		for norm := 0.0; norm < 1e-3; { // a vector that lies in the others' span is drawn again
			for j := range q[i] {
				q[i][j] = n.NormFloat64()
			}
			for range 2 { // the second time takes away what rounding left
				for _, p := range q[:i] {
					var dot float64
					for j, v := range p {
						dot += float64(v * q[i][j])
					}
					for j, v := range p {
						q[i][j] -= float64(dot * v)
					}
				}
			}
			norm = 0
			for _, v := range q[i] {
				norm += float64(v * v)
			}
			norm = math.Sqrt(norm)
			for j := range q[i] {
				q[i][j] /= norm
			}
		}
	}
	for i := range rows {
		for j := range cols {
			if rows >= cols {
				dst[i*cols+j] = float32(gain * q[j][i])
			} else {
				dst[i*cols+j] = float32(gain * q[i][j])
			}
		}
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
