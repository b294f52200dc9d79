package bundle

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// ensemble is the example with three models in the place of one.
func ensemble(t testing.TB) *Bundle {
	t.Helper()
	b := example(t)
	e := &Ensemble{Combine: "mean"}
	for m := range 3 {
		params := slices.Clone(b.Params)
		for i := range params {
			params[i] += float32(m)
		}
		e.Members = append(e.Members, Member{Params: params, Info: MemberInfo{Seed: int64(m), Samples: 100, Epochs: 2, Ended: "complete",
			Metrics: json.RawMessage(`{"test":{"accuracy":0.9}}`)}})
	}
	b.Params, b.Ensemble = nil, e
	return b
}

func savedEnsemble(t testing.TB) *folder {
	t.Helper()
	f := newFolder()
	if err := Save(context.Background(), f, ensemble(t)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAnEnsembleIsOneBundle(t *testing.T) {
	f := savedEnsemble(t)
	want := []string{"model.json", "weights-0000.safetensors", "weights-0001.safetensors", "weights-0002.safetensors", "transform.json", "metrics.json", "history.jsonl", "spec.yaml", "bundle.json"}
	if !slices.Equal(f.order, want) {
		t.Errorf("files %v, want %v", f.order, want)
	}
	o := &opener{f: f}
	got, err := Load(context.Background(), o, "m")
	if err != nil {
		t.Fatal(err)
	}
	b := ensemble(t)
	if got.Params != nil || got.Ensemble.Combine != "mean" || len(got.Ensemble.Members) != 3 || o.open != len(want) || o.closed != o.open {
		t.Fatalf("got %+v, %d files opened and %d closed", got.Ensemble, o.open, o.closed)
	}
	for m, g := range got.Ensemble.Members {
		if w := b.Ensemble.Members[m]; !slices.Equal(g.Params, w.Params) || g.Info.Seed != w.Info.Seed || g.Info.Samples != 100 || g.Info.Epochs != 2 {
			t.Errorf("member %d is %+v", m, g)
		}
	}
	nets, err := got.Networks(4)
	if err != nil || len(nets) != 3 || !slices.Equal(nets[2].Params(), b.Ensemble.Members[2].Params) {
		t.Errorf("%d networks, %v", len(nets), err)
	}
	if _, err := got.Network(4); kindOf(err) != "internal" {
		t.Errorf("one network of three: %v", err)
	}
	one, err := Load(context.Background(), &opener{f: saved(t)}, "m")
	if err != nil {
		t.Fatal(err)
	}
	if nets, err := one.Networks(1); err != nil || len(nets) != 1 {
		t.Errorf("networks of a single model: %d, %v", len(nets), err)
	}
}

func TestADamagedEnsembleNamesTheFile(t *testing.T) {
	f := savedEnsemble(t)
	for _, name := range files(3) {
		c := f.copy()
		c.files[name][len(c.files[name])-1] ^= 4
		if _, err := Load(context.Background(), &opener{f: c}, "m"); kindOf(err) != "corrupt" || !strings.Contains(err.Error(), "m/"+name) {
			t.Errorf("%s: %v", name, err)
		}
		c = f.copy()
		delete(c.files, name)
		if _, err := Load(context.Background(), &opener{f: c}, "m"); err == nil || !strings.Contains(err.Error(), "m/"+name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for what, change := range map[string]func(*index){
		"no members":           func(x *index) { x.Ensemble.Members = nil },
		"no ensemble":          func(x *index) { x.Ensemble = nil },
		"too many members":     func(x *index) { x.Ensemble.Members = make([]MemberInfo, maxMembers+1) },
		"more than are listed": func(x *index) { x.Ensemble.Members = append(x.Ensemble.Members, MemberInfo{}) },
		"the other format":     func(x *index) { x.Format = Format },
	} {
		if _, err := Load(context.Background(), &opener{f: replaceIndex(f, change)}, "m"); kindOf(err) != "corrupt" || !strings.Contains(err.Error(), Name) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestImpossibleEnsemblesAreNotSaved(t *testing.T) {
	for what, change := range map[string]func(*Bundle){
		"nobody":             func(b *Bundle) { b.Ensemble.Members = nil },
		"no way to combine":  func(b *Bundle) { b.Ensemble.Combine = "" },
		"another model too":  func(b *Bundle) { b.Params = b.Ensemble.Members[0].Params },
		"a parameter less":   func(b *Bundle) { b.Ensemble.Members[1].Params = b.Ensemble.Members[1].Params[1:] },
		"state of one alone": func(b *Bundle) { b.Ensemble.Members[1].State = []float32{1} },
	} {
		b, f := ensemble(t), newFolder()
		change(b)
		if err := Save(context.Background(), f, b); kindOf(err) != "internal" || len(f.files) > 0 {
			t.Errorf("%s: %v, files %v", what, err, f.order)
		}
	}
}
