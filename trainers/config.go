package trainers

import (
	"fmt"
	"time"

	"dkpipe/pipeline"
)

// check refuses a run that cannot work. Errors are of kind spec and name the field of the job file.
func (cfg Config) check() error {
	bad := func(hint, format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case cfg.Algorithm == nil:
		return bad("make one with New", "no trainer is given")
	case cfg.Workers < 1:
		return bad("set train.workers to 1 or more", "train.workers is %d", cfg.Workers)
	case cfg.Epochs < 1:
		return bad("set train.epochs to 1 or more", "train.epochs is %d", cfg.Epochs)
	case cfg.Window < 0:
		return bad(fmt.Sprintf("set train.window to 1 or more, or leave it out for the default of %s (%d)",
			cfg.Algorithm.Name(), cfg.Algorithm.Window(cfg.Workers)), "train.window is %d", cfg.Window)
	case cfg.MinWorkers < 0 || cfg.MinWorkers > cfg.Workers:
		return bad("a run cannot wait for workers that it does not start", "at least %d workers are to stay of %d", cfg.MinWorkers, cfg.Workers)
	case cfg.MaxRejects < 0:
		return bad("leave it 0 for the default", "%d rejected commits are to be borne", cfg.MaxRejects)
	case cfg.Feed == nil || cfg.Replica == nil:
		return bad("", "a run needs a feed and a replica")
	case cfg.Launch == nil && cfg.Optimizer == nil:
		return bad("", "workers in this process need an optimizer")
	case cfg.Servers != nil && cfg.Launch == nil:
		return bad("start workers elsewhere", "workers in this process do not exchange with data servers")
	}
	if _, ok := cfg.Algorithm.(Ensemble); ok {
		return bad("train it with TrainEnsemble", "an ensemble is more than one run")
	}
	if err := policyOf(cfg.Algorithm).check(cfg.Algorithm, cfg.Workers, cfg.Window); err != nil {
		return err
	}
	if c, ok := cfg.Algorithm.(Checker); ok {
		_, err := c.Check(cfg.Workers, cfg.window())
		return err
	}
	return nil
}

// window is the window that the workers will have, in steps; 0 when it is not counted in steps.
func (cfg Config) window() int {
	if policyOf(cfg.Algorithm).Every.Seconds > 0 {
		return 0
	}
	return windowOf(cfg.Algorithm, cfg.Workers, cfg.Window)
}

// windowOf is the window in steps: the one that is configured, the policy's, or the algorithm's own.
func windowOf(a Algorithm, workers, configured int) int {
	if configured > 0 {
		return configured
	}
	if steps := policyOf(a).Every.Steps; steps > 0 {
		return steps
	}
	return a.Window(workers)
}

// grace is the time that the end of an interrupted run may take.
func (cfg Config) grace() time.Duration {
	if cfg.Grace > 0 {
		return cfg.Grace
	}
	return defaultGrace
}

// Lint gives warnings about settings that are allowed and likely to go wrong, for the log before a run: first of all,
// windows on the wrong side of the delay law (CriticalGain).
func Lint(cfg Config) []string {
	if cfg.Algorithm == nil || cfg.Workers < 1 {
		return nil
	}
	warnings := policyOf(cfg.Algorithm).lint(cfg.Algorithm, cfg.Workers)
	if c, ok := cfg.Algorithm.(Checker); ok {
		more, _ := c.Check(cfg.Workers, cfg.window()) // an error is Train's to report
		warnings = append(warnings, more...)
	}
	return warnings
}
