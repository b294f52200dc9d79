package model

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
	"dkpipe/trainers/model/graph"
)

// targetRule is what a loss asks of the values of its targets: others would still give numbers, and training on them
// would lead nowhere. What is no class, where one is asked for, the plan itself finds.
type targetRule struct {
	low, high   float32
	takes, hint string // "targets from 0 to 1"; empty: any value will do
}

func (l Loss) targetRule() targetRule {
	switch graph.CanonicalLoss(l.Name) {
	case "binary_crossentropy":
		return targetRule{0, 1, "targets from 0 to 1",
			"make it 0 or 1, for example with one_hot; for the index of a class take sparse_categorical_crossentropy, for any number mean_squared_error"}
	case "categorical_crossentropy":
		return targetRule{0, math.MaxFloat32, "targets of 0 or more, the share of each class",
			"make them with one_hot; for the index of a class take sparse_categorical_crossentropy, for any number mean_squared_error"}
	}
	return targetRule{}
}

// checkTargets looks at the targets of a batch, one column an output.
func (n *Network) checkTargets(y [][]float32) error {
	for i, rule := range n.rules {
		if rule.takes == "" {
			continue
		}
		for _, v := range y[i] {
			if !(v >= rule.low && v <= rule.high) {
				return &pipeline.Error{Kind: pipeline.Data, Hint: rule.hint,
					Message: fmt.Sprintf("%s takes %s; there is one of %g for output %s", n.losses[i].Name, rule.takes, v, n.def.Outputs[i])}
			}
		}
	}
	return nil
}
