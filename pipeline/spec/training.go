package spec

// Validate says how often the model is measured on the validation rows while it is trained.
type Validate struct {
	Every int `yaml:"every" spec:"min=1,max=1000000"` // epochs; default 1
}

// EarlyStopping ends training that does not get better any more.
type EarlyStopping struct {
	Monitor     string  `yaml:"monitor" spec:"filled"`          // val_loss (the default), val_ and a metric, or loss for that of training
	Patience    int     `yaml:"patience" spec:"required,min=1"` // measurements without an improvement
	MinDelta    float64 `yaml:"min_delta" spec:"min=0"`         // what counts as an improvement; default 0
	Mode        string  `yaml:"mode" spec:"enum=auto|min|max"`  // which is better; default auto: by the metric
	RestoreBest bool    `yaml:"restore_best"`                   // publish the best model that was measured; default false: the last one
}

// ReduceOnPlateau makes the learning rate smaller when training does not get better any more. The optimizer's
// learning_rate must be a number.
type ReduceOnPlateau struct {
	Monitor  string   `yaml:"monitor" spec:"filled"`         // as EarlyStopping.Monitor; default val_loss, or loss without validation rows
	Factor   float64  `yaml:"factor" spec:"above=0,below=1"` // what the rate is multiplied by; default 0.1
	Patience int      `yaml:"patience" spec:"min=1"`         // measurements without an improvement; default 10
	MinDelta *float64 `yaml:"min_delta" spec:"min=0"`        // what counts as an improvement; default 0.0001
	Mode     string   `yaml:"mode" spec:"enum=auto|min|max"` // which is better; default auto: by the metric
	Cooldown int      `yaml:"cooldown" spec:"min=0"`         // measurements after a reduction that are not counted; default 0
	MinRate  float64  `yaml:"min_lr" spec:"min=0"`           // the rate does not go below it; default 0
}

// Target ends training that is good enough.
type Target struct {
	Metric  string   `yaml:"metric" spec:"required"` // as EarlyStopping.Monitor
	AtLeast *float64 `yaml:"at_least"`
	AtMost  *float64 `yaml:"at_most"`
}

// Checkpoint says where the state of a run is kept while it goes on, for --resume.
type Checkpoint struct {
	Path         string  `yaml:"path" spec:"required"`
	EverySeconds float64 `yaml:"every_seconds" spec:"above=0,max=10000000"` // default 60, unless every_steps is set
	EverySteps   int64   `yaml:"every_steps" spec:"min=1"`                  // of all workers together
	Keep         int     `yaml:"keep" spec:"min=1,max=10000"`               // the newest ones; default 3
	// KeepBest is how many of the best by the validation, at what early_stopping monitors or val_loss, are kept beside them, also
	// when the run is complete; default 1.
	KeepBest int `yaml:"keep_best" spec:"min=1,max=10000"`
}

// training sets the defaults of what goes on beside the workers, and checks it.
func (c *checker) training() {
	t := &c.spec.Train
	if v := t.Validate; v != nil && v.Every == 0 {
		v.Every = 1
	}
	if p := t.Checkpoint; p != nil {
		if p.Keep == 0 {
			p.Keep = 3
		}
		if p.KeepBest == 0 {
			p.KeepBest = 1
		}
		if p.EverySeconds == 0 && p.EverySteps == 0 {
			p.EverySeconds = 60
		}
	}
	if r := t.ReduceOnPlateau; r != nil {
		if r.Factor == 0 {
			r.Factor = 0.1
		}
		if r.Patience == 0 {
			r.Patience = 10
		}
		if r.MinDelta == nil {
			delta := 1e-4
			r.MinDelta = &delta
		}
		if r.Monitor == "" {
			r.Monitor = "val_loss"
			if c.spec.Split.Validation == 0 && c.has("split") {
				r.Monitor = "loss"
			}
		}
	}
	if !c.fine("train") {
		return
	}
	if r := t.ReduceOnPlateau; r != nil {
		c.monitor("train.reduce_on_plateau", "train.reduce_on_plateau.monitor", r.Monitor)
	}
	if e := t.EarlyStopping; e != nil {
		if e.Monitor == "" {
			e.Monitor = "val_loss"
		}
		c.monitor("train.early_stopping", "train.early_stopping.monitor", e.Monitor)
	}
	if g := t.Target; g != nil {
		if g.AtLeast == nil && g.AtMost == nil {
			c.fail("train.target", "add at_least: 0.95, for example", "has no value; give at_least or at_most")
		}
		c.monitor("train.target", "train.target.metric", g.Metric)
	}
	if t.Validate != nil {
		c.validationRows("train.validate")
	}
}

// monitor checks the name of what is watched.
func (c *checker) monitor(section, field, name string) {
	known := []string{"val_loss"}
	for _, m := range c.spec.Train.Metrics {
		known = append(known, "val_"+m)
	}
	for _, k := range append(known, "loss") {
		if name == k {
			if k != "loss" {
				c.validationRows(section)
			}
			return
		}
	}
	if len(c.spec.Columns.Y) > 1 {
		return // val_accuracy_2: what is measured is known when the model is
	}
	known = append(known, "loss")
	hint := "add it to train.metrics"
	if near := Nearest(name, known); near != "" {
		hint = "write " + near
	}
	c.fail(field, hint, "%s is not measured; %s", quote(name), suggestion(name, known))
}

func (c *checker) validationRows(section string) {
	if c.fine("split") && c.spec.Split.Validation == 0 {
		c.fail(section, "give the split a validation share: split: {key: id, train: 0.8, validation: 0.1, test: 0.1}", "needs validation rows, and split.validation is 0")
	}
}
