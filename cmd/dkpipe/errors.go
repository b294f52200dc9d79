package main

import "errors"

// errorAs is errors.As for a target of any type, interface or pointer.
func errorAs[T any](err error, target *T) bool { return errors.As(err, target) }
