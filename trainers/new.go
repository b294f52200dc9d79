package trainers

import (
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/trainers/optim"
)

// maker is one line of the list of algorithms.
type maker struct {
	name    string
	aliases []string
	make    func(decode func(any) error) (Algorithm, error)
}

// makers lists every algorithm with its defaults, in the order in which help texts show them. A new one is a file and a
// line here.
func makers() []maker {
	return []maker{
		{"single", nil, from(Single{})},
		{"averaging", nil, from(Averaging{})},
		{"ensemble", nil, from(Ensemble{Members: 2})},
		{"downpour", nil, from(Downpour{})},
		{"agn", []string{"adag"}, from(AGN{})},
		{"distance_adag", nil, from(DistanceADAG{})},
		{"dynsgd", nil, from(DynSGD{})},
		{"aeasgd", nil, from(AEASGD{})},
		{"eamsgd", nil, from(EAMSGD{Momentum: 0.9})},
		{"sync_sgd", nil, from(SyncSGD{})},
		{"local_sgd", nil, from(LocalSGD{})},
		{"diloco", nil, from(DiLoCo{LearningRate: 0.7, Momentum: 0.9})},
		{"async_local", nil, from(AsyncLocal{Policy: Policy{Dynamic: true}, LearningRate: 0.7, Momentum: 0.3})},
	}
}

// from makes an algorithm by decoding the trainer's fields over its defaults.
func from[A Algorithm](defaults A) func(func(any) error) (Algorithm, error) {
	return func(decode func(any) error) (Algorithm, error) {
		a := defaults
		if decode != nil {
			if err := decode(&a); err != nil {
				return nil, err
			}
		}
		return a, nil
	}
}

// Names lists the trainers that New knows, without aliases.
func Names() []string {
	all := makers()
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = m.name
	}
	return names
}

// New makes the algorithm that a spec names. decode fills a pointer to the algorithm's struct, such as *DiLoCo, which has
// yaml tags and holds the defaults, and leaves fields alone that the user did not name; nil means all defaults. Its errors
// are given back as they are. An unknown name is an error of kind spec that says which name comes nearest.
func New(name string, decode func(any) error) (Algorithm, error) {
	known := Names()
	for _, m := range makers() {
		if m.name == name {
			return m.make(decode)
		}
		for _, alias := range m.aliases {
			if alias == name {
				return m.make(decode)
			}
			known = append(known, alias)
		}
	}
	hint := "known trainers: " + strings.Join(Names(), ", ")
	if near := optim.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	}
	return nil, &pipeline.Error{Kind: pipeline.BadSpec, Message: fmt.Sprintf("trainer %q is not known", name), Hint: hint}
}
