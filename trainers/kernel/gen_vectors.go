//go:build ignore

// Vectors writes the kernels of the assembly sets that are no products:
//
//	go run gen_vectors.go gen_columns.go gen_pool.go -out .
//
// A kernel is written once, as a function that emits its arithmetic; it becomes a loop over whole vectors and a last
// step under a mask. Both instruction sets run the same operations on each element, so they give the same bits.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"path/filepath"
)

// isa is one instruction set.
type isa struct {
	name    string // suffix of functions and file
	file    string
	reg     string // Z or Y
	lanes   int
	regs    int  // vector registers that a kernel may use
	opmasks bool // masks are in K1, else in the last vector register
}

var sets = []isa{
	{name: "AVX512", file: "avx512_vectors_amd64.s", reg: "Z", lanes: 16, regs: 32, opmasks: true},
	{name: "AVX2", file: "avx2_vectors_amd64.s", reg: "Y", lanes: 8, regs: 15},
}

// constants are operands in memory. Those of e^x: log2 e; ln 2 in two parts; the range outside of which the result is 0
// or infinite; (e^r - 1 - r)/r² on |r| <= ln(2)/2, fitted for the smallest relative error (3e-9). Those of tanh:
// (tanh x - x)/x³ as a polynomial of x² on |x| <= 0.625 (4e-9).
var constants = []struct {
	name  string
	value float32
}{
	{"one", 1}, {"two", 2}, {"half", 0.5}, {"inf", float32(math.Inf(-1))},
	{"log2e", math.Log2E}, {"ln2", math.Ln2}, {"ln2low", float32(math.Ln2 - float64(float32(math.Ln2)))}, {"most", 89}, {"least", -104},
	{"e2", 0.49999994}, {"e3", 0.16666521}, {"e4", 0.04166839}, {"e5", 0.0083687166}, {"e6", 0.0013814599},
	{"small", 0.625}, {"t3", -0.33333284}, {"t5", 0.13331491}, {"t7", -0.053743497}, {"t9", 0.020650586}, {"t11", -0.0057170438},
}

// bits are constants that are no numbers.
var bits = []struct {
	name  string
	value uint32
}{{"sign", 1 << 31}, {"magnitude", 1<<31 - 1}, {"bias", 127}, {"unit", 1}}

type writer struct{ bytes.Buffer }

func (w *writer) op(format string, a ...any) { fmt.Fprintf(w, "\t"+format+"\n", a...) }
func (w *writer) label(s string)             { fmt.Fprintf(w, "%s:\n", s) }

// emitter writes the arithmetic of one step. Results go to new registers; a step must not need more than there are.
type emitter struct {
	isa
	*writer
	masked bool
	next   int
	at     string // of the current vector: "(BX*1)" or empty
	memory map[string]string
}

// fresh takes a register.
func (e *emitter) fresh() string {
	if e.next == e.regs {
		log.Fatal("out of registers")
	}
	e.next++
	return fmt.Sprintf("%s%d", e.reg, e.next-1)
}

func (e *emitter) maskReg() string { return fmt.Sprintf("Y%d", e.regs) }

// load reads a vector at a pointer.
func (e *emitter) load(mem string) string {
	x := e.fresh()
	e.loadTo(mem, x)
	return x
}

func (e *emitter) loadTo(mem, x string) {
	switch {
	case !e.masked:
		e.op("VMOVUPS %s, %s", mem, x)
	case e.opmasks:
		e.op("VMOVUPS.Z %s, K1, %s", mem, x)
	default:
		e.op("VMASKMOVPS %s, %s, %s", mem, e.maskReg(), x)
	}
}

func (e *emitter) store(x, mem string) {
	switch {
	case !e.masked:
		e.op("VMOVUPS %s, %s", x, mem)
	case e.opmasks:
		e.op("VMOVUPS %s, K1, %s", x, mem)
	default:
		e.op("VMASKMOVPS %s, %s, %s", x, e.maskReg(), mem)
	}
}

// in and out are vectors of the slices of a vec: a, b, c, d.
func (e *emitter) in(p string) string { return e.load("(" + e.memory[p] + ")" + e.at) }
func (e *emitter) out(x, p string)    { e.store(x, "("+e.memory[p]+")"+e.at) }

// bin emits dst = x op y, where y may be a constant.
func (e *emitter) bin(op, x, y string) string {
	d := e.fresh()
	e.to(d, op, x, y)
	return d
}

func (e *emitter) to(d, op, x, y string) {
	if y[0] != '$' {
		e.op("%s %s, %s, %s", op, y, x, d)
		return
	}
	if e.opmasks {
		op += ".BCST"
	}
	e.op("%s ·%s%s<>(SB), %s, %s", op, y[1:], e.name, x, d)
}

func (e *emitter) add(x, y string) string { return e.bin("VADDPS", x, y) }
func (e *emitter) sub(x, y string) string { return e.bin("VSUBPS", x, y) }
func (e *emitter) mul(x, y string) string { return e.bin("VMULPS", x, y) }
func (e *emitter) div(x, y string) string { return e.bin("VDIVPS", x, y) }

// constant takes a register for a constant.
func (e *emitter) constant(name string) string {
	d := e.fresh()
	e.op("VBROADCASTSS ·%s%s<>(SB), %s", name, e.name, d)
	return d
}

// horner changes p to p*x + c for constants one after the other.
func (e *emitter) horner(x, p string, constants ...string) {
	for _, c := range constants {
		e.to(p, "VFMADD213PS", x, "$"+c)
	}
}

func (e *emitter) and(x, y string) string {
	if e.opmasks {
		return e.bin("VPANDD", x, y)
	}
	return e.bin("VANDPS", x, y)
}

func (e *emitter) or(x, y string) string {
	if e.opmasks {
		return e.bin("VPORD", x, y)
	}
	return e.bin("VORPS", x, y)
}

func (e *emitter) zero() string {
	d := e.fresh()
	if e.opmasks {
		e.op("VPXORD %s, %s, %s", d, d, d)
	} else {
		e.op("VXORPS %s, %s, %s", d, d, d)
	}
	return d
}

// Comparisons: greater; not at most, which is true of NaN too; less.
const (
	greater = 0x1e
	notMost = 0x16
	less    = 0x11
	unequal = 0x04 // also of a NaN with itself
)

// choose is yes where x cmp y, else no. It spoils no.
func (e *emitter) choose(cmp int, x, y, yes, no string) string {
	if e.opmasks {
		e.op("VCMPPS $%#x, %s, %s, K2", cmp, y, x)
		e.op("VMOVAPS %s, K2, %s", yes, no)
		return no
	}
	m := e.fresh()
	e.op("VCMPPS $%#x, %s, %s, %s", cmp, y, x, m)
	e.op("VBLENDVPS %s, %s, %s, %s", m, yes, no, no)
	return no
}

// where is x where a cmp b, else 0.
func (e *emitter) where(cmp int, a, b, x string) string {
	d := e.fresh()
	if e.opmasks {
		e.op("VCMPPS $%#x, %s, %s, K2", cmp, b, a)
		e.op("VMOVAPS.Z %s, K2, %s", x, d)
		return d
	}
	e.op("VCMPPS $%#x, %s, %s, %s", cmp, b, a, d)
	e.op("VANDPS %s, %s, %s", d, x, d)
	return d
}

// exp is e^x = 2^n * e^r with n the nearest integer to x*log2 e.
func (e *emitter) exp(x string) string {
	t := e.constant("most")
	e.to(t, "VMINPS", t, x) // a NaN in x wins
	n := e.constant("least")
	e.to(n, "VMAXPS", n, t)
	e.op("VMOVAPS %s, %s", n, t)
	e.to(n, "VMULPS", n, "$log2e")
	if e.opmasks {
		e.op("VRNDSCALEPS $0, %s, %s", n, n)
	} else {
		e.op("VROUNDPS $0, %s, %s", n, n)
	}
	e.to(t, "VFNMADD231PS", n, "$ln2")
	e.to(t, "VFNMADD231PS", n, "$ln2low")
	p := e.constant("e6")
	e.horner(t, p, "e5", "e4", "e3", "e2", "one", "one")
	if e.opmasks {
		e.op("VSCALEFPS %s, %s, %s", n, p, p)
		return p
	}
	// Two factors, for 2^128 and 2^-150 are no numbers. Only the second one can round.
	e.op("VCVTPS2DQ %s, %s", n, n)
	e.op("VPSRAD $1, %s, %s", n, t)
	e.op("VPSUBD %s, %s, %s", t, n, n)
	for _, f := range []string{t, n} {
		e.to(f, "VPADDD", f, "$bias")
		e.op("VPSLLD $23, %s, %s", f, f)
		e.op("VMULPS %s, %s, %s", f, p, p)
	}
	return p
}

// elementwise lists the kernels over a vec. s are registers with its numbers.
var elementwise = []struct {
	name    string
	doc     string
	scalars int
	body    func(e *emitter, s []string)
}{
	{"add", "c = a + b", 0, func(e *emitter, _ []string) { e.out(e.add(e.in("a"), e.in("b")), "c") }},
	{"mul", "c = a * b", 0, func(e *emitter, _ []string) { e.out(e.mul(e.in("a"), e.in("b")), "c") }},
	{"relu", "b = max(a, 0)", 0, func(e *emitter, _ []string) {
		x := e.in("a")
		e.out(e.where(notMost, x, e.zero(), x), "b")
	}},
	{"reluGrad", "c = b where a > 0", 0, func(e *emitter, _ []string) {
		y := e.in("a")
		e.out(e.where(greater, y, e.zero(), e.in("b")), "c")
	}},
	{"sigmoidGrad", "c = b*a*(1-a)", 0, func(e *emitter, _ []string) {
		y, one := e.in("a"), e.constant("one")
		e.out(e.mul(e.mul(e.in("b"), y), e.sub(one, y)), "c")
	}},
	{"tanhGrad", "c = b*(1-a²)", 0, func(e *emitter, _ []string) {
		y, one := e.in("a"), e.constant("one")
		e.out(e.mul(e.in("b"), e.sub(one, e.mul(y, y))), "c")
	}},
	{"exp", "b = e^a", 0, func(e *emitter, _ []string) { e.out(e.exp(e.in("a")), "b") }},
	{"sigmoid", "b = 1/(1+e^-a), from e^-|a|, which cannot overflow", 0, func(e *emitter, _ []string) {
		x := e.in("a")
		t := e.exp(e.or(x, "$sign"))
		below := e.add(t, "$one")
		e.out(e.div(e.choose(less, x, e.zero(), t, e.constant("one")), below), "b")
	}},
	{"tanh", "b = tanh a: a polynomial near 0, else 1 - 2/(e^2|a| + 1) with the sign of a", 0, func(e *emitter, _ []string) {
		x := e.in("a")
		size := e.and(x, "$magnitude")
		large := e.add(e.exp(e.add(size, size)), "$one")
		e.to(large, "VDIVPS", e.constant("two"), large)
		e.to(large, "VSUBPS", e.constant("one"), large)
		square, p := e.mul(x, x), e.constant("t11")
		e.horner(square, p, "t9", "t7", "t5", "t3")
		e.to(square, "VMULPS", square, x)
		e.op("VFMADD213PS %s, %s, %s", x, square, p)
		large = e.or(large, e.and(x, "$sign"))
		e.out(e.choose(less, size, e.constant("small"), p, large), "b")
	}},
	{"momentum", "b = s1*b - s0*a, c += b", 2, func(e *emitter, s []string) {
		v := e.sub(e.mul(e.in("b"), s[1]), e.mul(e.in("a"), s[0]))
		e.out(v, "b")
		e.out(e.add(e.in("c"), v), "c")
	}},
	{"nesterov", "b = s1*b - s0*a, c += s1*b - s0*a", 2, func(e *emitter, s []string) {
		down := e.mul(e.in("a"), s[0])
		v := e.sub(e.mul(e.in("b"), s[1]), down)
		e.out(v, "b")
		e.out(e.add(e.in("c"), e.sub(e.mul(v, s[1]), down)), "c")
	}},
	{"adam", "b += (a-b)*s1, c += (a²-c)*s2, d -= s0*b/(√c+s3)", 4, func(e *emitter, s []string) {
		g, m, v := e.in("a"), e.in("b"), e.in("c")
		t := e.sub(g, m)
		e.to(t, "VMULPS", t, s[1])
		e.to(m, "VADDPS", m, t)
		e.out(m, "b")
		e.to(t, "VMULPS", g, g)
		e.to(t, "VSUBPS", t, v)
		e.to(t, "VMULPS", t, s[2])
		e.to(v, "VADDPS", v, t)
		e.out(v, "c")
		e.to(m, "VMULPS", s[0], m)
		e.op("VSQRTPS %s, %s", v, v)
		e.to(v, "VADDPS", v, s[3])
		e.to(m, "VDIVPS", m, v)
		e.out(e.sub(e.in("d"), m), "d")
	}},
}

// mask makes the mask of the first CX elements (fewer than a vector). It spoils R13 and CX.
func (s isa) mask(w *writer) {
	if s.opmasks {
		w.op("MOVL $1, R13")
		w.op("SHLL CX, R13")
		w.op("SUBL $1, R13")
		w.op("KMOVW R13, K1")
		return
	}
	w.op("LEAQ ·edge%s<>+%d(SB), R13", s.name, 4*s.lanes)
	w.op("SHLQ $2, CX")
	w.op("SUBQ CX, R13")
	w.op("VMOVUPS (R13), Y%d", s.regs)
}

func (s isa) title(name string) string { return name + s.name }

func (s isa) begin(w *writer, name, doc, argument string) {
	fmt.Fprintf(w, "\n// func %s(t *%s)\n// %s\n", s.title(name), argument, doc)
	fmt.Fprintf(w, "TEXT ·%s(SB), NOSPLIT, $0-8\n", s.title(name))
	w.op("MOVQ t+0(FP), AX")
}

func (s isa) end(w *writer) {
	w.label("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

func vectors(w *writer, s isa) {
	for _, k := range elementwise {
		s.begin(w, k.name, k.doc, "vec")
		w.op("MOVQ vec_n(AX), CX")
		memory := map[string]string{"a": "SI", "b": "DI", "c": "R8", "d": "R9"}
		for _, p := range []string{"a", "b", "c", "d"} {
			w.op("MOVQ vec_%s(AX), %s", p, memory[p])
		}
		var numbers []string
		for i := range k.scalars {
			numbers = append(numbers, fmt.Sprintf("%s%d", s.reg, i))
			w.op("VBROADCASTSS vec_s+%d(AX), %s", 4*i, numbers[i])
		}
		w.op("XORQ BX, BX")
		w.op("SUBQ $%d, CX", s.lanes)
		w.op("JLT tail")
		w.label("loop")
		k.body(&emitter{isa: s, writer: w, next: k.scalars, at: "(BX*1)", memory: memory}, numbers)
		w.op("ADDQ $%d, BX", 4*s.lanes)
		w.op("SUBQ $%d, CX", s.lanes)
		w.op("JGE loop")
		w.label("tail")
		w.op("ADDQ $%d, CX", s.lanes)
		w.op("JEQ done")
		s.mask(w)
		k.body(&emitter{isa: s, writer: w, next: k.scalars, at: "(BX*1)", memory: memory, masked: true}, numbers)
		s.end(w)
	}
}

func data(w *writer, s isa) {
	copies := 1 // AVX-512 repeats a number by itself
	if !s.opmasks {
		copies = s.lanes
		fmt.Fprintln(w, "\n// All ones, then zeros: a load that starts n elements before the middle is the mask of n.")
		for i := range s.lanes {
			fmt.Fprintf(w, "DATA ·edge%s<>+%d(SB)/4, $0xffffffff\n", s.name, 4*i)
		}
		fmt.Fprintf(w, "GLOBL ·edge%s<>(SB), RODATA|NOPTR, $%d\n", s.name, 8*s.lanes)
	}
	fmt.Fprintln(w)
	put := func(name string, value uint32) {
		for i := range copies {
			fmt.Fprintf(w, "DATA ·%s%s<>+%d(SB)/4, $%#08x\n", name, s.name, 4*i, value)
		}
		fmt.Fprintf(w, "GLOBL ·%s%s<>(SB), RODATA|NOPTR, $%d\n", name, s.name, 4*copies)
	}
	for _, c := range constants {
		put(c.name, math.Float32bits(c.value))
	}
	for _, c := range bits {
		put(c.name, c.value)
	}
}

func main() {
	out := flag.String("out", ".", "folder for the .s files")
	flag.Parse()
	for _, s := range sets {
		w := &writer{}
		fmt.Fprint(w, "// Code generated by gen_vectors.go; DO NOT EDIT.\n\n#include \"textflag.h\"\n#include \"go_asm.h\"\n")
		data(w, s)
		vectors(w, s)
		columns(w, s)
		softmax(w, s)
		pools(w, s)
		if err := os.WriteFile(filepath.Join(*out, s.file), w.Bytes(), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
