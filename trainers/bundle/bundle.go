package bundle

import (
	"encoding/json"
	"fmt"
	"time"

	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
)

// Format is what bundle.json calls this layout.
const Format = "dkpipe-model/1"

// The files of a bundle. Name is the one that makes a folder a bundle.
const (
	Name          = "bundle.json"
	ModelName     = "model.json"          // Keras JSON
	WeightsName   = "weights.safetensors" // one tensor a variable, and "state" when there is any
	TransformName = "transform.json"      // list of expr.Fitted
	MetricsName   = "metrics.json"
	HistoryName   = "history.jsonl"
	SpecName      = "spec.yaml"
)

// files lists all but bundle.json in writing order.
func files() []string {
	return []string{ModelName, WeightsName, TransformName, MetricsName, HistoryName, SpecName}
}

// stateName is the tensor that holds a network's state; names of variables have a slash, so it is free.
const stateName = "state"

// Bundle is a trained model and where it came from.
type Bundle struct {
	Model  *model.Definition
	Layout []model.ParamSpec // of Params: as the definition lays them out
	Params []float32
	State  []float32 // as Replica.State; may be empty

	Transform       []expr.Fitted   // what the dataset's rows went through; replayed by predict
	TransformSHA256 string          // of the dataset's manifest: evaluate demands the same
	X, Y            []string        // names of the columns that are the inputs and the outputs
	Metrics         json.RawMessage // by split: {"test": {"loss": …}}; nil is written as {}
	History         []byte          // JSON lines, one an epoch
	Spec            []byte          // the job file as it was

	Info Info
}

// Info says where a model came from.
type Info struct {
	Created       time.Time    `json:"created"`
	Run           string       `json:"run"`
	Slot          string       `json:"slot,omitempty"`
	Status        string       `json:"status,omitempty"` // complete, or interrupted
	Trainer       string       `json:"trainer"`
	Loss          string       `json:"loss"`             // for people
	Losses        []model.Loss `json:"losses,omitempty"` // one an output, as trained
	MetricNames   []string     `json:"metrics,omitempty"`
	SpecSHA256    string       `json:"spec_sha256,omitempty"`
	DkpipeVersion string       `json:"dkpipe"`
	Dataset       string       `json:"dataset"` // the version's folder: hdfs://ns/data/v000003
}

// index is bundle.json.
type index struct {
	Format          string    `json:"format"`
	Info            Info      `json:"info"`
	X               []string  `json:"x"`
	Y               []string  `json:"y"`
	TransformSHA256 string    `json:"transform_sha256"`
	Parameters      int       `json:"parameters"`
	Files           []fileSum `json:"files"`
}

// fileSum is what one file must be.
type fileSum struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Network compiles the model for prediction in pieces of batch rows, with the fastest kernels of this machine and the
// bundle's parameters copied in.
func (b *Bundle) Network(batch int) (*model.Network, error) {
	n, err := model.Compile(b.Model, model.Config{Batch: batch})
	if err != nil {
		return nil, err
	}
	if len(b.Params) != len(n.Params()) || len(b.State) != len(n.State()) {
		return nil, &Error{Kind: "corrupt", Message: fmt.Sprintf("the model has %d parameters and %d of state, the bundle holds %d and %d",
			len(n.Params()), len(n.State()), len(b.Params), len(b.State))}
	}
	copy(n.Params(), b.Params)
	copy(n.State(), b.State)
	return n, nil
}

// Error is an error of a bundle. Its kind is that of pipeline.Kind: corrupt, unsupported or internal, or the kind of
// its cause.
type Error struct {
	Kind    string
	Message string // names the file
	Hint    string
	Err     error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorKind gives the kind.
func (e *Error) ErrorKind() string { return e.Kind }

// ErrorHint gives the next step, or the empty string.
func (e *Error) ErrorHint() string { return e.Hint }
