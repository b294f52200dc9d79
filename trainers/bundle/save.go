package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"slices"

	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasjson"
	"dkpipe/trainers/model/formats/safetensors"
)

// Store makes files in one new folder. A publishing stage is one.
type Store interface {
	// Create makes a file; it exists for readers when Close returned nil.
	Create(ctx context.Context, name string) (Output, error)
}

// Output is a file being written. After a failed Write it is aborted, which removes it.
type Output interface {
	io.Writer
	io.Closer
	Abort()
}

// Save writes the seven files, bundle.json last; an ensemble has one more for each member beyond the first. Errors of the store are passed on with the file's name in front. A
// bundle that does not fit together is an error of kind internal and nothing is written.
func Save(ctx context.Context, s Store, b *Bundle) error {
	content, err := b.encode()
	if err != nil {
		return err
	}
	models, members := b.models(), 0
	x := index{Format: Format, Info: b.Info, X: b.X, Y: b.Y, TransformSHA256: b.TransformSHA256, Parameters: len(models[0].Params)}
	if e := b.Ensemble; e != nil {
		members, x.Format, x.Ensemble = len(models), EnsembleFormat, &ensembleIndex{Combine: e.Combine}
		for _, m := range models {
			x.Ensemble.Members = append(x.Ensemble.Members, m.Info)
		}
	}
	for _, name := range files(members) {
		sum, err := writeFile(ctx, s, name, content[name])
		if err != nil {
			return err
		}
		x.Files = append(x.Files, sum)
	}
	head, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return &Error{Kind: "internal", Message: Name, Err: err}
	}
	_, err = writeFile(ctx, s, Name, raw(append(head, '\n')))
	return err
}

// A writer writes one file's content.
type writer func(w io.Writer) error

func raw(data []byte) writer {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// encode checks that the parts belong together and gives every file's content.
func (b *Bundle) encode() (map[string]writer, error) {
	layout, err := b.Model.Layout()
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(layout, b.Layout, sameTensor) {
		return nil, &Error{Kind: "internal", Message: fmt.Sprintf("bundle: the layout has %d tensors that are not those of model %s", len(b.Layout), b.Model.Name)}
	}
	definition, err := kerasjson.Marshal(b.Model)
	if err != nil {
		return nil, err
	}
	fitted := b.Transform
	if fitted == nil {
		fitted = []expr.Fitted{}
	}
	transform, err := json.MarshalIndent(fitted, "", "  ")
	if err != nil {
		return nil, &Error{Kind: "internal", Message: TransformName, Err: err}
	}
	metrics := b.Metrics
	if len(metrics) == 0 {
		metrics = json.RawMessage("{}")
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, metrics, "", "  "); err != nil {
		return nil, &Error{Kind: "internal", Message: MetricsName, Err: err}
	}
	all := map[string]writer{
		ModelName:     raw(append(definition, '\n')),
		TransformName: raw(append(transform, '\n')),
		MetricsName:   raw(append(pretty.Bytes(), '\n')),
		HistoryName:   raw(b.History),
		SpecName:      raw(b.Spec),
	}
	return all, b.encodeWeights(all)
}

// encodeWeights adds the files of weights.
func (b *Bundle) encodeWeights(all map[string]writer) error {
	wrong := func(format string, args ...any) error {
		return &Error{Kind: "internal", Message: "bundle: " + fmt.Sprintf(format, args...)}
	}
	models := b.models()
	if e := b.Ensemble; e != nil && (len(e.Members) == 0 || len(e.Members) > maxMembers || e.Combine == "" || b.Params != nil || b.State != nil) {
		return wrong("an ensemble of %d models that combine by %q, beside %d parameters", len(e.Members), e.Combine, len(b.Params))
	}
	for i, m := range models {
		name := WeightsName
		if b.Ensemble != nil {
			name = MemberWeights(i)
		}
		tensors := make([]safetensors.Tensor, 0, len(b.Layout)+1)
		total := 0
		for _, p := range b.Layout {
			if total += p.Len; total > len(m.Params) {
				break
			}
			tensors = append(tensors, safetensors.Tensor{Name: p.Name, Shape: p.Shape, Data: m.Params[p.Off : p.Off+p.Len]})
		}
		if total != len(m.Params) || len(m.State) != len(models[0].State) {
			return wrong("%d parameters and %d of state for model %s, which has another number", len(m.Params), len(m.State), b.Model.Name)
		}
		if len(m.State) > 0 {
			tensors = append(tensors, safetensors.Tensor{Name: stateName, Shape: []int{len(m.State)}, Data: m.State})
		}
		all[name] = func(w io.Writer) error {
			return safetensors.Write(w, tensors, map[string]string{"format": Format, "model": b.Model.Name})
		}
	}
	return nil
}

func sameTensor(a, b model.ParamSpec) bool {
	return a.Name == b.Name && a.Off == b.Off && a.Len == b.Len && slices.Equal(a.Shape, b.Shape)
}

// summer counts and hashes what passes through.
type summer struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func writeFile(ctx context.Context, s Store, name string, write writer) (fileSum, error) {
	out, err := s.Create(ctx, name)
	if err != nil {
		return fileSum{}, named(name, err)
	}
	sum := &summer{w: out, h: sha256.New()}
	if err := write(sum); err != nil {
		out.Abort()
		return fileSum{}, named(name, err)
	}
	if err := out.Close(); err != nil {
		out.Abort()
		return fileSum{}, named(name, err)
	}
	return fileSum{Name: name, Bytes: sum.n, SHA256: hex.EncodeToString(sum.h.Sum(nil))}, nil
}

// named puts a file's name before an error that does not say it, and keeps kind and hint.
func named(name string, err error) error {
	e := &Error{Kind: "internal", Message: name, Err: err}
	if k, ok := asKind(err); ok {
		e.Kind = k.ErrorKind()
		if h, ok := k.(interface{ ErrorHint() string }); ok {
			e.Hint = h.ErrorHint()
		}
	}
	return e
}
