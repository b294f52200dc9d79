package model

import "fmt"

// Variable is one tensor of a model. Model files list them layer by layer in this order, trained ones and others
// together, as Keras does; in memory the trained ones lie in Params and the others in State.
type Variable struct {
	ParamSpec      // Off counts in Params, or in State
	Layer     int  // index in Definition.Layers
	State     bool // not trained, such as the moving mean of a batch_normalization, or a weight of a frozen layer
}

// Variables lists the tensors that a network of this definition has, without compiling it.
func (d *Definition) Variables() ([]Variable, error) {
	n, err := d.plan()
	if err != nil {
		return nil, err
	}
	return n.vars, nil
}

// Layout lists the trained tensors that a network of this definition has, without compiling it.
func (d *Definition) Layout() ([]ParamSpec, error) {
	n, err := d.plan()
	if err != nil {
		return nil, err
	}
	return n.layout, nil
}

// StateLayout lists what Network.State holds, without compiling it.
func (d *Definition) StateLayout() ([]ParamSpec, error) {
	n, err := d.plan()
	if err != nil {
		return nil, err
	}
	return n.kept, nil
}

// plan gives every tensor its place.
func (d *Definition) plan() (*Network, error) {
	shapes, err := d.shapes()
	if err != nil {
		return nil, err
	}
	n := &Network{def: d, shapes: shapes}
	return n, n.lay()
}

// lay gives every variable its place in the flat vectors.
func (n *Network) lay() error {
	params, state := 0, 0
	for i, l := range n.def.Layers {
		in, err := inputShapes(n.shapes, l)
		if err != nil {
			return err
		}
		for _, v := range l.Op.variables(in) {
			length := size(v.shape)
			if length < 0 || params > maxFloats-length || state > maxFloats-length {
				return badLayer("layer "+l.Name, fmt.Errorf("the model has more than %d parameters", maxFloats))
			}
			p := ParamSpec{Name: l.Name + "/" + v.name, Shape: v.shape, Len: length}
			fixed := v.state || l.Frozen
			n.moving = n.moving || v.state && !l.Frozen
			if fixed {
				p.Off = state
				state += length
				n.kept = append(n.kept, p)
			} else {
				p.Off = params
				params += length
				n.layout = append(n.layout, p)
				if v.reg != (Regularizer{}) {
					n.decay = append(n.decay, decay{p.Off, p.Len, v.reg})
				}
			}
			n.vars = append(n.vars, Variable{p, i, fixed})
			n.initial = append(n.initial, v)
		}
	}
	return nil
}
