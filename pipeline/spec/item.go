package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// item makes an Item of {name: fields} or of a bare name.
func (d *decoder) item(n *node, path string) (Item, bool) {
	switch {
	case n.kind == textKind && n.text != "":
		if !n.quoted && missingSpace(n.text) {
			d.fail(n.at, path, "put a space after the colon", "want a name, or {name: {fields}}, got %s", n.describe())
			return Item{}, false
		}
		body := &node{kind: nullKind, at: n.at, key: n.at}
		return d.newItem(n.text, body, path, n.at), true
	case n.kind != mapKind:
		d.fail(n.at, path, "", "want a name, or {name: {fields}}, got %s", n.describe())
		return Item{}, false
	case len(n.fields) == 0:
		d.fail(n.at, path, "", "want a name, or {name: {fields}}, got nothing")
		return Item{}, false
	case len(n.fields) > 1:
		first := n.fields[0]
		others := make([]string, 0, len(n.fields)-1)
		for _, f := range n.fields[1:] {
			others = append(others, f.name)
		}
		if first.val.empty() {
			d.fail(n.fields[1].at, path, "indent "+list(others)+" deeper than "+first.name,
				"%s is in line with %s, so it is no field of it", others[0], first.name)
		} else {
			d.fail(n.fields[1].at, path, "start each with a - of its own",
				"one entry has %d names: %s, %s; it takes one", len(n.fields), first.name, list(others))
		}
		return Item{}, false
	}
	f := n.fields[0]
	return d.newItem(f.name, f.val, join(path, f.name), f.at), true
}

func (d *decoder) newItem(name string, body *node, path string, at mark) Item {
	part := decoder{file: d.file}
	return Item{
		Name:   name,
		Pos:    d.pos(at, path),
		Decode: func(into any) error { return part.sub(body, into, path) },
		body:   body,
		path:   path,
		file:   d.file,
	}
}

// At gives the place of a field of the item, such as from or steps[1]; of the item itself when it has no such field.
func (it Item) At(field string) Pos {
	n := it.body
	for _, step := range steps(field) {
		n = n.step(step)
	}
	if n == nil || n == it.body {
		return it.Pos
	}
	d := decoder{file: it.file}
	return d.pos(n.at, it.path+"."+field)
}

// Fail makes an error about a field of the item, for checks that Decode cannot make: bounds that cross, a width that
// does not fit. An empty field means the item as a whole.
func (it Item) Fail(field, hint, format string, args ...any) error {
	return newError([]Problem{{Pos: it.At(field), Text: fmt.Sprintf(format, args...), Hint: hint}}, 0)
}

// Unknown makes the error for an item whose name nobody knows; what says what is unknown: trainer, layer.
func (it Item) Unknown(what string, known []string) error {
	hint := ""
	if near := Nearest(it.Name, known); near != "" {
		hint = "write " + near + " instead of " + it.Name
	}
	return newError([]Problem{{Pos: it.Pos, Hint: hint,
		Text: fmt.Sprintf("there is no %s %s; %s", what, it.Name, suggestion(it.Name, known))}}, 0)
}

// steps cuts a path into names and list indices: a.b[1].c and a.b.1.c give a, b, 1, c. A step in double quotes may
// hold dots: expect.max_null."a.b".
func steps(path string) []string {
	var all []string
	var b strings.Builder
	quoted, wasQuoted := false, false
	flush := func() {
		if b.Len() > 0 || wasQuoted {
			all = append(all, b.String())
		}
		b.Reset()
		wasQuoted = false
	}
	for _, r := range path {
		switch {
		case r == '"':
			quoted, wasQuoted = !quoted, true
		case !quoted && (r == '.' || r == '[' || r == ']'):
			flush()
		default:
			b.WriteRune(r)
		}
	}
	flush()
	return all
}

// step goes one step down: to a field of a map or an element of a list. It gives nil when there is none.
func (n *node) step(step string) *node {
	if n == nil {
		return nil
	}
	switch n.kind {
	case mapKind:
		return n.get(step)
	case listKind:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.list) {
			return n.list[i]
		}
	}
	return nil
}
