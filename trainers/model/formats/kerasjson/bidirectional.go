package kerasjson

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/model"
)

// bidirectional reads a layer that holds two. Keras 3 writes both, Keras 2 the second one only when it was given.
func (c *config) bidirectional() model.Op {
	b := &model.Bidirectional{MergeMode: c.text("merge_mode", "concat")}
	if raw, there := c.raw["merge_mode"]; there && isNull(raw) && c.err == nil {
		c.err = &pipeline.Error{Kind: pipeline.Unsupported, Message: "merge_mode null, two results, is not supported", Hint: "join them in the layer: concat, sum, mul or ave"}
	}
	layer, frozen := c.direction("layer")
	b.Layer.Op = layer
	if c.frozen = frozen; isNull(c.raw["backward_layer"]) {
		return b
	}
	_, same := b.Directions()
	backward, frozen := c.direction("backward_layer")
	if !reflect.DeepEqual(backward, same) {
		b.BackwardLayer.Op = backward
	}
	if frozen != c.frozen && c.truth("trainable", true) && c.err == nil {
		c.err = &pipeline.Error{Kind: pipeline.Unsupported, Message: "trainable: false of one direction alone is not supported", Hint: "freeze the whole layer, or nothing of it"}
	}
	return b
}

// direction reads one of the layers, and tells whether it is frozen.
func (c *config) direction(key string) (model.Op, bool) {
	var l envelope
	c.decode(key, &l)
	if c.err == nil && l.ClassName == "" {
		c.err = corrupt("there is no %s", key)
	}
	if c.err != nil {
		return nil, false
	}
	in := &config{old: c.old, seen: map[string]bool{}}
	op, err := in.directionOp(l)
	trainable := in.truth("trainable", true)
	if err == nil {
		err = in.err
	}
	if err != nil {
		c.err = named(fmt.Sprintf("%s (%s)", key, l.ClassName), err)
	}
	return op, !trainable
}

func (c *config) directionOp(l envelope) (model.Op, error) {
	if err := checkOrigin(l); err != nil {
		return nil, err
	}
	if known := []string{"GRU", "LSTM", "SimpleRNN"}; !slices.Contains(known, l.ClassName) {
		return nil, &pipeline.Error{Kind: pipeline.Unsupported, Message: "layers of this class are not supported here", Hint: "supported: " + strings.Join(known, ", ")}
	}
	if err := json.Unmarshal(l.Config, &c.raw); err != nil {
		return nil, corrupt("the config is not an object: %v", err)
	}
	c.ignore("batch_shape", "batch_input_shape") // the layer around it has the shape
	op, err := c.op(l.ClassName)
	if err == nil {
		err = c.rest()
	}
	return op, err
}
