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
	}
	if c, ok := cfg.Algorithm.(Checker); ok {
		_, err := c.Check(cfg.Workers, cfg.window())
		return err
	}
	return nil
}

// window is the window that the workers will have.
func (cfg Config) window() int {
	if cfg.Window > 0 {
		return cfg.Window
	}
	return cfg.Algorithm.Window(cfg.Workers)
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
	if c, ok := cfg.Algorithm.(Checker); ok && cfg.Workers > 0 {
		warnings, _ := c.Check(cfg.Workers, cfg.window()) // an error is Train's to report
		return warnings
	}
	return nil
}
