package optim

import (
	"fmt"
	"strings"

	"dkpipe/trainers/kernel"
)

// Optimizer is a local update rule over flat vectors. It keeps its state between calls and belongs to one goroutine.
type Optimizer interface {
	// Apply moves params by one step down grads. Both have the length the optimizer was made for. It does not
	// allocate and does not change grads.
	Apply(params, grads []float32)
	// Slots gives the live state vectors, for checkpoints: copying saved values back into a new optimizer of the same
	// settings continues the run exactly. The first holds the number of steps taken, the others momenta and the like.
	// The order and the lengths depend only on the settings and on the length of the parameter vector.
	Slots() [][]float32
}

// settings are the fields of one algorithm, such as *Adam: what a job file names.
type settings interface {
	shared() *Common
	check() error
	// rule makes the algorithm's state for n parameters.
	rule(n int) rule
}

// rule is the arithmetic of one algorithm, with its state.
type rule interface {
	// begin starts step number step, counted from 1, with its learning rate.
	begin(rate, step float64)
	// update moves p, which are the parameters at, at+1, … of the flat vector, down g. Every parameter gets one update
	// a step.
	update(at int, g, p []float32)
	slots() [][]float32
}

// A maker gives an algorithm with its defaults.
type maker struct {
	name     string
	defaults func() settings
}

func makers() []maker {
	return []maker{
		{"adadelta", func() settings { return newAdadelta() }},
		{"adagrad", func() settings { return newAdagrad() }},
		{"adam", func() settings { return newAdam() }},
		{"adamw", func() settings { return newAdamW() }},
		{"nadam", func() settings { return newNadam() }},
		{"rmsprop", func() settings { return newRMSprop() }},
		{"sgd", func() settings { return newSGD() }},
	}
}

// Names lists the optimizers in alphabetical order.
func Names() []string {
	var names []string
	for _, m := range makers() {
		names = append(names, m.name)
	}
	return names
}

// New makes the named optimizer for a flat vector that holds tensors of these lengths one after the other. One length,
// that of the whole vector, is enough where clipnorm, which works tensor by tensor, is not used.
//
// decode fills a pointer to the algorithm's struct, such as *Adam, which has yaml tags and already holds the defaults,
// and leaves fields alone that the user did not name; nil means all defaults. Errors of decode are passed on as they
// are; others are of type *Error.
func New(name string, decode func(any) error, tensors ...int) (Optimizer, error) {
	for _, m := range makers() {
		if m.name == name {
			return m.make(decode, tensors)
		}
	}
	e := &Error{Message: fmt.Sprintf("there is no optimizer %q", name), Hint: "use one of " + strings.Join(Names(), ", ")}
	if near := Nearest(name, Names()); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q? The optimizers are %s", near, strings.Join(Names(), ", "))
	}
	return nil, e
}

// WithKernel gives a decode for New that also says which kernels do the arithmetic; without it they are the fastest of
// this machine. decode may be nil.
func WithKernel(k kernel.Set, decode func(any) error) func(any) error {
	return func(into any) error {
		if s, ok := into.(settings); ok {
			s.shared().kernel = k
		}
		if decode == nil {
			return nil
		}
		return decode(into)
	}
}

func (m maker) make(decode func(any) error, tensors []int) (Optimizer, error) {
	s := m.defaults()
	if decode != nil {
		if err := decode(s); err != nil {
			return nil, err
		}
	}
	err := s.shared().check()
	if err == nil {
		err = s.check()
	}
	if e, ok := err.(*Error); ok {
		return nil, &Error{Message: "optimizer " + m.name + ": " + e.Message, Hint: e.Hint}
	}
	if s.shared().kernel == nil {
		if s.shared().kernel, err = kernel.Select("auto"); err != nil {
			return nil, err
		}
	}
	n := 0
	for _, t := range tensors {
		n += t
	}
	o := &optimizer{Common: *s.shared(), rule: s.rule(n), count: make(counter, 2), tensors: []int{n}, scale: 1}
	if o.ClipNorm > 0 {
		o.tensors = append([]int(nil), tensors...)
	}
	if o.clips() {
		o.clipped = make([]float32, blockSize)
	}
	return o, nil
}

// optimizer does around a rule what all algorithms share.
type optimizer struct {
	Common
	rule    rule
	count   counter
	tensors []int     // lengths of what is clipped together; one for the whole vector unless clipnorm is set
	clipped []float32 // a block of the gradient after clipping; nil without clipping
	scale   float64   // of the learning rate
	decay   float32   // of this step
}

var _ Piecewise = (*optimizer)(nil)

// blockSize is how many parameters go through clipping, decay and the rule at a time: few enough that they and the
// rule's state stay in the first-level cache in between.
const blockSize = 1024

func (o *optimizer) Apply(params, grads []float32) {
	o.Begin()
	at := 0
	for _, n := range o.tensors { // what is clipped together
		o.Update(at, params[at:at+n], grads[at:at+n])
		at += n
	}
}

// Scale multiplies learning rates by a factor from the next step on, in the place of the factor before; it begins as 1.
func (o *optimizer) Scale(factor float64) { o.scale = factor }

// ConstantRate gives the learning rate that was set, and whether it is a number and not a schedule.
func (o *optimizer) ConstantRate() (float64, bool) {
	c, ok := o.LearningRate.schedule.(constant)
	return float64(c), ok
}

func (o *optimizer) Slots() [][]float32 {
	return append([][]float32{o.count}, o.rule.slots()...)
}

// counter counts steps in float32, so that it is saved with the other slots: c[0] + 2^24 * c[1] is exact for longer
// than any run takes.
type counter []float32

const counterBase = 1 << 24

func (c counter) value() float64 { return float64(c[0]) + counterBase*float64(c[1]) }

func (c counter) add() {
	if c[0]++; c[0] == counterBase {
		c[0] = 0
		c[1]++
	}
}
