package trainers

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// Plateau makes the learning rate smaller when training does not get better any more. Its fields mean what those of Keras's
// ReduceLROnPlateau do. The coordinator decides, and every worker is told with the answer to its next call. With one
// worker, and in rounds, no worker begins an epoch before the decision about the one before: a run is then as it would be
// in one loop, and repeats itself bit for bit. Other workers go on while an epoch is measured, and wait when they are one
// measurement ahead: who trains faster than can be measured would otherwise be told too late.
type Plateau struct {
	Monitor  string  // as EarlyStopping.Monitor; default val_loss
	Mode     string  // auto, min or max: which is better; default auto
	Factor   float64 // new rate = old rate times it; above 0, below 1
	Patience int     // measurements without an improvement until the rate is reduced; 1 or more
	MinDelta float64 // what is less than that much better is no improvement
	Cooldown int     // measurements after a reduction that are not counted
	MinRate  float64 // the rate does not go below it
	Initial  float64 // the optimizer's learning rate, which must be a number and no schedule
}

// PlateauState is how far a Plateau has come: part of Past.
type PlateauState struct {
	Best     *float64 `json:"best,omitempty"` // nil: nothing was measured
	Wait     int      `json:"wait,omitempty"`
	Cooldown int      `json:"cooldown,omitempty"`
	Rate     float64  `json:"rate"`
}

// Scaler is an extra power of an optimizer whose learning rate can be changed while it is used, as Plateau does.
type Scaler interface {
	// Scale multiplies learning rates by a factor from the next step on, in the place of the factor before.
	Scale(factor float64)
}

// scaleOf is the factor that ps.Steering.Rate means.
func scaleOf(rate float64) float64 {
	if rate == 0 {
		return 1
	}
	return rate
}

// pace takes over what learning rates are to be multiplied by.
func (w *worker) pace(rate float64) error {
	if scaleOf(rate) == scaleOf(w.rate) {
		return nil
	}
	s, ok := w.cfg.Optimizer.(Scaler)
	if !ok {
		return &pipeline.Error{Kind: pipeline.Unsupported, Message: fmt.Sprintf("the learning rate of a %T cannot be changed while it is used", w.cfg.Optimizer),
			Hint: "train without reduce_on_plateau, or give the optimizer a method Scale"}
	}
	s.Scale(scaleOf(rate))
	w.rate = rate
	return nil
}

func (p *Plateau) check(metrics []string) error {
	if err := checkMonitor("reduce_on_plateau.monitor", p.watched().monitor(), metrics); err != nil {
		return err
	}
	switch {
	case !(p.Factor > 0 && p.Factor < 1):
		return badWatch("reduce_on_plateau.factor", "set it above 0 and below 1, such as 0.1", "is %g", p.Factor)
	case p.Patience < 1 || p.Cooldown < 0 || !(p.MinDelta >= 0) || !(p.MinRate >= 0):
		return badWatch("reduce_on_plateau", "give a patience of 1 or more, and a cooldown, min_delta and min_lr of 0 or more",
			"has patience %d, cooldown %d, min_delta %g and min_lr %g", p.Patience, p.Cooldown, p.MinDelta, p.MinRate)
	case !(p.Initial > 0) || math.IsInf(p.Initial, 1):
		return badWatch("reduce_on_plateau", "set the optimizer's learning_rate to a number: a schedule and reduce_on_plateau do not go together",
			"starts from the learning rate %g", p.Initial)
	}
	return nil
}

// watched is the part that is as in EarlyStopping.
func (p *Plateau) watched() *EarlyStopping {
	return &EarlyStopping{Monitor: p.Monitor, Mode: p.Mode, MinDelta: p.MinDelta}
}

// next takes in a measurement. It says whether the rate was reduced.
func (s *PlateauState) next(p *Plateau, value float64) (reduced bool) {
	e := p.watched()
	best := e.worst()
	if s.Best != nil {
		best = *s.Best
	}
	if s.Cooldown > 0 {
		s.Cooldown--
		s.Wait = 0
	}
	switch {
	case e.better(value, best):
		s.Best, s.Wait = &value, 0
	case s.Cooldown > 0:
	default:
		if s.Wait++; s.Wait >= p.Patience && s.Rate > p.MinRate {
			s.Rate = max(s.Rate*p.Factor, p.MinRate)
			s.Wait, s.Cooldown = 0, p.Cooldown
			return true
		}
	}
	return false
}

// Paced is an extra power of an Observer that wants to know of changes of the learning rate. It is called like its other
// methods.
type Paced interface {
	// Paced is called when the learning rate was reduced after an epoch; text says why, for people.
	Paced(epoch int, rate float64, text string)
}

// plateau is what an overseer knows of one.
type plateau struct {
	*Plateau
	state PlateauState
	ahead int // measurements that workers may be ahead of the decision: 0 or 1
	every int // epochs between two measurements
}

// newPlateau begins one, or goes on; nil without.
func newPlateau(cfg Config) *plateau {
	if cfg.Validation == nil || cfg.Validation.Plateau == nil {
		return nil
	}
	p := &plateau{Plateau: cfg.Validation.Plateau, every: max(1, cfg.Validation.Every), ahead: 1}
	if cfg.Workers == 1 || cfg.Algorithm.Mode() == ps.Rounds {
		p.ahead = 0
	}
	p.state.Rate = p.Initial
	if past := cfg.Past; past != nil && past.Plateau != nil {
		p.state = *past.Plateau
	}
	return p
}

// steering is what workers are told when so many epochs are complete and decided about.
func (p *plateau) steering(epochs int) ps.Steering {
	return ps.Steering{Rate: p.state.Rate / p.Initial, Epochs: epochs - epochs%p.every + (1+p.ahead)*p.every}
}

// steering is what workers are told at the start of a run, if anything.
func (o *overseer) steering(cfg Config) (ps.Steering, bool) {
	if o == nil || o.plateau == nil {
		return ps.Steering{}, false
	}
	epochs := 0
	if cfg.From != nil {
		epochs = cfg.From.Epoch
	}
	if len(o.pending) > 0 { // nothing was decided about it when the checkpoint was taken
		epochs = min(epochs, o.pending[0].epoch.Epoch-1)
	}
	return o.plateau.steering(epochs), true
}

// reduce asks the plateau rule about a measured epoch, with the lock held, and gives what tells the workers without it, or nil.
func (o *overseer) reduce(e Epoch) (tell func()) {
	p := o.plateau
	if p == nil {
		return nil
	}
	before, value := p.state.Rate, e.value(p.watched().monitor())
	reduced := p.state.next(p.Plateau, value)
	told := p.steering(e.Epoch)
	rate := p.state.Rate
	return func() {
		if reduced {
			o.watch.paced(e.Epoch, rate, fmt.Sprintf("%s got no better in %d measurements up to epoch %d: learning rate %.4g -> %.4g",
				p.watched().monitor(), p.Patience, e.Epoch, before, rate))
		}
		o.srv.Steer(told)
	}
}

// rate is the learning rate at this moment, 0 when nobody watches it.
func (o *overseer) rate() float64 {
	if o == nil || o.plateau == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.plateau.state.Rate
}
