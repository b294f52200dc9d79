package kerasfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"dkpipe/trainers/model"
)

// node is a layer as Keras nests it: a model inside of a model has children.
type node struct {
	class, name string
	nested      bool
	children    []*node
	vars        []int // indices of variables, in Keras' saving order
}

// maxDepth bounds how deep models lie in models.
const maxDepth = 16

// tree reads the nesting of a model's JSON and gives every layer its variables.
func tree(config []byte, d *model.Definition) (*node, []model.Variable, error) {
	vars, err := d.Variables()
	if err != nil {
		return nil, nil, err
	}
	root := &node{}
	if err := root.parse(config, 0); err != nil {
		return nil, nil, err
	}
	byLayer := map[string][]int{}
	for i, v := range vars {
		name := d.Layers[v.Layer].Name
		byLayer[name] = append(byLayer[name], i)
	}
	root.assign("", byLayer)
	for _, v := range vars {
		if name := d.Layers[v.Layer].Name; byLayer[name] != nil {
			return nil, nil, corrupt("layer %q has variables and does not stand in the model's JSON", name)
		}
	}
	return root, vars, nil
}

// assign takes the variables of every layer out of byLayer. A layer inside of a model is called model.layer.
func (n *node) assign(prefix string, byLayer map[string][]int) {
	for _, c := range n.children {
		if c.nested {
			c.assign(prefix+c.name+".", byLayer)
			continue
		}
		c.vars = byLayer[prefix+c.name]
		delete(byLayer, prefix+c.name)
	}
}

// parse reads a model's envelope. Before Keras 2.2.3 a Sequential's config was the bare list of layers.
func (n *node) parse(config []byte, depth int) error {
	if depth > maxDepth {
		return corrupt("Keras JSON: models are nested more than %d deep", maxDepth)
	}
	type layer struct {
		ClassName string          `json:"class_name"`
		Name      string          `json:"name"`
		Config    json.RawMessage `json:"config"`
	}
	var m layer
	if err := json.Unmarshal(config, &m); err != nil {
		return corrupt("Keras JSON: %v", err)
	}
	var c struct {
		Layers []json.RawMessage `json:"layers"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(m.Config), []byte("[")) {
		if err := json.Unmarshal(m.Config, &c.Layers); err != nil {
			return corrupt("Keras JSON: %v", err)
		}
	} else if err := json.Unmarshal(m.Config, &c); err != nil {
		return corrupt("Keras JSON: %v", err)
	}
	for i, raw := range c.Layers {
		var l layer
		if err := json.Unmarshal(raw, &l); err != nil {
			return corrupt("Keras JSON: layer %d: %v", i, err)
		}
		var lc struct {
			Name   string          `json:"name"`
			Layers json.RawMessage `json:"layers"`
		}
		list := bytes.HasPrefix(bytes.TrimSpace(l.Config), []byte("["))
		if !list && len(l.Config) > 0 {
			if err := json.Unmarshal(l.Config, &lc); err != nil {
				return corrupt("Keras JSON: layer %d (%s): %v", i, l.ClassName, err)
			}
		}
		child := &node{class: l.ClassName, name: lc.Name, nested: list || lc.Layers != nil}
		if child.name == "" {
			child.name = l.Name
		}
		if child.name == "" {
			child.name = fmt.Sprintf("%s_%d", strings.ToLower(l.ClassName), i)
		}
		if child.nested {
			if err := child.parse(raw, depth+1); err != nil {
				return err
			}
		}
		n.children = append(n.children, child)
	}
	return nil
}

// counter names the members of a container as Keras does: the class in snake case, and a number from the second on.
type counter map[string]int

func (c counter) next(class string) string {
	name := snake(class)
	n := c[name]
	c[name]++
	if n > 0 {
		return fmt.Sprintf("%s_%d", name, n)
	}
	return name
}

// snake is Keras' to_snake_case: Conv2D is conv2d, MaxPooling2D max_pooling2d, ReLU re_lu, ELU elu.
func snake(class string) string {
	lower := func(c byte) bool { return c >= 'a' && c <= 'z' }
	var b strings.Builder
	for i := range len(class) {
		c := class[i]
		if c >= 'A' && c <= 'Z' && i > 0 && (lower(class[i-1]) || i+1 < len(class) && lower(class[i+1])) {
			b.WriteByte('_')
		}
		b.WriteByte(c)
	}
	return strings.ToLower(b.String())
}
