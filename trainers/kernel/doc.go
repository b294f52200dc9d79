// Package kernel holds the float32 kernels.
package kernel
