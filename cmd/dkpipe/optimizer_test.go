package main

import (
	"fmt"
	"strings"
	"testing"

	"dkpipe/pipeline/spec"
	"dkpipe/trainers/model"
)

func optimizerOf(t *testing.T, text string) error {
	t.Helper()
	s, err := spec.Read("job.yaml", fmt.Appendf(nil, `
source: {csv: a.csv}
columns: {x: [a], y: [b]}
dataset: {path: d}
model: {layers: [{dense: {units: 1}}]}
train: {trainer: single, loss: mse, optimizer: %s}
output: {path: m}
`, text), spec.Options{})
	if err != nil {
		return err
	}
	_, err = buildOptimizer(s.Train, []model.ParamSpec{{Len: 3}, {Len: 2}})
	return err
}

// Schedules and what all optimizers share are fields of a job, and a wrong one is named with its place.
func TestOptimizersOfAJob(t *testing.T) {
	for _, text := range []string{
		"adamw",
		"{sgd: {learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.001, clipnorm: 1}}",
		"{adam: {learning_rate: {cosine_decay: {initial_learning_rate: 0, decay_steps: 100, warmup_target: 0.01, warmup_steps: 10}}, global_clipnorm: 5}}",
		"{rmsprop: {learning_rate: {polynomial_decay: {initial_learning_rate: 0.1, decay_steps: 100}}, centered: true}}",
		"{adagrad: {learning_rate: {piecewise_constant_decay: {boundaries: [10, 20], values: [0.1, 0.05, 0.01]}}}}",
	} {
		if err := optimizerOf(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string][]string{
		"{sgd: {learning_rate: {cosine_decay: {initial_learning_rate: 1, decay_step: 3}}}}":                   {"job.yaml:6:", "decay_step", "decay_steps"},
		"{sgd: {learning_rate: {cosine_deca: {initial_learning_rate: 1}}}}":                                   {"job.yaml:6:", "cosine_decay"},
		"{sgd: {learning_rate: fast}}":                                                                        {"job.yaml:6:", "learning_rate", "fast"},
		"{sgd: {learning_rate: {exponential_decay: {initial_learning_rate: 1, decay_steps: 3}}}}":             {"job.yaml:6:", "decay_rate"},
		"{sgd: {clipnorm: 1, clipvalue: 1}}":                                                                  {"job.yaml:6:", "clipnorm"},
		"{adam: {learning_rate: {constant: 1, cosine_decay: {initial_learning_rate: 1, decay_steps: 3}}}}":    {"job.yaml:6:", "2 schedules"},
		"{adam: {learning_rate: {polynomial_decay: {initial_learning_rate: 1, decay_steps: 3, power: low}}}}": {"job.yaml:6:", "power", "low"},
	} {
		err := optimizerOf(t, text)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %v does not say %q", text, err, w)
			}
		}
	}
}

// TestTheKernelOfAMachine: DKPIPE_KERNEL takes the place of auto, and of nothing that a job names.
func TestTheKernelOfAMachine(t *testing.T) {
	dir := quickstart(t, "epochs: 20", "epochs: 1", "at_least: 0.9", "at_least: 0")
	for _, c := range []struct {
		machine, job string
		code         int
	}{{"nonesuch", "auto", 2}, {"nonesuch", "gonum", 0}, {"gonum", "auto", 0}, {"gonum", "nonesuch", 2}} {
		p := start(t, dir, []string{"DKPIPE_KERNEL=" + c.machine}, "run", "-f", "job.yaml", "--json", "--set", "train.kernel="+c.job)
		if code := p.wait(t); code != c.code {
			t.Errorf("DKPIPE_KERNEL=%s, train.kernel: %s: exit code %d, want %d\n%s", c.machine, c.job, code, c.code, &p.stdout)
		}
	}
	for _, args := range [][]string{{"predict", "--in", "digits.csv", "--out", "p.csv"}, {"evaluate", "--data", "out/dataset"}} {
		for machine, want := range map[string]int{"nonesuch": 2, "gonum": 0} {
			p := start(t, dir, []string{"DKPIPE_KERNEL=" + machine}, append(args, "--model", "out/model", "--json")...)
			if code := p.wait(t); code != want {
				t.Errorf("DKPIPE_KERNEL=%s dkpipe %s: exit code %d, want %d\n%s", machine, args[0], code, want, &p.stdout)
			}
		}
	}
}
