package expr

import "encoding/json"

// KeptOnPurpose gives the columns that come from a step with handle_invalid: keep, directly or by way of steps that
// guard against nothing, such as a reshape.
func KeptOnPurpose(fitted []Fitted) map[string]bool {
	kept := map[string]bool{}
	for _, f := range fitted {
		next := map[string]bool{}
		for _, o := range f.Outputs {
			k := f.Invalid == Keep
			for _, c := range Columns(o.Expr) {
				k = k || kept[c] && len(f.Guards) == 0
			}
			next[o.Name] = k
		}
		for name, k := range next {
			kept[name] = k
		}
	}
	return kept
}

// Shapes gives, by column, the shapes of one row that reshape steps put on columns. A step that makes a column anew takes its shape away.
func Shapes(fitted []Fitted) map[string][]int {
	shapes := map[string][]int{}
	for _, f := range fitted {
		var params struct {
			Shape []int `json:"shape"`
		}
		if json.Unmarshal(f.Params, &params) != nil {
			params.Shape = nil
		}
		for _, o := range f.Outputs {
			delete(shapes, o.Name)
			if len(params.Shape) > 0 {
				shapes[o.Name] = params.Shape
			}
		}
	}
	return shapes
}
