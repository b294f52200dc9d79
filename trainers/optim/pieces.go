package optim

// Piecewise is an extra power of an Optimizer whose step can be taken piece by piece, in any order: Begin and then one Update
// for every parameter is what Apply is.
type Piecewise interface {
	Optimizer
	// Begin starts a step.
	Begin()
	// Update moves params, which are the parameters at, at+1, … of the flat vector, down their gradient. It does not
	// allocate and does not change grads.
	Update(at int, params, grads []float32)
	// Lazy tells whether an Update with a gradient of zero changes nothing, so that it may be left out.
	Lazy() bool
}

// lazy is a rule that may say that a gradient of zero changes neither parameters nor state.
type lazy interface{ lazy() bool }

// Pieces gives an optimizer as one that works piece by piece, or nil when it cannot: to clip by a norm it has to see the whole
// gradient first.
func Pieces(o Optimizer) Piecewise {
	if o, ok := o.(*optimizer); ok && (o.ClipNorm > 0 || o.GlobalClipNorm > 0) {
		return nil
	}
	if p, ok := o.(Piecewise); ok {
		return p
	}
	return nil
}

// Begin implements Piecewise.
func (o *optimizer) Begin() {
	taken := o.count.value()
	rate := o.LearningRate.At(taken) * o.scale
	o.rule.begin(rate, taken+1)
	o.count.add()
	o.decay = float32(-o.WeightDecay * rate)
}

// Lazy implements Piecewise.
func (o *optimizer) Lazy() bool {
	r, ok := o.rule.(lazy)
	return ok && r.lazy() && o.WeightDecay == 0
}

// Update implements Piecewise.
func (o *optimizer) Update(at int, params, grads []float32) {
	if o.clipped == nil && o.WeightDecay == 0 {
		o.rule.update(at, grads, params)
		return
	}
	c := o.clipper(grads)
	for len(grads) > 0 {
		k := min(blockSize, len(grads))
		g, p := c.clip(o.kernel, o.clipped, grads[:k]), params[:k]
		if o.WeightDecay != 0 {
			o.kernel.Axpy(o.decay, p, p)
		}
		o.rule.update(at, g, p)
		at, params, grads = at+k, params[k:], grads[k:]
	}
}
