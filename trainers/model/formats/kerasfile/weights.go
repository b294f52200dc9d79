package kerasfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"

	"dkpipe/trainers/model"
	"dkpipe/trainers/model/formats/hdf5"
)

// weights is a model's tensors on their way out of a file.
type weights struct {
	f                  *hdf5.File
	root               *node
	vars               []model.Variable
	paramLen, stateLen int
	params, state      []float32
	places             []*hdf5.Object // one a variable
}

// read finds every tensor, compares all shapes, and only then makes room and reads: a definition of gigabytes with a
// file of nothing costs nothing.
func (w *weights) read() error {
	w.places = make([]*hdf5.Object, len(w.vars))
	if err := w.find(); err != nil {
		return err
	}
	packed := int64(0)
	for i, o := range w.places {
		v := w.vars[i]
		shape, err := o.Shape()
		if err != nil {
			return err
		}
		if !slices.Equal(shape, v.Shape) {
			return corrupt("tensor %s has the shape %v, %s of the model has %v", o, shape, v.Name, v.Shape)
		}
		t, err := o.Type()
		if err != nil {
			return err
		}
		held := o.Bytes()
		if held >= 0 && held < int64(v.Len)*int64(t.Size) {
			return corrupt("tensor %s holds %d bytes, %d elements of %d are needed", o, held, v.Len, t.Size)
		}
		if held < 0 {
			packed += int64(v.Len)
		}
	}
	if packed > 1<<22 && packed/1000 > w.f.Size() { // deflate makes at most 1032 bytes of one
		return corrupt("the file has %d bytes, too few for the %d elements of its packed tensors", w.f.Size(), packed)
	}
	w.params, w.state = make([]float32, w.paramLen), make([]float32, w.stateLen)
	for i, o := range w.places {
		if err := o.ReadFloat32(w.dst(w.vars[i])); err != nil {
			return err
		}
	}
	return nil
}

func (w *weights) dst(v model.Variable) []float32 {
	if v.State {
		return w.state[v.Off : v.Off+v.Len]
	}
	return w.params[v.Off : v.Off+v.Len]
}

// find tells the layouts apart and sets places.
func (w *weights) find() error {
	for _, list := range []string{"layers", "_layer_checkpoint_dependencies"} {
		g, err := open(w.f.Root(), list)
		if err != nil {
			return err
		}
		if g != nil {
			return w.counted(g, list, w.root)
		}
	}
	g, err := open(w.f.Root(), "model_weights")
	if err != nil {
		return err
	}
	if g == nil {
		g = w.f.Root()
	}
	names, err := longList(g, "layer_names")
	if err != nil {
		return err
	}
	if names == nil {
		return corrupt("the file has neither layers nor the attribute layer_names: it holds no weights of Keras")
	}
	return w.listed(g, names)
}

// open gives a member, or nil when there is none.
func open(g *hdf5.Object, name string) (*hdf5.Object, error) {
	o, err := g.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return o, err
}

// counted follows paths of counted class names: layers/dense_1/vars/0.
func (w *weights) counted(g *hdf5.Object, list string, n *node) error {
	count := counter{}
	for _, c := range n.children {
		name := count.next(c.class)
		if !c.nested && len(c.vars) == 0 {
			continue
		}
		layer, err := open(g, name)
		if err != nil {
			return err
		}
		if layer == nil {
			if c.nested && !c.anyVars() {
				continue
			}
			return corrupt("%s/%s is not there: layer %q (%s) has no weights in the file", g, name, c.name, c.class)
		}
		if c.nested {
			inner, err := open(layer, list)
			if err != nil {
				return err
			}
			if inner == nil {
				if !c.anyVars() {
					continue
				}
				return corrupt("%s/%s is not there: model %q has no weights in the file", layer, list, c.name)
			}
			if err := w.counted(inner, list, c); err != nil {
				return err
			}
			continue
		}
		if err := w.vector(layer, c); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) anyVars() bool {
	return len(n.vars) > 0 || slices.ContainsFunc(n.children, (*node).anyVars)
}

// vector finds the variables of one layer, named 0, 1, ... or by what they are.
func (w *weights) vector(layer *hdf5.Object, n *node) error {
	for _, h := range n.homes(w.vars) {
		g, err := layer.Open(h.path)
		if err != nil {
			return in(fmt.Sprintf("layer %q (%s)", n.name, n.class), err)
		}
		members, err := g.Members()
		if err != nil {
			return err
		}
		if len(members) != len(h.vars) {
			return corrupt("%s has %d variables, layer %q (%s) has %d", g, len(members), n.name, n.class, len(h.vars))
		}
		for i, v := range h.vars {
			name := strconv.Itoa(i)
			if !slices.Contains(members, name) {
				name = path.Base(w.vars[v].Name)
			}
			if w.places[v], err = g.Open(name); err != nil {
				return in(fmt.Sprintf("layer %q (%s)", n.name, n.class), err)
			}
		}
	}
	return nil
}

// home is a group with variables of a layer.
type home struct {
	path string
	vars []int
}

// homes says where a layer keeps its variables: recurrent ones in the cell that they repeat, and the two directions of a
// bidirectional one apart.
func (n *node) homes(vars []model.Variable) []home {
	switch n.class {
	case "LSTM", "GRU", "SimpleRNN":
		return []home{{"cell/vars", n.vars}}
	case "Bidirectional":
		var all []home
		for _, v := range n.vars {
			at := path.Base(path.Dir(vars[v].Name)) + "/cell/vars"
			if len(all) == 0 || all[len(all)-1].path != at {
				all = append(all, home{path: at})
			}
			last := &all[len(all)-1]
			last.vars = append(last.vars, v)
		}
		return all
	}
	return []home{{"vars", n.vars}}
}

// longList reads a list of texts; lists beyond 64 KB are kept in pieces, layer_names0, layer_names1, ... Nil means
// that there is none.
func longList(o *hdf5.Object, name string) ([]string, error) {
	a, err := o.Attribute(name)
	if err != nil {
		return nil, err
	}
	if a != nil {
		s, err := a.Strings()
		if s == nil && err == nil {
			s = []string{}
		}
		return s, err
	}
	var all []string
	for i := 0; ; i++ {
		a, err := o.Attribute(fmt.Sprintf("%s%d", name, i))
		if err != nil || a == nil {
			return all, err
		}
		s, err := a.Strings()
		if err != nil {
			return nil, err
		}
		all = append(all, s...)
	}
}

// listed finds the tensors by the lists of names that older files have. Layers are found by their names; where the model
// has other names than the file, by their order, as Keras does.
func (w *weights) listed(g *hdf5.Object, names []string) error {
	type layer struct {
		group *hdf5.Object
		names []string
	}
	var full []layer // layers with tensors
	byName := map[string]layer{}
	for _, name := range names {
		o, err := g.Open(name)
		if err != nil {
			return in(fmt.Sprintf("layer %q", name), err)
		}
		l := layer{group: o}
		if l.names, err = longList(o, "weight_names"); err != nil {
			return err
		}
		byName[name] = l
		if len(l.names) > 0 {
			full = append(full, l)
		}
	}
	var want []*node
	known := true
	for _, c := range w.root.children {
		if c.anyVars() {
			want = append(want, c)
			known = known && len(byName[c.name].names) > 0
		}
	}
	if len(full) != len(want) {
		return corrupt("the file has weights of %d layers, the model has %d layers with weights", len(full), len(want))
	}
	for i, c := range want {
		l := full[i]
		if known {
			l = byName[c.name]
		}
		vars := append(w.part(c, false), w.part(c, true)...)
		if len(vars) != len(l.names) {
			return corrupt("%s has %d tensors, layer %q (%s) has %d", l.group, len(l.names), c.name, c.class, len(vars))
		}
		for k, v := range vars {
			var err error
			if w.places[v], err = l.group.Open(l.names[k]); err != nil {
				return in(fmt.Sprintf("layer %q (%s)", c.name, c.class), err)
			}
		}
	}
	return nil
}

// part gives the variables of a layer, or of all layers of a model in it, that are trained, or those that are not:
// older files list first the ones and then the others.
func (w *weights) part(n *node, fixed bool) []int {
	var out []int
	for _, v := range n.vars {
		if w.vars[v].State == fixed {
			out = append(out, v)
		}
	}
	for _, c := range n.children {
		out = append(out, w.part(c, fixed)...)
	}
	return out
}

// plant puts every variable into a tree of today's layout.
func (n *node) plant(t *hdf5.Tree, at string, vars []model.Variable, data func(model.Variable) []float32) {
	t.Group(join(at, "vars"))
	count := counter{}
	for _, c := range n.children {
		p := join(at, "layers/"+count.next(c.class))
		if c.nested {
			c.plant(t, p, vars, data)
			continue
		}
		t.Group(p + "/vars")
		for _, h := range c.homes(vars) {
			g := p + "/" + h.path
			t.Group(g)
			t.Attribute(g, "name", c.name)
			for i, v := range h.vars {
				t.Tensor(g+"/"+strconv.Itoa(i), vars[v].Shape, data(vars[v]))
			}
		}
	}
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "/" + name
}
