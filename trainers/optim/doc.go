// Package optim holds local optimizers over flat vectors.
package optim
