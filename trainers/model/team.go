package model

import (
	"sync"

	"dkpipe/pipeline"
)

// Team is a network that predicts on several cores: each member works on a part of the rows, over the same parameters
// and state. Like a Network it belongs to one goroutine. Parameters may change between two calls, as those of a Network.
type Team struct {
	*Network // the first member
	others   []*Network
	errs     []error
}

var _ Replica = (*Team)(nil)

// leastPart is how many rows are worth another goroutine.
const leastPart = 32

// Team gives a team of so many members, of which n is the first. The others have n's parameters and no copy of them.
func (n *Network) Team(members int) *Team {
	t := &Team{Network: n, errs: make([]error, max(1, members))}
	for range members - 1 {
		t.others = append(t.others, n.Sibling())
	}
	return t
}

// Sibling is a network over the parameters and the state of n, and no copy of them, for prediction by another goroutine.
func (n *Network) Sibling() *Network {
	return &Network{def: n.def, cfg: n.cfg, shapes: n.shapes, vars: n.vars, layout: n.layout, kept: n.kept, initial: n.initial, moving: n.moving,
		params: n.params, state: n.state, inputs: n.inputs, outputs: n.outputs}
}

// Predict is Network.Predict with the rows divided among the members. What is predicted for a row does not depend on the
// number of members; of errors the one of the first part is given.
func (t *Team) Predict(b *pipeline.Batch, out [][]float32) error {
	parts := min(1+len(t.others), b.Rows/leastPart)
	if parts < 2 {
		return t.Network.Predict(b, out)
	}
	if err := t.checkPredict(b, out); err != nil {
		return err
	}
	clear(t.errs)
	var working sync.WaitGroup
	for i, n := range t.others[:parts-1] {
		working.Go(func() { t.errs[i+1] = n.predictRows(b, out, (i+1)*b.Rows/parts, (i+2)*b.Rows/parts) })
	}
	t.errs[0] = t.predictRows(b, out, 0, b.Rows/parts)
	working.Wait()
	for _, err := range t.errs {
		if err != nil {
			return err
		}
	}
	return nil
}
