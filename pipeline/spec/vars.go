package spec

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Date is a day, yyyy-mm-dd: the type of {{slot_date}} and of parameters whose default is an unquoted date.
type Date string

// Names of variables that every job file has.
const (
	slotVar     = "slot"
	slotDateVar = "slot_date"
)

var (
	nameForm     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	slotDateForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}`)
)

// variables are the values that {{name}} stands for.
type variables struct {
	d      *decoder
	slot   string
	values map[string]*node // as scalars; a nil one was declared with an error
	used   map[string]bool
	size   int // bytes of text made so far
}

// names lists what can be written between the braces.
func (v *variables) names() []string {
	return append(slices.Sorted(maps.Keys(v.values)), slotVar, slotDateVar)
}

// readParams reads the params section and the --param flags.
func (d *decoder) readParams(params *node, given map[string]string, slot string) *variables {
	v := &variables{d: d, slot: slot, values: map[string]*node{}, used: map[string]bool{}}
	if !params.empty() && params.kind != mapKind {
		d.fail(params.at, "params", "write params: {min_age: 3}", "want fields (name: default), got %s", params.describe())
	}
	if params != nil {
		for _, f := range params.fields {
			v.declare(f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		v.give(name, given[name])
	}
	return v
}

func (v *variables) declare(f field) {
	path := join("params", f.name)
	v.values[f.name] = nil
	switch {
	case f.name == slotVar || f.name == slotDateVar:
		v.d.fail(f.at, path, "choose another name", "%s is the run's slot, given by --slot", f.name)
		return
	case !nameForm.MatchString(f.name):
		v.d.fail(f.at, path, "use letters, digits and _", "%s is no name for a parameter", quote(f.name))
		return
	}
	n := *f.val
	switch n.kind {
	case nullKind:
		v.d.fail(f.at, path, "its type is that of its default", "a parameter needs a default")
		return
	case listKind, mapKind:
		v.d.fail(f.at, path, "", "want text, a number, true, false or a date, got %s", n.describe())
		return
	case textKind:
		if strings.Contains(n.text, "{{") {
			v.d.fail(f.at, path, "", "a default cannot hold a variable")
			return
		}
		if !n.quoted && isDate(n.text) {
			n.kind = dateKind
		}
	}
	v.values[f.name] = &n
}

// give takes a --param: text of the declared type.
func (v *variables) give(name, text string) {
	at := mark{flag: &cliFlag{text: "--param " + shorten(name+"="+text)}}
	old, ok := v.values[name]
	switch {
	case name == slotVar || name == slotDateVar:
		v.d.fail(at, "", "add --slot", "%s is given by --slot", name)
		return
	case !ok:
		declared := slices.Sorted(maps.Keys(v.values))
		hint, known := "declare it: params: {"+name+": default}", suggestion(name, declared)
		if near := Nearest(name, declared); near != "" {
			hint = "write --param " + near + "=…"
		}
		if len(declared) == 0 {
			known = "it has none"
		}
		v.d.fail(at, "", hint, "%s declares no parameter %s; %s", v.d.file, name, known)
		return
	case old == nil:
		return
	}
	n := scalar(text, old.at)
	wrong := ""
	switch old.kind {
	case textKind:
		n = &node{kind: textKind, text: text, quoted: true}
	case dateKind:
		if n.kind = dateKind; !isDate(text) {
			wrong = "a date, yyyy-mm-dd"
		}
	case boolKind:
		if n.kind != boolKind {
			wrong = "true or false"
		}
	case intKind:
		if n.kind != intKind {
			wrong = "a whole number"
		}
	case floatKind:
		if n.kind == intKind {
			n.kind, n.f = floatKind, float64(n.i)
		}
		if n.kind != floatKind {
			wrong = "a number"
		}
	}
	if wrong != "" {
		v.d.fail(at, "", "", "want %s, because the default is %s (%s)", wrong, old.text, v.d.pos(old.at, ""))
		v.values[name] = nil
		return
	}
	n.at, n.key = at, at
	v.values[name] = n
}

// unused reports parameters that were given but that the file does not use.
func (v *variables) unused(given map[string]string) (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(v.values)) {
		n := v.values[name]
		if n == nil || v.used[name] {
			continue
		}
		if _, ok := given[name]; ok {
			v.d.fail(n.at, "", "write {{"+name+"}} where it belongs", "nothing in %s uses {{%s}}", v.d.file, name)
			continue
		}
		warnings = append(warnings, v.d.pos(n.key, join("params", name)).String()+": declared, but nothing uses {{"+name+"}}")
	}
	return warnings
}

// lookup gives the value of a variable, or nil after it has reported what is wrong.
func (v *variables) lookup(name string, at mark, path string) *node {
	switch {
	case name == slotVar || name == slotDateVar:
		if v.slot == "" {
			v.d.fail(at, path, "add --slot, for example --slot 2026-11-22", "{{%s}} is used, but there is no --slot", name)
			return nil
		}
		if name == slotVar {
			return &node{kind: textKind, text: v.slot, quoted: true}
		}
		date := slotDateForm.FindString(v.slot)
		if !isDate(date) {
			v.d.fail(at, path, "give a slot that starts with a date, for example --slot 2026-11-22T03",
				"{{slot_date}} is used, but the slot %s does not start with a date", quote(v.slot))
			return nil
		}
		return &node{kind: dateKind, text: date}
	}
	n, ok := v.values[name]
	if !ok {
		hint := "declare it: params: {" + name + ": default}"
		if near := Nearest(name, v.names()); near != "" {
			hint = "write {{" + near + "}}"
		}
		v.d.fail(at, path, hint, "{{%s}}: unknown variable; %s", name, suggestion(name, v.names()))
		return nil
	}
	v.used[name] = true
	return n // nil when its declaration is wrong, which has been reported
}

// substitute replaces variables in the tree below n.
func (v *variables) substitute(n *node, path string, sql bool) {
	switch n.kind {
	case textKind:
		v.replace(n, path, sql)
	case listKind:
		for i, e := range n.list {
			v.substitute(e, path+"["+strconv.Itoa(i)+"]", sql)
		}
	case mapKind:
		for _, f := range n.fields {
			here := join(path, f.name)
			if path == "" && f.name == "params" {
				continue
			}
			if strings.Contains(f.name, "{{") {
				v.d.fail(f.at, here, "", "a variable can stand in a value only, not in a name")
				continue
			}
			v.substitute(f.val, here, (sql && !columnField(f.name)) || isSQL(path, f.name))
		}
	}
}

// isSQL says whether text in this field, and below it, is SQL: the source's query, and the sql and filter transformers.
func isSQL(parent, name string) bool {
	if parent == "source" {
		return name == "sql"
	}
	if !strings.HasPrefix(parent, "transform[") || strings.Contains(parent, "].") {
		return false
	}
	return name == "sql" || name == "filter"
}

// columnField says whether a transformer's field names columns or a rule, which is no SQL in an SQL transformer either.
func columnField(name string) bool {
	switch name {
	case "input", "inputs", "output", "outputs", "handle_invalid":
		return true
	}
	return false
}

// part is a piece of a text with variables: text, or the name of a variable.
type part struct {
	text, name string
}

// cut takes a text apart at its variables. {{'{{'}} stands for two braces.
func cut(text string) ([]part, error) {
	var parts []part
	var plain strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{{")
		plain.WriteString(before)
		if !ok {
			break
		}
		if after, ok := strings.CutPrefix(rest, "'{{'}}"); ok {
			plain.WriteString("{{")
			text = after
			continue
		}
		inner, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return nil, errors.New("{{ without }}")
		}
		name := strings.TrimSpace(inner)
		if !nameForm.MatchString(name) {
			return nil, fmt.Errorf("{{%s}} is no variable", shorten(inner))
		}
		if plain.Len() > 0 {
			parts = append(parts, part{text: plain.String()})
			plain.Reset()
		}
		parts = append(parts, part{name: name})
		text = after
	}
	if plain.Len() > 0 {
		parts = append(parts, part{text: plain.String()})
	}
	return parts, nil
}

// replace puts values into one text.
func (v *variables) replace(n *node, path string, sql bool) {
	if !strings.Contains(n.text, "{{") {
		return
	}
	parts, err := cut(n.text)
	if err != nil {
		v.d.fail(n.at, path, `write {{name}}, or {{'{{'}} for two braces`, "%v", err)
		n.kind = badKind
		return
	}
	if len(parts) == 1 && parts[0].name != "" {
		value := v.lookup(parts[0].name, n.at, path)
		if value == nil {
			n.kind = badKind
			return
		}
		at, key := n.at, n.key
		*n = *value
		n.at, n.key, n.from = at, key, parts[0].name
		return
	}
	var out strings.Builder
	lexer := sqlLexer{}
	for _, p := range parts {
		if p.name == "" {
			out.WriteString(p.text)
			lexer.read(p.text)
			continue
		}
		value := v.lookup(p.name, n.at, path)
		if value == nil {
			n.kind = badKind
			continue // the next variable may be wrong too
		}
		text := value.text
		if sql {
			if text, err = lexer.insert(value); err != nil {
				v.d.fail(n.at, path, "", "{{%s}}: %v", p.name, err)
				n.kind = badKind
				continue
			}
			lexer.inserted()
		}
		if v.size += len(text); v.size > 4*MaxBytes {
			v.d.fail(n.at, path, "", "the values of variables make the job file too long")
			n.kind = badKind
			return
		}
		out.WriteString(text)
	}
	n.text, n.quoted = out.String(), true
}

// value gives a parameter's value in Go's types.
func (n *node) value() any {
	if n.kind == dateKind {
		return Date(n.text)
	}
	return n.plain()
}
