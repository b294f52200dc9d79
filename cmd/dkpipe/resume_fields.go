package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"dkpipe/pipeline/spec"
	"dkpipe/trainers"
	"dkpipe/trainers/optim"
)

// ownFields gives what a trainer or an optimizer is set to, by the names of the spec and without policies. A run can only go
// on from a checkpoint with the same: its state would be read as something else.
func ownFields(of any) map[string]string {
	fields := map[string]string{}
	addFields(fields, reflect.Indirect(reflect.ValueOf(of)))
	return fields
}

func addFields(to map[string]string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || f.Type == reflect.TypeFor[trainers.Policy]():
		case options == "inline":
			addFields(to, v.Field(i))
		case name != "":
			to[name] = "none"
			if value := reflect.Indirect(v.Field(i)); value.IsValid() {
				to[name] = fmt.Sprint(value.Interface())
			}
		}
	}
}

// optimizerFields gives the name of the job's optimizer, and what it is set to.
func optimizerFields(t spec.Train) (name string, fields map[string]string, err error) {
	decode := t.Optimizer.Decode
	_, err = optim.New(t.Optimizer.Name, func(into any) error {
		if err := decode(into); err != nil {
			return err
		}
		fields = ownFields(into)
		return nil
	}, 1)
	return t.Optimizer.Name, fields, err
}

// differing names the first field in which two settings differ.
func differing(then, now map[string]string) string {
	all := maps.Clone(then)
	maps.Copy(all, now)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if then[name] != now[name] {
			return fmt.Sprintf(" with %s %s, not %s", name, then[name], now[name])
		}
	}
	return ""
}
