package model

import (
	"errors"
	"math"
	"strings"
	"testing"

	"dkpipe/pipeline"
)

// TestTargetsThatALossDoesNotTake: the first step refuses them by name, and changes nothing.
func TestTargetsThatALossDoesNotTake(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		loss   string
		units  int
		target []float32 // of one row
		want   string    // empty: taken
	}{
		{"binary_crossentropy", 1, []float32{1}, ""},
		{"binary_crossentropy", 2, []float32{0, 0.25}, ""},
		{"binary_crossentropy", 1, []float32{2}, "binary_crossentropy takes targets from 0 to 1; there is one of 2 for output dense"},
		{"binary_crossentropy", 2, []float32{1, -1}, "binary_crossentropy takes targets from 0 to 1; there is one of -1 for output dense"},
		{"binary_crossentropy", 1, []float32{nan}, "there is one of NaN"},
		{"categorical_crossentropy", 3, []float32{0, 2, 0.5}, ""},
		{"categorical_crossentropy", 3, []float32{0, -1, 0}, "categorical_crossentropy takes targets of 0 or more, the share of each class; there is one of -1"},
		{"sparse_categorical_crossentropy", 3, []float32{2}, ""},
		{"sparse_categorical_crossentropy", 3, []float32{3}, "row 1 of the batch"},
		{"sparse_categorical_crossentropy", 3, []float32{0.5}, "row 1 of the batch"},
		{"mean_squared_error", 1, []float32{-1e9}, ""},
	} {
		activation := "sigmoid"
		if c.units > 1 {
			activation = "softmax"
		}
		d, err := FromLayers([]LayerItem{{Name: "dense", Decode: func(into any) error {
			op := into.(*Dense)
			op.Units, op.Activation = c.units, activation
			return nil
		}}}, []Input{{Name: "input", Shape: []int{2}}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := Compile(d, Config{Batch: 4, Loss: c.loss})
		if err != nil {
			t.Fatal(err)
		}
		n.Init(1)
		_, err = n.Step(&pipeline.Batch{Rows: 2, X: [][]float32{{1, 2, 3, 4}}, Y: [][]float32{append(append([]float32{}, make([]float32, len(c.target))...), c.target...)}})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s, %v: %v", c.loss, c.target, err)
			}
			continue
		}
		var e *pipeline.Error
		if !errors.As(err, &e) || e.Kind != pipeline.Data || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s, %v: got %v\nwant %s", c.loss, c.target, err, c.want)
		}
	}
}
