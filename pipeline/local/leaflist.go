package local

import (
	"fmt"
	"io"
	"math"

	"dkpipe/pipeline/expr"
)

// listLevels is how many levels of a list column are read at a time.
const listLevels = 8192

// refill reads more levels and converts their values; it gives false at the end of the chunk.
func (r *leafReader) refill() (bool, error) {
	r.at, r.valueAt, r.levels = 0, 0, 0
	for r.levels == 0 {
		if !r.chunk.HasNext() {
			if err := r.chunk.Err(); err != nil && err != io.EOF {
				return false, err
			}
			return false, nil
		}
		levels, values, err := r.batch(listLevels)
		if err != nil {
			return false, err
		}
		if levels == 0 && !r.chunk.HasNext() {
			continue
		}
		r.levels = levels
		if err := r.convert(values); err != nil {
			return false, err
		}
	}
	return true, nil
}

// convert makes elements of the values; a NULL element becomes NaN, since trees know no NULL inside a vector.
func (r *leafReader) convert(values int) error {
	deepest := r.desc.MaxDefinitionLevel()
	want := 0
	for _, d := range r.def[:r.levels] {
		if d == deepest {
			want++
		}
	}
	if want != values {
		return fmt.Errorf("%d values for %d levels", values, want)
	}
	wide := r.typ.Kind == expr.Float64
	if wide {
		r.elems = r.elems[:0]
	} else {
		r.elems32 = r.elems32[:0]
		if values == r.levels {
			r.elems32 = append(r.elems32, r.f32[:values]...)
			return nil
		}
	}
	v := 0
	for _, d := range r.def[:r.levels] {
		if d < r.elem {
			continue
		}
		x := math.NaN()
		if d == deepest {
			x = r.number(v)
			v++
		}
		if wide {
			r.elems = append(r.elems, x)
		} else {
			r.elems32 = append(r.elems32, float32(x))
		}
	}
	return nil
}

// lists fills a vector column with n rows.
func (r *leafReader) lists(c *column, n int, fault func(k int, what string) error) error {
	w := r.typ.Width
	for row := range n {
		if r.at == r.levels {
			ok, err := r.refill()
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("%d rows are missing: %w", n-row, io.ErrUnexpectedEOF)
			}
		}
		if r.rep[r.at] != 0 {
			return fault(row, "the list goes on after its end")
		}
		if d := r.def[r.at]; d < r.elem {
			r.at++
			if d == r.elem-1 && d > 0 || r.elem == 1 {
				return fault(row, fmt.Sprintf("the list is empty, others have %d elements", w))
			}
			if c.valid == nil {
				r.bits = r.bits.ones(n)
				c.valid = r.bits
			}
			bitmap(c.valid).clear(row)
			r.blank(c, row, w)
			continue
		}
		got, err := r.list1(c, row, w)
		if err != nil {
			return err
		}
		if got != w {
			return fault(row, fmt.Sprintf("the list has %d elements, others have %d", got, w))
		}
	}
	return nil
}

func (r *leafReader) blank(c *column, row, w int) {
	if r.typ.Kind == expr.Float64 {
		clear(c.f64[row*w : (row+1)*w])
	} else {
		clear(c.f32[row*w : (row+1)*w])
	}
}

// list1 copies the list that starts at the current level, of up to w elements, and gives its length.
func (r *leafReader) list1(c *column, row, w int) (int, error) {
	got := 0
	for first := true; ; first = false {
		if r.at == r.levels {
			ok, err := r.refill()
			if err != nil {
				return 0, err
			}
			if !ok {
				return got, nil
			}
		}
		end := r.at
		if first {
			end++
		}
		for end < r.levels && r.rep[end] != 0 {
			if r.def[end] < r.elem {
				return 0, fmt.Errorf("an element without a list")
			}
			end++
		}
		k := end - r.at
		if m := min(k, w-got); m > 0 {
			if r.typ.Kind == expr.Float64 {
				copy(c.f64[row*w+got:], r.elems[r.valueAt:r.valueAt+m])
			} else {
				copy(c.f32[row*w+got:], r.elems32[r.valueAt:r.valueAt+m])
			}
		}
		got += k
		r.at, r.valueAt = end, r.valueAt+k
		if r.at < r.levels {
			return got, nil
		}
	}
}

// firstWidth gives the length of the chunk's first list that has elements, or 0.
func (r *leafReader) firstWidth() (int, error) {
	width := 0
	for {
		levels, _, err := 0, 0, error(nil)
		if r.chunk.HasNext() {
			levels, _, err = r.batch(listLevels)
		} else if e := r.chunk.Err(); e != nil && e != io.EOF {
			err = e
		}
		if err != nil || levels == 0 {
			return width, err
		}
		for k := range levels {
			if width > 0 && r.rep[k] == 0 {
				return width, nil
			}
			if r.def[k] >= r.elem {
				width++
			}
		}
		if width > expr.MaxWidth {
			return 0, fmt.Errorf("a list of more than %d elements", expr.MaxWidth)
		}
	}
}
