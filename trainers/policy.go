package trainers

import (
	"fmt"
	"math"

	"dkpipe/pipeline"
	"dkpipe/ps"
)

// Policy is what every algorithm may ask of the engine. An algorithm that embeds it takes these fields in the trainer's
// item of a job file beside its own; the zero value asks for nothing. With a quorum, windows in seconds or dynamic windows
// quick workers also take over data of slow ones, and who does what depends on time: such a run repeats itself bit for bit
// only by its order log (Replay), in rounds as well.
type Policy struct {
	// Every is how long a window is, in the place of train.window: a number of steps, or {steps: 10}, or {seconds: 0.5}.
	// With equal seconds a slow worker does fewer steps a window and holds nobody up.
	Every Span `yaml:"window"`
	// Quorum closes a round when that many workers have committed (K of N: Chen et al. 2016, arXiv 1604.00981). Who is late
	// is part of a later round, with a staleness. 0 waits for all. For algorithms in rounds.
	Quorum int `yaml:"quorum" spec:"min=0"`
	// Bound lets no worker get more than that many commits ahead of the slowest (stale synchronous parallel: Ho et al., NIPS
	// 2013). 0 does not bound. For asynchronous algorithms.
	Bound int `yaml:"staleness_bound" spec:"min=0"`
	// Drop leaves out commits that met that many others or more (Ringmaster ASGD: Maranjyan et al. 2025, arXiv 2501.16168).
	// Their samples are spent. 0 keeps all.
	Drop int `yaml:"staleness_drop" spec:"min=0"`
	// Power scales a commit by (1 + staleness)^-Power (staleness-aware ASGD: Zhang et al. 2016, arXiv 1511.05950). 0 does not.
	Power float64 `yaml:"staleness_power" spec:"min=0"`
	// WarmUp is the share of the run's samples that one worker does before the others start (Dean et al. 2012, section 4.1:
	// "warmstarting"). 0.01 to 0.05 are usual; 0 starts all at once.
	WarmUp float64 `yaml:"warm_up" spec:"min=0,max=0.9"`
	// Dynamic gives slower workers shorter windows, in proportion to their measured speed (dynamic local updates: Liu et al.
	// 2024, arXiv 2401.09135). The fastest has the window that is set.
	Dynamic bool `yaml:"dynamic_window"`
	// Overlap lets a worker go on with its next window while the commit of the last one is on its way. What others learned
	// reaches it one window later.
	Overlap bool `yaml:"overlap"`
}

// Settings gives the policy; embedding makes it a method of the algorithm.
func (p Policy) Settings() Policy { return p }

// Configured is an extra power of an Algorithm that asks something of the engine: those that embed a Policy have it.
type Configured interface{ Settings() Policy }

// policyOf gives an algorithm's policy, or the zero one.
func policyOf(a Algorithm) Policy {
	if c, ok := a.(Configured); ok {
		return c.Settings()
	}
	return Policy{}
}

// Span is the length of a window: in local steps or in seconds. The zero value leaves it to others.
type Span struct {
	Steps   int
	Seconds float64
}

// UnmarshalYAML takes a number of steps, or one of steps and seconds by name.
func (s *Span) UnmarshalYAML(decode func(any) error) error {
	var steps int
	if decode(&steps) == nil {
		*s = Span{Steps: steps}
	} else {
		var named struct {
			Steps   *int     `yaml:"steps"`
			Seconds *float64 `yaml:"seconds"`
		}
		if err := decode(&named); err != nil {
			return err
		}
		if (named.Steps == nil) == (named.Seconds == nil) {
			return fmt.Errorf("want a number of steps, {steps: N} or {seconds: S}")
		}
		*s = Span{}
		if named.Steps != nil {
			s.Steps = *named.Steps
		} else {
			s.Seconds = *named.Seconds
		}
	}
	if s.Steps < 0 || s.Steps > 1e6 || !(s.Seconds >= 0) || s.Seconds > 1e6 || s.Steps == 0 && s.Seconds == 0 {
		return fmt.Errorf("a window has 1 to 1000000 steps, or more than 0 and at most 1000000 seconds")
	}
	return nil
}

// check refuses what an algorithm cannot give. Errors are of kind spec.
func (p Policy) check(a Algorithm, workers, window int) error {
	name := a.Name()
	bad := func(hint, format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer %s: ", name) + fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case p.Quorum < 0 || p.Bound < 0 || p.Drop < 0 || !(p.Power >= 0) || math.IsInf(p.Power, 1) || !(p.WarmUp >= 0) || p.WarmUp > 0.9:
		return bad("leave them out, or set them to 0 or more (warm_up at most 0.9)", "quorum %d, staleness_bound %d, staleness_drop %d, staleness_power %g or warm_up %g is out of range",
			p.Quorum, p.Bound, p.Drop, p.Power, p.WarmUp)
	case window > 0 && p.Every != Span{}:
		return bad("keep one", "the window is set twice, as train.window (%d) and in the trainer", window)
	case p.Every.Steps < 0 || !(p.Every.Seconds >= 0) || p.Every.Steps > 0 && p.Every.Seconds > 0:
		return bad("set one of steps and seconds", "window has %d steps and %g seconds", p.Every.Steps, p.Every.Seconds)
	case p.Dynamic && p.Every.Seconds > 0:
		return bad("keep one: equal seconds give slower workers fewer steps as well", "dynamic_window and a window in seconds do not go together")
	case p.Dynamic && windowOf(a, workers, window) == 0:
		return bad("leave dynamic_window out", "it has no windows that could be longer or shorter")
	case p.Quorum > 0 && a.Mode() != ps.Rounds:
		return bad("leave quorum out, or take a trainer that works in rounds, such as local_sgd", "it works without rounds, there is nothing that a quorum closes")
	case p.Quorum > workers:
		return bad(fmt.Sprintf("set it to %d or less", workers), "a quorum of %d of %d workers cannot be reached", p.Quorum, workers)
	case p.Bound > 0 && a.Mode() == ps.Rounds:
		return bad("leave staleness_bound out", "it works in rounds, nobody gets ahead in them")
	case !adds(a) && (p.Quorum > 0 || p.Drop > 0 || p.Power > 0):
		return bad("leave quorum, staleness_drop and staleness_power out", "its workers commit parameters, not changes: there is nothing to scale, to leave out or to put into a later round")
	case p.Overlap:
		return p.checkOverlap(a, bad)
	}
	return nil
}

// checkOverlap says which algorithms would become other ones if their workers went on during an exchange.
func (p Policy) checkOverlap(a Algorithm, bad func(hint, format string, args ...any) error) error {
	based, _ := a.Rule(1).(ps.BaseRule)
	switch {
	case a.Mode() == ps.Rounds:
		return bad("leave overlap out, or take an asynchronous trainer such as agn", "overlap would change it: the mean of a round is where every worker goes on from")
	case !adds(a):
		return bad("leave overlap out, or take a trainer whose commits are added, such as agn", "overlap would change it: its exchange acts on the worker's parameters at that moment")
	case based != nil && based.UsesBase():
		return bad("leave overlap out, or take agn", "overlap would change it: its scale is measured from the centre that the window started from")
	}
	return nil
}

// adds says whether an algorithm's commits are changes that are added to the centre.
func adds(a Algorithm) bool {
	_, ok := a.Local(1, nil).(Adder)
	return ok
}

// lint warns of settings that are allowed and of no good.
func (p Policy) lint(a Algorithm, workers int) []string {
	var out []string
	if p.Drop > 0 && p.Drop < workers && a.Mode() == ps.Async {
		out = append(out, fmt.Sprintf("%s with %d workers of equal speed: a commit meets %d others, so staleness_drop %d leaves out nearly all; set it to %d or more",
			a.Name(), workers, workers-1, p.Drop, 2*workers))
	}
	if p.WarmUp > 0 && workers == 1 {
		out = append(out, "warm_up has no meaning with one worker")
	}
	return out
}

// limit is the greatest gain of a commit that the delay law allows under a policy.
func (p Policy) limit(workers int) float64 {
	turns := workers
	if p.Overlap {
		turns = 2 * workers // a delta is one window older when it arrives
	}
	damped := math.Pow(float64(turns), -p.Power) // equal workers: a commit meets turns-1 others
	if p.Drop > 0 {
		turns = max(1, min(turns, p.Drop))
	}
	return CriticalGain(turns) / damped
}

// server gives the options of a parameter server.
func (p Policy) server(a Algorithm, workers, window int, samples int64) ps.Options {
	o := ps.Options{Mode: a.Mode(), Workers: workers, Quorum: p.Quorum, Bound: p.Bound,
		Staleness: ps.Staleness{Power: p.Power, Drop: uint64(p.Drop)}}
	if workers > 1 {
		o.WarmUp = int64(math.Ceil(p.WarmUp * float64(samples)))
	}
	if p.Dynamic {
		o.Window = window
	}
	// These are for workers of unequal speed, who should not have equal parts of the data either.
	o.Sharing = p.Quorum > 0 || p.Dynamic || p.Every.Seconds > 0
	return o
}
