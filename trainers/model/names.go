package model

import (
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/optim"
)

// unknown reports a name that is not among the known ones, with the nearest of them.
func unknown(kind pipeline.Kind, what, name string, known []string) error {
	hint := "supported: " + strings.Join(known, ", ")
	if near := optim.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? Supported: %s", near, strings.Join(known, ", "))
	}
	return &pipeline.Error{Kind: kind, Message: fmt.Sprintf("%s %q is not supported", what, name), Hint: hint}
}
