package local

import (
	"context"
	"fmt"
	"math"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// Write runs a fitted plan and hands the finished rows to s.Sink, batch by batch.
func (e Engine) Write(ctx context.Context, p pipeline.Plan, s pipeline.Stage) (pipeline.Written, error) {
	var done pipeline.Written
	if s.Sink == nil {
		return done, &pipeline.Error{Kind: pipeline.Internal, Message: "the embedded engine writes into a Sink, and the stage has none"}
	}
	if len(p.Fitted) != len(p.Steps) {
		return done, &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%d of %d steps are fitted: Fit comes before Write", len(p.Fitted), len(p.Steps))}
	}
	err := e.table(ctx, p, func(t *Table) error {
		w, err := newRowWriter(p, t.cols)
		if err != nil {
			return err
		}
		done.Columns = w.info
		if err := s.Sink.Start(w.info); err != nil {
			return err
		}
		told := int64(0)
		err = e.each(ctx, t, func(b *batch) error {
			if err := w.batch(b); err != nil {
				return err
			}
			if w.rows.N > 0 {
				if err := s.Sink.Write(ctx, &w.rows); err != nil {
					return err
				}
			}
			if s.Progress != nil && t.rows-told >= progressEvery {
				told = t.rows
				s.Progress(t.rows, 0)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if s.Progress != nil {
			s.Progress(t.rows, t.rows)
		}
		done.Skipped = w.prog.skipped
		if done.Skipped == t.rows {
			return dataErr("check the filters and handle_invalid: skip of the transform", "none of the %d rows is left after the transform", t.rows)
		}
		return nil
	})
	if err != nil {
		return done, err
	}
	done.Shards, err = s.Sink.Finish(ctx)
	return done, err
}

// rowWriter makes pipeline.Rows of batches.
type rowWriter struct {
	prog  *program
	split *splitter
	cols  []outColumn
	info  []pipeline.ColumnInfo
	rows  pipeline.Rows
	pick  []int32 // rows of the batch that are left
	hash  []uint64
	part  []uint8
}

// outColumn is one column of the finished rows.
type outColumn struct {
	name, role string
	typ        expr.Type
	v          value
	kept       bool // a transformer with handle_invalid: keep made it: NULL, NaN and infinity are meant
	vec        []float32
	keep       pipeline.KeepColumn
	valid      []bool
}

func newRowWriter(p pipeline.Plan, cols []field) (*rowWriter, error) {
	w := &rowWriter{prog: newProgram(cols)}
	var err error
	if w.split, err = newSplitter(p.Split, cols); err != nil {
		return nil, err
	}
	for _, f := range p.Fitted {
		if err := w.prog.add(f); err != nil {
			return nil, err
		}
	}
	kept, shapes := expr.KeptOnPurpose(p.Fitted), expr.Shapes(p.Fitted)
	add := func(role, name string) error {
		v, t, err := w.prog.use(role, name, cols)
		if err != nil {
			return err
		}
		c := outColumn{name: name, role: role, typ: t, v: v, kept: kept[name]}
		info := pipeline.ColumnInfo{Name: name, Role: role, Scale: 1}
		if role == "keep" {
			info.Encoding = "plain"
			info.DType, err = keepType(name, t)
		} else {
			info.Encoding, info.DType, info.Shape = "f32le", "float32", []int{max(1, t.Width)}
			if s := shapes[name]; s != nil && (pipeline.ColumnInfo{Shape: s}).Width() == info.Shape[0] {
				info.Shape = s
			}
			err = vectorType(role, name, t)
		}
		w.cols = append(w.cols, c)
		w.info = append(w.info, info)
		return err
	}
	for _, n := range p.Columns.X {
		if err := add("x", n); err != nil {
			return nil, err
		}
	}
	for _, n := range p.Columns.Y {
		if err := add("y", n); err != nil {
			return nil, err
		}
	}
	if p.Columns.Weight != "" {
		if err := add("weight", p.Columns.Weight); err != nil {
			return nil, err
		}
	}
	for _, n := range p.Columns.Keep {
		if err := add("keep", n); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func vectorType(role, name string, t expr.Type) error {
	if t.Kind == expr.String {
		return specErr("turn it into numbers, for example with string_index and one_hot", "columns.%s: %q is text", role, name)
	}
	if t.Kind == expr.Bool {
		return specErr("cast it to float32", "columns.%s: %q is bool", role, name)
	}
	if role == "weight" && t.Width > 1 {
		return specErr("name a column with one number a row", "columns.weight: %q is %s", name, t)
	}
	return nil
}

func keepType(name string, t expr.Type) (string, error) {
	switch {
	case t.Width > 0:
		return "", specErr("keep scalar columns only", "columns.keep: %q is %s", name, t)
	case t.Kind == expr.String:
		return "string", nil
	case t.Kind == expr.Int64, t.Kind == expr.Bool:
		return "int64", nil
	}
	return "float64", nil
}

// batch evaluates the columns of a batch and fills w.rows.
func (w *rowWriter) batch(b *batch) error {
	w.split.batch(b)
	if err := w.prog.batch(b); err != nil {
		return err
	}
	w.pick = w.pick[:0]
	for i, ok := range w.prog.alive {
		if ok {
			w.pick = append(w.pick, int32(i))
		}
	}
	n := len(w.pick)
	r := &w.rows
	r.N, r.Part, r.Hash = n, w.split.part, w.split.hash
	if n < b.n {
		w.part, w.hash = grow(w.part, n), grow(w.hash, n)
		for k, i := range w.pick {
			w.part[k], w.hash[k] = w.split.part[i], w.split.hash[i]
		}
		r.Part, r.Hash = w.part, w.hash
	}
	r.Vectors, r.Keep = r.Vectors[:0], r.Keep[:0]
	if n == 0 {
		return nil
	}
	for i := range w.cols {
		o := &w.cols[i]
		c := o.v.eval(w.prog.m)
		if o.role == "keep" {
			o.gather(c, w.pick)
			r.Keep = append(r.Keep, o.keep)
			continue
		}
		v, err := o.vector(b, c, w.pick)
		if err != nil {
			return err
		}
		r.Vectors = append(r.Vectors, v)
	}
	return nil
}

// vector gives the chosen rows of a numeric column as float32, on the column's own memory where that will do.
func (o *outColumn) vector(b *batch, c *column, pick []int32) ([]float32, error) {
	w := c.width()
	out := c.f32
	if c.typ.Kind != expr.Float32 || len(pick) < b.n || c.valid != nil {
		o.vec = grow(o.vec, len(pick)*w)
		out = o.vec
		for k, i := range pick {
			dst := out[k*w : (k+1)*w]
			if c.isNull(int(i)) {
				if !o.kept {
					return nil, o.fault(b, int(i), "is NULL")
				}
				for j := range dst {
					dst[j] = float32(math.NaN())
				}
				continue
			}
			c.narrow(dst, int(i), w)
		}
	}
	out = out[:len(pick)*w]
	if o.role == "weight" {
		for k, x := range out {
			if !(x >= 0) || math.IsInf(float64(x), 0) {
				return nil, o.fault(b, int(pick[k]), fmt.Sprintf("is %v; a weight is a number of 0 or more", x))
			}
		}
	} else if !o.kept {
		if at := firstNonFinite(out); at >= 0 {
			i := int(pick[at/w])
			what := fmt.Sprintf("is %v", out[at])
			if c.typ.Width > 0 {
				what += fmt.Sprintf(" at position %d", at%w)
			}
			if c.typ.Kind == expr.Float64 || c.typ.Kind == expr.Int64 {
				if x := c.number(i*w + at%w); !math.IsInf(x, 0) && x == x {
					what = fmt.Sprintf("holds %v, which is too large for float32", x)
				}
			}
			return nil, o.fault(b, i, what)
		}
	}
	return out, nil
}

func (o *outColumn) fault(b *batch, i int, what string) error {
	return dataErr("correct the row, filter it out, or use a transformer with handle_invalid: skip or keep",
		"%s: columns.%s: column %q %s", b.place(i), o.role, o.name, what)
}

// narrow copies row i as float32.
func (c *column) narrow(dst []float32, i, w int) {
	switch c.typ.Kind {
	case expr.Float32:
		copy(dst, c.f32[i*w:(i+1)*w])
	case expr.Float64:
		for j, x := range c.f64[i*w : (i+1)*w] {
			dst[j] = float32(x)
		}
	default:
		dst[0] = float32(float64(c.i64[i]))
	}
}

// firstNonFinite gives the position of the first NaN or infinity, or -1.
func firstNonFinite(v []float32) int {
	const exponent = 0x7f800000
	for i, x := range v {
		if math.Float32bits(x)&exponent == exponent {
			return i
		}
	}
	return -1
}

// gather fills o.keep with the chosen rows.
func (o *outColumn) gather(c *column, pick []int32) {
	k := &o.keep
	k.Valid = nil
	if c.valid != nil {
		o.valid = grow(o.valid, len(pick))
		for j, i := range pick {
			o.valid[j] = !c.isNull(int(i))
		}
		k.Valid = o.valid
	}
	switch c.typ.Kind {
	case expr.String:
		k.String = grow(k.String, len(pick))
		all := string(c.text) // one allocation a batch
		for j, i := range pick {
			k.String[j] = all[c.off[i]:c.off[i+1]]
		}
	case expr.Int64:
		k.Int64 = grow(k.Int64, len(pick))
		for j, i := range pick {
			k.Int64[j] = c.i64[i]
		}
	case expr.Bool:
		k.Int64 = grow(k.Int64, len(pick))
		for j, i := range pick {
			k.Int64[j] = int64(b2i(c.bool[i]))
		}
	default:
		k.Float64 = grow(k.Float64, len(pick))
		for j, i := range pick {
			k.Float64[j] = c.number(int(i))
		}
	}
}
