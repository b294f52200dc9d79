package trainers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/model"
	"dkpipe/trainers/optim"
)

// Ensemble trains several models that know nothing of each other, each as Single does, and predicts with all of them
// (Lakshminarayanan, Pritzel, Blundell, NIPS 2017, arXiv 1612.01474, algorithm 1: random starts and orders on all of the
// data; with its own part of the data for each, the ensemble of distributed Keras). TrainEnsemble trains it: there is no
// centre for Train to share.
type Ensemble struct {
	Policy  `yaml:",inline"`
	Members int     `yaml:"members" spec:"min=1,max=1000"`      // how many models; New gives 2
	Combine Combine `yaml:"combine" spec:"enum=mean|vote|list"` // how they predict; "" means mean
	// Data is what a member is trained on: "all" of it, the default, or its own part of a "split" by shards.
	Data string `yaml:"data" spec:"enum=all|split"`
}

var (
	_ Algorithm = Ensemble{}
	_ Checker   = Ensemble{}
)

// Name gives "ensemble".
func (Ensemble) Name() string { return "ensemble" }

// Mode gives ps.Async, of each member.
func (Ensemble) Mode() ps.Mode { return ps.Async }

// How gives Combine, or its default.
func (e Ensemble) How() Combine {
	if e.Combine == "" {
		return Mean
	}
	return e.Combine
}

// Window gives that of Single.
func (Ensemble) Window(workers int) int { return Single{}.Window(workers) }

// Rule gives that of Single.
func (Ensemble) Rule(int) ps.Rule { return replace{} }

// Local gives that of Single.
func (Ensemble) Local(_ int, opt optim.Optimizer) Local { return whole{opt} }

// Check refuses fields that have no meaning.
func (e Ensemble) Check(int, int) ([]string, error) {
	bad := func(hint, format string, args ...any) error {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: "trainer ensemble: " + fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case e.Members < 1:
		return nil, bad("set it to 2 or more", "members is %d", e.Members)
	case !slices.Contains([]Combine{"", Mean, Vote, List}, e.Combine):
		return nil, bad("take mean, vote or list", "combine is %q", e.Combine)
	case !slices.Contains([]string{"", "all", "split"}, e.Data):
		return nil, bad("take all or split", "data is %q", e.Data)
	case e.Quorum > 0 || e.Bound > 0 || e.Drop > 0 || e.Power > 0 || e.Dynamic || e.Overlap || e.WarmUp > 0:
		return nil, bad("leave them out", "its members do not exchange anything: only the window can be set")
	case e.Members == 1:
		return []string{"an ensemble of one model is that model; set members to 2 or more"}, nil
	}
	return nil, nil
}

// EnsembleResult is what came out of TrainEnsemble.
type EnsembleResult struct {
	Members     []Result // one for each model, in their order; the zero Result of one that was not begun
	Interrupted bool     // some member was asked to stop before it was complete
	Samples     int64    // of all members
	Seconds     float64  // wall clock
}

// TrainEnsemble trains the members of an ensemble, cfg.Workers of them at a time. cfg is as for Train: Replica and
// Optimizer are asked once for every member, Replica with the number of the member for the number of the worker, and
// must give parameters that differ, or all members would be one model. Validation is shared: Evaluate is called by one goroutine
// at a time. There are no checkpoints. Launch, OrderLog and From are not used; each, when it is
// not nil, may change the configuration of one member before it is trained, such as its feed (see Part); its error is the
// member's. The observer hears of the ensemble as of one run whose workers are the members: an epoch is done when every
// member has done it, or has ended, and its validation is the mean of the members'. There is no centre.
//
// An error of one member ends them all. Members of the result are there as far as they got. After ctx is cancelled no
// member is begun.
func TrainEnsemble(ctx context.Context, e Ensemble, cfg Config, each func(member int, cfg *Config) error) (EnsembleResult, error) {
	if _, err := e.Check(cfg.Workers, 0); err != nil {
		return EnsembleResult{}, err
	}
	if cfg.Checkpoint != nil || cfg.Past != nil {
		return EnsembleResult{}, &pipeline.Error{Kind: pipeline.BadSpec, Message: "an ensemble keeps no checkpoints", Hint: "train its members one by one, with Train"}
	}
	cfg.Validation = cfg.Validation.oneAtATime()
	t := &ensembleRun{e: e, cfg: cfg, each: each, roll: newRoll(cfg.Observer, e.Members)}
	if err := e.member(0, cfg, t.roll).check(); err != nil {
		return EnsembleResult{}, err
	}
	if err := t.distinct(); err != nil {
		return EnsembleResult{}, err
	}
	return t.train(ctx, max(1, cfg.Workers))
}

// member makes the configuration of one member.
func (e Ensemble) member(m int, cfg Config, roll *roll) Config {
	replica := cfg.Replica
	c := cfg
	c.Algorithm, c.Workers, c.MinWorkers, c.Launch, c.OrderLog, c.From = Single{Policy: e.Policy}, 1, 0, nil, nil, nil
	if replica != nil {
		c.Replica = func(ps.Worker) (model.Replica, error) { return replica(ps.Worker(m)) }
	}
	c.Observer = &memberObserver{roll: roll, member: m}
	if cfg.Feed != nil {
		c.Feed = e.Part(cfg.Feed, m)
	}
	return c
}

// Part is what one member sees of a feed: all of it, or every so many-th shard.
func (e Ensemble) Part(feed pipeline.Feed, member int) pipeline.Feed {
	if e.Data != "split" {
		return feed
	}
	return &partFeed{Feed: feed, part: member, of: e.Members}
}

// ensembleRun is the state of TrainEnsemble.
type ensembleRun struct {
	e    Ensemble
	cfg  Config
	each func(member int, cfg *Config) error
	roll *roll
}

// distinct refuses members that would come out as the same model.
func (t *ensembleRun) distinct() error {
	if t.e.Members < 2 || t.e.Data == "split" {
		return nil
	}
	var first []float32
	for m := range 2 {
		r, err := t.cfg.Replica(ps.Worker(m))
		if err != nil {
			return err
		}
		if m == 0 {
			first = r.Params()
		} else if slices.Equal(first, r.Params()) && len(first) > 0 {
			return &pipeline.Error{Kind: pipeline.Internal, Message: "the members of the ensemble start with the same parameters and see the same data: they would be one model",
				Hint: "seed the parameters of each member's replica by its number"}
		}
	}
	return nil
}

// train runs all members, so many at a time.
func (t *ensembleRun) train(parent context.Context, parallel int) (EnsembleResult, error) {
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	result := EnsembleResult{Members: make([]Result, t.e.Members)}
	var once sync.Once
	var first error // what the others end with, once they are cancelled, has no meaning
	next := make(chan int)
	var all sync.WaitGroup
	for range min(parallel, t.e.Members) {
		all.Go(func() {
			for m := range next {
				var err error
				if result.Members[m], err = t.one(ctx, m); err != nil {
					once.Do(func() { first = fmt.Errorf("member %d of the ensemble: %w", m, err) })
					cancel(err)
				}
			}
		})
	}
	for m := range t.e.Members {
		next <- m
	}
	close(next)
	all.Wait()
	for _, r := range result.Members {
		result.Interrupted = result.Interrupted || r.Interrupted
		result.Samples += r.Samples
	}
	result.Seconds = time.Since(begun).Seconds()
	return result, first
}

// one trains one member. Its configuration, which may hold much memory, is gone when it ends.
func (t *ensembleRun) one(ctx context.Context, m int) (Result, error) {
	defer t.roll.ended(m)
	if ctx.Err() != nil {
		return Result{Interrupted: true, Ended: Ending{Reason: EndInterrupted}}, nil
	}
	c := t.e.member(m, t.cfg, t.roll)
	if t.each != nil {
		if err := t.each(m, &c); err != nil {
			return Result{}, err
		}
	}
	return Train(ctx, c)
}

// partFeed gives every so many-th shard of a feed.
type partFeed struct {
	pipeline.Feed
	part, of int
}

func (f *partFeed) Shards(ctx context.Context) ([]pipeline.Shard, error) {
	all, err := f.Feed.Shards(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) < f.of {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: fmt.Sprintf("the dataset has %d shards, an ensemble of %d members needs one for each", len(all), f.of),
			Hint: fmt.Sprintf("set dataset.shards to %d or more, or the trainer's data to all", f.of)}
	}
	var own []pipeline.Shard
	for i := f.part; i < len(all); i += f.of {
		own = append(own, all[i])
	}
	return own, nil
}
