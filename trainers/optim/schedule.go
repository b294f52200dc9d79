package optim

import (
	"fmt"
	"math"
)

// Rate is a learning rate: a number, or a schedule over the steps of this optimizer. The zero Rate is not valid. In a
// job file it is a number or one schedule by name:
//
//	learning_rate: 0.01
//	learning_rate: {cosine_decay: {initial_learning_rate: 0.01, decay_steps: 1000}}
type Rate struct {
	schedule Schedule
}

// Schedule gives the learning rate by the number of steps that were taken before, from 0. Each worker of a run counts
// its own steps.
type Schedule interface{ At(step float64) float64 }

// Constant is a learning rate that does not change.
func Constant(rate float64) Rate { return Rate{constant(rate)} }

// Scheduled is a learning rate that follows a schedule; it may be one of your own.
func Scheduled(s Schedule) Rate { return Rate{s} }

// At gives the learning rate of the step after this many steps.
func (r Rate) At(step float64) float64 { return r.schedule.At(step) }

// String is for people, and equal for equal rates.
func (r Rate) String() string {
	if c, ok := r.schedule.(constant); ok {
		return fmt.Sprint(float64(c))
	}
	return fmt.Sprintf("%T%+v", r.schedule, r.schedule)
}

// schedules are the names that a job file may use; one must be set.
type schedules struct {
	Exponential  *ExponentialDecay       `yaml:"exponential_decay"`
	Piecewise    *PiecewiseConstantDecay `yaml:"piecewise_constant_decay"`
	InverseTime  *InverseTimeDecay       `yaml:"inverse_time_decay"`
	Polynomial   *PolynomialDecay        `yaml:"polynomial_decay"`
	Cosine       *CosineDecay            `yaml:"cosine_decay"`
	ConstantRate *float64                `yaml:"constant"`
}

// UnmarshalYAML takes a number or a schedule.
func (r *Rate) UnmarshalYAML(decode func(any) error) error {
	var number float64
	if decode(&number) == nil {
		*r = Constant(number)
		return nil
	}
	var s schedules
	if err := decode(&s); err != nil {
		return err
	}
	var set []Schedule
	if s.Exponential != nil {
		set = append(set, *s.Exponential)
	}
	if s.Piecewise != nil {
		set = append(set, *s.Piecewise)
	}
	if s.InverseTime != nil {
		set = append(set, *s.InverseTime)
	}
	if s.Polynomial != nil {
		set = append(set, *s.Polynomial)
	}
	if s.Cosine != nil {
		set = append(set, *s.Cosine)
	}
	if s.ConstantRate != nil {
		set = append(set, constant(*s.ConstantRate))
	}
	if len(set) != 1 {
		return &Error{Message: fmt.Sprintf("learning_rate has %d schedules, must have one", len(set)),
			Hint: "use one of constant, exponential_decay, piecewise_constant_decay, inverse_time_decay, polynomial_decay, cosine_decay"}
	}
	r.schedule = set[0]
	return nil
}

func (r Rate) check() error {
	if r.schedule == nil {
		return &Error{Message: "there is no learning_rate"}
	}
	c, ok := r.schedule.(interface{ check() error })
	if !ok {
		return nil
	}
	err := c.check()
	if e, ok := err.(*Error); ok {
		return &Error{Message: "learning_rate: " + e.Message, Hint: e.Hint}
	}
	return err
}

type constant float64

func (c constant) At(float64) float64 { return float64(c) }

func (c constant) check() error { return checkBounds(positive("it", float64(c))) }

// ExponentialDecay is initial_learning_rate * decay_rate^(step / decay_steps).
type ExponentialDecay struct {
	Initial    float64 `yaml:"initial_learning_rate"` // > 0
	DecaySteps float64 `yaml:"decay_steps"`           // > 0
	DecayRate  float64 `yaml:"decay_rate"`            // > 0
	Staircase  bool    `yaml:"staircase"`             // the exponent is rounded down; default false
}

// At implements Schedule.
func (s ExponentialDecay) At(step float64) float64 {
	return s.Initial * math.Pow(s.DecayRate, stairs(step/s.DecaySteps, s.Staircase))
}

func (s ExponentialDecay) check() error {
	return checkBounds(positive("initial_learning_rate", s.Initial), positive("decay_steps", s.DecaySteps), positive("decay_rate", s.DecayRate))
}

func stairs(x float64, down bool) float64 {
	if down {
		return math.Floor(x)
	}
	return x
}

// InverseTimeDecay is initial_learning_rate / (1 + decay_rate * step / decay_steps).
type InverseTimeDecay struct {
	Initial    float64 `yaml:"initial_learning_rate"` // > 0
	DecaySteps float64 `yaml:"decay_steps"`           // > 0
	DecayRate  float64 `yaml:"decay_rate"`            // > 0
	Staircase  bool    `yaml:"staircase"`             // step / decay_steps is rounded down; default false
}

// At implements Schedule.
func (s InverseTimeDecay) At(step float64) float64 {
	return s.Initial / (1 + s.DecayRate*stairs(step/s.DecaySteps, s.Staircase))
}

func (s InverseTimeDecay) check() error {
	return checkBounds(positive("initial_learning_rate", s.Initial), positive("decay_steps", s.DecaySteps), positive("decay_rate", s.DecayRate))
}

// PiecewiseConstantDecay is values[0] up to and including step boundaries[0], then values[1] up to boundaries[1] and so
// on; the last value is for all steps after the last boundary.
type PiecewiseConstantDecay struct {
	Boundaries []float64 `yaml:"boundaries"` // rising; at least one
	Values     []float64 `yaml:"values"`     // one more than boundaries, each at least 0
}

// At implements Schedule.
func (s PiecewiseConstantDecay) At(step float64) float64 {
	for i, b := range s.Boundaries {
		if step <= b {
			return s.Values[i]
		}
	}
	return s.Values[len(s.Boundaries)]
}

func (s PiecewiseConstantDecay) check() error {
	if len(s.Boundaries) == 0 || len(s.Values) != len(s.Boundaries)+1 {
		return &Error{Message: fmt.Sprintf("%d boundaries and %d values, there must be one value more than boundaries", len(s.Boundaries), len(s.Values))}
	}
	for i, b := range s.Boundaries {
		if i > 0 && !(b > s.Boundaries[i-1]) {
			return &Error{Message: fmt.Sprintf("boundaries: %g after %g, must rise", b, s.Boundaries[i-1])}
		}
	}
	for i, v := range s.Values {
		if err := checkBounds(atLeastZero(fmt.Sprintf("values[%d]", i), v)); err != nil {
			return err
		}
	}
	return nil
}

// PolynomialDecay goes from initial_learning_rate to end_learning_rate in decay_steps steps:
// (initial - end) * (1 - step / decay_steps)^power + end, and stays there. With cycle it starts again from a lower
// rate: decay_steps grows to the next multiple that is at least step.
type PolynomialDecay struct {
	Initial    float64 `yaml:"initial_learning_rate"` // > 0
	DecaySteps float64 `yaml:"decay_steps"`           // > 0
	End        float64 `yaml:"end_learning_rate"`     // default 0.0001
	Power      float64 `yaml:"power"`                 // > 0; default 1
	Cycle      bool    `yaml:"cycle"`                 // default false
}

// UnmarshalYAML decodes over the defaults.
func (s *PolynomialDecay) UnmarshalYAML(decode func(any) error) error {
	type fields PolynomialDecay
	f := fields{End: 0.0001, Power: 1}
	err := decode(&f)
	*s = PolynomialDecay(f)
	return err
}

// At implements Schedule.
func (s PolynomialDecay) At(step float64) float64 {
	span := s.DecaySteps
	if !s.Cycle {
		step = min(step, span)
	} else if step > 0 {
		span *= math.Ceil(step / span)
	}
	return (s.Initial-s.End)*math.Pow(1-step/span, s.Power) + s.End
}

func (s PolynomialDecay) check() error {
	return checkBounds(positive("initial_learning_rate", s.Initial), positive("decay_steps", s.DecaySteps),
		atLeastZero("end_learning_rate", s.End), positive("power", s.Power))
}

// CosineDecay goes from initial_learning_rate down to alpha times that in decay_steps steps, along half a cosine
// (Loshchilov and Hutter 2017, eq. 5, without restarts), and stays there. With warmup_target the rate first rises from
// initial_learning_rate to warmup_target in warmup_steps steps (Goyal et al. 2017, 2.2), and the decay is from there.
type CosineDecay struct {
	Initial      float64  `yaml:"initial_learning_rate"` // > 0; may be 0 with warmup_target
	DecaySteps   float64  `yaml:"decay_steps"`           // > 0; without the warm-up
	Alpha        float64  `yaml:"alpha"`                 // 0 to 1; default 0
	WarmupTarget *float64 `yaml:"warmup_target"`         // > 0; nil: no warm-up
	WarmupSteps  float64  `yaml:"warmup_steps"`          // >= 0; default 0
}

// At implements Schedule.
func (s CosineDecay) At(step float64) float64 {
	top := s.Initial
	if s.WarmupTarget != nil {
		top = *s.WarmupTarget
		if step < s.WarmupSteps {
			return s.Initial + (top-s.Initial)*step/s.WarmupSteps
		}
		step -= s.WarmupSteps
	}
	cosine := 0.5 * (1 + math.Cos(math.Pi*min(step/s.DecaySteps, 1)))
	return top * ((1-s.Alpha)*cosine + s.Alpha)
}

func (s CosineDecay) check() error {
	first := positive("initial_learning_rate", s.Initial)
	if s.WarmupTarget != nil {
		if err := checkBounds(positive("warmup_target", *s.WarmupTarget)); err != nil {
			return err
		}
		first = atLeastZero("initial_learning_rate", s.Initial)
	}
	if s.WarmupTarget == nil && s.WarmupSteps != 0 {
		return &Error{Message: "warmup_steps needs warmup_target", Hint: "set warmup_target to the rate after the warm-up"}
	}
	return checkBounds(first, positive("decay_steps", s.DecaySteps), atLeastZero("warmup_steps", s.WarmupSteps),
		bound{"alpha", s.Alpha, s.Alpha >= 0 && s.Alpha <= 1, "from 0 to 1"})
}
