// Package ps is the core of the parameter server.
package ps
