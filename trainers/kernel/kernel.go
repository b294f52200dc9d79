package kernel

// Set is a family of single-threaded float32 kernels. It is safe for concurrent use. Sizes and strides are the
// program's own, not user input: slices that are too short for them panic. It has more methods than other interfaces
// here because a Set is chosen as a whole, once; its parts are listed by what they work on.
//
// Vector results may lie where their operands lie, element for element (y may be x), but must not overlap otherwise.
type Set interface {
	// Name is what logs and benchmarks call it: avx512, avx2, gonum.
	Name() string
	Products
	Vectors
	Columns
	Images
}

// Products are matrix products.
type Products interface {
	// Gemm computes C = alpha*op(A)*op(B) + beta*C on row-major matrices; op(A) is m×k, op(B) is k×n, and lda, ldb,
	// ldc are row strides of A, B and C as they are stored. C must not overlap A or B. With beta 0 the old content
	// of C is not read, so it may be NaN. m, n and k may be 0; with k = 0 or alpha = 0 it is C = beta*C. A set may leave
	// out terms whose factor from A is 0, so a NaN or infinity in B need not spread through those.
	Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int)
	// Linear computes Y = f(X*W + bias): X is m×k, W k×n, Y m×n, all without gaps. bias has n elements and is added to
	// each row; nil is none. f is max(·, 0) if relu, where NaN stays NaN, else nothing.
	Linear(m, n, k int, x, w, bias []float32, relu bool, y []float32)
}

// Vectors are elementwise kernels over len(x) elements (of the first slice); the others are at least as long. Sums and
// products are rounded apart, so every set gives the same bits, except for Axpy and where an exponential is taken.
type Vectors interface {
	// Axpy computes y += alpha*x.
	Axpy(alpha float32, x, y []float32)
	// Add computes z = x + y.
	Add(x, y, z []float32)
	// Mul computes z = x*y.
	Mul(x, y, z []float32)
	// ReLU computes y = max(x, 0). NaN stays NaN, -0 becomes 0.
	ReLU(x, y []float32)
	// ReLUGrad computes dx = dy where y > 0, else 0.
	ReLUGrad(y, dy, dx []float32)
	// Sigmoid computes y = 1/(1+e^-x), within 3 units in the last place.
	Sigmoid(x, y []float32)
	// SigmoidGrad computes dx = dy*y*(1-y).
	SigmoidGrad(y, dy, dx []float32)
	// Tanh computes y = tanh x, within 3 units in the last place.
	Tanh(x, y []float32)
	// TanhGrad computes dx = dy*(1-y²).
	TanhGrad(y, dy, dx []float32)
	// Exp computes y = e^x, within 2 units in the last place. Results below the normal numbers are kept.
	Exp(x, y []float32)
	// Momentum takes a step of gradient descent with momentum: v = momentum*v - rate*g, then p += v, or with nesterov
	// p += momentum*v - rate*g.
	Momentum(rate, momentum float32, nesterov bool, g, v, p []float32)
	// Adam takes a step of Adam, whose bias corrections are in rate: m += (g-m)*c1; v += (g²-v)*c2;
	// p -= rate*m/(√v+eps).
	Adam(rate, c1, c2, eps float32, g, m, v, p []float32)
}

// Columns are kernels over the rows or columns of a matrix of rows × cols without gaps. Sums down a column are taken in
// runs of 64 rows, which are then added up: the error of a long column stays small, and every set gives the same bits.
type Columns interface {
	// AddColumnSums computes sums_j += Σ x_ij.
	AddColumnSums(rows, cols int, x, sums []float32)
	// AddColumnDots computes sums_j += Σ x_ij*y_ij.
	AddColumnDots(rows, cols int, x, y, sums []float32)
	// AddColumnSquares computes sums_j += Σ (x_ij - centre_j)².
	AddColumnSquares(rows, cols int, x, centre, sums []float32)
	// ScaleColumns computes y_ij = x_ij*scale_j + shift_j.
	ScaleColumns(rows, cols int, x, scale, shift, y []float32)
	// BlendColumns computes z_ij = x_ij*a_j + y_ij*b_j + c_j.
	BlendColumns(rows, cols int, x, a, y, b, c, z []float32)
	// Softmax computes y_ij = e^(x_ij - m_i) / Σ_k e^(x_ik - m_i), where m_i is the largest of row i. A NaN makes its
	// row NaN.
	Softmax(rows, cols int, x, y []float32)
}

// Images are kernels over n images of H × W × C floats, one after the other without gaps (channels last).
type Images interface {
	// Conv computes Y = f(X * filters + bias) for o filters of KH × KW × C × o floats (what Keras calls HWIO):
	// a cross-correlation. Y has OH × OW × o floats an image. bias and relu are as in Linear.
	Conv(g *Window, n, o int, x, filters, bias []float32, relu bool, y []float32)
	// ConvGradFilters adds the gradient of the filters to dw.
	ConvGradFilters(g *Window, n, o int, x, dy, dw []float32)
	// ConvGradInput computes dx, the gradient of the images.
	ConvGradInput(g *Window, n, o int, dy, filters, dx []float32)
	// MaxPool computes the largest value of every window, each channel for itself, of at most MaxPoolCells cells.
	// Padding counts as nothing; every window must hold a cell of the image. cells gets the place of each result in its
	// window, counted along the rows of the window: the first of equal ones. A NaN is larger than any number.
	MaxPool(g *Window, n int, x, y []float32, cells []uint8)
	// MaxPoolGrad computes dx: every dy goes to the cell that MaxPool chose.
	MaxPoolGrad(g *Window, n int, cells []uint8, dy, dx []float32)
}

// MaxPoolCells is the largest number of cells of a window that MaxPool can name in a byte.
const MaxPoolCells = 256
