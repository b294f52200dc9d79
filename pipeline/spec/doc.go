// Package spec is the YAML job file: every command reads the same one, on a laptop and on a cluster.
package spec
