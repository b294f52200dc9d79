//go:build ignore

package main

// The pooling kernels do a row of windows with equal parts inside the image. With AVX-512 the last channels of a pixel
// are under a mask; with AVX2 they are left to Go. Registers: SI the first cell of the windows, DI their results, R8
// their cells' names, DX windows left, R9 channels left, R10 channels' offset, R11 the current cell, R12 rows and CX
// columns of the window left, BX bytes from a cell to the next, R13 scratch.

func pools(w *writer, s isa) {
	s.pool(w, "maxPool", "results and names of the largest cells", func(e *emitter) {
		best, name := e.fresh(), e.zero()
		cell, unit := e.fresh(), e.fresh()
		w.op("VPBROADCASTD ·unit%s<>(SB), %s", s.name, unit)
		w.op("VPBROADCASTD pooling_first(AX), %s", cell)
		e.loadTo("(R11)", best)
		e.integer("VMOVDQU", cell, name)
		keep := e.next
		e.cells(func() {
			e.next = keep
			x := e.load("(R11)")
			if s.opmasks {
				e.op("VCMPPS $%#x, %s, %s, K2", greater, best, x)
				e.op("VCMPPS $3, %s, %s, K3", x, x) // NaN
				e.op("KORW K2, K3, K2")
				e.op("VMOVAPS %s, K2, %s", x, best)
				e.op("VMOVDQA32 %s, K2, %s", cell, name)
				return
			}
			a, b := e.fresh(), e.fresh()
			e.op("VCMPPS $%#x, %s, %s, %s", greater, best, x, a)
			e.op("VCMPPS $3, %s, %s, %s", x, x, b)
			e.op("VORPS %s, %s, %s", a, b, a)
			e.op("VBLENDVPS %s, %s, %s, %s", a, x, best, best)
			e.op("VBLENDVPS %s, %s, %s, %s", a, cell, name, name)
		}, func() { e.op("VPADDD %s, %s, %s", unit, cell, cell) },
			func() {
				t := e.fresh()
				e.op("VPBROADCASTD pooling_skip(AX), %s", t)
				e.op("VPADDD %s, %s, %s", t, cell, cell)
			})
		e.store(best, "(DI)(R10*4)")
		n := name[1:]
		switch {
		case e.masked:
			e.op("VPMOVDB Z%s, K1, (R8)(R10*1)", n)
		case s.opmasks:
			e.op("VPMOVDB Z%s, (R8)(R10*1)", n)
		default:
			t := e.fresh()[1:]
			e.op("VEXTRACTI128 $1, Y%s, X%s", n, t)
			e.op("VPACKUSDW X%s, X%s, X%s", t, n, n)
			e.op("VPACKUSWB X%s, X%s, X%s", n, n, n)
			e.op("VMOVQ X%s, (R8)(R10*1)", n)
		}
	})
	s.pool(w, "maxPoolGrad", "adds gradients to the cells that were the largest", func(e *emitter) {
		d := e.load("(DI)(R10*4)")
		name, cell, unit := e.fresh(), e.fresh(), e.fresh()
		if e.masked {
			e.op("VPMOVZXBD.Z (R8)(R10*1), K1, %s", name)
		} else {
			e.op("VPMOVZXBD (R8)(R10*1), %s", name)
		}
		w.op("VPBROADCASTD ·unit%s<>(SB), %s", s.name, unit)
		w.op("VPBROADCASTD pooling_first(AX), %s", cell)
		keep := e.next
		e.cells(func() {
			e.next = keep
			x := e.load("(R11)")
			if s.opmasks {
				e.op("VPCMPEQD %s, %s, K2", cell, name)
				e.op("VADDPS %s, %s, K2, %s", d, x, x)
			} else {
				m := e.fresh()
				e.op("VPCMPEQD %s, %s, %s", cell, name, m)
				e.op("VANDPS %s, %s, %s", m, d, m)
				e.op("VADDPS %s, %s, %s", m, x, x)
			}
			e.store(x, "(R11)")
		}, func() { e.op("VPADDD %s, %s, %s", unit, cell, cell) },
			func() {
				t := e.fresh()
				e.op("VPBROADCASTD pooling_skip(AX), %s", t)
				e.op("VPADDD %s, %s, %s", t, cell, cell)
			})
	})
}

// integer moves a whole register.
func (e *emitter) integer(op, from, to string) {
	if e.opmasks {
		op += "32"
	}
	e.op("%s %s, %s", op, from, to)
}

// cells walks over the cells of a window: each works on one, next names the next one, skip the first of a new row.
func (e *emitter) cells(each, next, skip func()) {
	id := "Whole"
	if e.masked {
		id = "Edge"
	}
	e.op("MOVQ pooling_height(AX), R12")
	e.label("height" + id)
	e.op("MOVQ pooling_width(AX), CX")
	e.label("width" + id)
	each()
	next()
	e.op("ADDQ BX, R11")
	e.op("SUBQ $1, CX")
	e.op("JNE width%s", id)
	skip()
	e.op("ADDQ pooling_row(AX), R11")
	e.op("SUBQ $1, R12")
	e.op("JNE height%s", id)
}

func (s isa) pool(w *writer, name, doc string, body func(e *emitter)) {
	s.begin(w, name, doc, "pooling")
	w.op("MOVQ pooling_x(AX), SI")
	w.op("MOVQ pooling_y(AX), DI")
	w.op("MOVQ pooling_cells(AX), R8")
	w.op("MOVQ pooling_windows(AX), DX")
	w.op("MOVQ pooling_cell(AX), BX")
	w.label("window")
	w.op("XORQ R10, R10")
	w.op("MOVQ pooling_channels(AX), R9")
	w.op("SUBQ $%d, R9", s.lanes)
	w.op("JLT rest")
	w.label("vector")
	w.op("LEAQ (SI)(R10*4), R11")
	body(&emitter{isa: s, writer: w})
	w.op("ADDQ $%d, R10", s.lanes)
	w.op("SUBQ $%d, R9", s.lanes)
	w.op("JGE vector")
	w.label("rest")
	if s.opmasks {
		w.op("ADDQ $%d, R9", s.lanes)
		w.op("JEQ next")
		w.op("MOVQ R9, CX")
		s.mask(w)
		w.op("LEAQ (SI)(R10*4), R11")
		body(&emitter{isa: s, writer: w, masked: true})
		w.label("next")
	}
	w.op("ADDQ pooling_step(AX), SI")
	w.op("MOVQ pooling_pixel(AX), R13")
	w.op("ADDQ R13, R8")
	w.op("LEAQ (DI)(R13*4), DI")
	w.op("SUBQ $1, DX")
	w.op("JNE window")
	s.end(w)
}
