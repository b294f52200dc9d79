package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/pipeline/spec"
	"dkpipe/trainers/kernel"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasfile"
	"dkpipe/trainers/model/formats/kerasjson"
)

// startModel is the model that a run trains.
type startModel struct {
	def    *model.Definition
	losses []model.Loss // one an output
	params []float32    // where training starts; nil: drawn from the seed
	state  []float32    // likewise

	compiled *kerasjson.Compiled // of a Keras file: what it was compiled with there
}

// maxModelBytes bounds a Keras file, which is read into memory as a whole.
const maxModelBytes = 16 << 30

// buildModel makes the model and checks that it fits the dataset's columns: x columns are its inputs in their order, y
// columns the targets of its outputs.
func buildModel(ctx context.Context, stores *hdfsio.Stores, s *spec.Spec, columns []pipeline.ColumnInfo) (startModel, error) {
	var inputs []model.Input
	var x, y []int
	for _, c := range columns {
		switch c.Role {
		case "x":
			inputs = append(inputs, model.Input{Name: c.Name, Shape: c.Shape})
			x = append(x, c.Width())
		case "y":
			y = append(y, c.Width())
		}
	}
	m, err := defineModel(ctx, stores, s, inputs)
	if err != nil {
		return m, placed(s.Model.Pos, err)
	}
	if err := m.def.CheckWidths(x, nil); err != nil {
		return m, placed(s.Model.Pos, err)
	}
	if m.losses, err = buildLosses(s.Train, m.def.Outputs); err != nil {
		return m, err
	}
	if err := m.def.CheckTargets(m.losses, y); err != nil {
		return m, placed(s.Model.Pos, err)
	}
	return m, nil
}

// defineModel reads the Keras file of the spec, or makes its list of layers.
func defineModel(ctx context.Context, stores *hdfsio.Stores, s *spec.Spec, inputs []model.Input) (startModel, error) {
	if s.Model.Keras != "" {
		return readKeras(ctx, stores, s.Model.Keras)
	}
	items := make([]model.LayerItem, len(s.Model.Layers))
	for i, it := range s.Model.Layers {
		items[i] = model.LayerItem{Name: it.Name, Decode: it.Decode}
	}
	def, err := model.FromLayers(items, inputs)
	if err == nil && s.Name != "" {
		def.Name = s.Name
	}
	return startModel{def: def}, err
}

// readKeras reads a definition, or a definition with weights, from any store.
func readKeras(ctx context.Context, stores *hdfsio.Stores, name string) (startModel, error) {
	at, err := openPlace(ctx, stores, name)
	if err != nil {
		return startModel{}, err
	}
	text, err := hdfsio.ReadFile(ctx, at.fs, at.path, maxModelBytes)
	if err != nil {
		return startModel{}, withHint(err, "name a file that Keras saved: model.to_json(), or model.save(\"model.keras\")")
	}
	var m startModel
	switch {
	case bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")):
		if m.def, err = kerasjson.Unmarshal(text); err == nil {
			m.compiled = kerasjson.ReadCompiled(text, m.def.Outputs)
		}
	case bytes.HasPrefix(text, []byte("PK\x03\x04")), bytes.HasPrefix(text, []byte("\x89HDF")):
		var k *kerasfile.Model
		if k, err = kerasfile.Read(bytes.NewReader(text), int64(len(text))); err == nil {
			m = startModel{def: k.Definition, params: k.Params, state: k.State, compiled: k.Compiled}
		}
	default:
		err = &pipeline.Error{Kind: pipeline.Unsupported, Message: "it is no model of Keras", Hint: "name a .json, .keras or .h5 file that Keras saved"}
	}
	if err != nil {
		return startModel{}, inPlace(at, err)
	}
	return m, nil
}

// inPlace puts a file before an error and keeps kind and hint.
func inPlace(at place, err error) error {
	if e, ok := err.(*pipeline.Error); ok {
		return &pipeline.Error{Kind: e.Kind, Message: at.String() + ": " + e.Message, Hint: e.Hint, Err: e.Err}
	}
	return fmt.Errorf("%s: %w", at, err)
}

// buildLosses makes the loss of every output of a model.
func buildLosses(t spec.Train, outputs []string) ([]model.Loss, error) {
	losses := make([]model.Loss, len(outputs))
	for i, it := range t.Loss {
		l, output, err := buildLoss(it)
		if err != nil {
			return nil, err
		}
		switch {
		case output != "":
			if i = slices.Index(outputs, output); i < 0 {
				return nil, it.Fail("", "name the layers that the model ends with: "+strings.Join(outputs, ", "), "there is no loss and no output %q", output)
			}
		case len(t.Loss) == 1:
			for k := range losses {
				losses[k] = l
			}
			continue
		case i >= len(outputs):
			continue // too many: said below
		}
		if losses[i].Name != "" {
			return nil, it.Fail("", "give each output one", "output %s has a loss already", outputs[i])
		}
		losses[i] = l
	}
	if i := slices.IndexFunc(losses, func(l model.Loss) bool { return l.Name == "" }); i >= 0 || len(t.Loss) > len(outputs) {
		return nil, placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("train.loss has %d losses, the model has the outputs %s", len(t.Loss), strings.Join(outputs, ", ")),
			Hint: "give one loss for all, or one for each"})
	}
	if n := len(t.LossWeights); n > 0 && n != len(outputs) {
		return nil, placed(t.Pos, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("train.loss_weights has %d numbers, the model has the outputs %s", n, strings.Join(outputs, ", ")),
			Hint: "give one for each"})
	}
	for i, w := range t.LossWeights {
		losses[i].Weight = w
	}
	return losses, nil
}

// buildLoss reads one loss: its name with or without fields, or {output: loss}.
func buildLoss(it spec.Item) (l model.Loss, output string, err error) {
	if !slices.Contains(model.Losses(), model.CanonicalLoss(it.Name)) {
		var inner spec.Item
		if it.Decode(&inner) != nil || inner.Name == "" {
			return l, "", it.Unknown("loss", model.Losses())
		}
		l, nested, err := buildLoss(inner)
		if err == nil && nested != "" {
			err = inner.Unknown("loss", model.Losses())
		}
		return l, it.Name, err
	}
	l.Name = it.Name
	if err := it.Decode(&l); err != nil {
		return l, "", err
	}
	if err := l.Check(); err != nil {
		return l, "", located(it, err)
	}
	return l, "", nil
}

// checkModelOf finds what is wrong with model and losses without the data: names, fields, a Keras file that cannot be used.
func checkModelOf(ctx context.Context, stores *hdfsio.Stores, s *spec.Spec) error {
	for _, it := range s.Train.Loss {
		if _, _, err := buildLoss(it); err != nil {
			return err
		}
	}
	for _, l := range s.Model.Layers {
		if err := model.CheckLayer(model.LayerItem{Name: l.Name, Decode: l.Decode}); err != nil {
			return located(l, err)
		}
	}
	if s.Model.Keras == "" {
		return nil
	}
	m, err := readKeras(ctx, stores, s.Model.Keras)
	if err != nil {
		return placed(s.Model.Pos, err)
	}
	_, err = buildLosses(s.Train, m.def.Outputs)
	return err
}

// buildReplica compiles the model for training or, without losses, for prediction only.
func buildReplica(def *model.Definition, losses []model.Loss, t spec.Train, seed uint64) (*model.Network, error) {
	set, err := kernel.Select(t.Kernel)
	if err != nil {
		return nil, err
	}
	n, err := model.Compile(def, model.Config{Kernel: set, Batch: t.BatchSize, Losses: losses, Seed: seed, ClassWeight: t.ClassWeight})
	if err != nil {
		return nil, placed(t.Pos, err)
	}
	return n, nil
}

// otherwise warns when a job trains a Keras file with another optimizer or loss than it was compiled with there.
func (m startModel) otherwise(s *spec.Spec) []string {
	if m.compiled == nil {
		return nil
	}
	var there, here []string
	if was, is := m.compiled.Optimizer, s.Train.Optimizer.Name; was != "" && was != is {
		there, here = append(there, was), append(here, is)
	}
	if was, is := lossWords(m.compiled.Losses), lossWords(m.losses); was != "" && was != is {
		there, here = append(there, was), append(here, is)
	}
	if there == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s was compiled with %s in Keras, and this job trains it with %s", s.Model.Keras, strings.Join(there, " and "), strings.Join(here, " and "))}
}

// lossWords names losses: once, if they are the same.
func lossWords(losses []model.Loss) string {
	var words []string
	for _, l := range losses {
		w := model.CanonicalLoss(l.Name)
		if l.FromLogits {
			w += " from logits"
		}
		words = append(words, w)
	}
	if len(slices.Compact(slices.Clone(words))) == 1 {
		words = words[:1]
	}
	return strings.Join(words, ", ")
}

// start puts a new replica where training begins.
func (m startModel) start(n *model.Network, seed int64) {
	n.Init(uint64(seed))
	if m.params != nil {
		copy(n.Params(), m.params)
		copy(n.State(), m.state)
	}
}
