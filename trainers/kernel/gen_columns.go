//go:build ignore

package main

import "fmt"

// The column kernels walk down strips of columns of a grid: four vectors wide, one wide, and the rest under a mask.
// Registers: DX columns left, SI x, DI y, R9-R11 vectors u, v, w along a row, R12 out, BX bytes of a row, R13 the row's
// offset, R8 rows left, CX rows of a run. Reductions add runs of 64 rows.

// reductions give the term of a row for vector i of a strip.
var reductions = []struct {
	name, doc string
	centre    bool // u is loaded for each strip
	term      func(e *emitter, x, y, u string) string
}{
	{"columnSums", "out += Σ x", false, func(e *emitter, x, _, _ string) string { return e.load(x) }},
	{"columnDots", "out += Σ x*y", false, func(e *emitter, x, y, _ string) string {
		v := e.load(x)
		e.to(v, "VMULPS", v, e.load(y))
		return v
	}},
	{"columnSquares", "out += Σ (x-u)²", true, func(e *emitter, x, _, u string) string {
		d := e.load(x)
		e.to(d, "VSUBPS", d, u)
		e.to(d, "VMULPS", d, d)
		return d
	}},
}

// maps give a row of the result for vector i of a strip from u, v, w of its columns.
var maps = []struct {
	name, doc string
	uses      []string
	value     func(e *emitter, x, y string, u []string) string
}{
	{"columnScale", "out = x*u + v", []string{"R9", "R10"}, func(e *emitter, x, _ string, u []string) string {
		return e.add(e.mul(e.load(x), u[0]), u[1])
	}},
	{"columnBlend", "out = x*u + y*v + w", []string{"R9", "R10", "R11"}, func(e *emitter, x, y string, u []string) string {
		return e.add(e.add(e.mul(e.load(x), u[0]), e.mul(e.load(y), u[1])), u[2])
	}},
}

func columns(w *writer, s isa) {
	for _, k := range reductions {
		s.strips(w, k.name, k.doc, func(e *emitter, wide int, id string) {
			var totals, parts, centres []string
			for i := range wide {
				totals = append(totals, e.load(at("R12", i, s)))
				if k.centre {
					centres = append(centres, e.load(at("R9", i, s)))
				} else {
					centres = append(centres, "")
				}
			}
			for range wide {
				parts = append(parts, e.fresh())
			}
			w.label("run" + id)
			w.op("MOVQ $%d, CX", 64)
			w.op("CMPQ R8, CX")
			w.op("CMOVQLT R8, CX")
			w.op("SUBQ CX, R8")
			for _, p := range parts {
				w.op("VXORPS X%s, X%s, X%s", p[1:], p[1:], p[1:])
			}
			w.label("row" + id)
			keep := e.next
			for i, p := range parts {
				e.next = keep
				e.to(p, "VADDPS", p, k.term(e, at("SI", i, s)+"(R13*1)", at("DI", i, s)+"(R13*1)", centres[i]))
			}
			w.op("ADDQ BX, R13")
			w.op("SUBQ $1, CX")
			w.op("JNE row%s", id)
			for i, p := range parts {
				e.to(totals[i], "VADDPS", totals[i], p)
			}
			w.op("TESTQ R8, R8")
			w.op("JNE run%s", id)
			for i, t := range totals {
				e.store(t, at("R12", i, s))
			}
		})
	}
	for _, k := range maps {
		s.strips(w, k.name, k.doc, func(e *emitter, wide int, id string) {
			u := make([][]string, wide)
			for i := range wide {
				for _, p := range k.uses {
					u[i] = append(u[i], e.load(at(p, i, s)))
				}
			}
			keep := e.next
			w.label("row" + id)
			for i := range wide {
				e.next = keep
				e.store(k.value(e, at("SI", i, s)+"(R13*1)", at("DI", i, s)+"(R13*1)", u[i]), at("R12", i, s)+"(R13*1)")
			}
			w.op("ADDQ BX, R13")
			w.op("SUBQ $1, R8")
			w.op("JNE row%s", id)
		})
	}
}

// at is vector i from a pointer.
func at(pointer string, i int, s isa) string {
	if i == 0 {
		return "(" + pointer + ")"
	}
	return fmt.Sprintf("%d(%s)", 4*i*s.lanes, pointer)
}

// strips writes a function that calls body for strips of all widths.
func (s isa) strips(w *writer, name, doc string, body func(e *emitter, wide int, id string)) {
	s.begin(w, name, doc, "grid")
	pointers := []string{"x SI", "y DI", "u R9", "v R10", "w R11", "out R12"}
	for _, p := range pointers {
		var field, reg string
		fmt.Sscan(p, &field, &reg)
		w.op("MOVQ grid_%s(AX), %s", field, reg)
	}
	w.op("MOVQ grid_row(AX), BX")
	w.op("MOVQ grid_cols(AX), DX")
	widths := []int{4, 1}
	if !s.opmasks {
		widths = []int{2, 1} // there are fewer registers
	}
	for _, wide := range widths {
		id := fmt.Sprint(wide)
		w.label("strip" + id)
		w.op("CMPQ DX, $%d", wide*s.lanes)
		w.op("JLT after%s", id)
		w.op("MOVQ grid_rows(AX), R8")
		w.op("XORQ R13, R13")
		body(&emitter{isa: s, writer: w}, wide, id)
		for _, p := range pointers {
			var field, reg string
			fmt.Sscan(p, &field, &reg)
			w.op("ADDQ $%d, %s", 4*wide*s.lanes, reg)
		}
		w.op("SUBQ $%d, DX", wide*s.lanes)
		w.op("JMP strip%s", id)
		w.label("after" + id)
	}
	w.op("TESTQ DX, DX")
	w.op("JEQ done")
	w.op("MOVQ DX, CX")
	s.mask(w)
	w.op("MOVQ grid_rows(AX), R8")
	w.op("XORQ R13, R13")
	body(&emitter{isa: s, writer: w, masked: true}, 1, "Edge")
	s.end(w)
}

// softmax goes over each row three times: for its maximum, for the exponentials and their sum in sixteen lanes, and to
// scale. Registers: SI x, DI y, DX rows left, R8 columns, BX the offset, R9 columns left.
func softmax(w *writer, s isa) {
	s.begin(w, "softmax", "out = e^(x-max)/Σ, each row", "grid")
	w.op("MOVQ grid_x(AX), SI")
	w.op("MOVQ grid_out(AX), DI")
	w.op("MOVQ grid_rows(AX), DX")
	w.op("MOVQ grid_cols(AX), R8")
	w.label("line")
	e := &emitter{isa: s, writer: w}
	top, none := e.constant("inf"), e.constant("inf")
	sums := []string{e.fresh()}
	if !s.opmasks {
		sums = append(sums, e.fresh())
	}
	keep := e.next

	s.along(w, "max", func(e *emitter, mem string, _ int) {
		e.next = keep
		x := e.load(mem)
		switch {
		case e.masked && s.opmasks:
			e.op("VMAXPS %s, %s, K1, %s", x, top, top)
		case e.masked:
			e.op("VBLENDVPS %s, %s, %s, %s", e.maskReg(), x, none, x)
			e.to(top, "VMAXPS", top, x)
		default:
			e.to(top, "VMAXPS", top, x)
		}
	})
	e.fold("VMAXPS", top)
	for _, x := range sums {
		w.op("VXORPS X%s, X%s, X%s", x[1:], x[1:], x[1:])
	}
	s.along(w, "exp", func(e *emitter, mem string, half int) {
		e.next = keep
		p := e.exp(e.sub(e.load(mem), top))
		e.store(p, "(DI)(BX*1)")
		switch {
		case e.masked && s.opmasks:
			e.op("VADDPS %s, %s, K1, %s", p, sums[half], sums[half])
		case e.masked:
			e.op("VANDPS %s, %s, %s", e.maskReg(), p, p)
			e.to(sums[half], "VADDPS", sums[half], p)
		default:
			e.to(sums[half], "VADDPS", sums[half], p)
		}
	})
	if !s.opmasks {
		e.to(sums[0], "VADDPS", sums[0], sums[1])
	}
	e.fold("VADDPS", sums[0])
	e.next = keep
	e.to(sums[0], "VDIVPS", e.constant("one"), sums[0])
	s.along(w, "scale", func(e *emitter, _ string, _ int) {
		e.next = keep
		e.store(e.mul(e.load("(DI)(BX*1)"), sums[0]), "(DI)(BX*1)")
	})
	w.op("LEAQ (SI)(R8*4), SI")
	w.op("LEAQ (DI)(R8*4), DI")
	w.op("SUBQ $1, DX")
	w.op("JNE line")
	s.end(w)
}

// along goes over a row in sixteens, each one vector or two halves.
func (s isa) along(w *writer, id string, body func(e *emitter, mem string, half int)) {
	w.op("XORQ BX, BX")
	w.op("MOVQ R8, R9")
	halves := 16 / s.lanes
	w.op("SUBQ $16, R9")
	w.op("JLT tail%s", id)
	w.label("loop" + id)
	for h := range halves {
		body(&emitter{isa: s, writer: w}, "(SI)(BX*1)", h)
		w.op("ADDQ $%d, BX", 4*s.lanes)
	}
	w.op("SUBQ $16, R9")
	w.op("JGE loop%s", id)
	w.label("tail" + id)
	w.op("ADDQ $16, R9")
	w.op("JEQ end%s", id)
	for h := range halves {
		w.op("MOVQ R9, CX")
		if halves > 1 {
			w.op("MOVQ $%d, R13", s.lanes)
			w.op("CMPQ CX, R13")
			w.op("CMOVQGT R13, CX")
			w.op("SUBQ CX, R9")
		}
		s.mask(w)
		body(&emitter{isa: s, writer: w, masked: true}, "(SI)(BX*1)", h)
		if h < halves-1 {
			w.op("ADDQ $%d, BX", 4*s.lanes)
		}
	}
	w.label("end" + id)
}

// fold combines all lanes of x in halves and leaves the result in every lane.
func (e *emitter) fold(op, x string) {
	n := x[1:]
	t := e.fresh()[1:]
	if e.opmasks {
		e.op("VEXTRACTF64X4 $1, Z%s, Y%s", n, t)
		e.op("%s Y%s, Y%s, Y%s", op, t, n, n)
	}
	e.op("VEXTRACTF128 $1, Y%s, X%s", n, t)
	e.op("%s X%s, X%s, X%s", op, t, n, n)
	e.op("VPERMILPS $0x4e, X%s, X%s", n, t)
	e.op("%s X%s, X%s, X%s", op, t, n, n)
	e.op("VPERMILPS $0xb1, X%s, X%s", n, t)
	e.op("%s X%s, X%s, X%s", op, t, n, n)
	e.op("VBROADCASTSS X%s, %s", n, x)
}
