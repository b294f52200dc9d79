package kerasfile

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/hdf5"
	"dkpipe/trainers/model/kerastest"
)

// older is what make.py of testdata keeps beside the files.
type older struct{ X, Y [][]float32 }

func (s older) check(t *testing.T, what string, m *Model) {
	t.Helper()
	var x []kerastest.Tensor
	for _, data := range s.X {
		x = append(x, kerastest.Tensor{Shape: []int{4}, Data: data})
	}
	got := predict(t, m, x)
	for i, want := range s.Y {
		for k, v := range got[i] {
			if math.Abs(float64(v-want[k])) > 1e-5 {
				t.Fatalf("%s: output %d[%d] is %g, Keras says %g", what, i, k, v, want[k])
			}
		}
	}
}

// Files of Keras 2.15 and 3.0, in every format of theirs, predict what they predicted there. One output is a
// hard_sigmoid, which meant another function in Keras 2.
func TestFilesOfOlderKeras(t *testing.T) {
	all := []string{".keras", ".h5", ".weights.h5", "-weights.h5"}
	for version, names := range map[string][]string{"2.15": all, "2.15-recurrent": all, "2.15-convolutions": all, "3.0": {".keras", ".weights.h5"}} {
		var s older
		if err := json.Unmarshal(load(t, "keras-"+version+".json"), &s); err != nil {
			t.Fatal(err)
		}
		var first *Model
		for _, name := range names {
			data := load(t, "keras-"+version+name)
			if first == nil || !strings.Contains(name, "weights") {
				m, err := Read(bytes.NewReader(data), int64(len(data)))
				if err != nil {
					t.Fatalf("%s%s: %v", version, name, err)
				}
				if !strings.HasPrefix(m.Keras, strings.SplitN(version, "-", 2)[0]) {
					t.Errorf("%s%s says Keras %q", version, name, m.Keras)
				}
				s.check(t, version+name, m)
				first = m
				continue
			}
			_, err := Read(bytes.NewReader(data), int64(len(data)))
			wantKind(t, err, pipeline.Unsupported, "weights and no model")
			params, state, err := ReadWeights(bytes.NewReader(data), int64(len(data)), first.Definition, first.Config)
			if err != nil {
				t.Fatalf("%s%s: %v", version, name, err)
			}
			s.check(t, version+name, &Model{Definition: first.Definition, Params: params, State: state})
		}
	}
}

func load(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantKind(t *testing.T, err error, kind pipeline.Kind, words ...string) {
	t.Helper()
	var e *pipeline.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("got %v, want kind %s", err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+" "+e.Hint, w) {
			t.Errorf("%q does not say %q", err.Error(), w)
		}
	}
}

// small is a model of two layers with names of their own.
func small(t testing.TB) *Model {
	t.Helper()
	d := &model.Definition{Name: "m", Inputs: []model.Input{{Name: "in", Shape: []int{2}}}, Outputs: []string{"last"}}
	for i, name := range []string{"first", "norm", "last"} {
		kind, from := "dense", []string{"in", "first", "norm"}[i]
		if i == 1 {
			kind = "batch_normalization"
		}
		op, err := model.NewOp(kind)
		if err != nil {
			t.Fatal(err)
		}
		if dense, ok := op.(*model.Dense); ok {
			dense.Units = 3 - i/2
		}
		d.Layers = append(d.Layers, model.Layer{Name: name, From: []string{from}, Op: op})
	}
	m := &Model{Definition: d, Params: make([]float32, 9+6+8), State: make([]float32, 6)}
	for i := range m.Params {
		m.Params[i] = float32(i)
	}
	for i := range m.State {
		m.State[i] = float32(100 + i)
	}
	return m
}

func encode(t testing.TB, m *Model) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, m, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	m := small(t)
	data := encode(t, m)
	back, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(back.Params, m.Params) || !slices.Equal(back.State, m.State) || back.Definition.Layers[1].Name != "norm" {
		t.Errorf("got %+v", back)
	}
	if !bytes.Equal(data, encode(t, m)) {
		t.Error("written twice, the bytes differ")
	}
	m.Params = m.Params[1:]
	wantKind(t, Write(io.Discard, m, time.Time{}), pipeline.Internal, "23")
}

// Which tensor is where, and names of variables instead of numbers.
func TestPlacesOfTensors(t *testing.T) {
	m := small(t)
	numbered := map[string][]float32{"layers/dense/vars/0": m.Params[:6], "layers/dense/vars/1": m.Params[6:9], "layers/dense_1/vars/1": m.Params[21:],
		"layers/batch_normalization/vars/1": m.Params[12:15], "layers/batch_normalization/vars/2": m.State[:3]}
	z, err := openArchive(bytes.NewReader(encode(t, m)), int64(len(encode(t, m))))
	if err != nil {
		t.Fatal(err)
	}
	data, err := unpack(z.members[weightsName])
	if err != nil {
		t.Fatal(err)
	}
	f, err := hdf5.Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range numbered {
		o, err := f.Root().Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(want))
		if err := o.ReadFloat32(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v (%v)", path, got, want, err)
		}
	}
	vars, err := m.Definition.Variables()
	if err != nil {
		t.Fatal(err)
	}
	var tree hdf5.Tree
	for _, v := range vars {
		group := []string{"dense", "batch_normalization", "dense_1"}[v.Layer]
		src := m.Params
		if v.State {
			src = m.State
		}
		tree.Tensor("_layer_checkpoint_dependencies/"+group+"/vars/"+v.Name[strings.IndexByte(v.Name, '/')+1:], v.Shape, src[v.Off:v.Off+v.Len])
	}
	named := weightsFile(t, &tree)
	params, state, err := ReadWeights(bytes.NewReader(named), int64(len(named)), m.Definition, nil)
	if err != nil || !slices.Equal(params, m.Params) || !slices.Equal(state, m.State) {
		t.Errorf("by name: %v, %v, %v", params, state, err)
	}
}

func weightsFile(t testing.TB, tree *hdf5.Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWeightsThatDoNotFitAreNamed(t *testing.T) {
	m := small(t)
	for _, c := range []struct {
		change func(*hdf5.Tree)
		words  []string
	}{
		{func(t *hdf5.Tree) { t.Group("layers") }, []string{"layers/dense", `"first" (Dense)`}},
		{func(t *hdf5.Tree) { t.Group("other") }, []string{"neither layers nor the attribute layer_names"}},
		{func(t *hdf5.Tree) { t.Tensor("layers/dense/vars/0", []int{2, 3}, make([]float32, 6)) }, []string{"layers/dense/vars has 1 variables", `"first"`, "has 2"}},
		{func(t *hdf5.Tree) {
			t.Tensor("layers/dense/vars/0", []int{3, 2}, make([]float32, 6))
			t.Tensor("layers/dense/vars/1", []int{3}, make([]float32, 3))
			for i := range 4 {
				t.Tensor("layers/batch_normalization/vars/"+string(rune('0'+i)), []int{3}, make([]float32, 3))
			}
			t.Tensor("layers/dense_1/vars/0", []int{3, 2}, make([]float32, 6))
			t.Tensor("layers/dense_1/vars/1", []int{2}, make([]float32, 2))
		}, []string{"/layers/dense/vars/0", "[3 2]", "first/kernel", "[2 3]"}},
		{func(t *hdf5.Tree) {
			t.Tensor("layers/dense/vars/0", []int{2, 3}, make([]float32, 6))
			t.Tensor("layers/dense/vars/weight", []int{3}, make([]float32, 3))
		}, []string{`"first"`, "bias"}},
		{func(t *hdf5.Tree) { t.Attribute("", "layer_names", "one") }, []string{"/one"}},
	} {
		var tree hdf5.Tree
		c.change(&tree)
		data := weightsFile(t, &tree)
		_, _, err := ReadWeights(bytes.NewReader(data), int64(len(data)), m.Definition, nil)
		if err == nil {
			t.Errorf("%v: was read", c.words)
			continue
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
}

// repack writes an archive anew, with members changed, left out or added.
func repack(t testing.TB, data []byte, method uint16, change map[string][]byte) []byte {
	t.Helper()
	z, err := openArchive(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for name, m := range z.members {
		if all[name], err = unpack(m); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range change {
		all[name] = b
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{metadataName, configName, weightsName, "model.weights.npz", "assets/x"} {
		content, ok := all[name]
		if !ok || content == nil {
			continue
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPackedArchivesAreRead(t *testing.T) {
	m := small(t)
	data := repack(t, encode(t, m), zip.Deflate, map[string][]byte{"assets/x": []byte("ignored")})
	back, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil || !slices.Equal(back.Params, m.Params) {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	good := encode(t, small(t))
	flipped := slices.Clone(good)
	flipped[bytes.Index(flipped, []byte("TREE"))+300] ^= 1
	lambda := []byte(`{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,2]}},{"class_name":"Lambda","config":{"name":"l","function":"…"}}]}}`)
	nest := func(n int) []byte { // n models in each other
		head := `{"class_name":"Sequential","config":{"name":"s","layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,2],"name":"in"}},`
		return []byte(strings.Repeat(head, n) + `{"class_name":"Flatten","config":{"name":"f"}}` + strings.Repeat("]}}", n))
	}
	for _, c := range []struct {
		name  string
		data  []byte
		kind  pipeline.Kind
		words []string
	}{
		{"no config", repack(t, good, zip.Store, map[string][]byte{configName: nil}), pipeline.Corrupt, []string{"no config.json"}},
		{"no weights", repack(t, good, zip.Store, map[string][]byte{weightsName: nil}), pipeline.Corrupt, []string{"no model.weights.h5"}},
		{"npz", repack(t, good, zip.Store, map[string][]byte{weightsName: nil, "model.weights.npz": {1}}), pipeline.Unsupported, []string{"model.weights.npz", ".weights.h5"}},
		{"a Lambda", repack(t, good, zip.Store, map[string][]byte{configName: lambda}), pipeline.Unsupported, []string{"config.json", `"l" (Lambda)`, "Dense"}},
		{"deep", repack(t, good, zip.Store, map[string][]byte{configName: nest(1000)}), pipeline.Corrupt, []string{"nested more than"}},
		{"weights are text", repack(t, good, zip.Store, map[string][]byte{weightsName: []byte("hello")}), pipeline.Corrupt, []string{weightsName, "HDF5"}},
		{"metadata", repack(t, good, zip.Store, map[string][]byte{metadataName: []byte("[")}), pipeline.Corrupt, []string{metadataName}},
		{"a bomb", repack(t, good, zip.Deflate, map[string][]byte{weightsName: make([]byte, 32<<20)}), pipeline.Corrupt, []string{weightsName, "unpacks from"}},
		{"a flipped bit", flipped, pipeline.Corrupt, []string{weightsName, "checksum"}},
		{"cut off", good[:len(good)-30], pipeline.Corrupt, []string{"not a .keras archive"}},
		{"other bytes", []byte("hello, world"), pipeline.Corrupt, []string{"HDF5"}},
		{"nothing", nil, pipeline.Corrupt, []string{"HDF5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(c.data), int64(len(c.data)))
			wantKind(t, err, c.kind, c.words...)
		})
	}
}

// A length that lies: the member says that it is small, and is not.
func TestAMemberThatUnpacksToMoreThanItSays(t *testing.T) {
	data := repack(t, encode(t, small(t)), zip.Deflate, map[string][]byte{configName: make([]byte, 1<<20)})
	// The central directory's entry of config.json holds the unpacked length at offset 24.
	at := bytes.LastIndex(data, []byte(configName)) - 46
	copy(data[at+24:], []byte{10, 0, 0, 0})
	_, err := Read(bytes.NewReader(data), int64(len(data)))
	wantKind(t, err, pipeline.Corrupt, configName, "damaged")
}

// flaky fails after some reads.
type flaky struct {
	r    io.ReaderAt
	left int
}

var errGone = errors.New("the disk is gone")

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errGone
	}
	return f.r.ReadAt(p, off)
}

// A store that fails is told as it is, not as a corrupt file.
func TestErrorsOfTheStoreArePassedOn(t *testing.T) {
	data := encode(t, small(t))
	for n := 0; ; n++ {
		_, err := Read(&flaky{bytes.NewReader(data), n}, int64(len(data)))
		if err == nil {
			if n < 5 {
				t.Errorf("only %d reads", n)
			}
			return
		}
		if !errors.Is(err, errGone) {
			t.Fatalf("after %d reads: %v", n, err)
		}
	}
}

func TestNamesOfClasses(t *testing.T) {
	for class, want := range map[string]string{"Dense": "dense", "Conv1D": "conv1d", "Conv2D": "conv2d", "MaxPooling2D": "max_pooling2d", "GlobalAveragePooling2D": "global_average_pooling2d",
		"BatchNormalization": "batch_normalization", "ReLU": "re_lu", "LeakyReLU": "leaky_re_lu", "ELU": "elu", "LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn", "Conv2DTranspose": "conv2d_transpose", "InputLayer": "input_layer"} {
		if got := snake(class); got != want {
			t.Errorf("%s is %q, want %q", class, got, want)
		}
	}
}

// Whatever the bytes, nothing panics and nothing asks for more memory than the file can fill.
func FuzzRead(f *testing.F) {
	f.Add(encode(f, small(f)))
	f.Add(repack(f, encode(f, small(f)), zip.Deflate, nil))
	f.Add(load(f, "keras-2.15-weights.h5"))
	f.Add(load(f, "keras-2.15-recurrent.keras"))
	f.Add(load(f, "keras-2.15-recurrent.h5"))
	f.Add(load(f, "keras-2.15-convolutions.h5"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = Read(bytes.NewReader(data), int64(len(data)))
		_, _, _ = ReadWeights(bytes.NewReader(data), int64(len(data)), small(t).Definition, nil)
	})
}
