#include "textflag.h"

// TRANSPOSE loads 8 rows of 8 from SI (stride R9, three strides R10) and leaves their transpose in Y0-Y7. Rows r
// and r+4 share a register, so that two rounds of shuffles inside the 128-bit halves are enough.
// Scratch: R11, Y8-Y11. The result is in Y0-Y7.
#define TRANSPOSE \
	LEAQ (SI)(R9*4), R11; \
	VMOVUPS (SI), X0; \
	VINSERTF128 $1, (R11), Y0, Y0; \
	VMOVUPS (SI)(R9*1), X1; \
	VINSERTF128 $1, (R11)(R9*1), Y1, Y1; \
	VMOVUPS (SI)(R9*2), X2; \
	VINSERTF128 $1, (R11)(R9*2), Y2, Y2; \
	VMOVUPS (SI)(R10*1), X3; \
	VINSERTF128 $1, (R11)(R10*1), Y3, Y3; \
	VMOVUPS 16(SI), X4; \
	VINSERTF128 $1, 16(R11), Y4, Y4; \
	VMOVUPS 16(SI)(R9*1), X5; \
	VINSERTF128 $1, 16(R11)(R9*1), Y5, Y5; \
	VMOVUPS 16(SI)(R9*2), X6; \
	VINSERTF128 $1, 16(R11)(R9*2), Y6, Y6; \
	VMOVUPS 16(SI)(R10*1), X7; \
	VINSERTF128 $1, 16(R11)(R10*1), Y7, Y7; \
	VUNPCKLPS Y1, Y0, Y8; \
	VUNPCKHPS Y1, Y0, Y9; \
	VUNPCKLPS Y3, Y2, Y10; \
	VUNPCKHPS Y3, Y2, Y11; \
	VSHUFPS $0x44, Y10, Y8, Y0; \
	VSHUFPS $0xee, Y10, Y8, Y1; \
	VSHUFPS $0x44, Y11, Y9, Y2; \
	VSHUFPS $0xee, Y11, Y9, Y3; \
	VUNPCKLPS Y5, Y4, Y8; \
	VUNPCKHPS Y5, Y4, Y9; \
	VUNPCKLPS Y7, Y6, Y10; \
	VUNPCKHPS Y7, Y6, Y11; \
	VSHUFPS $0x44, Y10, Y8, Y4; \
	VSHUFPS $0xee, Y10, Y8, Y5; \
	VSHUFPS $0x44, Y11, Y9, Y6; \
	VSHUFPS $0xee, Y11, Y9, Y7

// func transpose8(dst unsafe.Pointer, dstRow uintptr, src unsafe.Pointer, srcRow uintptr, blocks int)
TEXT ·transpose8(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ dstRow+8(FP), R8
	MOVQ src+16(FP), SI
	MOVQ srcRow+24(FP), R9
	MOVQ blocks+32(FP), CX
	LEAQ (R9)(R9*2), R10
	LEAQ (R8)(R8*2), R12
	JMP  check
loop:
	TRANSPOSE
	LEAQ (DI)(R8*4), R13
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, (DI)(R8*1)
	VMOVUPS Y2, (DI)(R8*2)
	VMOVUPS Y3, (DI)(R12*1)
	VMOVUPS Y4, (R13)
	VMOVUPS Y5, (R13)(R8*1)
	VMOVUPS Y6, (R13)(R8*2)
	VMOVUPS Y7, (R13)(R12*1)
	LEAQ (DI)(R8*8), DI
	ADDQ $32, SI
	SUBQ $1, CX
check:
	TESTQ CX, CX
	JNE  loop
	VZEROUPPER
	RET

// func transposeAdd8(dst unsafe.Pointer, dstRow uintptr, src unsafe.Pointer, srcRow uintptr, blocks int, beta float32)
TEXT ·transposeAdd8(SB), NOSPLIT, $0-44
	MOVQ dst+0(FP), DI
	MOVQ dstRow+8(FP), R8
	MOVQ src+16(FP), SI
	MOVQ srcRow+24(FP), R9
	MOVQ blocks+32(FP), CX
	VBROADCASTSS beta+40(FP), Y15
	LEAQ (R9)(R9*2), R10
	LEAQ (R8)(R8*2), R12
	JMP  check
loop:
	TRANSPOSE
	LEAQ (DI)(R8*4), R13
	VMULPS (DI), Y15, Y8
	VADDPS Y8, Y0, Y0
	VMOVUPS Y0, (DI)
	VMULPS (DI)(R8*1), Y15, Y8
	VADDPS Y8, Y1, Y1
	VMOVUPS Y1, (DI)(R8*1)
	VMULPS (DI)(R8*2), Y15, Y8
	VADDPS Y8, Y2, Y2
	VMOVUPS Y2, (DI)(R8*2)
	VMULPS (DI)(R12*1), Y15, Y8
	VADDPS Y8, Y3, Y3
	VMOVUPS Y3, (DI)(R12*1)
	VMULPS (R13), Y15, Y8
	VADDPS Y8, Y4, Y4
	VMOVUPS Y4, (R13)
	VMULPS (R13)(R8*1), Y15, Y8
	VADDPS Y8, Y5, Y5
	VMOVUPS Y5, (R13)(R8*1)
	VMULPS (R13)(R8*2), Y15, Y8
	VADDPS Y8, Y6, Y6
	VMOVUPS Y6, (R13)(R8*2)
	VMULPS (R13)(R12*1), Y15, Y8
	VADDPS Y8, Y7, Y7
	VMOVUPS Y7, (R13)(R12*1)
	LEAQ (DI)(R8*8), DI
	ADDQ $32, SI
	SUBQ $1, CX
check:
	TESTQ CX, CX
	JNE  loop
	VZEROUPPER
	RET

// func axpy(n int, alpha float32, x, y unsafe.Pointer)
TEXT ·axpy(SB), NOSPLIT, $0-32
	MOVQ n+0(FP), CX
	VBROADCASTSS alpha+8(FP), Y0
	MOVQ x+16(FP), SI
	MOVQ y+24(FP), DI
	SUBQ $32, CX
	JLT  eights
loop:
	VMOVUPS (DI), Y1
	VMOVUPS 32(DI), Y2
	VMOVUPS 64(DI), Y3
	VMOVUPS 96(DI), Y4
	VFMADD231PS (SI), Y0, Y1
	VFMADD231PS 32(SI), Y0, Y2
	VFMADD231PS 64(SI), Y0, Y3
	VFMADD231PS 96(SI), Y0, Y4
	VMOVUPS Y1, (DI)
	VMOVUPS Y2, 32(DI)
	VMOVUPS Y3, 64(DI)
	VMOVUPS Y4, 96(DI)
	ADDQ $128, SI
	ADDQ $128, DI
	SUBQ $32, CX
	JGE  loop
eights:
	ADDQ $24, CX
	JLT  ones
eight:
	VMOVUPS (DI), Y1
	VFMADD231PS (SI), Y0, Y1
	VMOVUPS Y1, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JGE  eight
ones:
	ADDQ $8, CX
	JEQ  done
one:
	VMOVSS (DI), X1
	VFMADD231SS (SI), X0, X1
	VMOVSS X1, (DI)
	ADDQ $4, SI
	ADDQ $4, DI
	SUBQ $1, CX
	JNE  one
done:
	VZEROUPPER
	RET
