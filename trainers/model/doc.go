// Package model turns a definition into a Replica.
package model
