package spec

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	itemType     = reflect.TypeFor[Item]()
	posType      = reflect.TypeFor[Pos]()
	durationType = reflect.TypeFor[time.Duration]()
)

// unmarshaler is implemented by types that take a value of more than one form, such as a list or a glob. The method
// is called with a function that decodes the value into whatever it is given; it may try several. Its error is
// reported at the value's place.
type unmarshaler interface {
	UnmarshalYAML(decode func(into any) error) error
}

// decoder turns nodes into Go values and gathers what is wrong.
type decoder struct {
	file      string
	problems  []Problem
	elsewhere func(name string) string // where a name that is unknown here belongs, or empty; may be nil
}

// pos gives the place of a mark. A value that a flag set is called by the flag.
func (d *decoder) pos(at mark, path string) Pos {
	if at.flag != nil {
		if slices.Equal(steps(path), steps(at.flag.path)) {
			path = ""
		}
		return Pos{File: at.flag.text, Field: path}
	}
	return Pos{File: d.file, Line: at.line, Column: at.col, Field: path}
}

func (d *decoder) fail(at mark, path, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{Pos: d.pos(at, path), Text: fmt.Sprintf(format, args...), Hint: hint})
}

// sub decodes a part on its own.
func (d *decoder) sub(n *node, into any, path string) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("decode %s: into a %T, which is no pointer", path, into)
	}
	part := decoder{file: d.file}
	part.decode(n, v.Elem(), path, rules{length: -1})
	return newError(part.problems, 0)
}

// decode sets v to the value of n.
func (d *decoder) decode(n *node, v reflect.Value, path string, r rules) {
	if n.kind == badKind {
		return
	}
	if v.Type() == itemType {
		if it, ok := d.item(n, path); ok {
			v.Set(reflect.ValueOf(it))
		}
		return
	}
	if v.CanAddr() {
		if u, ok := v.Addr().Interface().(unmarshaler); ok {
			d.unmarshal(u, n, path)
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.kind == nullKind {
			v.SetZero()
			return
		}
		p := reflect.New(v.Type().Elem())
		d.decode(n, p.Elem(), path, r)
		v.Set(p)
	case reflect.Interface:
		d.decodeAny(n, v, path)
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path, r)
	case reflect.Slice, reflect.Array:
		d.decodeList(n, v, path, r)
	default:
		d.decodeScalar(n, v, path, r)
	}
}

func (d *decoder) unmarshal(u unmarshaler, n *node, path string) {
	err := u.UnmarshalYAML(func(into any) error { return d.sub(n, into, path) })
	var e *Error
	switch {
	case err == nil:
	case errors.As(err, &e):
		d.problems = append(d.problems, e.Problems...)
	default:
		d.fail(n.at, path, "", "%v", err)
	}
}

func (d *decoder) decodeAny(n *node, v reflect.Value, path string) {
	if v.NumMethod() != 0 {
		d.fail(n.at, path, "", "cannot be decoded into a %s", v.Type())
		return
	}
	if x := n.plain(); x != nil {
		v.Set(reflect.ValueOf(x))
	} else {
		v.SetZero()
	}
}

// plain gives the value in Go's own types: nil, bool, int64, float64, string, []any, map[string]any.
func (n *node) plain() any {
	switch n.kind {
	case boolKind:
		return n.b
	case intKind:
		return n.i
	case floatKind:
		return n.f
	case textKind, dateKind:
		return n.text
	case listKind:
		l := make([]any, len(n.list))
		for i, e := range n.list {
			l[i] = e.plain()
		}
		return l
	case mapKind:
		m := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			m[f.name] = f.val.plain()
		}
		return m
	}
	return nil
}

// decodeStruct sets the fields that the file names and leaves the others as they are, so defaults stand before.
func (d *decoder) decodeStruct(n *node, v reflect.Value, path string) {
	known, err := members(v.Type(), nil)
	if err != nil {
		d.fail(n.at, path, "", "%v", err)
		return
	}
	if n.kind != mapKind && n.kind != nullKind {
		d.wantFields(n, path, known)
		return
	}
	meant := map[string]bool{} // names that a misspelt one stands for: not missing as well
	for _, f := range n.fields {
		i := slices.IndexFunc(known, func(m member) bool { return m.name == f.name })
		if i < 0 {
			meant[d.unknown(f, path, names(known))] = true
			continue
		}
		if f.val.kind == nullKind {
			continue // as if it were not there
		}
		d.decode(f.val, v.FieldByIndex(known[i].index), join(path, f.name), known[i].rules)
	}
	for _, m := range known {
		if m.rules.required && n.get(m.name).empty() && !meant[m.name] {
			d.fail(n.key, join(path, m.name), "add "+m.name+": …", "missing")
		}
	}
	if f := v.FieldByName("Pos"); f.IsValid() && f.Type() == posType && f.CanSet() {
		f.Set(reflect.ValueOf(d.pos(n.key, path)))
	}
}

func (d *decoder) wantFields(n *node, path string, known []member) {
	hint := ""
	if len(known) > 0 {
		hint = "its fields: " + list(names(known))
	}
	if n.kind == textKind && !n.quoted && missingSpace(n.text) {
		hint = "put a space after the colon"
	}
	d.fail(n.at, path, hint, "want fields (name: value), got %s", n.describe())
}

// missingSpace recognises name:value.
func missingSpace(text string) bool {
	for i, r := range text {
		switch {
		case r == ':':
			return i > 0 && i+1 < len(text) && text[i+1] != '/' && text[i+1] != ' '
		case r != '_' && (r < 'a' || r > 'z'):
			return false
		}
	}
	return false
}

// unknown reports a name that nobody knows and gives the one that it was probably meant to be.
func (d *decoder) unknown(f field, path string, known []string) string {
	near := Nearest(f.name, known)
	text, hint := "unknown field; ", ""
	switch {
	case f.name == "plateau" || f.name == "reduce_on_plateau" || f.name == "reduce_lr_on_plateau":
		text += "a learning rate that follows the validation is a field of train, because all workers share it"
		hint = "write train: {reduce_on_plateau: {monitor: val_loss, factor: 0.1, patience: 5}}"
	case near != "":
		text += "did you mean " + near + "?"
		hint = "write " + near + " instead of " + f.name
	case d.elsewhere != nil && d.elsewhere(f.name) != "":
		place := d.elsewhere(f.name)
		text += place
		hint = "move it there"
	case len(known) == 0:
		text += "there are no fields here"
		hint = "remove it"
	default:
		text += "known: " + list(known)
		if f.val.kind == nullKind {
			hint = "put text that contains a comma in quotes"
		}
	}
	d.fail(f.at, join(path, f.name), hint, "%s", text)
	return near
}

func (d *decoder) decodeMap(n *node, v reflect.Value, path string, r rules) {
	if n.kind != mapKind {
		d.wantFields(n, path, nil)
		return
	}
	t := v.Type()
	m := reflect.MakeMapWithSize(t, len(n.fields))
	elem := r
	elem.required, elem.filled = false, false
	for _, f := range n.fields {
		here := join(path, f.name)
		key := reflect.New(t.Key()).Elem()
		switch key.Kind() {
		case reflect.String:
			key.SetString(f.name)
		default:
			before := len(d.problems)
			d.decodeScalar(scalar(f.name, f.at), key, here, rules{length: -1})
			if len(d.problems) > before {
				continue
			}
		}
		if m.MapIndex(key).IsValid() {
			d.fail(f.at, here, "remove one of the two", "written twice, in other digits")
			continue
		}
		val := reflect.New(t.Elem()).Elem()
		d.decode(f.val, val, here, elem)
		m.SetMapIndex(key, val)
	}
	if r.filled && len(n.fields) == 0 {
		d.fail(n.at, path, "", "is empty")
	}
	v.Set(m)
}

func (d *decoder) decodeList(n *node, v reflect.Value, path string, r rules) {
	elements := n.list
	switch {
	case n.kind == listKind:
	case r.single && n.kind != nullKind && (n.kind != mapKind || v.Type().Elem() == itemType):
		elements = []*node{n}
	default:
		what := "want " + want(v.Type(), r)
		hint := ""
		if n.kind != nullKind && n.kind != mapKind {
			hint = "write [" + n.text + "]"
		}
		d.fail(n.at, path, hint, "%s, got %s", what, n.describe())
		return
	}
	length := r.length
	if v.Kind() == reflect.Array {
		length = v.Len()
	}
	if length >= 0 && len(elements) != length {
		d.fail(n.at, path, "", "want %d elements, got %d", length, len(elements))
		return
	}
	if r.filled && len(elements) == 0 {
		d.fail(n.at, path, "", "is empty")
		return
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(elements), len(elements)))
	}
	r.required, r.single, r.length = false, false, -1
	r.filled = v.Type().Elem().Kind() == reflect.String // an empty text in a list is a slip
	for i, e := range elements {
		here := path
		if n.kind == listKind {
			here = path + "[" + strconv.Itoa(i) + "]"
		}
		d.decode(e, v.Index(i), here, r)
	}
}

// decodeScalar sets text, numbers and truth values.
func (d *decoder) decodeScalar(n *node, v reflect.Value, path string, r rules) {
	wrong := func(hint string) {
		d.fail(n.at, path, hint, "want %s, got %s", want(v.Type(), r), n.describe())
	}
	if v.Type() == durationType {
		x, err := time.ParseDuration(n.text)
		if n.kind != textKind || err != nil {
			wrong("write 90s, 5m or 1h30m")
			return
		}
		v.SetInt(int64(x))
		return
	}
	switch k := v.Kind(); {
	case k == reflect.String:
		d.decodeText(n, v, path, r)
	case k == reflect.Bool:
		if n.kind != boolKind {
			wrong(truthHint(n))
			return
		}
		v.SetBool(n.b)
	case k >= reflect.Int && k <= reflect.Uint64:
		if n.kind == floatKind && intForm.MatchString(n.text) {
			d.fail(n.at, path, "", "%s is out of range", n.text)
			return
		}
		if n.kind != intKind {
			wrong(wholeHint(n))
			return
		}
		if x := r.number(float64(n.i)); x != "" {
			d.fail(n.at, path, "", "want %s, got %d", x, n.i)
			return
		}
		if k >= reflect.Uint {
			if n.i < 0 || v.OverflowUint(uint64(n.i)) {
				d.fail(n.at, path, "", "%d is out of range", n.i)
				return
			}
			v.SetUint(uint64(n.i))
			return
		}
		if v.OverflowInt(n.i) {
			d.fail(n.at, path, "", "%d is out of range", n.i)
			return
		}
		v.SetInt(n.i)
	case k == reflect.Float32 || k == reflect.Float64:
		d.decodeFloat(n, v, path, r, wrong)
	default:
		d.fail(n.at, path, "", "cannot be decoded into a %s", v.Type())
	}
}

func (d *decoder) decodeText(n *node, v reflect.Value, path string, r rules) {
	variable := n.from != "" && (n.kind == boolKind || n.kind == intKind || n.kind == floatKind)
	if n.kind != textKind && n.kind != dateKind && !variable {
		hint := ""
		if n.kind == boolKind || n.kind == intKind || n.kind == floatKind {
			hint = "write " + strconv.Quote(n.text)
		}
		d.fail(n.at, path, hint, "want %s, got %s", want(v.Type(), r), n.describe())
		return
	}
	if r.filled && n.text == "" {
		d.fail(n.at, path, "", "is empty")
		return
	}
	if r.enum != nil && !slices.Contains(r.enum, n.text) {
		near := Nearest(n.text, r.enum)
		if near == "" {
			d.fail(n.at, path, "", "%s is not one of: %s", quote(n.text), list(r.enum))
			return
		}
		d.fail(n.at, path, "write "+near, "%s is not one of: %s; did you mean %s?", quote(n.text), list(r.enum), near)
		return
	}
	v.SetString(n.text)
}

func (d *decoder) decodeFloat(n *node, v reflect.Value, path string, r rules, wrong func(hint string)) {
	f := n.f
	switch n.kind {
	case intKind:
		f = float64(n.i)
	case floatKind:
	default:
		wrong(numberHint(n))
		return
	}
	if (math.IsNaN(f) || math.IsInf(f, 0) || (v.OverflowFloat(f))) && !r.infinite {
		d.fail(n.at, path, "", "want a finite number, got %s", n.text)
		return
	}
	if math.IsNaN(f) {
		d.fail(n.at, path, "", "NaN has no place here")
		return
	}
	if x := r.number(f); x != "" {
		d.fail(n.at, path, "", "want %s, got %s", x, n.text)
		return
	}
	v.SetFloat(f)
}

func truthHint(n *node) string {
	switch fold(n.text) {
	case "yes", "y", "on", "1":
		return "write true"
	case "no", "n", "off", "0":
		return "write false"
	case "true", "false":
		return "remove the quotes"
	}
	return ""
}

func wholeHint(n *node) string {
	if n.kind == floatKind && n.f == math.Trunc(n.f) && math.Abs(n.f) < 1<<53 {
		return "write " + strconv.FormatInt(int64(n.f), 10)
	}
	return numberHint(n)
}

// numberHint says how text that looks like a number becomes one.
func numberHint(n *node) string {
	if n.kind != textKind {
		return ""
	}
	if leadingZero(n.text) {
		return "write it without leading zeros"
	}
	if p := scalar(n.text, n.at); n.quoted && (p.kind == intKind || p.kind == floatKind) {
		return "remove the quotes"
	}
	return ""
}

// want says what a Go type takes.
func want(t reflect.Type, r rules) string {
	switch {
	case t == itemType:
		return "a name, or {name: {fields}}"
	case t == durationType:
		return "a time such as 90s"
	}
	switch k := t.Kind(); {
	case k == reflect.Pointer:
		return want(t.Elem(), r)
	case k == reflect.String && r.enum != nil:
		return "one of " + list(r.enum)
	case k == reflect.String:
		return "text"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.Slice || k == reflect.Array:
		switch e := t.Elem().Kind(); {
		case t.Elem() == itemType:
			return "a list of entries"
		case e == reflect.String && r.single:
			return "text or a list of texts"
		case e == reflect.String:
			return "a list of texts"
		case e >= reflect.Int && e <= reflect.Float64 && r.single:
			return "a number or a list of numbers"
		case e >= reflect.Int && e <= reflect.Float64:
			return "a list of numbers"
		}
		return "a list"
	}
	return "fields (name: value)"
}

// join adds a name to a path, in quotes when it would read as more than one step.
func join(path, name string) string {
	if strings.ContainsAny(name, ".[]") {
		name = `"` + name + `"`
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
