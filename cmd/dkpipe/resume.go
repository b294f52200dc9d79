package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/hdfsio/publish"
	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/ps/checkpoint"
	"dkpipe/trainers"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasjson"
)

// Files of a checkpoint, which is a version of the folder train.checkpoint.path.
const (
	checkpointFormat = "dkpipe-checkpoint/1"
	checkpointName   = "checkpoint.json"
	serverName       = "server.bin" // see package ps/checkpoint
	bestName         = "best.bin"   // the best centre that was measured, float32 little-endian; only with restore_best
)

// waitingName is the file of the centre at the end of an epoch that was not measured yet, in the form of bestName.
func waitingName(epoch int) string { return fmt.Sprintf("waiting-%06d.bin", epoch) }

// checkpointIndex is checkpoint.json: what the run was, so that another one does not go on from it by mistake, and what
// its coordinator knew.
type checkpointIndex struct {
	Format   string         `json:"format"`
	Created  time.Time      `json:"created"`
	Run      string         `json:"run"`
	Complete bool           `json:"complete,omitempty"` // the run has published its model: there is nothing to go on with
	Job      checkpointJob  `json:"job"`
	Workers  int            `json:"workers"`
	Samples  int64          `json:"samples"` // acknowledged
	Past     *trainers.Past `json:"past,omitempty"`
	// Kept are checkpoints before this one that are among the best, or may turn out to be.
	Kept []keptCheckpoint `json:"kept,omitempty"`
}

// checkpointJob must be the same where a run goes on. The number of workers need not be.
type checkpointJob struct {
	Dataset    string `json:"dataset"` // the version
	Transform  string `json:"transform_sha256"`
	Model      string `json:"model_sha256"`
	Parameters int    `json:"parameters"`
	Trainer    string `json:"trainer"`
	// What the state of the server means: the trainer's own fields, and for one that runs the job's optimizer on the server
	// that one's name and fields. Policies may change, like the number of workers.
	Fields          map[string]string `json:"trainer_fields,omitempty"`
	Optimizer       string            `json:"server_optimizer,omitempty"`
	OptimizerFields map[string]string `json:"server_optimizer_fields,omitempty"`
	Seed            int64             `json:"seed"`           // with the budget, it gives the order of rows
	Budget          int               `json:"feed_budget_mb"` //
}

// differs names the first thing in which two jobs differ.
func (c checkpointJob) differs(now checkpointJob) string {
	switch {
	case c.Dataset != now.Dataset || c.Transform != now.Transform:
		return fmt.Sprintf("is of the dataset %s, not %s", c.Dataset, now.Dataset)
	case c.Model != now.Model || c.Parameters != now.Parameters:
		return fmt.Sprintf("is of another model, of %s parameters", thousands(int64(c.Parameters)))
	case c.Trainer != now.Trainer:
		return fmt.Sprintf("is of the trainer %s, not %s", c.Trainer, now.Trainer)
	case !maps.Equal(c.Fields, now.Fields):
		return "is of the trainer " + c.Trainer + differing(c.Fields, now.Fields)
	case c.Optimizer != now.Optimizer:
		return fmt.Sprintf("holds the state of the optimizer %s, not of %s", c.Optimizer, now.Optimizer)
	case !maps.Equal(c.OptimizerFields, now.OptimizerFields):
		return "holds the state of the optimizer " + c.Optimizer + differing(c.OptimizerFields, now.OptimizerFields)
	case c.Seed != now.Seed || c.Budget != now.Budget:
		return fmt.Sprintf("is of a run with train.seed %d and train.feed_budget_mb %d, which give the order of rows", c.Seed, c.Budget)
	}
	return ""
}

// checkpoints keeps the state of a run on a store while it goes on.
type checkpoints struct {
	job   *job
	root  place
	lock  *publish.Lock
	index checkpointIndex
	ok    int // checkpoints that were kept

	validation *trainers.Validation // nil without
	best       *bestCheckpoint      // nil when none was measured
}

// openCheckpoints gets ready to keep checkpoints, nil if none are asked for.
func (j *job) openCheckpoints(ctx context.Context, p prepared, m startModel) (*checkpoints, error) {
	c := j.spec.Train.Checkpoint
	if c == nil {
		return nil, nil
	}
	what, err := j.checkpointJob(p, m)
	if err != nil {
		return nil, err
	}
	root, err := openPlace(ctx, j.stores, c.Path)
	if err != nil {
		return nil, err
	}
	lock, err := j.lock(ctx, root)
	if err != nil {
		return nil, err
	}
	k := &checkpoints{job: j, root: root, lock: lock,
		index: checkpointIndex{Format: checkpointFormat, Run: j.id, Job: what, Workers: j.spec.Train.Workers}}
	if from := j.training.from; from != nil && from.root == root.String() {
		k.index.Kept = append(slices.Clone(from.index.Kept), from.itself)
	}
	return k, nil
}

// close gives the folder back.
func (c *checkpoints) close(ctx context.Context) {
	if c != nil {
		c.job.release(ctx, c.lock)
	}
}

// checkpointJob says what a run is.
func (j *job) checkpointJob(p prepared, m startModel) (checkpointJob, error) {
	layout, err := m.def.Layout()
	if err != nil {
		return checkpointJob{}, err
	}
	text, err := kerasjson.Marshal(m.def)
	if err != nil {
		return checkpointJob{}, err
	}
	sum := sha256.Sum256(text)
	t := j.spec.Train
	what := checkpointJob{Dataset: p.folder.String(), Transform: p.manifest.TransformSHA256, Model: hex.EncodeToString(sum[:]),
		Parameters: parameters(layout), Trainer: t.Trainer.Name, Seed: t.Seed, Budget: t.FeedBudgetMB}
	alg, err := buildAlgorithm(t.Trainer)
	if err != nil {
		return checkpointJob{}, err
	}
	what.Trainer, what.Fields = alg.Name(), ownFields(alg)
	if _, ok := alg.(trainers.OnServer); ok {
		what.Optimizer, what.OptimizerFields, err = optimizerFields(t)
	}
	return what, err
}

func parameters(layout []model.ParamSpec) int {
	n := 0
	for _, l := range layout {
		n += l.Len
	}
	return n
}

// oversee lets a run keep checkpoints.
func (c *checkpoints) oversee(cfg *trainers.Config) {
	if c == nil {
		return
	}
	s := c.job.spec.Train.Checkpoint
	c.validation = cfg.Validation
	cfg.Checkpoint = &trainers.Checkpointing{EverySteps: s.EverySteps, Every: time.Duration(s.EverySeconds * float64(time.Second)), Save: c.save}
}

// save is a trainers.Checkpointing.Save. What goes wrong is said and does not end the run: the checkpoint before is still
// whole.
func (c *checkpoints) save(ctx context.Context, s *ps.Snapshot, p *trainers.Past) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveGrace)
	defer cancel()
	c.index.Samples, c.index.Past = s.Stats.Samples, p
	v, err := c.write(ctx, s, p)
	if err != nil {
		c.job.app.log.Warn("a checkpoint could not be kept; the one before is still good", "error", err)
		c.job.events.add("checkpoint_failed", map[string]any{"error": err.Error()})
		return
	}
	c.ok++
	c.job.events.add("checkpoint", map[string]any{"path": c.root.join(v.String()).String(), "samples": c.index.Samples, "steps": p.Steps, "epochs": s.Epoch})
	c.job.app.crash("checkpoint kept")
}

// complete leaves a mark that there is nothing to go on with, in the place of what was kept.
func (c *checkpoints) complete(ctx context.Context) {
	if c == nil {
		return
	}
	c.index.Complete, c.index.Past = true, nil
	if _, err := c.write(ctx, nil, &trainers.Past{Epochs: c.job.training.result.History}); err != nil {
		c.job.app.log.Warn("the checkpoints of a complete run could not be removed", "error", err)
	}
	c.job.report.BestCheckpoint = c.best
}

// write publishes one version.
func (c *checkpoints) write(ctx context.Context, s *ps.Snapshot, p *trainers.Past) (v publish.Version, err error) {
	stage, err := c.lock.Stage(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			c.job.abort(ctx, stage)
		}
	}()
	c.index.Created = time.Now().UTC()
	text, err := json.MarshalIndent(c.index, "", "  ")
	if err != nil {
		return 0, err
	}
	if s != nil {
		if err := writeTo(ctx, stage, serverName, func(w io.Writer) error { return checkpoint.Encode(w, s) }); err != nil {
			return 0, err
		}
	}
	centres := map[string][]float32{bestName: p.BestCentre}
	for _, w := range p.Waiting {
		centres[waitingName(w.Epoch)] = w.Centre
	}
	for name, centre := range centres {
		if centre == nil {
			continue
		}
		if err := writeTo(ctx, stage, name, func(w io.Writer) error { return writeFloats(w, centre) }); err != nil {
			return 0, err
		}
	}
	if err := stage.WriteFile(ctx, checkpointName, text); err != nil {
		return 0, err
	}
	if v, err = stage.Publish(ctx, nil); err != nil {
		return 0, err
	}
	if err = c.lock.MoveLatest(ctx, v); err != nil {
		return 0, err
	}
	keep := c.job.spec.Train.Checkpoint.Keep
	if c.index.Complete {
		keep = 1
	}
	var stay []publish.Version
	if s != nil {
		stay = c.worth(v, s.Epoch, p.Epochs)
	} else {
		stay = c.worth(0, 0, p.Epochs)
	}
	if _, err := c.lock.Retain(ctx, keep, stay...); err != nil {
		c.job.app.log.Warn("old checkpoints could not be removed; the next one tries again", "error", err)
	}
	return v, nil
}

// writeTo writes one file of a stage.
func writeTo(ctx context.Context, stage *publish.Stage, name string, write func(io.Writer) error) error {
	w, err := stage.Create(ctx, name)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<20)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	if err != nil {
		w.Abort()
		return err
	}
	return w.Close()
}

func writeFloats(w io.Writer, x []float32) error {
	var b [4]byte
	for _, v := range x {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		if _, err := w.Write(b[:]); err != nil {
			return err
		}
	}
	return nil
}

// resumed is a checkpoint that a run may go on from.
type resumed struct {
	index checkpointIndex
	at    place // of the version

	root   string         // the folder
	itself keptCheckpoint // its epoch is known after restore
}

// findCheckpoint looks for the newest checkpoint of an unfinished run; nil when there is none.
func (j *job) findCheckpoint(ctx context.Context) (*resumed, error) {
	c := j.spec.Train.Checkpoint
	if c == nil {
		return nil, &pipeline.Error{Kind: pipeline.Usage, Message: "--resume: the spec does not say where checkpoints are kept",
			Hint: "add train: {checkpoint: {path: out/checkpoint}}"}
	}
	root, err := openPlace(ctx, j.stores, c.Path)
	if err != nil {
		return nil, err
	}
	latest, err := publish.Latest(ctx, root.fs, root.path)
	if errors.Is(err, fs.ErrNotExist) {
		j.app.log.Info("there is no checkpoint; the run begins at the beginning", "path", root.String())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if latest.Warning != "" {
		j.app.log.Warn(latest.Warning)
	}
	r := &resumed{at: root.join(latest.Version.String()), root: root.String(), itself: keptCheckpoint{Version: latest.Version}}
	text, err := hdfsio.ReadFile(ctx, root.fs, path.Join(latest.Path, checkpointName), 256<<20)
	if err != nil {
		return nil, err
	}
	if err := checkMarker(ctx, r.at, checkpointName, text); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.index); err != nil || r.index.Format != checkpointFormat {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: r.at.join(checkpointName).String() + " is no checkpoint of this program", Err: err,
			Hint: "give train.checkpoint.path a folder of its own, or train without --resume"}
	}
	if r.index.Complete {
		j.app.log.Info("the run that kept checkpoints is complete; a new one begins", "run", r.index.Run)
		return nil, nil
	}
	return r, nil
}

// restore lets a run go on from the checkpoint.
func (r *resumed) restore(ctx context.Context, j *job, p prepared, m startModel, cfg *trainers.Config) error {
	now, err := j.checkpointJob(p, m)
	if err != nil {
		return err
	}
	if d := r.index.Job.differs(now); d != "" {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("--resume: the checkpoint %s %s", r.at, d),
			Hint: "train without --resume, or with the spec that the run was started with"}
	}
	text, err := r.read(ctx, serverName)
	if err != nil {
		return err
	}
	s, err := checkpoint.Decode(bytes.NewReader(text), checkpoint.Limits{Parameters: now.Parameters})
	if err != nil {
		return inPlace(r.at.join(serverName), err)
	}
	if s.Epoch > cfg.Epochs {
		return &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("--resume: %d epochs are complete in %s, and train.epochs is %d", s.Epoch, r.at, cfg.Epochs),
			Hint: "raise train.epochs, or train without --resume"}
	}
	s.Epochs = cfg.Epochs
	for i := len(s.Units) - 1; i >= 0; i-- { // of epochs that are not wanted any more
		if s.Units[i].ID >= s.Epochs*s.Shards {
			s.Units = append(s.Units[:i], s.Units[i+1:]...)
		}
	}
	past := r.index.Past
	if past != nil && past.BestEpoch > 0 && j.spec.Train.EarlyStopping != nil && j.spec.Train.EarlyStopping.RestoreBest {
		if past.BestCentre, err = r.readFloats(ctx, bestName, now.Parameters); err != nil && !errors.Is(err, fs.ErrNotExist) { // kept without restore_best
			return err
		}
	}
	if past != nil {
		for i := range past.Waiting {
			w := &past.Waiting[i]
			if w.Centre, err = r.readFloats(ctx, waitingName(w.Epoch), now.Parameters); err != nil {
				return err
			}
		}
	}
	cfg.From, cfg.Past, r.itself.Epoch = s, past, s.Epoch
	if past != nil {
		j.training.steps = float64(past.Steps) / float64(max(1, r.index.Workers))
	}
	j.app.log.Info("the run goes on from a checkpoint", "checkpoint", r.at.String(), "samples", r.index.Samples, "epochs", s.Epoch, "workers then", r.index.Workers)
	j.events.add("resumed", map[string]any{"checkpoint": r.at.String(), "run": r.index.Run, "samples": r.index.Samples, "epochs": s.Epoch})
	return nil
}

// read reads a file whole and compares it with what was published.
func (r *resumed) read(ctx context.Context, name string) ([]byte, error) {
	text, err := hdfsio.ReadFile(ctx, r.at.fs, r.at.join(name).path, 64<<30)
	if err != nil {
		return nil, err
	}
	return text, checkMarker(ctx, r.at, name, text)
}

func (r *resumed) readFloats(ctx context.Context, name string, n int) ([]float32, error) {
	text, err := r.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(text) != 4*n {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("%s has %d bytes, want %d", r.at.join(name), len(text), 4*n)}
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(text[4*i:]))
	}
	return x, nil
}
