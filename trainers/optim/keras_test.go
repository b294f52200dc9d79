package optim

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"dkpipe/trainers/model/kerastest"
)

// A kerasCase makes random settings of one optimizer. The fields have the same names here and in Keras.
type kerasCase struct {
	class string
	draw  func(r *rand.Rand) map[string]any
}

func kerasCases() map[string]kerasCase {
	coin := func(r *rand.Rand) bool { return r.IntN(2) == 0 }
	share := func(r *rand.Rand) float64 { return []float64{0, 0.3, 0.9, 0.99}[r.IntN(4)] }
	adam := func(r *rand.Rand) map[string]any {
		return map[string]any{"beta_1": share(r), "beta_2": []float64{0.5, 0.9, 0.999}[r.IntN(3)], "epsilon": 1e-3 * r.Float64()}
	}
	withAMSGrad := func(r *rand.Rand) map[string]any {
		f := adam(r)
		f["amsgrad"] = coin(r)
		return f
	}
	return map[string]kerasCase{
		"adadelta": {"Adadelta", func(r *rand.Rand) map[string]any { return map[string]any{"rho": share(r), "epsilon": r.Float64()} }},
		"adagrad":  {"Adagrad", func(r *rand.Rand) map[string]any { return map[string]any{"initial_accumulator_value": r.Float64()} }},
		"adam":     {"Adam", withAMSGrad},
		"adamw":    {"AdamW", withAMSGrad},
		"nadam":    {"Nadam", adam},
		"rmsprop": {"RMSprop", func(r *rand.Rand) map[string]any {
			return map[string]any{"rho": share(r), "momentum": share(r), "centered": coin(r), "epsilon": 1e-3}
		}},
		"sgd": {"SGD", func(r *rand.Rand) map[string]any {
			m := share(r)
			return map[string]any{"momentum": m, "nesterov": m > 0 && coin(r)}
		}},
	}
}

// kerasSchedules are the schedules under our names and under Keras' classes.
func kerasSchedules() []struct {
	name, class string
	fields      map[string]any
} {
	return []struct {
		name, class string
		fields      map[string]any
	}{
		{"exponential_decay", "ExponentialDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5}},
		{"exponential_decay", "ExponentialDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5, "staircase": true}},
		{"piecewise_constant_decay", "PiecewiseConstantDecay", map[string]any{"boundaries": []float64{2, 5}, "values": []float64{0.1, 0.05, 0.2}}},
		{"inverse_time_decay", "InverseTimeDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}},
		{"inverse_time_decay", "InverseTimeDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": true}},
		{"polynomial_decay", "PolynomialDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 6}},
		{"polynomial_decay", "PolynomialDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 3, "end_learning_rate": 0.02, "power": 2, "cycle": true}},
		{"cosine_decay", "CosineDecay", map[string]any{"initial_learning_rate": 0.1, "decay_steps": 7, "alpha": 0.1}},
		{"cosine_decay", "CosineDecay", map[string]any{"initial_learning_rate": 0.01, "decay_steps": 4, "warmup_target": 0.2, "warmup_steps": 3}},
	}
}

// Every optimizer's first ten steps are those of Keras, for random settings and for the defaults.
func TestEveryOptimizerIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	cases := kerasCases()
	for _, name := range Names() {
		c, ok := cases[name]
		if !ok {
			t.Errorf("%s has no case", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			compareWithKeras(t, oracle, name, c.class, map[string]any{}, nil, 1)
			for seed := range uint64(5) {
				r := rand.New(rand.NewPCG(seed, 0))
				fields := c.draw(r)
				fields["learning_rate"] = 0.5 * r.Float64()
				if r.IntN(2) == 0 {
					fields["weight_decay"] = 0.1 * r.Float64()
				}
				if clip := r.IntN(4); clip > 0 {
					fields[[]string{"clipnorm", "global_clipnorm", "clipvalue"}[clip-1]] = 0.5 + r.Float64()
				}
				compareWithKeras(t, oracle, name, c.class, fields, fields["learning_rate"], seed)
			}
		})
	}
}

// Every schedule drives the first ten steps as it does in Keras, weight decay included.
func TestEveryScheduleIsKeras(t *testing.T) {
	oracle := kerastest.Start(t)
	for i, s := range kerasSchedules() {
		t.Run(fmt.Sprintf("%s_%d", s.name, i), func(t *testing.T) {
			object := map[string]any{"module": "keras.optimizers.schedules", "class_name": s.class, "config": s.fields, "registered_name": nil}
			fields := map[string]any{"weight_decay": 0.1, "learning_rate": map[string]any{s.name: s.fields}}
			compareWithKeras(t, oracle, "sgd", "SGD", fields, object, uint64(i))
		})
	}
}

// compareWithKeras runs ten steps in both. rate stands in the place of fields' learning_rate in Keras.
func compareWithKeras(t *testing.T, oracle *kerastest.Oracle, name, class string, fields map[string]any, rate any, seed uint64) {
	t.Helper()
	const steps = 10
	r := rand.New(rand.NewPCG(seed, 1))
	shapes := [][]int{{3, 5}, {5}, {1}}
	var params, grads []kerastest.Tensor
	var lengths []int
	for i, shape := range shapes {
		n := 1
		for _, d := range shape {
			n *= d
		}
		lengths = append(lengths, n)
		p, g := make([]float32, n), make([]float32, steps*n)
		for j := range p {
			p[j] = float32(r.NormFloat64())
		}
		for j := range g {
			g[j] = float32(r.NormFloat64())
		}
		label := fmt.Sprint("layer/", i)
		params = append(params, kerastest.Tensor{Name: label, Shape: shape, Data: p})
		grads = append(grads, kerastest.Tensor{Name: label, Shape: append([]int{steps}, shape...), Data: g})
	}
	config := maps.Clone(fields)
	if rate != nil {
		config["learning_rate"] = rate
	}
	want, err := oracle.Optimize(map[string]any{"module": "keras.optimizers", "class_name": class, "config": config, "registered_name": nil}, params, grads)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(fields) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	o, err := New(name, yamlFields(string(doc)), lengths...)
	if err != nil {
		t.Fatal(err)
	}
	var flat []float32
	for _, p := range params {
		flat = append(flat, p.Data...)
	}
	grad := make([]float32, len(flat))
	for step := range steps {
		at := 0
		for i, n := range lengths {
			copy(grad[at:at+n], grads[i].Data[step*n:])
			at += n
		}
		o.Apply(flat, grad)
		at = 0
		for i, n := range lengths {
			for j, w := range want[i].Wide[step*n : (step+1)*n] {
				if got := float64(flat[at+j]); !(math.Abs(got-w) <= 1e-5*math.Max(math.Abs(w), 0.1)) {
					t.Fatalf("%s: step %d, tensor %d[%d]: %g, Keras has %g", doc, step+1, i, j, got, w)
				}
			}
			at += n
		}
	}
}
