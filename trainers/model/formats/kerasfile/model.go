package kerasfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/hdf5"
	"dkpipe/trainers/model/formats/kerasjson"
)

// Model is a definition with its tensors.
type Model struct {
	Definition *model.Definition
	Params     []float32           // as Definition.Layout
	State      []float32           // as Definition.StateLayout
	Config     []byte              // the model's JSON as it stood in the file; may be nil when a Model is written
	Keras      string              // the version that wrote the file, if it says so
	Compiled   *kerasjson.Compiled // what the model was compiled with in Keras; nil: the file does not say
}

// maxConfig bounds a model's JSON.
const maxConfig = 64 << 20

// Read reads a whole model from a .keras archive or an .h5 file; which one it is, is seen from its first bytes. Errors of
// r are passed on as they are; others are of kind Corrupt or Unsupported and name the layer or tensor.
func Read(r io.ReaderAt, size int64) (*Model, error) {
	zipped, err := isZip(r)
	if err != nil {
		return nil, err
	}
	if zipped {
		return readArchive(r, size)
	}
	f, err := hdf5.Open(r, size)
	if err != nil {
		return nil, err
	}
	config, err := textAttribute(f.Root(), "model_config")
	if err != nil {
		return nil, err
	}
	if config == "" {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "the file holds weights and no model",
			Hint: "give the model that they belong to as well, as Keras JSON"}
	}
	version, err := textAttribute(f.Root(), "keras_version")
	if err != nil {
		return nil, err
	}
	m, err := define([]byte(config), version)
	if err != nil {
		return nil, err
	}
	training, err := textAttribute(f.Root(), "training_config")
	if err != nil {
		return nil, err
	}
	if training != "" {
		m.Compiled = kerasjson.ReadCompiled([]byte(training), m.Definition.Outputs)
	}
	return m, m.read(f)
}

// ReadWeights reads the tensors of a known model from a file with or without a definition: .weights.h5, older .h5,
// .keras. config is the Keras JSON that d was read from; it says how layers are nested and counted. Nil stands for the
// JSON that d is written as.
func ReadWeights(r io.ReaderAt, size int64, d *model.Definition, config []byte) (params, state []float32, err error) {
	if config == nil {
		if config, err = kerasjson.Marshal(d); err != nil {
			return nil, nil, err
		}
	}
	zipped, err := isZip(r)
	if err != nil {
		return nil, nil, err
	}
	m := &Model{Definition: d, Config: config}
	if zipped {
		a, err := openArchive(r, size)
		if err != nil {
			return nil, nil, err
		}
		err = a.weights(m)
		return m.Params, m.State, err
	}
	f, err := hdf5.Open(r, size)
	if err != nil {
		return nil, nil, err
	}
	err = m.read(f)
	return m.Params, m.State, err
}

func isZip(r io.ReaderAt) (bool, error) {
	var head [4]byte
	n, err := r.ReadAt(head[:], 0)
	if n < len(head) && err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Equal(head[:n], []byte("PK\x03\x04")), nil
}

// define reads the definition, which means what it meant in the version that wrote it.
func define(config []byte, version string) (*Model, error) {
	d, err := kerasjson.Read(config, kerasjson.Options{KerasVersion: version})
	if err != nil {
		return nil, err
	}
	return &Model{Definition: d, Config: config, Keras: version, Compiled: kerasjson.ReadCompiled(config, d.Outputs)}, nil
}

// read fills Params and State from either layout of weights.
func (m *Model) read(f *hdf5.File) error {
	root, vars, err := tree(m.Config, m.Definition)
	if err != nil {
		return err
	}
	w := &weights{root: root, vars: vars, f: f}
	for _, v := range vars {
		if v.State {
			w.stateLen += v.Len
		} else {
			w.paramLen += v.Len
		}
	}
	if err := w.read(); err != nil {
		return err
	}
	m.Params, m.State = w.params, w.state
	return nil
}

// textAttribute gives a text, or "" when there is none.
func textAttribute(o *hdf5.Object, name string) (string, error) {
	a, err := o.Attribute(name)
	if err != nil || a == nil {
		return "", err
	}
	s, err := a.Strings()
	if err != nil || len(s) == 0 {
		return "", err
	}
	if len(s[0]) > maxConfig {
		return "", corrupt("attribute %s has %d bytes", name, len(s[0]))
	}
	return s[0], nil
}

func corrupt(format string, args ...any) error {
	return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf(format, args...)}
}

// in puts a place before an error and keeps its kind and hint.
func in(where string, err error) error {
	var e *pipeline.Error
	if errors.As(err, &e) {
		return &pipeline.Error{Kind: e.Kind, Message: where + ": " + err.Error(), Hint: e.Hint}
	}
	if errors.Is(err, fs.ErrNotExist) { // a tensor that should be there
		return corrupt("%s: %v", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}
