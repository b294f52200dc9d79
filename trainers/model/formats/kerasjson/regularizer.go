package kerasjson

import (
	"encoding/json"
	"strings"

	"dkpipe/trainers/model"
)

// defaultPenalty is what Keras takes for a regularizer that is named without a number.
const defaultPenalty = 0.01

// parseRegularizer reads a name, an object of class L1, L2 or L1L2, or null.
func parseRegularizer(raw json.RawMessage) (model.Regularizer, error) {
	var r model.Regularizer
	if isNull(raw) {
		return r, nil
	}
	var o struct {
		ClassName string `json:"class_name"`
		Config    struct {
			L1 *float64 `json:"l1"`
			L2 *float64 `json:"l2"`
		} `json:"config"`
	}
	if json.Unmarshal(raw, &o.ClassName) != nil {
		if err := json.Unmarshal(raw, &o); err != nil {
			return r, corrupt("a regularizer is neither a name nor an object: %v", err)
		}
	}
	switch strings.ToLower(o.ClassName) {
	case "l1":
		r.L1 = defaultPenalty
	case "l2":
		r.L2 = defaultPenalty
	case "l1l2", "l1_l2":
		if o.Config.L1 == nil && o.Config.L2 == nil {
			r = model.Regularizer{L1: defaultPenalty, L2: defaultPenalty}
		}
	default:
		return r, refuse("regularizer %q", o.ClassName)
	}
	if o.Config.L1 != nil {
		r.L1 = *o.Config.L1
	}
	if o.Config.L2 != nil {
		r.L2 = *o.Config.L2
	}
	return r, nil
}

// regularizerObject is null for none.
func regularizerObject(r model.Regularizer) any {
	switch {
	case r == (model.Regularizer{}):
		return nil
	case r.L2 == 0:
		return object{Module: "keras.regularizers", ClassName: "L1", Config: fields{{"l1", r.L1}}}
	case r.L1 == 0:
		return object{Module: "keras.regularizers", ClassName: "L2", Config: fields{{"l2", r.L2}}}
	}
	return object{Module: "keras.regularizers", ClassName: "L1L2", Config: fields{{"l1", r.L1}, {"l2", r.L2}}}
}
