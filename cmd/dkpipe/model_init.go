package main

import (
	"context"

	"github.com/spf13/cobra"

	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers/model"
)

// initOptions are what init is asked for.
type initOptions struct {
	keras, out string
	seed       int64
	force      bool
}

func (a *app) modelInitCommand() *cobra.Command {
	var o initOptions
	var flags specFlags
	c := &cobra.Command{
		Use:   "init (-f SPEC | --keras FILE) --out FILE",
		Short: "Write a model with fresh weights",
		Long: "Draws the weights that a run would begin with: the model of a spec, whose dataset must be there to tell the shapes of\n" +
			"its inputs, or of any model file. The same seed gives the same weights on every machine, and the file can be the\n" +
			"start of several runs: model: {keras: FILE}. The ending of --out names the format: .keras or .safetensors.",
		Example: "  dkpipe model init -f job.yaml --out start.keras\n  dkpipe model init --keras model.json --seed 7 --out start.keras",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r := &writtenReport{}
			return a.data(c, r, func(ctx context.Context, j *job) error {
				m, err := j.initModel(ctx, &flags, o)
				if err != nil {
					return err
				}
				format, err := formatOfOutput(o.out)
				if err != nil {
					return err
				}
				if format != formatKeras && format != formatSafetensors {
					return usage("end it in .keras or .safetensors", "%s: weights are written to .keras or .safetensors", o.out)
				}
				return j.writeModel(ctx, r, m, o.out, format, o.force)
			})
		},
	}
	flags.register(c)
	c.Flags().StringVar(&o.keras, "keras", "", "the definition: Keras JSON, or any model file or published model, `URI`")
	c.Flags().Int64Var(&o.seed, "seed", 0, "what the weights are drawn from (default: the spec's train.seed, or 0), `N`")
	c.Flags().StringVar(&o.out, "out", "", "the file to write, `URI`")
	c.Flags().BoolVar(&o.force, "force", false, "replace a file that exists")
	return c
}

// initModel finds the definition and draws its weights.
func (j *job) initModel(ctx context.Context, flags *specFlags, o initOptions) (*modelSource, error) {
	const example = "dkpipe model init --keras model.json --out start.keras"
	switch {
	case flags.file != "" && o.keras != "":
		return nil, usage("leave one of them out: "+example, "-f and --keras both name a model")
	case o.out == "" || flags.file == "" && o.keras == "":
		return nil, usage(example, "init needs --out, and -f or --keras")
	}
	var m *modelSource
	var err error
	seed := o.seed
	if o.keras != "" {
		m, err = j.openModel(ctx, o.keras, "")
	} else {
		var s *spec.Spec
		if s, err = flags.read(j.app, spec.ForTrain); err != nil {
			return nil, err
		}
		if !flags.flags.Changed("seed") {
			seed = s.Train.Seed
		}
		m, err = j.modelOfSpec(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	n, err := model.Compile(m.def, model.Config{Batch: 1})
	if err != nil {
		return nil, inFile(m.at.String(), err)
	}
	n.Init(uint64(seed))
	m.params, m.state, m.bundle = n.Params(), n.State(), nil
	m.ensemble = nil
	if m.state == nil {
		m.state = []float32{}
	}
	return m, nil
}

// modelOfSpec is the model that a run of a spec would train.
func (j *job) modelOfSpec(ctx context.Context, s *spec.Spec) (*modelSource, error) {
	if s.Dataset.Live {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: s.File + ": dataset.live keeps no dataset that tells the shapes of the inputs",
			Hint: "set dataset.live: false, or begin with Keras JSON: --keras model.json"}
	}
	data, err := openPlace(ctx, j.stores, s.Dataset.Path)
	if err != nil {
		return nil, err
	}
	p, _, err := openDataset(ctx, data, "")
	if err != nil {
		return nil, withHint(err, "the dataset tells the shapes of the inputs; make it with: dkpipe preprocess -f "+s.File)
	}
	m, err := buildModel(ctx, j.stores, s, p.manifest.Columns)
	if err != nil {
		return nil, err
	}
	at, err := openPlace(ctx, j.stores, s.File)
	return &modelSource{at: at, def: m.def}, err
}
