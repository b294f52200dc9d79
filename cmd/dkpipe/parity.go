package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/ps"
	"dkpipe/trainers"
)

// parity compares training with one worker and with several: what they learn, how fast they are, and what keeps them from
// being faster.
type parity struct {
	job     *job
	data    prepared
	workers []int
	seeds   int
	metric  string
	split   string
	change  func(*trainers.Config) // of each run; nil but in tests
}

func (a *app) parityCommand() *cobra.Command {
	var flags specFlags
	var workers []int
	var seeds int
	c := &cobra.Command{
		Use:   "parity -f SPEC",
		Short: "Compare training with one worker and with several",
		Long: "Trains on the newest dataset with one worker and with several, with a number of seeds, and publishes nothing. Says how far\n" +
			"the models are apart on the rows that were not trained on, with a 95 % confidence interval over the seeds, how much\n" +
			"faster several workers are, and what they spend their time on: feed (waiting for data), compute, link (the way to the\n" +
			"parameter server) or server (its own work). The greatest of them is the bottleneck.",
		Example: "  dkpipe parity -f job.yaml --workers 1,2,4 --seeds 3\n  dkpipe parity -f job.yaml --launch process --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j, err := a.newJob("parity", &flags, spec.ForTrain)
			if err != nil {
				return err
			}
			defer j.closeQuietly(c.Context())
			r, err := j.runParity(c.Context(), workers, seeds, nil)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(r)
			} else {
				r.print(a.stdout)
			}
			return nil
		},
	}
	flags.register(c)
	flags.registerLaunch(c)
	c.Flags().IntSliceVar(&workers, "workers", []int{1, 2, 4}, "the `NUMBERS` of workers; the first one is what the others are compared with")
	c.Flags().IntVar(&seeds, "seeds", 3, "how many `SEEDS`, from train.seed on; one gives no interval")
	return c
}

// closeQuietly gives back what a job has opened and not printed.
func (j *job) closeQuietly(ctx context.Context) {
	j.bars.wait()
	if err := j.events.close(); err != nil {
		j.app.log.Warn("events", "error", err)
	}
	if err := j.stores.Close(); err != nil {
		j.app.log.Warn("closing stores", "error", err)
	}
	if j.temp != nil {
		if err := j.temp.close(); err != nil {
			j.app.log.Warn("removing temporary files", "error", err)
		}
	}
}

// runParity does all runs, seed by seed, so that a machine that is busy for a while is so for all numbers of workers.
func (j *job) runParity(ctx context.Context, workers []int, seeds int, change func(*trainers.Config)) (*parityReport, error) {
	if err := j.checkParity(workers, seeds); err != nil {
		return nil, err
	}
	if err := j.checkTraining(ctx); err != nil {
		return nil, err
	}
	root, err := openPlace(ctx, j.stores, j.spec.Dataset.Path)
	if err != nil {
		return nil, err
	}
	data, _, err := openDataset(ctx, root, "")
	if err != nil {
		return nil, err
	}
	unpin, err := j.pin(ctx, data)
	if err != nil {
		return nil, err
	}
	defer unpin()
	p := parity{job: j, data: data, workers: workers, seeds: seeds, metric: "loss", change: change}
	if len(j.spec.Train.Metrics) > 0 {
		p.metric = j.spec.Train.Metrics[0]
	}
	for _, split := range []string{"test", "validation", "train"} {
		if p.split = split; data.rows(split) > 0 {
			break
		}
	}
	r := &parityReport{Command: "parity", Status: "ok", Dataset: data.folder.String(), Trainer: j.spec.Train.Trainer.Name, Launch: j.spec.Train.Launch,
		Metric: p.metric, Split: p.split, Cores: runtime.GOMAXPROCS(0)}
	if most := slices.Max(workers); most > len(data.manifestShards("train")) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the dataset has %d shards, so at most so many workers have data at a time; write dataset.shards: %d and preprocess again",
			len(data.manifestShards("train")), most))
	}
	bar := j.bars.start("parity", int64(seeds*len(workers)))
	for s := range seeds {
		for i, n := range workers {
			run, err := p.run(ctx, n, j.spec.Train.Seed+int64(s))
			if err != nil {
				bar.done(false, "")
				return nil, err
			}
			r.Runs = append(r.Runs, run)
			bar.set(int64(s*len(workers)+i+1), int64(seeds*len(workers)), fmt.Sprintf("%d workers, seed %d", n, run.Seed))
		}
	}
	bar.done(true, "")
	r.summarise(workers)
	return r, nil
}

// manifestShards are the shards of a split.
func (p prepared) manifestShards(split string) (out []pipeline.ShardInfo) {
	for _, s := range p.shards() {
		if s.Split == split {
			out = append(out, s)
		}
	}
	return out
}

func (j *job) checkParity(workers []int, seeds int) error {
	bad := func(hint, format string, args ...any) error { return usage(hint, format, args...) }
	switch {
	case seeds < 1 || seeds > 1000:
		return bad("give 1 or more", "--seeds %d", seeds)
	case len(workers) < 2 || slices.Min(workers) < 1 || slices.Max(workers) > 10000:
		return bad("give two numbers or more, such as 1,2,4", "--workers %v", workers)
	case j.spec.Train.Launch != "in-process" && j.spec.Train.Launch != "process":
		return bad("compare with --launch in-process or process", "parity does not start workers with launch: %s", j.spec.Train.Launch)
	case j.spec.Train.Servers.Len() > 0:
		return bad("leave train.servers out", "parity compares with the parameters in its own process, and train.servers asks for data servers")
	case j.spec.Dataset.Live:
		return bad("set dataset.live to false and preprocess", "parity needs a dataset that stays, and dataset.live is true")
	}
	seen := map[int]bool{}
	for _, n := range workers {
		if seen[n] {
			return bad("give each number once", "--workers has %d twice", n)
		}
		seen[n] = true
	}
	return nil
}

// run trains and evaluates once.
func (p parity) run(ctx context.Context, workers int, seed int64) (parityRun, error) {
	j := p.job.with(workers, seed)
	defer func() { p.job.temp = j.temp }()
	cfg, m, err := j.trainingParts(ctx, p.data)
	if err != nil {
		return parityRun{}, err
	}
	if _, ok := cfg.Algorithm.(trainers.Ensemble); ok {
		return parityRun{}, usage("choose a trainer whose workers make one model", "an ensemble of more members is another model, not the same one made faster")
	}
	meter := &meteredAlgorithm{Algorithm: cfg.Algorithm}
	cfg.Algorithm = meter
	pace := &pace{workers: workers, seen: map[ps.Worker]bool{}}
	cfg.Observer = pace
	stop, err := j.launchWorkers(ctx, p.data, &cfg)
	if err != nil {
		return parityRun{}, err
	}
	defer stop()
	if p.change != nil {
		p.change(&cfg)
	}
	result, err := trainers.Train(ctx, cfg)
	if err != nil {
		return parityRun{}, hinted{fmt.Errorf("%d workers, seed %d: %w", workers, seed, p.data.inDataset(err)), failed(ctx, err).Hint}
	}
	if result.Interrupted {
		return parityRun{}, ctx.Err()
	}
	e, err := evaluateSplit(ctx, evalJob{data: p.data, split: p.split, train: j.spec.Train, losses: m.losses, definition: m.def, params: result.Params, state: result.State})
	if err != nil {
		return parityRun{}, err
	}
	value, ok := e.Metrics.Get(p.metric)
	if !ok {
		return parityRun{}, &pipeline.Error{Kind: pipeline.Unsupported, Message: "parity by the metric " + p.metric, Hint: "put one that is a single number first in train.metrics"}
	}
	return parityRun{Workers: workers, Seed: seed, Value: value, Seconds: result.Seconds, Samples: result.Samples, Rate: pace.rate(result),
		Shares: sharesOf(result, meter.busy(), cfg.Algorithm.Mode() == ps.Rounds, j.spec.Train.Launch != "in-process")}, nil
}

// with is the same job with another number of workers and another seed.
func (j *job) with(workers int, seed int64) *job {
	c, s, f := *j, *j.spec, *j.flags
	s.Train.Workers, s.Train.Seed, s.Train.MinWorkers = workers, seed, min(s.Train.MinWorkers, workers)
	f.set = append(slices.Clone(f.set), fmt.Sprintf("train.workers=%d", workers), fmt.Sprintf("train.seed=%d", seed))
	if s.Train.MinWorkers > 0 {
		f.set = append(f.set, fmt.Sprintf("train.min_workers=%d", s.Train.MinWorkers))
	}
	c.spec, c.flags, c.report = &s, &f, &report{}
	return &c
}
