package bundle

import (
	"encoding/json"
	"fmt"
	"time"

	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
)

// What bundle.json calls this layout, and that of an ensemble: several models of one definition, with one file of weights
// each in the place of weights.safetensors.
const (
	Format         = "dkpipe-model/1"
	EnsembleFormat = "dkpipe-ensemble/1"
)

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

// MemberWeights names the file that holds the weights of a member of an ensemble.
func MemberWeights(member int) string { return fmt.Sprintf("weights-%04d.safetensors", member) }

// maxMembers bounds what is read of an ensemble.
const maxMembers = 10_000

// files lists all but bundle.json in writing order. members is 0 for a single model.
func files(members int) []string {
	names := []string{ModelName}
	for m := range members {
		names = append(names, MemberWeights(m))
	}
	if members == 0 {
		names = append(names, WeightsName)
	}
	return append(names, TransformName, MetricsName, HistoryName, SpecName)
}

// stateName is the tensor that holds a network's state; names of variables have a slash, so it is free.
const stateName = "state"

// Bundle is a trained model and where it came from.
type Bundle struct {
	Model  *model.Definition
	Layout []model.ParamSpec // of Params: as the definition lays them out
	Params []float32
	State  []float32 // as Replica.State; may be empty
	// Ensemble, when it is not nil, holds several models in the place of Params and State.
	Ensemble *Ensemble

	Transform       []expr.Fitted   // what the dataset's rows went through; replayed by predict
	TransformSHA256 string          // of the dataset's manifest: evaluate demands the same
	X, Y            []string        // names of the columns that are the inputs and the outputs
	Metrics         json.RawMessage // by split: {"test": {"loss": …}}; nil is written as {}
	History         []byte          // JSON lines, one an epoch
	Spec            []byte          // the job file as it was

	Info Info
}

// Ensemble is several models of one definition that predict together.
type Ensemble struct {
	Combine string // how: mean, vote or list
	Members []Member
}

// Member is one model of an ensemble.
type Member struct {
	Params []float32
	State  []float32
	Info   MemberInfo
}

// MemberInfo says how a member was trained.
type MemberInfo struct {
	Seed    int64           `json:"seed"`
	Samples int64           `json:"samples"`
	Epochs  int             `json:"epochs"`
	Ended   string          `json:"ended,omitempty"`   // why, in one word
	Metrics json.RawMessage `json:"metrics,omitempty"` // of it alone, by split
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
	Format          string         `json:"format"`
	Info            Info           `json:"info"`
	X               []string       `json:"x"`
	Y               []string       `json:"y"`
	TransformSHA256 string         `json:"transform_sha256"`
	Parameters      int            `json:"parameters"` // of one model
	Ensemble        *ensembleIndex `json:"ensemble,omitempty"`
	Files           []fileSum      `json:"files"`
}

// ensembleIndex is what bundle.json says about an ensemble; the weights of member m are in MemberWeights(m).
type ensembleIndex struct {
	Combine string       `json:"combine"`
	Members []MemberInfo `json:"members"`
}

// fileSum is what one file must be.
type fileSum struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Network compiles the model for prediction in pieces of batch rows, with the fastest kernels of this machine and the
// bundle's parameters copied in. An ensemble has Networks.
func (b *Bundle) Network(batch int) (*model.Network, error) {
	if b.Ensemble != nil {
		return nil, &Error{Kind: "internal", Message: fmt.Sprintf("the bundle holds %d models, not one", len(b.Ensemble.Members))}
	}
	return b.network(batch, b.Params, b.State)
}

// Networks is Network for every model of the bundle: the members of an ensemble, or the one that there is.
func (b *Bundle) Networks(batch int) ([]*model.Network, error) {
	var all []*model.Network
	for _, m := range b.models() {
		n, err := b.network(batch, m.Params, m.State)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// models gives the members of an ensemble, or the one model as the only member.
func (b *Bundle) models() []Member {
	if b.Ensemble != nil {
		return b.Ensemble.Members
	}
	return []Member{{Params: b.Params, State: b.State}}
}

func (b *Bundle) network(batch int, params, state []float32) (*model.Network, error) {
	n, err := model.Compile(b.Model, model.Config{Batch: batch})
	if err != nil {
		return nil, err
	}
	if len(params) != len(n.Params()) || len(state) != len(n.State()) {
		return nil, &Error{Kind: "corrupt", Message: fmt.Sprintf("the model has %d parameters and %d of state, the bundle holds %d and %d",
			len(n.Params()), len(n.State()), len(params), len(state))}
	}
	copy(n.Params(), params)
	copy(n.State(), state)
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
