package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/ps"
	"dkpipe/trainers"
)

// A recorded run is a folder with these files: what was trained, as workers are told it, and in which order the parameter
// server took their calls.
const (
	recordedJob   = "job.json"
	recordedOrder = "order.log"
)

// maxRecordedJob bounds what is read of a recorded job.
const maxRecordedJob = 16 << 20

// replayReport is what dkpipe replay --json prints.
type replayReport struct {
	Command       string  `json:"command"`
	Status        string  `json:"status"`
	Dataset       string  `json:"dataset"`
	Samples       int64   `json:"samples"`
	Commits       uint64  `json:"commits"`
	Seconds       float64 `json:"seconds"`
	Parameters    int     `json:"parameters"`
	SHA256        string  `json:"parameters_sha256"` // of their bits, little-endian
	LogBytes      int64   `json:"log_bytes"`         // of the order log
	ExchangeBytes uint64  `json:"exchange_bytes"`    // of parameters that the run's commits and replies were
	Equal         *bool   `json:"equal,omitempty"`   // to the model that was named
	Epoch         int     `json:"epoch,omitempty"`   // after which the parameters were the model's
}

func (a *app) replayCommand() *cobra.Command {
	var model string
	c := &cobra.Command{
		Use:   "replay DIR",
		Short: "Repeat a recorded training, bit for bit",
		Long: "Repeats a training that was run with --record DIR, in this process: workers make the same calls in the same order, so an\n" +
			"asynchronous run, which never comes out the same twice, gives the same bits again, wherever its workers were. The\n" +
			"dataset version must still be there, and the machine must have the same kernels. With --model the parameters\n" +
			"are compared with those of a model, also after each epoch: early stopping publishes an earlier state than the last.",
		Example: "  dkpipe train -f job.yaml --record runs/1\n  dkpipe replay runs/1 --model out/model/v000001",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.runReplay(c.Context(), args[0], model)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(r)
				return nil
			}
			fmt.Fprintf(a.stdout, "repeated %s samples and %s commits in %.2f s: the parameters are the same to the bit\n", thousands(r.Samples), thousands(int64(r.Commits)), r.Seconds)
			fmt.Fprintf(a.stdout, "  sha256 of %s parameters: %s\n", thousands(int64(r.Parameters)), r.SHA256)
			return nil
		},
	}
	c.Flags().StringVar(&model, "model", "", "compare with the parameters of the model at `URI`")
	return c
}

// recordFolder is where this run is recorded; empty: nowhere.
func (f *specFlags) recordFolder() string {
	if f.flags == nil {
		return ""
	}
	if v := f.flags.Lookup("record"); v != nil {
		return v.Value.String()
	}
	return ""
}

// checkRecord finds what keeps a run from being recorded, before anything is done, and makes the folder.
func (j *job) checkRecord(dir string) error {
	switch {
	case j.training.flags.resume:
		return usage("record the run from its beginning", "--record does not go with --resume: the replay would lack what was before")
	case j.spec.Train.Codec != "fp32":
		return usage("record with train.codec: fp32", "--record needs commits as they are, and train.codec is %s", j.spec.Train.Codec)
	case j.spec.Dataset.Live:
		return usage("set dataset.live to false and preprocess", "--record needs rows that stay, and dataset.live is true")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return recordErr(dir, err, "name a folder that can be made")
	}
	for _, name := range []string{recordedOrder, recordedJob} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return usage("name a folder that has no recorded run", "--record: %s is there already", filepath.Join(dir, name))
		}
	}
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return recordErr(dir, err, "name a folder that can be written")
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// recordErr gives an error of the recording its kind: a full disk is no wrong command line.
func recordErr(name string, err error, hint string) error {
	return withHint(fmt.Errorf("--record: %w", hdfsio.Wrap("write", name, err)), hint)
}

// record makes cfg keep what replay needs. The caller calls stop in the end.
func (j *job) record(dir string, p prepared, cfg *trainers.Config) (stop func(), err error) {
	blob, err := j.workerBlob(p, "")
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, recordedOrder)
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, recordErr(name, err, "name a folder that has no recorded run")
	}
	name = filepath.Join(dir, recordedJob)
	if err := os.WriteFile(name, blob, 0o644); err != nil {
		return nil, errors.Join(recordErr(name, err, "name a folder that can be written"), out.Close(), os.Remove(name), os.Remove(out.Name()))
	}
	cfg.OrderLog = out
	return func() {
		if err := out.Close(); err != nil {
			j.app.log.Warn("the recorded order may not be whole", "error", err)
		}
	}, nil
}

// runReplay repeats the run of a folder.
func (a *app) runReplay(ctx context.Context, dir, model string) (*replayReport, error) {
	blob, err := readRecorded(filepath.Join(dir, recordedJob), maxRecordedJob)
	if err != nil {
		return nil, err
	}
	var wj workerJob
	if err := json.Unmarshal(blob, &wj); err != nil {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: filepath.Join(dir, recordedJob), Err: err}
	}
	log, err := os.Open(filepath.Join(dir, recordedOrder))
	if err != nil {
		return nil, usage("name the folder that was given to --record", "%v", err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	j, p, err := a.recordedJobOf(ctx, wj)
	if err != nil {
		return nil, err
	}
	defer j.closeQuietly(ctx)
	cfg, _, err := j.trainingParts(ctx, p)
	if err != nil {
		return nil, err
	}
	cfg.Limits.Steps = j.spec.Train.MaxSteps
	seen := &sought{}
	if model != "" {
		b, _, err := j.openBundle(ctx, model)
		if err != nil {
			return nil, err
		}
		seen.params, cfg.Observer = b.Params, seen
	}
	result, err := trainers.Replay(ctx, cfg, log)
	if err != nil {
		return nil, p.inDataset(err)
	}
	r := &replayReport{Command: "replay", Status: "ok", Dataset: p.folder.String(), Samples: result.Samples, Seconds: result.Seconds,
		Commits: result.Snapshot.Stats.Commits, Parameters: len(result.Params), SHA256: bitsOf(result.Params), LogBytes: info.Size()}
	r.ExchangeBytes = r.Commits * 2 * 4 * uint64(r.Parameters)
	if model == "" {
		return r, nil
	}
	equal := seen.is(result.Params) || seen.epoch > 0
	if r.Equal, r.Epoch = &equal, seen.epoch; !equal {
		return nil, &pipeline.Error{Kind: pipeline.Changed, Message: fmt.Sprintf("the parameters of %s are not those of the recorded run in %s, neither in the end nor after any epoch", model, dir),
			Hint: "name the model that the recorded run has published"}
	}
	return r, nil
}

// sought looks for the parameters of a model among those at the ends of epochs: early stopping and targets publish such.
type sought struct {
	params []float32
	epoch  int // that has them, or 0
}

func (s *sought) is(x []float32) bool {
	return slices.EqualFunc(s.params, x, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// EpochDone implements trainers.Observer.
func (s *sought) EpochDone(e trainers.Epoch, centre []float32) {
	if s.epoch == 0 && s.is(centre) {
		s.epoch = e.Epoch
	}
}

// Progress implements trainers.Observer.
func (*sought) Progress(trainers.Progress) {}

// WorkerLost implements trainers.Observer.
func (*sought) WorkerLost(ps.Worker, error) {}

// recordedJobOf opens the job and the dataset of a recorded run.
func (a *app) recordedJobOf(ctx context.Context, wj workerJob) (*job, prepared, error) {
	s, err := wj.read(a)
	if err != nil {
		return nil, prepared{}, err
	}
	s.Train.Kernel = a.kernel(s.Train.Kernel)
	j, err := a.commandJob("replay")
	if err != nil {
		return nil, prepared{}, err
	}
	j.spec = s
	at, err := openPlace(ctx, j.stores, wj.Dataset)
	if err == nil {
		var p prepared
		if p, err = readDataset(ctx, at); err == nil {
			return j, p, nil
		}
	}
	j.closeQuietly(ctx)
	return nil, prepared{}, err
}

// readRecorded reads a small file of a recorded run.
func readRecorded(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, usage("name the folder that was given to --record", "%v", err)
	}
	if info.Size() > limit {
		return nil, &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("%s has %d bytes", name, info.Size())}
	}
	return os.ReadFile(name)
}

// bitsOf is the SHA-256 of the bits of parameters.
func bitsOf(x []float32) string {
	var b bytes.Buffer
	for _, v := range x {
		_ = binary.Write(&b, binary.LittleEndian, math.Float32bits(v)) // a buffer takes everything
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}
