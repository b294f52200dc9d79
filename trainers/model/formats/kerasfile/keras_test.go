package kerasfile

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
	"dkpipe/trainers/model/kerastest"
)

// zoo builds models with every layer and every way of nesting, gives all variables random values, and saves each as
// .keras, .h5 and .weights.h5, with inputs and what Keras predicts for them.
const zoo = `
def build(name):
    L = keras.layers
    I = keras.Input
    def chain(*layers, **k): return keras.Sequential(list(layers), **k)
    if name == "mlp":
        return chain(I((7,)), L.Dense(5, "relu"), L.Dropout(.3, seed=1), L.Dense(4, use_bias=False), L.Activation("tanh"), L.Dense(3, "softmax"))
    if name == "flatten": return chain(I((2, 3)), L.Flatten(), L.Dense(2, "sigmoid", name="last one"))
    if name == "many": return chain(I((3,)), *[L.Dense(3, "tanh") for _ in range(40)])
    if name == "cnn":
        return chain(I((9, 8, 2)), L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPooling2D(), L.Conv2D(3, (2, 3), strides=2, use_bias=False),
                     L.AveragePooling2D((1, 2), padding="same"), L.Flatten(), L.Dense(4))
    if name == "sequence":
        return chain(I((12, 3)), L.Conv1D(4, 3, padding="causal", activation="relu"), L.BatchNormalization(), L.MaxPooling1D(3, strides=1), L.Conv1D(5, 2, strides=2, padding="same", use_bias=False),
                     L.AveragePooling1D(2, strides=1, padding="same"), L.Conv1D(3, 2, dilation_rate=2), L.GlobalMaxPooling1D(keepdims=True), L.GlobalAveragePooling1D(), L.Dense(2))
    if name == "text":
        b = I((9,), name="b")
        e = L.Embedding(11, 4)(b)
        sides = [L.GlobalMaxPooling1D()(L.Conv1D(5, k, padding="same", activation="relu")(e)) for k in (2, 3, 4)]
        return keras.Model(b, L.Dense(2, "softmax")(L.Concatenate()(sides)))
    if name == "pools": return chain(I((5, 4, 3)), L.Conv2D(2, 2), L.GlobalAveragePooling2D(), L.Dense(2))
    if name == "norm":
        return chain(I((4, 4, 3)), L.Conv2D(3, 2, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(5), L.BatchNormalization(center=False, scale=False), L.Dense(2))
    if name == "rnn":
        return chain(I((4, 3)), L.LSTM(5, return_sequences=True), L.LayerNormalization(), L.GaussianNoise(.1), L.GRU(4, return_sequences=True), L.SimpleRNN(5, return_sequences=True),
                     L.GRU(3, reset_after=False), L.Dense(2))
    if name == "backwards":
        return chain(I((4, 3)), L.LSTM(5, return_sequences=True, go_backwards=True), L.SimpleRNN(4, return_sequences=True, go_backwards=True), L.GRU(3, go_backwards=True), L.Dense(2))
    if name == "bidirectional":
        return chain(I((4, 3)), L.Bidirectional(L.LSTM(5, return_sequences=True)), L.Bidirectional(L.SimpleRNN(4, return_sequences=True), merge_mode="ave"),
                     L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="sum", backward_layer=L.LSTM(3, return_sequences=True, go_backwards=True)),
                     L.Bidirectional(L.GRU(2, go_backwards=True, reset_after=False), backward_layer=L.GRU(2, recurrent_activation="hard_sigmoid")), L.Dense(2))
    if name == "bidirectional nested":
        a = I((4, 3), name="a")
        inner = chain(I((4, 3)), L.Bidirectional(L.GRU(3, return_sequences=True)), L.Dense(4), L.Bidirectional(L.LSTM(2, return_sequences=True)), name="inner")
        return keras.Model(a, L.Dense(2)(L.Bidirectional(L.SimpleRNN(3))(L.Concatenate()([inner(a), L.Bidirectional(L.GRU(2, return_sequences=True))(a)]))))
    if name == "frozen both":
        m = chain(I((4, 3)), L.Dense(4), L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode="mul"), L.Bidirectional(L.GRU(2, trainable=False)),
                  L.Dense(2))
        m.layers[1].trainable = False
        return m
    if name == "wide":
        a, b = I((3,), name="a"), I((1,), name="b")
        e = L.Flatten()(L.Embedding(11, 4)(b))
        x = L.Concatenate()([L.Dense(6, "relu")(a), e])
        y = L.Dense(6)(x)
        s = L.Add()([L.Dense(6)(x), y])
        return keras.Model([a, b], [L.Dense(2, "softmax", name="p")(s), L.Dense(1, name="q")(x)])
    if name == "nested":
        a = I((6,), name="a")
        x = L.Dense(6, "tanh")(a)
        inner = chain(I((6,)), L.Dense(5), L.BatchNormalization(), L.Dense(4), name="inner")
        x = inner(x)
        b = I((4,), name="in_b")
        deep = keras.Model(b, L.Dense(3, name="same")(chain(I((4,)), L.Dense(4), L.BatchNormalization(), name="deepest")(b)), name="deep")
        return keras.Model(a, L.Dense(2, name="same")(deep(x)))
    if name == "frozen":
        m = chain(I((4, 4, 3)), L.Conv2D(3, 2), L.BatchNormalization(), L.Flatten(), L.Dense(5), L.BatchNormalization(), L.Dense(2))
        for l in m.layers[:4]: l.trainable = False
        return m
    if name == "tuned": # a frozen model in the model, and one with a frozen layer among others
        a = I((6,), name="a")
        base = chain(I((6,)), L.Dense(5), L.BatchNormalization(), L.Dense(4), name="base")
        base.trainable = False
        b = I((4,), name="in_b")
        deep = keras.Model(b, L.Dense(3)(L.BatchNormalization()(L.Dense(4, trainable=False)(b))), name="deep")
        return keras.Model(a, L.Dense(2)(deep(base(a))))

def main(args, arrays):
    rng = np.random.default_rng(7)
    m = build(args["name"])
    m.set_weights([(rng.normal(size=w.shape) * .5 if "variance" not in v.path else rng.uniform(.5, 2, w.shape)).astype("f4") for w, v in zip(m.get_weights(), m.weights)])
    base = args["dir"] + "/" + args["name"]
    for end in args["ends"]: m.save(base + end) if end != ".weights.h5" else m.save_weights(base + end)
    x = [(rng.integers(0, 11, (5,) + i.shape[1:]) if i.name == "b" else rng.normal(size=(5,) + i.shape[1:])).astype("f4") for i in m.inputs]
    y = m(x if len(x) > 1 else x[0], training=False)
    y = list(y) if isinstance(y, (list, tuple)) else [y]
    out = {"x%d" % i: v for i, v in enumerate(x)}
    out.update({"y%d" % i: v for i, v in enumerate(y)})
    return {"json": m.to_json(), "variables": len(m.weights)}, out
`

var animals = []string{"mlp", "flatten", "many", "cnn", "sequence", "text", "pools", "norm", "rnn", "backwards", "bidirectional", "bidirectional nested", "frozen both", "wide", "nested", "frozen", "tuned"}

// trained is how many parameters models with frozen layers still train.
var trained = map[string]int{"frozen both": 4*4 + 4*2 + 2, "frozen": 2*5 + 5*2 + 2, "tuned": 2*4 + 4*3 + 3 + 3*2 + 2}

// sample is a model as Keras built it, with what it predicts.
type sampled struct {
	dir  string
	json []byte
	x, y []kerastest.Tensor
}

func build(t *testing.T, o *kerastest.Oracle, name string, ends ...string) sampled {
	t.Helper()
	s := sampled{dir: t.TempDir()}
	result, out, err := o.Python(zoo, map[string]any{"name": name, "dir": s.dir, "ends": ends})
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ JSON string }
	if err := json.Unmarshal(result, &r); err != nil {
		t.Fatal(err)
	}
	s.json = []byte(r.JSON)
	for _, a := range out {
		if strings.HasPrefix(a.Name, "x") {
			s.x = append(s.x, a)
		} else {
			s.y = append(s.y, a)
		}
	}
	return s
}

func readFile(t *testing.T, path string) (*Model, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Read(bytes.NewReader(data), int64(len(data)))
}

// predict runs a model over the inputs of a sample.
func predict(t *testing.T, m *Model, x []kerastest.Tensor) [][]float32 {
	t.Helper()
	n, err := model.Compile(m.Definition, model.Config{Batch: 5})
	if err != nil {
		t.Fatal(err)
	}
	copy(n.Params(), m.Params)
	copy(n.State(), m.State)
	b := &pipeline.Batch{Rows: x[0].Shape[0]}
	for _, in := range x {
		b.X = append(b.X, in.Data)
	}
	var out [][]float32
	for _, w := range n.OutputWidths() {
		out = append(out, make([]float32, b.Rows*w))
	}
	if err := n.Predict(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, what string, got [][]float32, want []kerastest.Tensor) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d outputs, want %d", what, len(got), len(want))
	}
	for i := range got {
		if len(got[i]) != len(want[i].Data) {
			t.Fatalf("%s: output %d has %d floats, want %d", what, i, len(got[i]), len(want[i].Data))
		}
		for k, v := range got[i] {
			if w := want[i].Data[k]; math.Abs(float64(v-w)) > 1e-5*max(1, math.Abs(float64(w))) {
				t.Fatalf("%s: output %d[%d] is %g, Keras says %g", what, i, k, v, w)
			}
		}
	}
}

// What Keras saves, in each of its formats, predicts here as it does there; and what we save of it, Keras loads.
func TestFilesGoBothWaysBetweenKerasAndUs(t *testing.T) {
	o := kerastest.Start(t)
	for _, name := range animals {
		t.Run(name, func(t *testing.T) {
			s := build(t, o, name, ".h5", ".keras", ".weights.h5")
			var m *Model
			for _, end := range []string{".h5", ".keras"} {
				var err error
				if m, err = readFile(t, filepath.Join(s.dir, name+end)); err != nil {
					t.Fatal(err)
				}
				if m.Keras != o.Versions["keras"] {
					t.Errorf("%s says Keras %q", end, m.Keras)
				}
				same(t, end, predict(t, m, s.x), s.y)
			}
			// The same weights without a definition.
			for _, end := range []string{".weights.h5", ".h5", ".keras"} {
				data, err := os.ReadFile(filepath.Join(s.dir, name+end))
				if err != nil {
					t.Fatal(err)
				}
				params, state, err := ReadWeights(bytes.NewReader(data), int64(len(data)), m.Definition, m.Config)
				if err != nil {
					t.Fatal(err)
				}
				same(t, end, predict(t, &Model{Definition: m.Definition, Params: params, State: state}, s.x), s.y)
			}
			if want, some := trained[name]; some && len(m.Params) != want {
				t.Errorf("%d parameters are trained, Keras trains %d", len(m.Params), want)
			}
			var b bytes.Buffer
			if err := Write(&b, m, time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
			ours := filepath.Join(s.dir, "ours.keras")
			if err := os.WriteFile(ours, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := o.Load(ours, s.x...)
			if err != nil {
				t.Fatal(err)
			}
			var got [][]float32
			for _, y := range l.Outputs {
				got = append(got, y.Data)
			}
			same(t, "written", got, s.y)
			again, err := readFile(t, ours)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "read again", predict(t, again, s.x), s.y)
		})
	}
}
