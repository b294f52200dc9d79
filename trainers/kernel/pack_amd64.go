package kernel

import "unsafe"

// packA copies a block of a transposed A into w.a, tile by tile, each k after k: the order in which the Cols kernels
// read it. Tiles have the heights that the kernels take.
func (s *blockedSet) packA(w *workspace, p *product, i, l, rows, k int) {
	heights := [...]int{12, 8, 4, 2, 1}
	if !s.wide {
		heights = [...]int{6, 4, 2, 1, 1}
	}
	dst, h := w.a[:rows*k], 0
	for end := i + rows; i < end; i += heights[h] {
		for heights[h] > end-i {
			h++
		}
		packTile(dst, heights[h], p.a[l*p.lda+i:], p.lda, k)
		dst = dst[heights[h]*k:]
	}
}

// packTile copies k rows of the given width, which are stride apart in src, to dst without gaps. The common widths
// are arrays, which compile to vector moves.
func packTile(dst []float32, width int, src []float32, stride, k int) {
	for ; k > 0; k-- {
		switch width {
		case 12:
			*(*[12]float32)(dst) = *(*[12]float32)(src)
		case 6:
			*(*[6]float32)(dst) = *(*[6]float32)(src)
		default:
			copy(dst[:width], src)
		}
		if k > 1 {
			dst, src = dst[width:], src[stride:]
		}
	}
}

// packB copies a block of op(B) into w.b, strip by strip, each row of a strip s.width long.
func (s *blockedSet) packB(w *workspace, p *product, l, j, k, cols int) {
	if p.transB {
		packStrips(w.b[:], s.width, p.b[j*p.ldb+l:], p.ldb, cols, k)
		return
	}
	for o := 0; o < cols; o += s.width {
		copyRows(w.b[o*k:], s.width, p.b[l*p.ldb+j+o:], p.ldb, k, min(s.width, cols-o))
	}
}

// packStrips packs the transpose of rows × k of src in strips of the given width.
func packStrips(dst []float32, width int, src []float32, stride, rows, k int) {
	for o := 0; o < rows; o += width {
		transposeInto(dst[o*k:], width, src[o*stride:], stride, min(width, rows-o), k)
	}
}

// copyRows copies rows × cols of src to dst. The widths of a strip are arrays, as in packTile.
func copyRows(dst []float32, dstStride int, src []float32, srcStride, rows, cols int) {
	for i := range rows {
		to, from := dst[i*dstStride:], src[i*srcStride:]
		switch cols {
		case 32:
			*(*[32]float32)(to) = *(*[32]float32)(from)
		case 16:
			*(*[16]float32)(to) = *(*[16]float32)(from)
		default:
			copy(to[:cols], from)
		}
	}
}

// transposeInto writes the transpose of rows × cols of src to dst.
func transposeInto(dst []float32, dstStride int, src []float32, srcStride, rows, cols int) {
	whole, r := cols&^7, 0
	for ; whole > 0 && r+8 <= rows; r += 8 {
		transpose8(unsafe.Pointer(&dst[r]), sizeOf(dstStride), unsafe.Pointer(&src[r*srcStride]), sizeOf(srcStride), whole/8)
		for c := whole; c < cols; c++ {
			for i := r; i < r+8; i++ {
				dst[c*dstStride+i] = src[i*srcStride+c]
			}
		}
	}
	for ; r < rows; r++ {
		for c, v := range src[r*srcStride:][:cols] {
			dst[c*dstStride+r] = v
		}
	}
}

// transposeAdd computes dst = src^T + beta*dst for rows × cols of src. With beta 0 it does not read dst.
func transposeAdd(dst []float32, dstStride int, src []float32, srcStride, rows, cols int, beta float32) {
	if beta == 0 {
		transposeInto(dst, dstStride, src, srcStride, rows, cols)
		return
	}
	whole, r := cols&^7, 0
	for ; whole > 0 && r+8 <= rows; r += 8 {
		transposeAdd8(unsafe.Pointer(&dst[r]), sizeOf(dstStride), unsafe.Pointer(&src[r*srcStride]), sizeOf(srcStride), whole/8, beta)
		for c := whole; c < cols; c++ {
			for i := r; i < r+8; i++ {
				dst[c*dstStride+i] = addScaled(src[i*srcStride+c], beta, dst[c*dstStride+i])
			}
		}
	}
	for ; r < rows; r++ {
		for c, v := range src[r*srcStride:][:cols] {
			dst[c*dstStride+r] = addScaled(v, beta, dst[c*dstStride+r])
		}
	}
}

// addScaled is v + beta*old, with the product rounded as in the assembly: the conversion forbids a fused operation.
func addScaled(v, beta, old float32) float32 { return v + float32(beta*old) }
