package spec

import (
	"reflect"
	"slices"
	"strings"
)

// Fields lists the paths of all fields of a job file, such as train.batch_size, for help and for completing --set.
// What is in a list, below a name that the file chooses, or inside an Item is not listed.
func Fields() []string {
	return fieldsOf(reflect.TypeFor[Spec](), "")
}

func fieldsOf(t reflect.Type, path string) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == itemType || t == serversType {
		return []string{path}
	}
	known, err := members(t, nil)
	if err != nil {
		return nil // a test of this package decodes every struct, so there is none
	}
	var all []string
	for _, m := range known {
		all = append(all, fieldsOf(t.FieldByIndex(m.index).Type, join(path, m.name))...)
	}
	return all
}

// elsewhere makes a function that says where a name belongs that is unknown where it stands.
func elsewhere() func(name string) string {
	all := Fields()
	return func(name string) string {
		if name == "learning_rate" || name == "lr" {
			return "it belongs in the optimizer: {adam: {learning_rate: 0.001}}"
		}
		var places []string
		for _, f := range all {
			if f == name || strings.HasSuffix(f, "."+name) {
				places = append(places, f)
			}
		}
		if len(places) == 0 && slices.ContainsFunc(all, func(f string) bool { return strings.HasPrefix(f, name+".") }) {
			return "it belongs at the top of the file"
		}
		if len(places) == 0 || len(places) > 3 {
			return ""
		}
		return "did you mean " + strings.Join(places, " or ") + "?"
	}
}
