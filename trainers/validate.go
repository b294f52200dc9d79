package trainers

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers/model"
)

// Oversight is what goes on beside the workers of a run: the centre is measured, limits are watched, checkpoints are
// kept. None of it holds workers up. The zero value asks for nothing.
type Oversight struct {
	Validation *Validation
	Limits     Limits
	Checkpoint *Checkpointing
	Past       *Past // of the run that Config.From is of; nil for a new run
}

// Validation measures the centre as it was at the ends of epochs, while the workers go on. What it decides is decided
// in the order of epochs, whatever the time that measuring takes: the same centres give the same end.
type Validation struct {
	// Every is the number of epochs between two measurements; 0 means 1. The last epoch is always measured; of the others those
	// are not that would take more than 512 MiB to wait (Epoch.Unmeasured).
	Every int
	// Evaluate measures a centre, as a rule by means of Evaluate. It is called by one goroutine at a time and may not keep the
	// slice. An error ends the run.
	Evaluate func(ctx context.Context, centre []float32) (Metrics, error)
	// EarlyStopping and Target end the run; nil does not.
	EarlyStopping *EarlyStopping
	Target        *Target
	// Plateau reduces the learning rate; nil does not.
	Plateau *Plateau
}

// EarlyStopping ends a run that does not get better any more. Its fields mean what those of Keras's EarlyStopping do.
type EarlyStopping struct {
	Monitor  string  `yaml:"monitor"`                        // val_ and a metric of the validation, or loss for that of training; default val_loss
	Patience int     `yaml:"patience" spec:"required,min=1"` // measurements without an improvement until the run ends
	MinDelta float64 `yaml:"min_delta" spec:"min=0"`         // what is less than that much better is no improvement; default 0
	Mode     string  `yaml:"mode" spec:"enum=auto|min|max"`  // which is better, less or more; default auto: by the metric's name
	// RestoreBest makes the best centre that was measured the run's result, also when all epochs are done. Without it, the
	// result is the centre whose measurement ended the run.
	RestoreBest bool `yaml:"restore_best"`
}

// Target ends a run that is good enough. The centre that reached it is the run's result.
type Target struct {
	Metric  string   `yaml:"metric" spec:"required"` // as EarlyStopping.Monitor
	AtLeast *float64 `yaml:"at_least"`
	AtMost  *float64 `yaml:"at_most"`
}

// Limits end a run. 0 is no limit.
type Limits struct {
	// Steps are local steps of all workers together, those before a resume included. The run ends with the commit or the round
	// that reaches them; asynchronous workers still commit the window that they are in.
	Steps int64
	Time  time.Duration // since the start, the time before a resume included
}

// Ending says why a run ended.
type Ending struct {
	Reason string `json:"reason"`          // one of the constants below
	Text   string `json:"text,omitempty"`  // the same for people
	Epoch  int    `json:"epoch,omitempty"` // whose centre the result is; 0: that of the end
}

// Reasons why runs end.
const (
	EndComplete      = "complete"
	EndEarlyStopping = "early_stopping"
	EndTarget        = "target"
	EndSteps         = "max_steps"
	EndSeconds       = "max_seconds"
	EndInterrupted   = "interrupted"
	EndFailed        = "failed"
)

// Past is what the coordinator of a run knows beside the parameter server: enough, with a ps.Snapshot, to go on.
type Past struct {
	Epochs  []Epoch `json:"epochs,omitempty"` // complete ones
	Steps   int64   `json:"steps"`
	Seconds float64 `json:"seconds"`
	// Best is the best value of what early stopping monitors, Worse the measurements since. BestCentre is kept apart,
	// because it is large.
	Best       *float64  `json:"best,omitempty"`
	BestEpoch  int       `json:"best_epoch,omitempty"`
	Worse      int       `json:"worse,omitempty"`
	BestCentre []float32 `json:"-"`
	// Waiting are the centres that were not measured yet, in the order of epochs. The centres are kept apart, too.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Plateau is the state of Validation.Plateau, if there is one.
	Plateau *PlateauState `json:"plateau,omitempty"`
}

// Waiting is a centre that is to be measured: that of the end of an epoch.
type Waiting struct {
	Epoch  int       `json:"epoch"`
	Centre []float32 `json:"-"`
}

// Checkpointing saves the state of a run while it goes on.
type Checkpointing struct {
	EverySteps int64         // local steps of all workers together between two checkpoints; 0: none
	Every      time.Duration // time between two; 0: none
	// Save keeps a checkpoint. It is called by one goroutine. The snapshot and the Past belong to it, the centres in the Past
	// do not: it may read them. An error is Save's own to report: a
	// run does not end because a checkpoint cannot be kept.
	Save func(ctx context.Context, s *ps.Snapshot, p *Past)
}

// LessIsBetter tells errors and losses from scores, by the name of a metric or a loss; val_ before it does not matter.
func LessIsBetter(metric string) bool {
	name, _ := splitMetric(strings.TrimPrefix(metric, "val_"))
	if rest, ok := strings.CutPrefix(name, "loss_"); ok && isNumber(rest) {
		return true
	}
	switch name {
	case "loss", "mean_squared_error", "mse", "root_mean_squared_error", "rmse":
		return true
	}
	if _, ok := metricMakers()[name]; ok {
		return false
	}
	return model.Loss{Name: name}.Check() == nil
}

// Watched gives what epochs are compared by, which is what early stopping monitors or val_loss, and its value in an epoch: NaN when
// that was not measured. less says that smaller is better.
func (v *Validation) Watched(e Epoch) (monitor string, value float64, less bool) {
	s := v.EarlyStopping
	if s == nil {
		s = &EarlyStopping{}
	}
	value = math.NaN()
	if e.Validation != nil && !e.Partial {
		value = e.value(s.monitor())
	}
	return s.monitor(), value, math.IsInf(s.worst(), 1)
}

// oneAtATime lets several runs share a validation.
func (v *Validation) oneAtATime() *Validation {
	if v == nil || v.Evaluate == nil {
		return v
	}
	shared, evaluate := *v, v.Evaluate
	var mu sync.Mutex
	shared.Evaluate = func(ctx context.Context, centre []float32) (Metrics, error) {
		mu.Lock()
		defer mu.Unlock()
		return evaluate(ctx, centre)
	}
	return &shared
}

// Check refuses what cannot be watched; metrics are the names that Evaluate gives beside loss. Errors are of kind spec.
func (v *Validation) Check(metrics []string) error {
	if v.Every < 0 {
		return badWatch("validate.every", "set it to 1 or more, or leave it out", "is %d", v.Every)
	}
	if e := v.EarlyStopping; e != nil {
		if err := checkMonitor("early_stopping.monitor", e.monitor(), metrics); err != nil {
			return err
		}
		if e.Patience < 1 || !(e.MinDelta >= 0) {
			return badWatch("early_stopping", "give a patience of 1 or more and a min_delta of 0 or more", "has patience %d and min_delta %g", e.Patience, e.MinDelta)
		}
	}
	if v.Plateau != nil {
		if err := v.Plateau.check(metrics); err != nil {
			return err
		}
	}
	if t := v.Target; t != nil {
		if t.AtLeast == nil && t.AtMost == nil {
			return badWatch("target", "add at_least: 0.95, for example", "has no value; give at_least or at_most")
		}
		return checkMonitor("target.metric", t.Metric, metrics)
	}
	return nil
}

func badWatch(field, hint, format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.BadSpec, Message: "train." + field + " " + fmt.Sprintf(format, args...), Hint: hint}
}

func checkMonitor(field, monitor string, metrics []string) error {
	known := []string{"val_loss"}
	for _, m := range metrics {
		if m != "confusion_matrix" {
			known = append(known, "val_"+m)
		}
	}
	known = append(known, "loss")
	for _, k := range known {
		// val_loss_1, val_accuracy_2: of one output of several
		if rest, ok := strings.CutPrefix(monitor, k); ok && (rest == "" || k != "loss" && rest[0] == '_' && isNumber(rest[1:])) {
			return nil
		}
	}
	return badWatch(field, "use one of "+strings.Join(known, ", "), "is %q, which is not measured", monitor)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (e *EarlyStopping) monitor() string {
	if e.Monitor == "" {
		return "val_loss"
	}
	return e.Monitor
}

// better says whether a value is an improvement on the best one before. NaN never is.
func (e *EarlyStopping) better(value, best float64) bool {
	less := e.Mode == "min" || e.Mode != "max" && LessIsBetter(e.monitor())
	if less {
		return value < best-e.MinDelta
	}
	return value > best+e.MinDelta
}

// worst is what any value is better than.
func (e *EarlyStopping) worst() float64 {
	if e.better(0, math.Inf(1)) {
		return math.Inf(1)
	}
	return math.Inf(-1)
}

// value finds what a monitor names in a measured epoch.
func (e Epoch) value(monitor string) float64 {
	if monitor == "loss" {
		return float64(e.Loss)
	}
	if v, ok := e.Validation.Get(strings.TrimPrefix(monitor, "val_")); ok {
		return v
	}
	return math.NaN()
}

// reached says whether a value is good enough.
func (t *Target) reached(value float64) bool {
	return value == value && (t.AtLeast == nil || value >= *t.AtLeast) && (t.AtMost == nil || value <= *t.AtMost)
}
