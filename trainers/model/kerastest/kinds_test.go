package kerastest

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Every case draws a graph that Keras can build, and its layer is in it.
func TestEveryCaseIsAModel(t *testing.T) {
	o := Start(t)
	var graphs []Graph
	for i, kind := range Kinds() {
		g, ok := Draw(kind, rand.New(rand.NewPCG(uint64(i), 9)))
		if !ok {
			t.Fatalf("%s is not drawn", kind)
		}
		found := false
		for _, l := range g.Layers {
			found = found || l.Kind == kind && l.Class != ""
		}
		if !found {
			t.Errorf("%s: the graph has no such layer", kind)
		}
		graphs = append(graphs, g)
	}
	config, err := o.Build(Join(graphs...))
	if err != nil {
		t.Fatal(err)
	}
	for kind, c := range cases() {
		if !strings.Contains(string(config), `"class_name": "`+c.class+`"`) {
			t.Errorf("%s: Keras' config has no %s", kind, c.class)
		}
	}
}
