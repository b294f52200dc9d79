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

// makers lists every algorithm, in the order in which help texts show them. A new one is a file and a line here.
func makers() []maker {
	return []maker{
		{"single", nil, plain(Single{})},
		{"averaging", nil, plain(Averaging{})},
		{"downpour", nil, plain(Downpour{})},
		{"agn", []string{"adag"}, plain(AGN{})},
	}
}

// plain makes an algorithm that has no fields of its own. Decoding into an empty struct refuses any field by name.
func plain(a Algorithm) func(func(any) error) (Algorithm, error) {
	return func(decode func(any) error) (Algorithm, error) {
		if decode == nil {
			return a, nil
		}
		return a, decode(&struct{}{})
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

// New makes the algorithm that a spec names. decode fills a struct with the trainer's own fields and may be nil when
// the spec gives none; its errors are given back as they are. An unknown name is an error of kind spec that says
// which name comes nearest.
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
