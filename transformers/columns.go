package transformers

import (
	"fmt"
	"strings"

	"dkpipe/pipeline"
	"dkpipe/pipeline/expr"
)

// patterns reads a field that is a name, a glob, or a list of names and globs.
func patterns(op, field string, value any) ([]string, error) {
	var list []string
	switch v := value.(type) {
	case nil:
	case string:
		list = []string{v}
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, badSpec(op, "%s: %v is not a column name", field, e)
			}
			list = append(list, s)
		}
	default:
		return nil, badSpec(op, "%s: %v is neither a column name nor a list of them", field, v)
	}
	if len(list) == 0 {
		return nil, badSpec(op, "field %q is missing", field)
	}
	return list, nil
}

// resolve gives the columns that patterns name. A name stands for itself. A glob (* any characters, ? one character)
// stands for the columns that match it, in source order, without those that are taken already.
func resolve(op string, patterns []string, in expr.Schema) ([]string, error) {
	var names []string
	taken := map[string]bool{}
	known := make(map[string]bool, len(in))
	for _, f := range in {
		known[f.Name] = true
	}
	for _, p := range patterns {
		switch {
		case known[p]:
			if taken[p] {
				return nil, badSpec(op, "column %q is named twice", p)
			}
			taken[p] = true
			names = append(names, p)
		case !strings.ContainsAny(p, "*?"):
			return nil, in.Missing(op, p)
		default:
			matched := false
			for _, f := range in {
				if !glob(p, f.Name) {
					continue
				}
				matched = true
				if !taken[f.Name] {
					taken[f.Name] = true
					names = append(names, f.Name)
				}
			}
			if !matched {
				return nil, &pipeline.Error{Kind: pipeline.MissingColumn, Message: fmt.Sprintf("%s: no column matches %q", op, p), Hint: "there are " + listed(in)}
			}
		}
	}
	return names, nil
}

// listed names the columns for a hint, the first few of many.
func listed(in expr.Schema) string {
	const few = 8
	var names []string
	for i, f := range in {
		if i == few {
			names = append(names, fmt.Sprintf("%d more", len(in)-few))
			break
		}
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// glob reports whether s matches p. It runs in len(p)*len(s) at most: only the last * is ever tried again.
func glob(p, s string) bool {
	pr, sr := []rune(p), []rune(s)
	star, retry := -1, 0
	i, j := 0, 0
	for j < len(sr) {
		switch {
		case i < len(pr) && pr[i] == '*':
			star, retry = i, j
			i++
		case i < len(pr) && (pr[i] == '?' || pr[i] == sr[j]):
			i++
			j++
		case star >= 0:
			retry++
			i, j = star+1, retry
		default:
			return false
		}
	}
	for i < len(pr) && pr[i] == '*' {
		i++
	}
	return i == len(pr)
}
