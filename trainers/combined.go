package trainers

import (
	"fmt"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// Combine says how the models of an ensemble predict together.
type Combine string

const (
	// Mean gives the mean of the members' outputs: of probabilities, for a classifier.
	Mean Combine = "mean"
	// Vote gives, for each class, the share of the members whose greatest output it is; of an output with one element, the
	// share of those above a half.
	Vote Combine = "vote"
	// List gives the outputs of all members, those of the first one first.
	List Combine = "list"
)

// Combined predicts with the members of an ensemble as one model: a model.Replica that cannot be trained. Its members keep
// their own parameters; there is no flat vector of them all.
type Combined struct {
	members []model.Replica
	how     Combine
	scratch [][]float32
}

var _ model.Replica = (*Combined)(nil)

// NewCombined combines replicas of the same inputs and outputs, one or more. They belong to it from now on.
func NewCombined(how Combine, members []model.Replica) (*Combined, error) {
	if how == "" {
		how = Mean
	}
	if len(members) == 0 || how != Mean && how != Vote && how != List {
		return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("%d models cannot be combined by %q", len(members), how),
			Hint: "combine one model or more by mean, vote or list"}
	}
	return &Combined{members: members, how: how}, nil
}

// Params is empty: each member has its own.
func (c *Combined) Params() []float32 { return nil }

// Grads is empty.
func (c *Combined) Grads() []float32 { return nil }

// State is empty.
func (c *Combined) State() []float32 { return nil }

// Step is an error of kind unsupported: members are trained one by one.
func (c *Combined) Step(*pipeline.Batch) (float32, error) {
	return 0, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the models of an ensemble are not trained as one", Hint: "train each of them"}
}

// Predict implements model.Replica. With List, out has as many slices as all members together have outputs.
func (c *Combined) Predict(b *pipeline.Batch, out [][]float32) error {
	if c.how == List {
		return c.list(b, out)
	}
	c.fit(out)
	for _, o := range out {
		clear(o)
	}
	for _, m := range c.members {
		if err := m.Predict(b, c.scratch); err != nil {
			return err
		}
		for k, o := range out {
			if s := c.scratch[k]; c.how == Vote {
				vote(o, s, b.Rows)
			} else {
				for i, v := range s {
					o[i] += v
				}
			}
		}
	}
	scale := 1 / float32(len(c.members))
	for _, o := range out {
		for i := range o {
			o[i] *= scale
		}
	}
	return nil
}

func (c *Combined) list(b *pipeline.Batch, out [][]float32) error {
	each := len(out) / len(c.members)
	if each*len(c.members) != len(out) {
		return &pipeline.Error{Kind: pipeline.Internal, Message: fmt.Sprintf("%d models were asked for a list of %d outputs", len(c.members), len(out))}
	}
	for i, m := range c.members {
		if err := m.Predict(b, out[i*each:(i+1)*each]); err != nil {
			return err
		}
	}
	return nil
}

// fit makes scratch as long as out.
func (c *Combined) fit(out [][]float32) {
	if len(c.scratch) < len(out) {
		c.scratch = append(c.scratch, make([][]float32, len(out)-len(c.scratch))...)
	}
	c.scratch = c.scratch[:len(out)]
	for k, o := range out {
		if cap(c.scratch[k]) < len(o) {
			c.scratch[k] = make([]float32, len(o))
		}
		c.scratch[k] = c.scratch[k][:len(o)]
	}
}

// vote adds one to what a member is for, in every row.
func vote(votes, outputs []float32, rows int) {
	if rows == 0 {
		return
	}
	width := len(outputs) / rows
	for r := range rows {
		row := outputs[r*width : (r+1)*width]
		if width == 1 {
			if row[0] > 0.5 {
				votes[r]++
			}
			continue
		}
		best := 0
		for i, v := range row {
			if v > row[best] {
				best = i
			}
		}
		votes[r*width+best]++
	}
}
