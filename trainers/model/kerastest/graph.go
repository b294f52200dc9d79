package kerastest

// Graph is a model in words that both sides know: kinds of layers as in a job file, classes as in Keras.
type Graph struct {
	Name    string
	Inputs  []Input
	Layers  []Layer
	Outputs []string
	Random  bool // a layer draws random numbers in training, so gradients cannot be compared
}

// Input is a named input. Shape is of one row.
type Input struct {
	Name    string `json:"name"`
	Shape   []int  `json:"shape"`
	Classes int    `json:"-"` // above 0: its values are whole numbers below it
}

// Layer is a layer with the fields that are set. They have the same names on both sides.
type Layer struct {
	Name   string         `json:"name"`
	Kind   string         `json:"-"`
	Class  string         `json:"class"`
	From   []string       `json:"from"`
	Fields map[string]any `json:"-"`
	Keras  map[string]any `json:"config"` // Fields, as Keras writes them
	Frozen bool           `json:"frozen"`
}

// words is the graph as Python takes it.
func (g Graph) words() map[string]any {
	return map[string]any{"name": g.Name, "inputs": g.Inputs, "layers": g.Layers, "outputs": g.Outputs}
}

// Join puts graphs beside each other into one with the inputs and outputs of all, so that Keras compiles once. The
// names of the i-th begin with its letter, or two.
func Join(graphs ...Graph) Graph {
	all := Graph{Name: "joined"}
	for i, g := range graphs {
		prefix := string(rune('a' + i%26))
		if i >= 26 {
			prefix = string(rune('a'+i/26-1)) + prefix
		}
		named := func(name string) string { return prefix + "_" + name }
		for _, in := range g.Inputs {
			in.Name = named(in.Name)
			all.Inputs = append(all.Inputs, in)
		}
		for _, l := range g.Layers {
			from := make([]string, len(l.From))
			for j, f := range l.From {
				from[j] = named(f)
			}
			l.Name, l.From = named(l.Name), from
			all.Layers = append(all.Layers, l)
		}
		for _, out := range g.Outputs {
			all.Outputs = append(all.Outputs, named(out))
		}
		all.Random = all.Random || g.Random
	}
	return all
}

// Build gives the graph as JSON as Keras writes it.
func (o *Oracle) Build(g Graph) ([]byte, error) {
	var r struct{ Config string }
	_, err := o.ask("build", map[string]any{"graph": g.words()}, nil, &r)
	return []byte(r.Config), err
}
