package main

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dkpipe/hdfsio/hdfstest"
	"dkpipe/internal/box/boxtest"
	"dkpipe/trainers/model/kerastest"
)

// modelResult is the JSON of the model commands.
type modelResult struct {
	Command, Status, Model, Output, Format, Name, Keras string
	Parameters, State                                   int
	Weights, Equal                                      bool
	Bytes                                               int64
	SHA256                                              string
	Layers                                              []struct {
		Name, Kind, Layer, What, A, B string
		Shape                         []int
		Parameters, State             int
		From                          []string
	}
	Tensors []struct {
		Name    string
		Max     *float64
		Differs bool
	}
	Inputs  []struct{ Name, Type string }
	Outputs json.RawMessage
	Info    map[string]any
	X       []string
	Error   *failure
}

func modelCommand(t *testing.T, dir string, code int, args ...string) modelResult {
	t.Helper()
	p := start(t, dir, nil, append(append([]string{"model"}, args...), "--json")...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe model %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	var r modelResult
	d := json.NewDecoder(bytes.NewReader(p.stdout.Bytes()))
	if err := d.Decode(&r); err != nil || d.More() {
		t.Fatalf("stdout is not one JSON object: %v\n%s", err, &p.stdout)
	}
	return r
}

func modelText(t *testing.T, dir string, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, dir, nil, append([]string{"model"}, args...)...)
	if got := p.wait(t); got != code {
		t.Fatalf("dkpipe model %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, &p.stdout, &p.stderr)
	}
	return p.stdout.String(), p.stderr.String()
}

// trainedDigits runs the quickstart for a moment, with other layers if given, and gives its folder.
func trainedDigits(t *testing.T, changes ...string) string {
	t.Helper()
	dir := quickstart(t, changes...)
	run(t, dir, 0, "run", "-f", "job.yaml", "--set", "train.epochs=1,gate.at_least=0")
	return dir
}

const denseLayer = "    - dense: {units: 64, activation: relu}\n"

// aCNN is the quickstart with a network of every layer that a small image network has.
const aCNN = "    - reshape: {target_shape: [8, 8, 1]}\n    - conv2d: {filters: 6, kernel_size: 3, padding: same, activation: relu}\n    - batch_normalization: {}\n" +
	"    - max_pooling2d: {}\n    - conv2d: {filters: 4, kernel_size: 2, strides: 2}\n    - flatten: {}\n    - dropout: {rate: 0.2}\n"

// predicted reads what dkpipe predict says about the raw rows of a folder.
func predicted(t *testing.T, dir string) (probabilities [][]float64) {
	t.Helper()
	run(t, dir, 0, "predict", "--model", "out/model", "--in", "digits.csv", "--out", "p.csv", "--probabilities")
	for _, row := range table(t, filepath.Join(dir, "p.csv")) {
		var p []float64
		if err := json.Unmarshal([]byte(row["probabilities"]), &p); err != nil {
			t.Fatal(err)
		}
		probabilities = append(probabilities, p)
	}
	return probabilities
}

func table(t *testing.T, name string) (rows []map[string]string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all[1:] {
		row := map[string]string{}
		for i, v := range r {
			row[all[0][i]] = v
		}
		rows = append(rows, row)
	}
	return rows
}

func nearRows(t *testing.T, what string, got []float32, want [][]float64) {
	t.Helper()
	if len(got) != len(want)*len(want[0]) {
		t.Fatalf("%s: %d numbers for %d rows of %d", what, len(got), len(want), len(want[0]))
	}
	for i, v := range got {
		if w := want[i/len(want[0])][i%len(want[0])]; math.Abs(float64(v)-w) > 1e-5 {
			t.Fatalf("%s: row %d, class %d: %g, predict says %g", what, i/len(want[0]), i%len(want[0]), v, w)
		}
	}
}

// TestAnExportedModelPredictsTheSameElsewhere: ONNX Runtime on raw columns, and Keras on transformed rows.
func TestAnExportedModelPredictsTheSameElsewhere(t *testing.T) {
	o := kerastest.Start(t)
	for name, dir := range map[string]string{"quickstart": trainedDigits(t), "cnn": trainedDigits(t, denseLayer, aCNN)} {
		t.Run(name, func(t *testing.T) {
			want := predicted(t, dir)
			raw := table(t, filepath.Join(dir, "digits.csv"))
			column := func(k int) []float64 {
				var v []float64
				for _, r := range raw {
					x, err := strconv.ParseFloat(r["p"+strconv.Itoa(k)], 64)
					if err != nil {
						t.Fatal(err)
					}
					v = append(v, x)
				}
				return v
			}
			r := modelCommand(t, dir, 0, "export", "--to", "onnx", "--out", "m.onnx", "out/model")
			if len(r.Inputs) != 64 || r.Inputs[0].Name != "p0" || r.Inputs[0].Type != "float64" {
				t.Errorf("%d inputs, the first is %+v", len(r.Inputs), r.Inputs[0])
			}
			like := modelCommand(t, dir, 0, "export", "--out", "like.onnx", "--like", "digits.csv", "out/model")
			if like.Inputs[0].Type != "int64" {
				t.Errorf("with --like the first input is %+v", like.Inputs[0])
			}
			alone := modelCommand(t, dir, 0, "export", "--to", "onnx", "--without-transform", "--out", "alone.onnx", "out/model")
			if len(alone.Inputs) != 1 || alone.Inputs[0].Name != "features" || alone.Inputs[0].Type != "float32" {
				t.Errorf("without the transform: %+v", alone.Inputs)
			}
			modelCommand(t, dir, 0, "export", "--to", "keras", "--out", "m.keras", "out/model")

			var in []kerastest.Tensor
			features := make([]float32, 64*len(raw))
			for k := range 64 {
				v := column(k)
				in = append(in, kerastest.Tensor{Name: "p" + strconv.Itoa(k), Shape: []int{len(v), 1}, Wide: v})
				for i, x := range v {
					features[i*64+k] = float32(x / 16)
				}
			}
			x := kerastest.Tensor{Name: "features", Shape: []int{len(raw), 64}, Data: features}
			for file, inputs := range map[string][]kerastest.Tensor{"m.onnx": in, "like.onnx": in, "alone.onnx": {x}} {
				out, err := o.RunONNX(filepath.Join(dir, file), inputs...)
				if err != nil {
					t.Fatal(err)
				}
				nearRows(t, file, out[0].Data, want)
			}
			l, err := o.Load(filepath.Join(dir, "m.keras"), x)
			if err != nil {
				t.Fatal(err)
			}
			nearRows(t, "m.keras", l.Outputs[0].Data, want)
		})
	}
}

// TestAModelSurvivesEveryFormat converts from each to each; nothing changes on the way.
func TestAModelSurvivesEveryFormat(t *testing.T) {
	dir := trainedDigits(t, denseLayer, aCNN)
	from := "out/model"
	for i, to := range []string{"a.keras", "b.safetensors", "c/d.keras", "e.json", "f.safetensors"} {
		if to == "e.json" {
			if r := modelCommand(t, dir, 0, "convert", from, to); r.Format != "json" {
				t.Errorf("%+v", r)
			}
			continue
		}
		r := modelCommand(t, dir, 0, "convert", from, to)
		if r.Output != to || r.Bytes == 0 || len(r.SHA256) != 64 || r.Parameters == 0 {
			t.Errorf("%d: %+v", i, r)
		}
		if d := modelCommand(t, dir, 0, "diff", "out/model", to); !d.Equal || len(d.Layers) != 0 || len(d.Tensors) != 10 {
			t.Errorf("%s: %+v", to, d)
		}
		from = to
	}
	// The bundle's own weights, with the definition that lies beside them; and weights whose definition is named.
	modelCommand(t, dir, 0, "diff", "out/model", "out/model/v000001/weights.safetensors")
	modelCommand(t, dir, 0, "convert", "--definition", "e.json", "a.keras", "g.keras")
	modelCommand(t, dir, 0, "diff", "g.keras", "a.keras")
	one, err := os.ReadFile(filepath.Join(dir, "a.keras"))
	if err != nil {
		t.Fatal(err)
	}
	modelCommand(t, dir, 0, "convert", "--force", "out/model", "a.keras")
	if two, err := os.ReadFile(filepath.Join(dir, "a.keras")); err != nil || !bytes.Equal(one, two) {
		t.Errorf("written twice, the bytes differ: %v", err)
	}
}

func TestInspectShowsWhatAModelIs(t *testing.T) {
	dir := trainedDigits(t, denseLayer, aCNN)
	modelCommand(t, dir, 0, "convert", "out/model", "m.keras")
	for _, name := range []string{"out/model", "out/model/v000001", "m.keras"} {
		r := modelCommand(t, dir, 0, "inspect", name)
		if len(r.Layers) != 9 || r.Layers[0].Kind != "input" || r.Layers[3].Kind != "batch_normalization" || r.Layers[3].State != 12 || r.Layers[3].Parameters != 12 ||
			!slices.Equal(r.Layers[2].Shape, []int{8, 8, 6}) || r.Layers[2].From[0] != "reshape" || r.State != 12 || !r.Weights {
			t.Errorf("%s: %+v", name, r)
		}
		if bundled := name != "m.keras"; bundled != (r.Info != nil) || bundled && (r.Info["trainer"] != "agn" || !slices.Equal(r.X, []string{"features"})) {
			t.Errorf("%s: info %v", name, r.Info)
		}
	}
	out, _ := modelText(t, dir, 0, "inspect", "out/model")
	for _, want := range []string{"conv2d (conv2d)", "(None, 8, 8, 6)", "60", "Total params: 354", "trained:     342", "not trained: 12", "by agn on out/dataset/v000001", "accuracy",
		"transform assemble: p0, p1 … p63 (64 columns) -> pixels", "transform min_max: pixels -> features", "spec "} {
		if !strings.Contains(out, want) {
			t.Errorf("inspect does not say %q:\n%s", want, out)
		}
	}
}

func TestDiffTellsWhatDiffers(t *testing.T) {
	dir := trainedDigits(t)
	run(t, dir, 0, "train", "-f", "job.yaml", "--set", "train.epochs=1,train.seed=9,gate.at_least=0")
	r := modelCommand(t, dir, 1, "diff", "out/model/v000001", "out/model/v000002")
	if r.Status != "ok" || r.Equal || len(r.Layers) != 0 || len(r.Tensors) != 4 || !r.Tensors[0].Differs || *r.Tensors[0].Max == 0 {
		t.Errorf("%+v", r)
	}
	modelCommand(t, dir, 0, "diff", "--tolerance", "100", "out/model/v000001", "out/model/v000002")
	out, _ := modelText(t, dir, 1, "diff", "out/model/v000001", "out/model/v000002")
	if !strings.Contains(out, "dense/kernel") || !strings.HasSuffix(out, "different\n") {
		t.Error(out)
	}
	files(t, dir, "other.yaml", `model: {layers: [{dense: {units: 63, activation: tanh}}, {dropout: {rate: 0.5}}, {dense: {units: 10, activation: softmax}}]}`)
	text, err := os.ReadFile(filepath.Join(dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files(t, dir, "job.yaml", strings.Replace(string(text), denseLayer, "    - dense: {units: 63, activation: tanh, kernel_initializer: he_normal}\n    - dropout: {rate: 0.5}\n", 1))
	modelCommand(t, dir, 0, "init", "-f", "job.yaml", "--out", "other.keras")
	r = modelCommand(t, dir, 1, "diff", "out/model/v000001", "other.keras")
	said := map[string]string{}
	for _, c := range r.Layers {
		said[c.Layer+" "+c.What] = c.A + "|" + c.B
	}
	want := map[string]string{"dense Units": "64|63", "dense Activation": `"relu"|"tanh"`, "dense KernelInitializer": `"glorot_uniform"|"he_normal"`, "dense_1 reads": "dense|dropout", "dropout only in the second": "|dropout"}
	if !maps.Equal(said, want) {
		t.Errorf("got %q", said)
	}
	modelCommand(t, dir, 3, "diff", "out/model", "nothing.keras")
}

func TestInitDrawsTheWeightsThatARunBeginsWith(t *testing.T) {
	dir := trainedDigits(t)
	modelCommand(t, dir, 0, "init", "-f", "job.yaml", "--out", "a.keras")
	modelCommand(t, dir, 0, "init", "-f", "job.yaml", "--seed", "1", "--out", "b.keras") // the spec's seed
	modelCommand(t, dir, 0, "diff", "a.keras", "b.keras")
	modelCommand(t, dir, 0, "init", "-f", "job.yaml", "--seed", "2", "--out", "c.safetensors")
	modelCommand(t, dir, 1, "diff", "a.keras", "c.safetensors")
	modelCommand(t, dir, 0, "convert", "a.keras", "m.json")
	modelCommand(t, dir, 0, "init", "--keras", "m.json", "--seed", "1", "--out", "d.keras")
	modelCommand(t, dir, 0, "diff", "a.keras", "d.keras")
	if r := modelCommand(t, dir, 1, "diff", "a.keras", "m.json"); len(r.Layers) != 0 || len(r.Tensors) != 0 {
		t.Errorf("with a definition: %+v", r)
	}
}

// TestModelCommandsThatCannot: each says what is wrong, where, and what to do, and leaves nothing behind.
func TestModelCommandsThatCannot(t *testing.T) {
	dir := trainedDigits(t)
	modelCommand(t, dir, 0, "convert", "out/model", "m.keras")
	modelCommand(t, dir, 0, "convert", "out/model", "m.json")
	lambda := `{"class_name":"Sequential","config":{"layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,4]}},{"class_name":"Lambda","config":{"name":"mine"}}]}}`
	var bomb bytes.Buffer
	z := zip.NewWriter(&bomb)
	w, err := z.Create("config.json")
	if err == nil {
		_, err = w.Write(bytes.Repeat([]byte(" "), 20<<20))
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	keras, err := os.ReadFile(filepath.Join(dir, "m.keras"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(keras)
	flipped[len(flipped)/2] ^= 1
	files(t, dir, "lambda.json", lambda, "bomb.keras", bomb.String(), "flipped.keras", string(flipped), "cut.keras", string(keras[:1000]), "text.txt", "hello, world",
		"pickle.pkl", "\x80\x04\x95", "notes.md", "", "weights.json", "{}")
	before := tree(t, dir)
	for _, c := range []struct {
		code  int
		args  string
		words []string
	}{
		{3, "inspect nothing", []string{"nothing: there is no such model", "dkpipe run"}},
		{2, "inspect lambda.json", []string{"lambda.json", `layer "mine" (Lambda)`, "Dense, Dropout"}},
		{3, "inspect bomb.keras", []string{"bomb.keras", "config.json unpacks from", "to 20971520"}},
		{3, "inspect flipped.keras", []string{"flipped.keras", "model.weights.h5 is damaged", "checksum"}},
		{3, "inspect cut.keras", []string{"cut.keras", "not a .keras archive"}},
		{2, "inspect text.txt", []string{"text.txt", "none of the formats", ".safetensors"}},
		{2, "inspect pickle.pkl", []string{"pickle.pkl", "none of the formats"}},
		{2, "inspect notes.md", []string{"none of the formats"}},
		{3, "inspect weights.json", []string{"weights.json", "class_name"}},
		{3, "inspect out", []string{"out"}},
		{2, "convert m.keras m.keras", []string{"m.keras is the file that is read"}},
		{2, "convert out/model m.keras", []string{"m.keras exists", "--force"}},
		{2, "convert m.keras out", []string{"ending", ".keras"}},
		{2, "convert m.keras m.h5", []string{".h5 is read, not written"}},
		{2, "convert m.keras m.onnx", []string{"model export --to onnx"}},
		{2, "convert m.json n.keras", []string{"m.json holds a definition and no weights", "model init"}},
		{2, "export --to keras out/model", []string{"needs --out"}},
		{2, "export --to tflite --out m.tflite out/model", []string{"tflite", "keras, onnx and safetensors"}},
		{2, "export --out m.bin out/model", []string{"m.bin", "ending"}},
		{2, "export --to keras --like digits.csv --out n.keras out/model", []string{"--to onnx"}},
		{2, "export --to onnx --like digits.csv --out n.onnx m.keras", []string{"--like"}},
		{2, "export --to onnx --out n.onnx m.json", []string{"no weights"}},
		{2, "init --out n.keras", []string{"-f or --keras"}},
		{2, "init --keras m.json --out n.json", []string{".keras or .safetensors"}},
		{2, "diff --tolerance -1 m.keras m.keras", []string{"tolerance"}},
	} {
		r := modelCommand(t, dir, c.code, strings.Fields(c.args)...)
		if r.Error == nil {
			t.Errorf("%s: %+v", c.args, r)
			continue
		}
		for _, word := range c.words {
			if !strings.Contains(r.Error.Message+" "+r.Error.Hint, word) {
				t.Errorf("%s: %q (%q) does not say %q", c.args, r.Error.Message, r.Error.Hint, word)
			}
		}
	}
	after := tree(t, dir)
	if !maps.Equal(before, after) {
		for name := range after {
			if _, ok := before[name]; !ok {
				t.Errorf("%s was left behind", name)
			}
		}
	}
}

// TestAModelFileAppearsWholeOrNotAtAll fails every call in turn.
func TestAModelFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := trainedDigits(t)
	broken := errors.New("the wire broke")
	t.Chdir(dir)
	for n := 1; ; n++ {
		for _, lost := range []bool{false, true} { // lost: the call was performed, its answer did not arrive
			j, mem, faults := memJob(t)
			m, err := j.openModel(t.Context(), "out/model", "")
			if err != nil {
				t.Fatal(err)
			}
			if m.def.Check() != nil || len(m.params) == 0 {
				t.Fatal("no model")
			}
			faults.Add(hdfstest.Fault{Nth: n, Err: broken, Done: lost})
			err = j.writeModel(t.Context(), &writtenReport{}, m, "mem://ns/models/m.keras", formatKeras, false)
			got := memTree(t, mem)
			whole := len(got) == 1 && strings.HasPrefix(got["/models/m.keras"], "PK")
			if faults.Calls("") < n {
				if err != nil || !whole {
					t.Fatalf("without a fault: %v", err)
				}
				if n < 6 {
					t.Fatalf("only %d calls", n)
				}
				return
			}
			if err == nil && !whole || err != nil && !errors.Is(err, broken) || err != nil && len(got) > 0 {
				t.Errorf("call %d (lost %v): %v, left %d files", n, lost, err, len(got))
			}
		}
	}
}

// TestModelsOnHDFS goes through a real HDFS.
func TestModelsOnHDFS(t *testing.T) {
	b := boxtest.Shared(t, "hdfs")
	dir := trainedDigits(t, denseLayer, aCNN)
	root := fmt.Sprintf("%s/%s-%d", b.HDFS, strings.ToLower(t.Name()), os.Getpid())
	t.Cleanup(func() { data(t, dir, 0, "rm", "-r", "-f", root) })
	data(t, dir, 0, "put", "out/model", root+"/")
	modelCommand(t, dir, 0, "export", "--to", "keras", "--out", root+"/files/m.keras", root+"/model")
	modelCommand(t, dir, 0, "convert", root+"/files/m.keras", root+"/files/m.safetensors")
	modelCommand(t, dir, 0, "export", "--to", "onnx", "--out", root+"/files/m.onnx", root+"/model/v000001")
	modelCommand(t, dir, 0, "convert", root+"/files/m.safetensors", "back.keras")
	modelCommand(t, dir, 0, "diff", "back.keras", "out/model")
	modelCommand(t, dir, 2, "convert", "back.keras", root+"/files/m.keras")
	modelCommand(t, dir, 0, "convert", "--force", "back.keras", root+"/files/m.keras")
	if r := modelCommand(t, dir, 0, "inspect", root+"/files/m.keras"); r.Model != root+"/files/m.keras" || r.State != 12 {
		t.Errorf("%+v", r)
	}
	listed := data(t, dir, 0, "ls", root+"/files").Entries
	if len(listed) != 3 {
		t.Errorf("%d files: %+v", len(listed), listed)
	}
}
