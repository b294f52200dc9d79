package trainers_test

import (
	"reflect"
	"strings"
	"testing"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
	"dkpipe/trainers/trainertest"
)

func TestPoliciesAreFieldsOfEveryTrainer(t *testing.T) {
	text := "{window: {seconds: 0.5}, quorum: 2, staleness_bound: 3, staleness_drop: 9, staleness_power: 0.5, warm_up: 0.02, dynamic_window: true, overlap: true}"
	want := trainers.Policy{Every: trainers.Span{Seconds: 0.5}, Quorum: 2, Bound: 3, Drop: 9, Power: 0.5, WarmUp: 0.02, Dynamic: true, Overlap: true}
	for _, name := range trainers.Names() {
		c, ok := algorithm(t, name, text).(trainers.Configured)
		if !ok || !reflect.DeepEqual(c.Settings(), want) {
			t.Errorf("%s has the policy %+v", name, c)
		}
		if _, err := trainers.New(name, fields("windw: 3")); err == nil {
			t.Errorf("%s takes a field that it has not", name)
		}
	}
}

func TestAWindowIsGivenInStepsOrInSeconds(t *testing.T) {
	for text, want := range map[string]trainers.Span{
		"12": {Steps: 12}, "{steps: 10}": {Steps: 10}, "{seconds: 0.25}": {Seconds: 0.25}, "{seconds: 2}": {Seconds: 2},
	} {
		if got := algorithm(t, "agn", "window: "+text).(trainers.AGN).Every; got != want {
			t.Errorf("window: %s is %+v", text, got)
		}
	}
	for _, text := range []string{"0", "-1", "{}", "{steps: 3, seconds: 1}", "{seconds: 0}", "{seconds: -1}", "{seconds: .nan}", "fast", "{minutes: 1}", "[1]", "2000000"} {
		if a, err := trainers.New("agn", fields("window: "+text)); err == nil {
			t.Errorf("window: %s is %+v", text, a)
		}
	}
}

func TestPoliciesThatATrainerCannotKeepAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		workers      int
		window       int
		message      string
	}{
		{"agn", "quorum: 2", 3, 0, "without rounds"},
		{"local_sgd", "quorum: 4", 3, 0, "quorum of 4 of 3"},
		{"averaging", "quorum: 2", 3, 0, "commit parameters"},
		{"aeasgd", "staleness_power: 1", 3, 0, "commit parameters"},
		{"single", "staleness_drop: 3", 1, 0, "commit parameters"},
		{"local_sgd", "staleness_bound: 2", 3, 0, "nobody gets ahead"},
		{"agn", "window: 3", 3, 5, "set twice"},
		{"agn", "{window: {seconds: 1}}", 3, 5, "set twice"},
		{"agn", "{window: {seconds: 1}, dynamic_window: true}", 3, 0, "do not go together"},
		{"averaging", "dynamic_window: true", 3, 0, "no windows"},
		{"agn", "staleness_power: .inf", 3, 0, "out of range"},
		{"agn", "warm_up: 1", 3, 0, "out of range"},
		{"distance_adag", "gamma: -1", 3, 0, "gamma"},
		{"downpour", "adagrad: {gamma: -1}", 3, 0, "gamma"},
		{"aeasgd", "{alpha: 0.1, rho: 5}", 3, 0, "both set"},
		{"aeasgd", "rho: 20", 3, 0, "between 0 and 1"},
		{"aeasgd", "learning_rate: 0.1", 3, 0, "rho"},
		{"eamsgd", "momentum: 1", 3, 0, "momentum"},
		{"diloco", "learning_rate: 0", 3, 0, "learning_rate"},
		{"async_local", "momentum: -0.5", 3, 0, "momentum"},
	} {
		cfg, _ := runConfig(algorithm(t, c.name, c.fields), c.workers)
		cfg.Window = c.window
		_, err := trainers.Train(t.Context(), cfg)
		if err == nil {
			t.Errorf("%s {%s}: no error", c.name, c.fields)
			continue
		}
		wantKind(t, err, pipeline.BadSpec)
		var h interface{ ErrorHint() string }
		if !strings.Contains(err.Error(), "trainer "+c.name) || !strings.Contains(err.Error(), c.message) || !asHint(err, &h) || h.ErrorHint() == "" {
			t.Errorf("%s {%s}: %v", c.name, c.fields, err)
		}
	}
}

func asHint(err error, h *interface{ ErrorHint() string }) bool {
	e, ok := err.(interface{ ErrorHint() string })
	*h = e
	return ok
}

// TestPoliciesPassTheSuite runs whole trainings under each policy: convergence, all samples, faults, resume.
func TestPoliciesPassTheSuite(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		trainertest.Case
	}{
		{"agn", "staleness_bound: 1", trainertest.Case{Window: 3, Rate: 0.2}},
		{"downpour", "staleness_power: 1", trainertest.Case{Window: 3, Rate: 0.1}},
		{"agn", "warm_up: 0.05", trainertest.Case{Window: 3, Rate: 0.2}},
		{"local_sgd", "warm_up: 0.1", trainertest.Case{Window: 3}},
		{"agn", "dynamic_window: true", trainertest.Case{Window: 3, Rate: 0.2, Workers: []int{2, 4}, Timed: true}},
	} {
		t.Run(c.name+" "+c.fields, func(t *testing.T) {
			c.Algorithm = algorithm(t, c.name, c.fields)
			trainertest.Run(t, c.Case)
		})
	}
}

func TestLateCommitsAreDroppedAndCounted(t *testing.T) {
	cfg, minimum := bowl(algorithm(t, "downpour", "{window: 3, staleness_drop: 4}"), 6, 10, 1, 0.1, 0.05)
	r := simulate(t, cfg)
	var dropped, commits int64
	for _, w := range r.Workers {
		dropped += w.Dropped
		commits += w.Commits
	}
	if dropped == 0 || uint64(dropped) != r.Stats.Dropped || uint64(commits+dropped) > r.Stats.Commits || len(r.Staleness) > 4 {
		t.Errorf("workers: %d commits, %d dropped; server: %+v; staleness %v", commits, dropped, r.Stats, r.Staleness)
	}
	if r.Stats.Samples+r.Stats.DroppedSamples != 10*3200 || distance(r.Params, minimum, 1) > 0.3 {
		t.Errorf("%+v, %.3f from the minimum", r.Stats, distance(r.Params, minimum, 1))
	}
	if lint := trainers.Lint(cfg.Config); len(lint) == 0 || !strings.Contains(lint[0], "set it to 12 or more") {
		t.Errorf("the lint says %q", lint)
	}
}

func TestOneWorkerWarmsUpAlone(t *testing.T) {
	cfg, _ := bowl(algorithm(t, "downpour", "{window: 2, warm_up: 0.1}"), 4, 5, 1, 0.1, 0.02)
	var alone, samples int64
	others := false
	cfg.Committed = func(c trainers.SimCommit) {
		if c.Commit.Worker != 0 && c.Commit.Steps > 0 {
			others = true
		}
		if samples += c.Commit.Samples; !others {
			alone = samples
		}
	}
	r := simulate(t, cfg)
	if want := int64(0.1 * 5 * 3200); alone < want || alone > want+200 || !r.Complete {
		t.Errorf("one worker did %d samples before the others, want %d", alone, want)
	}
}

func TestSlowWorkersGetShorterWindows(t *testing.T) {
	cfg, _ := bowl(algorithm(t, "async_local", ""), 3, 6, 1, 0.1, 0.02)
	cfg.Window = 12
	cfg.Worker = func(w ps.Worker) trainers.SimWorker { return trainers.SimWorker{Step: []float64{1, 2, 4}[w]} }
	steps := map[ps.Worker][]int{}
	cfg.Committed = func(c trainers.SimCommit) { steps[c.Commit.Worker] = append(steps[c.Commit.Worker], c.Commit.Steps) }
	simulate(t, cfg)
	for w, want := range map[ps.Worker]int{0: 12, 1: 6, 2: 3} {
		s := steps[w]
		for i, n := range s[2 : len(s)/2] {
			if n != want {
				t.Errorf("worker %d, window %d: %d steps, want %d", w, i+3, n, want)
			}
		}
	}
}
