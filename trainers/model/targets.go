package model

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// checkTargets finds values that a loss does not take: it would still give numbers, and training on them would lead
// nowhere. y has one column an output, of rows × the loss's TargetWidth. What is no class, where one is asked for, the
// plan itself finds.
func checkTargets(losses []Loss, outputs []string, y [][]float32) error {
	for i, l := range losses {
		var fine func(v float32) bool
		var takes, hint string
		switch graph.CanonicalLoss(l.Name) {
		case "binary_crossentropy":
			fine = func(v float32) bool { return v >= 0 && v <= 1 }
			takes = "from 0 to 1"
			hint = "make it 0 or 1, for example with one_hot; for the index of a class take sparse_categorical_crossentropy, for any number mean_squared_error"
		case "categorical_crossentropy":
			fine = func(v float32) bool { return v >= 0 && v <= math.MaxFloat32 }
			takes = "of 0 or more, the share of each class"
			hint = "make them with one_hot; for the index of a class take sparse_categorical_crossentropy, for any number mean_squared_error"
		default:
			continue
		}
		for _, v := range y[i] {
			if !fine(v) {
				return &pipeline.Error{Kind: pipeline.Data, Hint: hint, Message: fmt.Sprintf("%s takes targets %s; there is one of %g for output %s", l.Name, takes, v, outputs[i])}
			}
		}
	}
	return nil
}
