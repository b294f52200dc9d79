package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"dkpipe/hdfsio"
	"dkpipe/pipeline"
	"dkpipe/trainers/bundle"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/kerasfile"
	"dkpipe/trainers/model/formats/kerasjson"
	"dkpipe/trainers/model/formats/safetensors"
)

// The formats of models, as people name them.
const (
	formatBundle      = "bundle"      // a folder that dkpipe published
	formatKeras       = "keras"       // .keras
	formatH5          = "h5"          // .h5, whole or weights alone
	formatJSON        = "json"        // Keras JSON: a definition without weights
	formatSafetensors = "safetensors" // with the definition in its metadata
	formatONNX        = "onnx"        // written only
)

// modelSource is a model from wherever it lies.
type modelSource struct {
	at     place
	format string
	def    *model.Definition
	params []float32 // nil: a definition alone
	state  []float32
	config []byte              // Keras JSON as it stood in the file, or nil
	keras  string              // the version of Keras that wrote the file
	made   *kerasjson.Compiled // what it was compiled with there, or nil
	bytes  int64
	bundle *bundle.Bundle // nil for a file
	// ensemble, when it is not nil, has several params and states of def in the place of one; see one.
	ensemble *bundle.Ensemble
}

// hasWeights tells a model from a definition.
func (m *modelSource) hasWeights() bool { return m.params != nil || m.ensemble != nil }

// maxDefinition bounds a Keras JSON file.
const maxDefinition = 64 << 20

// jsonKey is where a safetensors file keeps its model's definition, as Keras JSON.
const jsonKey = "keras_json"

// openModel reads a published model, or a model file; its format is told by its first bytes. definition names the file
// that holds the definition of weights which come without one; it may be empty.
func (j *job) openModel(ctx context.Context, name, definition string) (*modelSource, error) {
	at, err := openPlace(ctx, j.stores, name)
	if err != nil {
		return nil, err
	}
	info, there, err := stat(ctx, at)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, &pipeline.Error{Kind: pipeline.Data, Message: at.String() + ": there is no such model",
			Hint: "name a folder that dkpipe run published, or a .keras, .h5, .json or .safetensors file"}
	}
	if info.Dir {
		b, version, err := j.openBundle(ctx, name)
		if err != nil {
			return nil, err
		}
		return &modelSource{at: version, format: formatBundle, def: b.Model, params: b.Params, state: b.State, ensemble: b.Ensemble, bundle: b}, nil
	}
	f, err := at.fs.Open(ctx, at.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := &modelSource{at: at, bytes: f.Size()}
	var arch *modelSource
	if definition != "" {
		if arch, err = j.openModel(ctx, definition, ""); err != nil {
			return nil, err
		}
	}
	bar := j.bars.start("read", 0)
	r := &watchedReader{r: f, bar: bar, total: f.Size()}
	err = m.read(ctx, r, arch)
	bar.done(err == nil, "")
	if err != nil {
		return nil, inFile(at.String(), err)
	}
	return m, nil
}

// read reads a file by its first bytes.
func (m *modelSource) read(ctx context.Context, r io.ReaderAt, arch *modelSource) error {
	head := make([]byte, min(16, m.bytes))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch text := strings.TrimLeft(string(head), " \t\r\n"); {
	case strings.HasPrefix(text, "PK\x03\x04"):
		m.format = formatKeras
		return m.readKeras(r, arch)
	case strings.HasPrefix(text, "\x89HDF"):
		m.format = formatH5
		return m.readKeras(r, arch)
	case strings.HasPrefix(text, "{"):
		m.format = formatJSON
		return m.readJSON(r)
	case len(head) >= 9 && head[8] == '{':
		m.format = formatSafetensors
		return m.readSafetensors(ctx, r, arch)
	}
	return &pipeline.Error{Kind: pipeline.Unsupported, Message: "it is none of the formats that hold a model",
		Hint: "they are .keras, .h5, Keras JSON and .safetensors; other files can be converted by Keras: keras.models.load_model(…).save(\"model.keras\")"}
}

func (m *modelSource) readKeras(r io.ReaderAt, arch *modelSource) (err error) {
	if arch != nil {
		m.def, m.config = arch.def, arch.config
		m.params, m.state, err = kerasfile.ReadWeights(r, m.bytes, m.def, m.config)
		return err
	}
	k, err := kerasfile.Read(r, m.bytes)
	if err != nil {
		return err
	}
	m.def, m.params, m.state, m.config, m.keras, m.made = k.Definition, k.Params, k.State, k.Config, k.Keras, k.Compiled
	return nil
}

func (m *modelSource) readJSON(r io.ReaderAt) error {
	if m.bytes > maxDefinition {
		return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("%d bytes are too many for a definition", m.bytes)}
	}
	m.config = make([]byte, m.bytes)
	if _, err := r.ReadAt(m.config, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var err error
	if m.def, err = kerasjson.Unmarshal(m.config); err == nil {
		m.made = kerasjson.ReadCompiled(m.config, m.def.Outputs)
	}
	return err
}

// readSafetensors finds the definition in the metadata, or in model.json beside the file, as in a bundle.
func (m *modelSource) readSafetensors(ctx context.Context, r io.ReaderAt, arch *modelSource) error {
	f, err := safetensors.Open(r, m.bytes)
	if err != nil {
		return err
	}
	switch {
	case arch != nil:
		m.def, m.config = arch.def, arch.config
	case f.Metadata[jsonKey] != "":
		m.config = []byte(f.Metadata[jsonKey])
	default:
		beside := m.at.beside(bundle.ModelName)
		if m.config, err = hdfsio.ReadFile(ctx, beside.fs, beside.path, maxDefinition); err != nil {
			return &pipeline.Error{Kind: pipeline.Unsupported, Message: "it holds tensors and no definition, and " + beside.String() + " cannot be read: " + err.Error(),
				Hint: "name the definition with --definition model.json"}
		}
	}
	if m.def == nil {
		if m.def, err = kerasjson.Unmarshal(m.config); err != nil {
			return err
		}
	}
	vars, err := m.def.Variables()
	if err != nil {
		return err
	}
	return m.readTensors(f, vars)
}

// readTensors fills params and state. A bundle keeps its state as one tensor.
func (m *modelSource) readTensors(f *safetensors.File, vars []model.Variable) error {
	params, state := 0, 0
	for _, v := range vars {
		e, ok := f.Lookup(v.Name)
		switch {
		case ok && !slices.Equal(e.Shape, v.Shape):
			return &pipeline.Error{Kind: pipeline.Corrupt, Message: fmt.Sprintf("tensor %s has the shape %v, the model's has %v", v.Name, e.Shape, v.Shape)}
		case !ok && !v.State:
			return &pipeline.Error{Kind: pipeline.Corrupt, Message: "tensor " + v.Name + " of the model is missing"}
		case v.State:
			state += v.Len
		default:
			params += v.Len
		}
	}
	m.params, m.state = make([]float32, params), make([]float32, state)
	for _, v := range vars {
		e, ok := f.Lookup(v.Name)
		if !ok {
			continue
		}
		dst := m.params
		if v.State {
			dst = m.state
		}
		if err := f.ReadFloat32(e, dst[v.Off:v.Off+v.Len]); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(vars, func(v model.Variable) bool { return v.State }); i >= 0 {
		if _, ok := f.Lookup(vars[i].Name); !ok {
			e, ok := f.Lookup("state")
			if !ok {
				return &pipeline.Error{Kind: pipeline.Corrupt, Message: "tensor " + vars[i].Name + " of the model is missing"}
			}
			return f.ReadFloat32(e, m.state)
		}
	}
	return nil
}

// inFile puts a file's name before an error and keeps its kind and hint.
func inFile(name string, err error) error {
	if strings.Contains(err.Error(), name) {
		return err
	}
	e := &pipeline.Error{Kind: pipelineKind(err), Message: name, Err: err}
	var h interface{ ErrorHint() string }
	if errors.As(err, &h) {
		e.Hint = h.ErrorHint()
	}
	return e
}

// watchedReader moves a bar. A file may be read more than once, first for its checksum.
type watchedReader struct {
	r           io.ReaderAt
	bar         *bar
	read, total int64
}

func (w *watchedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.r.ReadAt(p, off)
	w.read += int64(n)
	w.bar.set(min(w.read, w.total), w.total, humanBytes(w.read))
	return n, err
}

// formatOfOutput tells the format of a model file that is to be written by its name.
func formatOfOutput(name string) (string, error) {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".keras", ".json", ".safetensors", ".onnx":
		return ext[1:], nil
	case ".h5", ".hdf5":
		return "", &pipeline.Error{Kind: pipeline.Unsupported, Message: name + ": .h5 is read, not written", Hint: "write a .keras file; every Keras 3 loads it"}
	}
	return "", usage("end it in .keras, .json, .safetensors or .onnx", "%s: the ending does not tell the format", name)
}

// write writes a model without its preprocessing.
func (m *modelSource) write(w io.Writer, format string) error {
	if !m.hasWeights() && format != formatJSON {
		return usage("give the weights, too, or begin with new ones: dkpipe model init --keras "+m.at.String()+" --out FILE", "%s holds a definition and no weights", m.at)
	}
	switch format {
	case formatJSON:
		text, err := kerasjson.Marshal(m.def)
		if err != nil {
			return err
		}
		_, err = w.Write(append(text, '\n'))
		return err
	case formatKeras:
		return kerasfile.Write(w, &kerasfile.Model{Definition: m.def, Params: m.params, State: m.state}, m.saved())
	}
	text, err := kerasjson.Marshal(m.def)
	if err != nil {
		return err
	}
	vars, err := m.def.Variables()
	if err != nil {
		return err
	}
	tensors := make([]safetensors.Tensor, len(vars))
	for i, v := range vars {
		tensors[i] = safetensors.Tensor{Name: v.Name, Shape: v.Shape, Data: m.tensor(v)}
	}
	return safetensors.Write(w, tensors, map[string]string{jsonKey: string(text), "format": "dkpipe", "name": m.def.Name})
}

// tensor gives the numbers of a variable.
func (m *modelSource) tensor(v model.Variable) []float32 {
	if v.State {
		return m.state[v.Off : v.Off+v.Len]
	}
	return m.params[v.Off : v.Off+v.Len]
}

// saved is the time that a file notes: when the model was made, as far as that is known, so that exporting it twice gives
// the same bytes.
func (m *modelSource) saved() time.Time {
	if m.bundle != nil {
		return m.bundle.Info.Created
	}
	return time.Unix(0, 0)
}

// save writes a file that appears complete or not at all, as all files of dkpipe do; one that is there is replaced with
// force only.
func (j *job) save(ctx context.Context, out string, force bool, total int64, fill func(io.Writer) error) (place, sum, error) {
	to, err := openPlace(ctx, j.stores, out)
	if err != nil {
		return to, sum{}, err
	}
	info, there, err := stat(ctx, to)
	switch {
	case err != nil:
		return to, sum{}, err
	case there && info.Dir:
		return to, sum{}, usage("name a file in it", "%s is a folder", to)
	case there && !force:
		return to, sum{}, usage("--force replaces it", "%s exists", to)
	}
	if err := to.fs.Mkdir(ctx, path.Dir(to.path)); err != nil {
		return to, sum{}, err
	}
	j.tidy(ctx, to.beside("."))
	temp := to.beside(ownName(tempPrefix))
	bar := j.bars.start("write", 0)
	s, err := keep(ctx, temp, func(w io.Writer) error {
		return fill(&watchedWriter{w: w, bar: bar, total: total})
	})
	if err == nil {
		j.app.crash("model written")
		err = move(ctx, temp, to)
	}
	bar.done(err == nil, "")
	if err != nil {
		j.discard(ctx, temp)
		return to, s, inFile(to.String(), err)
	}
	return to, s, nil
}

type watchedWriter struct {
	w              io.Writer
	bar            *bar
	written, total int64
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.written += int64(n)
	w.bar.set(w.written, w.total, humanBytes(w.written))
	return n, err
}
