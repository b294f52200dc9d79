package main

import (
	"errors"
	"fmt"

	"dkpipe/sparkconn"
)

// inSource puts the place of source in the spec before an error of Spark about its text.
func (j *job) inSource(err error) error {
	var said *sparkconn.ServerError
	if !errors.As(err, &said) || !said.InSource() {
		return err
	}
	pos := j.spec.Source.Pos
	pos.Field = "" // the message names it
	return fmt.Errorf("%s: %w", pos, err)
}
