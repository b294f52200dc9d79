// Package trainers is the training engine.
package trainers
