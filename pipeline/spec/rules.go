package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// rules are what a spec tag asks of a field. See Item for the words.
type rules struct {
	required bool
	filled   bool // text, a list or a map that is there is not empty
	single   bool // of a list: one element may stand without brackets
	infinite bool
	min, max *float64
	above    *float64
	below    *float64
	length   int // -1: any
	enum     []string
}

// parseRules reads a spec tag.
func parseRules(tag string) (rules, error) {
	r := rules{length: -1}
	if tag == "" {
		return r, nil
	}
	for word := range strings.SplitSeq(tag, ",") {
		name, value, _ := strings.Cut(word, "=")
		var bound **float64
		switch name {
		case "required":
			r.required, r.filled = true, true
		case "filled":
			r.filled = true
		case "single":
			r.single = true
		case "inf":
			r.infinite = true
		case "enum":
			r.enum = strings.Split(value, "|")
		case "len":
			n, err := strconv.Atoi(value)
			if err != nil {
				return r, fmt.Errorf("spec tag %q: %w", word, err)
			}
			r.length = n
		case "min":
			bound = &r.min
		case "max":
			bound = &r.max
		case "above":
			bound = &r.above
		case "below":
			bound = &r.below
		default:
			return r, fmt.Errorf("spec tag %q: unknown word", word)
		}
		if bound != nil {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return r, fmt.Errorf("spec tag %q: %w", word, err)
			}
			*bound = &f
		}
	}
	return r, nil
}

// number says what is wrong with a number, or gives an empty text.
func (r rules) number(f float64) string {
	show := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	low, high := "", ""
	switch {
	case r.min != nil:
		low = "at least " + show(*r.min)
	case r.above != nil:
		low = "more than " + show(*r.above)
	}
	switch {
	case r.max != nil:
		high = "at most " + show(*r.max)
	case r.below != nil:
		high = "less than " + show(*r.below)
	}
	out := (r.min != nil && f < *r.min) || (r.max != nil && f > *r.max) ||
		(r.above != nil && f <= *r.above) || (r.below != nil && f >= *r.below)
	switch {
	case !out:
		return ""
	case low != "" && high != "":
		return low + " and " + high
	}
	return low + high
}

// member is one field of a struct that a file can set.
type member struct {
	name  string
	index []int
	rules rules
}

// members lists the fields of a struct that have a yaml tag, in order; those of embedded structs stand in their place.
func members(t reflect.Type, prefix []int) ([]member, error) {
	var all []member
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(slices.Clone(prefix), i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Type.Kind() == reflect.Struct && (option == "inline" || (f.Anonymous && name == "")) {
			inner, err := members(f.Type, index)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		r, err := parseRules(f.Tag.Get("spec"))
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		all = append(all, member{name: name, index: index, rules: r})
	}
	return all, nil
}

func names(all []member) []string {
	var s []string
	for _, m := range all {
		s = append(s, m.name)
	}
	return s
}
