package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline/expr"
	"dkpipe/trainers/model"
)

// folder is a store in memory.
type folder struct {
	files   map[string][]byte
	order   []string
	aborted []string
	failAt  string // a file whose Write fails
	noClose string // a file whose Close fails
}

type output struct {
	f    *folder
	name string
	buf  bytes.Buffer
}

var errFull = errors.New("no space left")

func (f *folder) Create(_ context.Context, name string) (Output, error) {
	return &output{f: f, name: name}, nil
}

func (o *output) Write(p []byte) (int, error) {
	if o.name == o.f.failAt {
		return 0, errFull
	}
	return o.buf.Write(p)
}

func (o *output) Close() error {
	if o.name == o.f.noClose {
		return errFull
	}
	o.f.files[o.name] = o.buf.Bytes()
	o.f.order = append(o.f.order, o.name)
	return nil
}

func (o *output) Abort() { o.f.aborted = append(o.f.aborted, o.name) }

type blob struct {
	*bytes.Reader
	closed *int
}

func (b blob) Size() int64  { return b.Reader.Size() }
func (b blob) Close() error { *b.closed++; return nil }

type opener struct {
	f            *folder
	open, closed int
}

func (o *opener) Open(_ context.Context, name string) (Blob, error) {
	data, ok := o.f.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	o.open++
	return blob{bytes.NewReader(data), &o.closed}, nil
}

func newFolder() *folder { return &folder{files: map[string][]byte{}} }

func (f *folder) copy() *folder {
	c := newFolder()
	for name, data := range f.files {
		c.files[name] = slices.Clone(data)
	}
	return c
}

func example(t testing.TB) *Bundle {
	t.Helper()
	d, err := model.FromLayers([]model.LayerItem{
		{Name: "dense", Decode: func(into any) error { into.(*model.Dense).Units = 5; return nil }},
		{Name: "dropout", Decode: func(into any) error { into.(*model.Dropout).Rate = 0.25; return nil }},
		{Name: "dense", Decode: func(into any) error {
			op := into.(*model.Dense)
			op.Units, op.Activation = 3, "softmax"
			return nil
		}},
	}, []model.Input{{Shape: []int{4}}})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := d.Layout()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	params := make([]float32, 4*5+5+5*3+3)
	for i := range params {
		params[i] = 2*r.Float32() - 1
	}
	return &Bundle{
		Model: d, Layout: layout, Params: params,
		Transform: []expr.Fitted{{Op: "min_max", Params: json.RawMessage(`{"lo":[0],"hi":[16]}`), Inputs: []string{"pixels"},
			Outputs: []expr.Column{{Name: "features", Type: expr.Type{Kind: expr.Float32, Width: 4}}}}},
		TransformSHA256: strings.Repeat("ab", 32), X: []string{"features"}, Y: []string{"target"},
		Metrics: json.RawMessage(`{"test":{"accuracy":0.97,"loss":0.1}}`),
		History: []byte("{\"epoch\":0}\n{\"epoch\":1}\n"), Spec: []byte("name: digits\n"),
		Info: Info{Created: time.Date(2026, 11, 22, 3, 4, 5, 6000, time.UTC), Run: "r1", Slot: "2026-11-22", Status: "complete", Trainer: "agn", Loss: "categorical_crossentropy",
			MetricNames: []string{"accuracy"}, SpecSHA256: strings.Repeat("cd", 32), DkpipeVersion: "1.2.3", Dataset: "hdfs://ns/data/v000003"},
	}
}

func saved(t testing.TB) *folder {
	t.Helper()
	f := newFolder()
	if err := Save(context.Background(), f, example(t)); err != nil {
		t.Fatal(err)
	}
	return f
}

// compactTransform undoes the indentation of raw JSON inside the transformers.
func compactTransform(t testing.TB, list []expr.Fitted) {
	t.Helper()
	for i := range list {
		var b bytes.Buffer
		if err := json.Compact(&b, list[i].Params); err != nil {
			t.Fatal(err)
		}
		list[i].Params = b.Bytes()
	}
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	f := saved(t)
	want := append(files(0), Name)
	if !slices.Equal(f.order, want) {
		t.Errorf("files %v, want %v: bundle.json comes last", f.order, want)
	}
	o := &opener{f: f}
	b, err := Load(context.Background(), o, "hdfs://ns/models/v000001")
	if err != nil {
		t.Fatal(err)
	}
	compactTransform(t, b.Transform)
	if !reflect.DeepEqual(b, example(t)) {
		t.Errorf("loaded %+v", b)
	}
	if o.open != 7 || o.closed != 7 {
		t.Errorf("%d files opened, %d closed", o.open, o.closed)
	}
	again := newFolder()
	if err := Save(context.Background(), again, b); err != nil {
		t.Fatal(err)
	}
	for name, data := range f.files {
		if !bytes.Equal(data, again.files[name]) {
			t.Errorf("%s changed when the bundle was saved again", name)
		}
	}
}

func TestStateIsKept(t *testing.T) {
	b := example(t)
	b.State = []float32{1, 2, 3}
	f := newFolder()
	if err := Save(context.Background(), f, b); err != nil {
		t.Fatal(err)
	}
	got, err := Load(context.Background(), &opener{f: f}, "m")
	if err != nil || !slices.Equal(got.State, b.State) || !slices.Equal(got.Params, b.Params) {
		t.Errorf("state %v, %v", got, err)
	}
	if _, err := got.Network(1); err == nil {
		t.Error("a state that the model does not have was accepted")
	}
}

func TestAnEmptyBundleHasAllFiles(t *testing.T) {
	b := example(t)
	b.Transform, b.Metrics, b.History, b.Spec = nil, nil, nil, nil
	f := newFolder()
	if err := Save(context.Background(), f, b); err != nil {
		t.Fatal(err)
	}
	got, err := Load(context.Background(), &opener{f: f}, "m")
	if err != nil || len(got.Transform) != 0 || string(got.Metrics) != "{}" || len(got.History) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// kindOf gives the kind that the command line sees.
func kindOf(err error) string {
	if k, ok := asKind(err); ok {
		return k.ErrorKind()
	}
	return fmt.Sprintf("none (%v)", err)
}

// Every byte of every listed file counts.
func TestAChangedByteNamesTheFile(t *testing.T) {
	f := saved(t)
	for _, name := range files(0) {
		for _, at := range []int{0, len(f.files[name]) / 2, len(f.files[name]) - 1} {
			c := f.copy()
			c.files[name][at] ^= 4
			_, err := Load(context.Background(), &opener{f: c}, "hdfs://ns/m")
			if kindOf(err) != "corrupt" || !strings.Contains(err.Error(), "hdfs://ns/m/"+name) || !strings.Contains(err.Error(), "SHA-256") {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
		}
	}
}

func TestFilesOfAnotherLengthAreRefused(t *testing.T) {
	f := saved(t)
	for _, name := range files(0) {
		for _, data := range [][]byte{f.files[name][:len(f.files[name])-1], append(slices.Clone(f.files[name]), 0), {}} {
			c := f.copy()
			c.files[name] = data
			_, err := Load(context.Background(), &opener{f: c}, "m")
			if kindOf(err) != "corrupt" || !strings.Contains(err.Error(), "m/"+name) {
				t.Errorf("%s of %d bytes: %v", name, len(data), err)
			}
		}
	}
}

// shrinking is a blob that says another size than it has.
type shrinking struct{ opener }

type shrunk struct{ Blob }

func (s shrunk) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.Size()-3 {
		n, _ := s.Blob.ReadAt(p[:max(0, min(int64(len(p)), s.Size()-3-off))], off)
		return n, io.EOF
	}
	return s.Blob.ReadAt(p, off)
}

func (s *shrinking) Open(ctx context.Context, name string) (Blob, error) {
	b, err := s.opener.Open(ctx, name)
	return shrunk{b}, err
}

func TestAFileThatEndsWhileItIsReadIsCorrupt(t *testing.T) {
	f := saved(t)
	_, err := Load(context.Background(), &shrinking{opener{f: f}}, "m")
	if kindOf(err) != "corrupt" || !strings.Contains(err.Error(), "ends at byte") {
		t.Errorf("got %v", err)
	}
	l := loader{o: &shrinking{opener{f: f}}, where: "m", sums: map[string]fileSum{WeightsName: {Bytes: int64(len(f.files[WeightsName]))}}}
	b := example(t)
	if _, _, err := l.weights(context.Background(), WeightsName, b.Layout, len(b.Params)); kindOf(err) != "corrupt" || !strings.Contains(err.Error(), WeightsName) {
		t.Errorf("got %v", err)
	}
}

func TestMissingFilesSaySo(t *testing.T) {
	f := saved(t)
	for _, name := range append(files(0), Name) {
		c := f.copy()
		delete(c.files, name)
		_, err := Load(context.Background(), &opener{f: c}, "m")
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "m/"+name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// replaceIndex changes bundle.json and nothing else.
func replaceIndex(f *folder, change func(*index)) *folder {
	c := f.copy()
	var x index
	if err := json.Unmarshal(c.files[Name], &x); err != nil {
		panic(err)
	}
	change(&x)
	c.files[Name], _ = json.Marshal(x)
	return c
}

func TestBrokenIndexesAreRefused(t *testing.T) {
	f := saved(t)
	garbage := f.copy()
	garbage.files[Name] = []byte("{")
	for name, c := range map[string]struct {
		f    *folder
		kind string
		word string
	}{
		"not JSON":        {garbage, "corrupt", Name},
		"newer format":    {replaceIndex(f, func(x *index) { x.Format = "dkpipe-model/9" }), "unsupported", "dkpipe-model/9"},
		"file not listed": {replaceIndex(f, func(x *index) { x.Files = x.Files[1:] }), "corrupt", ModelName},
		"parameters":      {replaceIndex(f, func(x *index) { x.Parameters++ }), "corrupt", "44"},
		"a listed path":   {replaceIndex(f, func(x *index) { x.Files[0].Name = "../" + ModelName }), "corrupt", ModelName},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(context.Background(), &opener{f: c.f}, "m")
			if kindOf(err) != c.kind || !strings.Contains(err.Error(), c.word) {
				t.Errorf("got %v of kind %s", err, kindOf(err))
			}
		})
	}
}

// Weights of another model, with a right hash, must not be taken for this one's.
func TestTensorsMustBeThoseOfTheModel(t *testing.T) {
	f, other := saved(t), newFolder()
	b := example(t)
	b.Model.Layers[0].Name = "renamed"
	b.Model.Layers[1].From = []string{"renamed"}
	b.Layout, _ = b.Model.Layout()
	if err := Save(context.Background(), other, b); err != nil {
		t.Fatal(err)
	}
	mixed := replaceIndex(other, func(*index) {})
	var x, y index
	if err := errors.Join(json.Unmarshal(other.files[Name], &x), json.Unmarshal(f.files[Name], &y)); err != nil {
		t.Fatal(err)
	}
	mixed.files[WeightsName] = f.files[WeightsName]
	mixed = replaceIndex(mixed, func(x *index) { x.Files[1] = y.Files[1] })
	_, err := Load(context.Background(), &opener{f: mixed}, "m")
	if kindOf(err) != "corrupt" || !strings.Contains(err.Error(), `"dense/kernel"`) {
		t.Errorf("got %v", err)
	}
}

func TestAFailingStoreIsAborted(t *testing.T) {
	for _, name := range append(files(0), Name) {
		for _, f := range []*folder{{files: map[string][]byte{}, failAt: name}, {files: map[string][]byte{}, noClose: name}} {
			b := example(t)
			err := Save(context.Background(), f, b)
			if !errors.Is(err, errFull) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
			if !slices.Equal(f.aborted, []string{name}) {
				t.Errorf("%s: aborted %v", name, f.aborted)
			}
			if _, ok := f.files[Name]; ok {
				t.Errorf("%s failed, but bundle.json was written", name)
			}
		}
	}
}

func TestPartsThatDoNotFitAreNotSaved(t *testing.T) {
	for name, change := range map[string]func(*Bundle){
		"parameters short": func(b *Bundle) { b.Params = b.Params[1:] },
		"parameters long":  func(b *Bundle) { b.Params = append(b.Params, 1) },
		"layout":           func(b *Bundle) { b.Layout = b.Layout[1:] },
		"metrics":          func(b *Bundle) { b.Metrics = json.RawMessage("{") },
	} {
		t.Run(name, func(t *testing.T) {
			f, b := newFolder(), example(t)
			change(b)
			if err := Save(context.Background(), f, b); kindOf(err) != "internal" || len(f.files) != 0 {
				t.Errorf("%v, %d files", err, len(f.files))
			}
		})
	}
}

func TestNetworkIsReadyToPredict(t *testing.T) {
	b := example(t)
	n, err := b.Network(7)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.Params(), b.Params) || &n.Params()[0] == &b.Params[0] {
		t.Error("the parameters are not a copy of the bundle's")
	}
	b.Params = b.Params[1:]
	if _, err := b.Network(7); kindOf(err) != "corrupt" {
		t.Errorf("got %v", err)
	}
}

// Whatever bundle.json says, Load must not panic and must not take a changed folder for a whole one.
func FuzzIndex(f *testing.F) {
	good := saved(f)
	f.Add(good.files[Name])
	f.Add([]byte(`{"format":"dkpipe-model/1","files":[{"name":"model.json","bytes":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := good.copy()
		c.files[Name] = data
		b, err := Load(context.Background(), &opener{f: c}, "m")
		if err == nil && !slices.Equal(b.Params, example(t).Params) {
			t.Error("accepted with other parameters")
		}
	})
}
