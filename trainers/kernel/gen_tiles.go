//go:build ignore

// Tiles writes the micro-kernels of the assembly sets:
//
//	go run gen_tiles.go -out .
//
// A function computes one strip of C: any number of rows, as wide as two vectors (or one). It walks down the strip in
// tiles of 12, 8, 4, 2 and 1 rows (6, 4, 2, 1 with AVX2). All sums of a tile stay in registers; a step of k loads a
// row of B and multiplies it by each A of that column. One accumulator belongs to one element of C and k runs upwards,
// so an element has the same bits whatever tile, strip or instruction set computes it.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

// isa is one instruction set: its vectors and how they are masked.
type isa struct {
	name    string // suffix of functions and file
	reg     string // Z or Y
	lanes   int
	rows    []int // heights of tiles, tallest first; each is at most 12
	b       int   // first of two registers for a row of B
	cast    []int // registers for A, taken in turn
	masked  []int // the same when one more register holds a mask
	mask    int   // vector register of the mask, when masks are vectors
	opmasks bool  // masks are in K1
}

var sets = []isa{
	{name: "AVX512", reg: "Z", lanes: 16, rows: []int{12, 8, 4, 2, 1}, b: 24, cast: []int{26, 27, 28, 29, 30, 31}, masked: []int{26, 27, 28, 29, 30, 31}, opmasks: true},
	{name: "AVX2", reg: "Y", lanes: 8, rows: []int{6, 4, 2, 1}, b: 12, cast: []int{14, 15}, masked: []int{14}, mask: 15},
}

// form is one function of a set.
type form struct {
	isa
	columns bool // A is read down its columns (packed, or stored transposed), else along its rows
	vectors int  // width of the strip in vectors
	edge    bool // the last vector is cut by the mask
}

func (f form) title() string {
	s := "strip" + f.name + "Rows"
	if f.columns {
		s = "strip" + f.name + "Cols"
	}
	switch {
	case f.vectors == 1:
		s += "Narrow"
	case f.edge:
		s += "Edge"
	}
	return s
}

type writer struct{ bytes.Buffer }

func (w *writer) op(format string, a ...any) { fmt.Fprintf(w, "\t"+format+"\n", a...) }
func (w *writer) label(s string)             { fmt.Fprintf(w, "%s:\n", s) }

// Registers: SI row of B, DI its stride, R13 three strides, AX the row to prefetch, R8-R12 A, DX C, BX its stride, CX k.
// BX is free between prologue and epilogue.

func (f form) vec(i int) string { return fmt.Sprintf("%s%d", f.reg, i) }

// acc is the accumulator of row i, vector v.
func (f form) acc(i, v int) string { return f.vec(i*f.vectors + v) }

func (f form) cut(v int) bool { return f.edge && v == f.vectors-1 }

// load reads a vector of memory, no more of it than belongs to the strip.
func (f form) load(w *writer, mem, reg string, v int) {
	switch {
	case !f.cut(v):
		w.op("VMOVUPS %s, %s", mem, reg)
	case f.opmasks:
		w.op("VMOVUPS.Z %s, K1, %s", mem, reg)
	default:
		w.op("VMASKMOVPS %s, %s, %s", mem, f.vec(f.mask), reg)
	}
}

func (f form) store(w *writer, reg, mem string, v int) {
	switch {
	case !f.cut(v):
		w.op("VMOVUPS %s, %s", reg, mem)
	case f.opmasks:
		w.op("VMOVUPS %s, K1, %s", reg, mem)
	default:
		w.op("VMASKMOVPS %s, %s, %s", reg, f.vec(f.mask), mem)
	}
}

// times is the address base + u*stride, where thrice holds 3*stride.
func times(disp int, base, stride, thrice string, u int) string {
	index := [...]string{"", "(" + stride + "*1)", "(" + stride + "*2)", "(" + thrice + "*1)"}[u]
	d := ""
	if disp != 0 {
		d = fmt.Sprint(disp)
	}
	return d + "(" + base + ")" + index
}

// step is one value of k, the u-th of the unrolled loop.
func (f form) step(w *writer, rows, u int) {
	for v := range f.vectors {
		f.load(w, times(v*f.lanes*4, "SI", "DI", "R13", u), f.vec(f.b+v), v)
	}
	// A row of B that is needed some steps later: rows are a stride apart, which the processor's own prefetch misses.
	// The last element is asked for because rows need not start on a cache line. In a strip of one cache line that is
	// enough: the line of the first element then was the last one of the strip before.
	last := f.vectors*f.lanes*4 - 4
	for d := 0; d < last; d += 64 {
		w.op("PREFETCHT0 %s", times(d, "AX", "DI", "R13", u))
	}
	w.op("PREFETCHT0 %s", times(last, "AX", "DI", "R13", u))
	cast := f.cast
	if f.edge {
		cast = f.masked
	}
	for i := range rows {
		a := f.vec(cast[i%len(cast)])
		if f.columns {
			w.op("VBROADCASTSS %s, %s", times(i*4, "R8", "R9", "R10", u), a)
		} else {
			w.op("VBROADCASTSS %s, %s", times(u*4, fmt.Sprintf("R%d", 8+i/3), "R12", "", i%3), a)
		}
		for v := range f.vectors {
			w.op("VFMADD231PS %s, %s, %s", f.vec(f.b+v), a, f.acc(i, v))
		}
	}
}

// advance moves the pointers by u steps (1 or 4).
func (f form) advance(w *writer, u int) {
	w.op("LEAQ (SI)(DI*%d), SI", u)
	w.op("LEAQ (AX)(DI*%d), AX", u)
	if f.columns {
		w.op("LEAQ (R8)(R9*%d), R8", u)
	}
}

func (f form) advanceRows(w *writer, rows, u int) {
	if f.columns {
		return
	}
	for i := 0; i < rows; i += 3 {
		w.op("ADDQ $%d, R%d", 4*u, 8+i/3)
	}
}

// prologue loads the registers of a tile, clears its sums and asks for its part of C.
func (f form) prologue(w *writer, rows int) {
	w.op("MOVQ t+0(FP), AX")
	w.op("MOVQ c-16(SP), DX")
	w.op("MOVQ strip_cRow(AX), BX")
	w.op("MOVQ DX, SI")
	for i := range rows {
		w.op("PREFETCHT0 (SI)")
		w.op("PREFETCHT0 %d(SI)", f.vectors*f.lanes*4-4)
		if i < rows-1 {
			w.op("ADDQ BX, SI")
		}
	}
	for i := range rows * f.vectors {
		if f.opmasks {
			w.op("VPXORD %s, %s, %s", f.vec(i), f.vec(i), f.vec(i))
		} else {
			w.op("VXORPS %s, %s, %s", f.vec(i), f.vec(i), f.vec(i))
		}
	}
	w.op("MOVQ a-8(SP), R8")
	if f.columns {
		w.op("MOVQ strip_aStride(AX), R9")
		w.op("MOVQ $%d, R10", 4*rows)
		w.op("TESTQ R9, R9")
		w.op("CMOVQEQ R10, R9")
		w.op("LEAQ (R9)(R9*2), R10")
	} else {
		w.op("MOVQ strip_aStride(AX), R12")
		w.op("LEAQ (R12)(R12*2), R13")
		for i := 3; i < rows; i += 3 {
			w.op("LEAQ (R%d)(R13*1), R%d", 7+i/3, 8+i/3)
		}
	}
	w.op("MOVQ strip_b(AX), SI")
	w.op("MOVQ strip_bRow(AX), DI")
	w.op("MOVQ strip_k(AX), CX")
	w.op("LEAQ (DI)(DI*2), R13")
	w.op("MOVQ strip_segments(AX), BX")
	w.op("MOVQ BX, segments-32(SP)")
	w.op("MOVQ strip_ahead(AX), AX")
	w.op("ADDQ SI, AX")
}

// nextSegment goes back for another run of k, which starts at a distance from the end of the last one.
func (f form) nextSegment(w *writer, rows int, id string) {
	w.op("SUBQ $1, segments-32(SP)")
	w.op("JLE total%s", id)
	w.op("MOVQ t+0(FP), BX")
	w.op("MOVQ strip_aJump(BX), CX")
	if f.columns {
		w.op("ADDQ CX, R8")
	} else {
		for i := 0; i < rows; i += 3 {
			w.op("ADDQ CX, R%d", 8+i/3)
		}
	}
	w.op("MOVQ strip_k(BX), CX")
	w.op("JMP segment%s", id)
	w.label("total" + id)
}

// epilogue computes C = alpha*sums + beta*C, adds the bias of the columns and takes what is below 0 away, as the strip
// says. Product and sum are rounded apart, as in the transposed way out.
func (f form) epilogue(w *writer, rows int, id string) {
	alpha, beta, old := f.vec(f.b), f.vec(f.b+1), f.vec(f.cast[0])
	w.op("MOVQ t+0(FP), AX")
	w.op("MOVQ strip_cRow(AX), BX")
	w.op("VBROADCASTSS strip_alpha(AX), %s", alpha)
	for i := range rows * f.vectors {
		w.op("VMULPS %s, %s, %s", alpha, f.vec(i), f.vec(i))
	}
	w.op("MOVL strip_beta(AX), R13")
	w.op("ADDL R13, R13") // -0 is 0 too
	w.op("JEQ store%s", id)
	w.op("VBROADCASTSS strip_beta(AX), %s", beta)
	w.op("MOVQ DX, SI")
	for i := range rows {
		for v := range f.vectors {
			f.load(w, times(v*f.lanes*4, "SI", "", "", 0), old, v)
			w.op("VMULPS %s, %s, %s", beta, old, old)
			w.op("VADDPS %s, %s, %s", old, f.acc(i, v), f.acc(i, v))
		}
		if i < rows-1 {
			w.op("ADDQ BX, SI")
		}
	}
	w.label("store" + id)
	f.finish(w, rows, id)
	for i := range rows {
		for v := range f.vectors {
			f.store(w, f.acc(i, v), times(v*f.lanes*4, "DX", "", "", 0), v)
		}
		w.op("ADDQ BX, DX")
	}
	w.op("MOVQ DX, c-16(SP)")
	w.op("IMUL3Q $%d, strip_aNext(AX), R13", rows)
	w.op("ADDQ R13, a-8(SP)")
	w.op("SUBQ $%d, rows-24(SP)", rows)
}

// finish applies bias and ReLU to the sums. NaN passes the ReLU, -0 becomes 0.
func (f form) finish(w *writer, rows int, id string) {
	w.op("MOVQ strip_bias(AX), R13")
	w.op("TESTQ R13, R13")
	w.op("JEQ plain%s", id)
	for v := range f.vectors {
		f.load(w, times(v*f.lanes*4, "R13", "", "", 0), f.vec(f.b+v), v)
	}
	for i := range rows {
		for v := range f.vectors {
			w.op("VADDPS %s, %s, %s", f.vec(f.b+v), f.acc(i, v), f.acc(i, v))
		}
	}
	w.label("plain" + id)
	w.op("CMPQ strip_relu(AX), $0")
	w.op("JEQ out%s", id)
	zero, keep := f.vec(f.b), f.vec(f.b+1)
	if f.opmasks {
		w.op("VPXORD %s, %s, %s", zero, zero, zero)
	} else {
		w.op("VXORPS %s, %s, %s", zero, zero, zero)
	}
	for i := range rows * f.vectors {
		if f.opmasks { // not (x <= 0), which is true of NaN
			w.op("VCMPPS $0x16, %s, %s, K2", zero, f.vec(i))
			w.op("VMOVAPS.Z %s, K2, %s", f.vec(i), f.vec(i))
		} else {
			w.op("VCMPPS $0x16, %s, %s, %s", zero, f.vec(i), keep)
			w.op("VANDPS %s, %s, %s", keep, f.vec(i), f.vec(i))
		}
	}
	w.label("out" + id)
}

// tile is a loop over tiles of one height.
func (f form) tile(w *writer, rows int) {
	id := fmt.Sprint(rows)
	w.label("tile" + id)
	w.op("CMPQ rows-24(SP), $%d", rows)
	w.op("JLT done%s", id)
	f.prologue(w, rows)
	w.label("segment" + id)
	w.op("SUBQ $4, CX")
	w.op("JLT tail%s", id)
	w.op("PCALIGN $32")
	w.label("loop" + id)
	for u := range 4 {
		f.step(w, rows, u)
	}
	f.advance(w, 4)
	f.advanceRows(w, rows, 4)
	w.op("SUBQ $4, CX")
	w.op("JGE loop%s", id)
	w.label("tail" + id)
	w.op("ADDQ $4, CX")
	w.op("JEQ sum%s", id)
	w.label("one" + id)
	f.step(w, rows, 0)
	f.advance(w, 1)
	f.advanceRows(w, rows, 1)
	w.op("SUBQ $1, CX")
	w.op("JNE one%s", id)
	w.label("sum" + id)
	f.nextSegment(w, rows, id)
	f.epilogue(w, rows, id)
	w.op("JMP tile%s", id)
	w.label("done" + id)
}

func (f form) function(w *writer) {
	fmt.Fprintf(w, "\n// func %s(t *strip)\n", f.title())
	fmt.Fprintf(w, "TEXT ·%s(SB), NOSPLIT, $32-8\n", f.title())
	w.op("MOVQ t+0(FP), AX")
	w.op("MOVQ strip_a(AX), R8")
	w.op("MOVQ R8, a-8(SP)")
	w.op("MOVQ strip_c(AX), DX")
	w.op("MOVQ DX, c-16(SP)")
	w.op("MOVQ strip_rows(AX), CX")
	w.op("MOVQ CX, rows-24(SP)")
	if f.edge {
		w.op("MOVQ strip_last(AX), CX")
		if f.opmasks {
			w.op("MOVL $1, R13")
			w.op("SHLL CX, R13")
			w.op("SUBL $1, R13")
			w.op("KMOVW R13, K1")
		} else {
			w.op("LEAQ ·edge%s<>+%d(SB), R13", f.name, 4*f.lanes)
			w.op("SHLQ $2, CX")
			w.op("SUBQ CX, R13")
			w.op("VMOVUPS (R13), %s", f.vec(f.mask))
		}
	}
	for _, rows := range f.rows {
		f.tile(w, rows)
	}
	w.op("VZEROUPPER")
	w.op("RET")
}

func generate(s isa) []byte {
	w := &writer{}
	fmt.Fprint(w, "// Code generated by gen_tiles.go; DO NOT EDIT.\n\n#include \"textflag.h\"\n#include \"go_asm.h\"\n")
	if !s.opmasks {
		fmt.Fprintln(w, "\n// All ones, then zeros: a load that starts n elements before the middle is the mask of n.")
		for i := range s.lanes {
			fmt.Fprintf(w, "DATA ·edge%s<>+%d(SB)/4, $0xffffffff\n", s.name, 4*i)
		}
		fmt.Fprintf(w, "GLOBL ·edge%s<>(SB), RODATA|NOPTR, $%d\n", s.name, 8*s.lanes)
	}
	for _, columns := range []bool{false, true} {
		form{isa: s, columns: columns, vectors: 2}.function(w)
		form{isa: s, columns: columns, vectors: 2, edge: true}.function(w)
		form{isa: s, columns: columns, vectors: 1, edge: true}.function(w)
	}
	return w.Bytes()
}

func main() {
	out := flag.String("out", ".", "folder for the .s files")
	flag.Parse()
	for _, s := range sets {
		file := map[string]string{"AVX512": "avx512_amd64.s", "AVX2": "avx2_amd64.s"}[s.name]
		if err := os.WriteFile(filepath.Join(*out, file), generate(s), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
