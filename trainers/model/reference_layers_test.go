package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// more is the reference of the layers that are not in reference_test.go.
func (r refLayer) more(op Op) []float64 {
	switch op := op.(type) {
	case *BatchNormalization:
		return r.batchNorm(op)
	case *LayerNormalization:
		return r.layerNorm(op)
	case *Embedding:
		var y []float64
		for _, id := range r.in[0] {
			y = append(y, r.v["embeddings"][int(id)*op.OutputDim:][:op.OutputDim]...)
		}
		return y
	case *Concatenate:
		return r.concatenate(op)
	case *Merge:
		return r.merge(op.How)
	case *Rectifier:
		return each(r.in[0], func(v float64) float64 {
			if v < op.Threshold {
				return op.NegativeSlope * (v - op.Threshold)
			}
			if op.MaxValue != nil {
				v = math.Min(v, *op.MaxValue)
			}
			return v
		})
	case *ELU:
		return each(r.in[0], func(v float64) float64 {
			if v < 0 {
				return op.Alpha * (math.Exp(v) - 1)
			}
			return v
		})
	case *GaussianNoise:
		if !r.train {
			return r.in[0]
		}
		n := rand.New(rand.NewPCG(r.seed+uint64(r.index)<<32, r.step))
		return each(r.in[0], func(v float64) float64 { return v + op.Stddev*n.NormFloat64() })
	case *Conv1D:
		return r.conv1D(op)
	case *MaxPooling1D:
		return r.pooling1D(op.Pooling1D, largest)
	case *AveragePooling1D:
		return r.pooling1D(op.Pooling1D, mean)
	case *GlobalMaxPooling1D:
		return r.pooling1D(Pooling1D{r.shape[0][0], 1, "valid"}, largest)
	case *GlobalAveragePooling1D:
		return r.pooling1D(Pooling1D{r.shape[0][0], 1, "valid"}, mean)
	case *Bidirectional:
		return r.bidirectional(op)
	case *SimpleRNN:
		return r.simpleRNN(op)
	case *LSTM:
		return r.lstm(op)
	case *GRU:
		return r.gru(op)
	}
	return nil
}

func each(x []float64, f func(float64) float64) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = f(v)
	}
	return y
}

func (r refLayer) batchNorm(op *BatchNormalization) []float64 {
	c := lastOf(r.shape[0])
	x := r.in[0]
	y := make([]float64, len(x))
	for j := range c {
		mean, variance := r.v["moving_mean"][j], r.v["moving_variance"][j]
		if r.train {
			mean, variance = 0, 0
			m := float64(len(x) / c)
			for i := j; i < len(x); i += c {
				mean += x[i] / m
			}
			for i := j; i < len(x); i += c {
				variance += (x[i] - mean) * (x[i] - mean) / m
			}
			r.v["moving_mean"][j] = op.Momentum*r.v["moving_mean"][j] + (1-op.Momentum)*mean
			r.v["moving_variance"][j] = op.Momentum*r.v["moving_variance"][j] + (1-op.Momentum)*variance
		}
		for i := j; i < len(x); i += c {
			y[i] = (x[i] - mean) / math.Sqrt(variance+op.Epsilon)
			if op.Scale {
				y[i] *= r.v["gamma"][j]
			}
			if op.Center {
				y[i] += r.v["beta"][j]
			}
		}
	}
	return y
}

func (r refLayer) layerNorm(op *LayerNormalization) []float64 {
	c := lastOf(r.shape[0])
	y := make([]float64, len(r.in[0]))
	for i := 0; i < len(y); i += c {
		x := r.in[0][i:][:c]
		var mean, variance float64
		for _, v := range x {
			mean += v / float64(c)
		}
		for _, v := range x {
			variance += (v - mean) * (v - mean) / float64(c)
		}
		for j, v := range x {
			y[i+j] = (v - mean) / math.Sqrt(variance+op.Epsilon)
			if op.Scale {
				y[i+j] *= r.v["gamma"][j]
			}
			if op.Center {
				y[i+j] += r.v["beta"][j]
			}
		}
	}
	return y
}

// concatenate goes through every place of the result and looks up where it comes from.
func (r refLayer) concatenate(op *Concatenate) []float64 {
	rank := len(r.shape[0])
	axis := op.Axis - 1
	if op.Axis < 0 {
		axis = rank + op.Axis
	}
	out, _ := op.shape(r.shape)
	var y []float64
	for n := range r.rows {
		for i := range size(out) {
			place := make([]int, rank)
			for d, rest := rank-1, i; d >= 0; d-- {
				place[d], rest = rest%out[d], rest/out[d]
			}
			k := 0
			for place[axis] >= r.shape[k][axis] {
				place[axis] -= r.shape[k][axis]
				k++
			}
			at := 0
			for d, p := range place {
				at = at*r.shape[k][d] + p
			}
			y = append(y, r.in[k][n*size(r.shape[k])+at])
		}
	}
	return y
}

func (r refLayer) merge(how string) []float64 {
	y := slices.Clone(r.in[0])
	for _, x := range r.in[1:] {
		for i, v := range x {
			switch how {
			case "add", "average":
				y[i] += v
			case "subtract":
				y[i] -= v
			case "multiply":
				y[i] *= v
			case "maximum":
				y[i] = math.Max(y[i], v)
			case "minimum":
				y[i] = math.Min(y[i], v)
			}
		}
	}
	if how == "average" {
		for i := range y {
			y[i] /= float64(len(r.in))
		}
	}
	return y
}

// sums is x·kernel + bias for one vector.
func sums(x, kernel, bias []float64, n int) []float64 {
	y := product(x, kernel, len(x), n)
	for j, b := range bias {
		y[j] += b
	}
	return y
}

// at is the input of a row at the t-th step that a recurrent layer takes.
func (r refLayer) at(op Recurrent, row, t int) []float64 {
	steps, features := r.shape[0][0], r.shape[0][1]
	if op.GoBackwards {
		t = steps - 1 - t
	}
	return r.in[0][(row*steps+t)*features:][:features]
}

func (r refLayer) simpleRNN(op *SimpleRNN) []float64 {
	steps, n := r.shape[0][0], op.Units
	var out []float64
	for row := range r.rows {
		h := make([]float64, n)
		for t := range steps {
			z := sums(r.at(op.Recurrent, row, t), r.v["kernel"], r.v["bias"], n)
			for j, v := range sums(h, r.v["recurrent_kernel"], nil, n) {
				z[j] = refFunction(op.Activation, z[j]+v)
			}
			h = z
			if op.ReturnSequences || t == steps-1 {
				out = append(out, h...)
			}
		}
	}
	return out
}

func (r refLayer) lstm(op *LSTM) []float64 {
	steps, n := r.shape[0][0], op.Units
	var out []float64
	for row := range r.rows {
		h, c := make([]float64, n), make([]float64, n)
		for t := range steps {
			z := sums(r.at(op.Recurrent, row, t), r.v["kernel"], r.v["bias"], 4*n)
			for j, v := range sums(h, r.v["recurrent_kernel"], nil, 4*n) {
				z[j] += v
			}
			for j := range n {
				i, f := refFunction(op.RecurrentActivation, z[j]), refFunction(op.RecurrentActivation, z[n+j])
				c[j] = f*c[j] + i*refFunction(op.Activation, z[2*n+j])
				h[j] = refFunction(op.RecurrentActivation, z[3*n+j]) * refFunction(op.Activation, c[j])
			}
			if op.ReturnSequences {
				out = append(out, h...)
			}
		}
		if !op.ReturnSequences {
			out = append(out, h...)
		}
	}
	return out
}

func (r refLayer) gru(op *GRU) []float64 {
	steps, n := r.shape[0][0], op.Units
	var bias, recurrent []float64
	if op.UseBias {
		bias = r.v["bias"][:3*n]
		if op.ResetAfter {
			recurrent = r.v["bias"][3*n:]
		}
	}
	var out []float64
	for row := range r.rows {
		h := make([]float64, n)
		for t := range steps {
			x := sums(r.at(op.Recurrent, row, t), r.v["kernel"], bias, 3*n)
			u := sums(h, r.v["recurrent_kernel"], recurrent, 3*n)
			reset := make([]float64, n)
			for j := range n {
				reset[j] = refFunction(op.RecurrentActivation, x[n+j]+u[n+j])
			}
			if !op.ResetAfter {
				rh := make([]float64, n)
				for j := range n {
					rh[j] = reset[j] * h[j]
				}
				copy(u[2*n:], sums(rh, r.v["recurrent_kernel"], nil, 3*n)[2*n:])
			}
			next := make([]float64, n)
			for j := range n {
				z := refFunction(op.RecurrentActivation, x[j]+u[j])
				inner := u[2*n+j]
				if op.ResetAfter {
					inner *= reset[j]
				}
				next[j] = z*h[j] + (1-z)*refFunction(op.Activation, x[2*n+j]+inner)
			}
			h = next
			if op.ReturnSequences {
				out = append(out, h...)
			}
		}
		if !op.ReturnSequences {
			out = append(out, h...)
		}
	}
	return out
}

// conv1D pads every sequence with zeros first, as the definition of causal padding does, and then slides over it.
func (r refLayer) conv1D(op *Conv1D) []float64 {
	steps, channels := r.shape[0][0], r.shape[0][1]
	span := (op.KernelSize-1)*op.DilationRate + 1
	before, after := 0, 0
	switch op.Padding {
	case "causal":
		before = span - 1
	case "same":
		total := max((int(math.Ceil(float64(steps)/float64(op.Strides)))-1)*op.Strides+span-steps, 0)
		before, after = total/2, total-total/2
	}
	var out []float64
	for row := range r.rows {
		x := slices.Concat(make([]float64, before*channels), r.in[0][row*steps*channels:][:steps*channels], make([]float64, after*channels))
		for at := 0; (at+span)*channels <= len(x); at += op.Strides {
			for f := range op.Filters {
				var sum float64
				if op.UseBias {
					sum = r.v["bias"][f]
				}
				for k := range op.KernelSize {
					for c := range channels {
						sum += x[(at+k*op.DilationRate)*channels+c] * r.v["kernel"][(k*channels+c)*op.Filters+f]
					}
				}
				out = append(out, sum)
			}
		}
	}
	return activate(op.Activation, out, op.Filters)
}

func largest(x []float64) float64 { return slices.Max(x) }

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// pooling1D reduces the steps of every window that are in the sequence.
func (r refLayer) pooling1D(p Pooling1D, reduce func([]float64) float64) []float64 {
	steps, channels := r.shape[0][0], r.shape[0][1]
	stride := p.Strides
	if stride == 0 {
		stride = p.PoolSize
	}
	first, end := 0, steps-p.PoolSize+1 // where windows begin
	if p.Padding == "same" {
		count := int(math.Ceil(float64(steps) / float64(stride)))
		first = -max((count-1)*stride+p.PoolSize-steps, 0) / 2
		end = first + count*stride
	}
	var out []float64
	for row := range r.rows {
		for at := first; at < end; at += stride {
			for c := range channels {
				var cells []float64
				for k := max(at, 0); k < min(at+p.PoolSize, steps); k++ {
					cells = append(cells, r.in[0][(row*steps+k)*channels+c])
				}
				out = append(out, reduce(cells))
			}
		}
	}
	return out
}

func (r refLayer) bidirectional(op *Bidirectional) []float64 {
	side := func(name string, op Op) []float64 {
		s := r
		s.v = map[string][]float64{}
		for key, v := range r.v {
			if key, ok := strings.CutPrefix(key, name+"/"); ok {
				s.v[key] = v
			}
		}
		return s.run(op)
	}
	f, g := op.Directions()
	y, z := side("forward_layer", f), side("backward_layer", g)
	steps := 1
	if f.(recurrent).common().ReturnSequences {
		steps = r.shape[0][0]
	}
	n, m := len(y)/r.rows/steps, len(z)/r.rows/steps
	var out []float64
	for row := range r.rows {
		for t := range steps {
			a, b := y[(row*steps+t)*n:][:n], z[(row*steps+steps-1-t)*m:][:m]
			if op.MergeMode == "concat" {
				out = append(append(out, a...), b...)
				continue
			}
			for j, v := range a {
				out = append(out, map[string]float64{"sum": v + b[j], "mul": v * b[j], "ave": (v + b[j]) / 2}[op.MergeMode])
			}
		}
	}
	return out
}
